"""Questions about a story: five options, the wrong ones about the same things and actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.tasks.egoworld.world import THINGS, VERBS, Event, Story

TYPES = ("first", "last", "after", "before")
OPTIONS = 5


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one story."""

    kind: str
    """One of TYPES; the item's stratum."""
    text: str
    answer: str
    wrong: tuple[str, ...]
    """Four wrong options, in no particular order."""

    def options(self, position: int) -> tuple[str, ...]:
        """Return the five options with the answer at `position`."""
        return (*self.wrong[:position], self.answer, *self.wrong[position:])


def ask(story: Story, kind: str, rng: np.random.Generator) -> Question | None:
    """Return one question of the given type; None where the story has no unambiguous one.

    Two wrong options are other events of the clip, and two are events that did not happen, with
    the clip's own things. So the answer follows neither from what was on the table nor from what
    happened at some time.
    """
    texts = [event.text() for event in story.events]
    anchor = ""
    if kind in ("first", "last"):
        answer = texts[0 if kind == "first" else -1]
        text = f"what does c do {kind}?"
    else:
        step = 1 if kind == "after" else -1
        candidates = [
            i for i, t in enumerate(texts) if texts.count(t) == 1 and 0 <= i + step < len(texts)
        ]
        if not candidates:
            return None
        at = candidates[rng.integers(len(candidates))]
        anchor, answer = texts[at], texts[at + step]
        text = f"what does c do right {kind} {anchor.rstrip('.')}?"
    happened = sorted(set(texts) - {answer, anchor})
    others = sorted(
        {Event(verb, thing).text() for verb in VERBS for thing in story.things} - set(texts)
    )
    inside = _choose(happened, 2, rng)
    outside = _choose(others, OPTIONS - 1 - len(inside), rng)
    wrong = inside + outside
    if len(wrong) < OPTIONS - 1:
        return None
    return Question(kind, text, answer, tuple(wrong[i] for i in rng.permutation(len(wrong))))


def _choose(texts: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    return [texts[i] for i in rng.permutation(len(texts))[:count]]


def narrate(events: Sequence[Event]) -> str:
    """Return what happened, in order, as one text; "nothing happens." where nothing did."""
    return " ".join(event.text() for event in events) or "nothing happens."


def name(thing: int) -> str:
    """Return the name of a thing as a sentence uses it."""
    return f"the {THINGS[thing]}"
