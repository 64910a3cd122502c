"""The small world: things on a table, what can happen to them, and the story of one clip.

A *story* is what one clip shows: three things, where they are and whether they are open at the
start, and five to seven events, at most one in each of the clip's gaps. Ten evenly sampled frames
show every gap by itself; between two of five frames there may be two or three events, and some of
those cancel out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import yaml

from probes.config.paths import conf_dir
from probes.core.hashing import sha256_json

Split = Literal["training", "tuning", "evaluation"]

THINGS = (
    "red box", "blue box",
    "green jar", "yellow jar",
    "red book", "green book",
    "blue pot", "yellow pot",
    "red bag", "yellow bag",
    "blue laptop", "green laptop",
)  # fmt: skip
"""Two colours of every kind; `draw_things` relies on this order."""
PLACES = ("back left", "back right", "front left", "front right")
VERBS = ("opens", "closes", "moves", "takes", "returns")
AWAY = -1
"""The place of a thing that is not on the table."""


@dataclass(frozen=True, slots=True)
class World:
    """Sizes of the world; conf/world/egoworld.yaml says what each means."""

    things: int
    gaps: int
    events: tuple[int, int]
    clips: tuple[int, int]
    hand: float
    drift: float


def load_world() -> World:
    """Read conf/world/egoworld.yaml."""
    raw = yaml.safe_load((conf_dir() / "world" / "egoworld.yaml").read_text())
    return World(**{**raw, "events": tuple(raw["events"]), "clips": tuple(raw["clips"])})


@dataclass(frozen=True, slots=True)
class State:
    """Where each of a story's things is, and whether it is open."""

    places: tuple[int, ...]
    """Index into PLACES, or AWAY; one per thing, no two things on one place."""
    opened: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the camera wearer does to one thing."""

    verb: str
    thing: int
    """Index into THINGS."""
    to: int = AWAY
    """The place that the thing is moved or returned to."""

    def text(self) -> str:
        """Return the event as a sentence; `c` is the camera wearer, as in EgoSchema."""
        return f"c {self.verb} the {THINGS[self.thing]}."


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that one clip shows."""

    things: tuple[int, ...]
    start: State
    events: tuple[Event, ...]
    gaps: tuple[int, ...]
    """The gap in which each event happens, increasing."""

    def canonical(self) -> list[object]:
        """Return what distinguishes two stories; the order of the things does not matter."""
        order = np.argsort(self.things)
        return [
            [[self.things[i], self.start.places[i], self.start.opened[i]] for i in order],
            [[e.verb, e.thing, e.to, gap] for e, gap in zip(self.events, self.gaps, strict=True)],
        ]


def split_of(story: Story) -> Split:
    """Return the one split that a story belongs to, by the hash of its content.

    The question is not hashed: a clip of the training split is not in the evaluation with another
    question either.
    """
    bucket = int(sha256_json(story.canonical())[:8], 16) % 10
    return "evaluation" if bucket == 0 else "tuning" if bucket == 1 else "training"


def apply(state: State, things: Sequence[int], event: Event) -> State:
    """Return the state after an event."""
    at = things.index(event.thing)
    places, opened = list(state.places), list(state.opened)
    if event.verb in ("opens", "closes"):
        opened[at] = event.verb == "opens"
    else:
        places[at] = event.to
    return State(tuple(places), tuple(opened))


def states(story: Story) -> list[State]:
    """Return the states before, between and after the events: one more than there are events."""
    out = [story.start]
    for event in story.events:
        out.append(apply(out[-1], story.things, event))
    return out


def possible(state: State, things: Sequence[int]) -> list[Event]:
    """Return every event that can happen in a state; `to` of moves and returns is left open."""
    out = []
    on_table = sum(place != AWAY for place in state.places)
    for place, opened, thing in zip(state.places, state.opened, things, strict=True):
        if place == AWAY:
            out.append(Event("returns", thing))
            continue
        out += [Event("closes" if opened else "opens", thing), Event("moves", thing)]
        if on_table > 1:
            out.append(Event("takes", thing))
    return out


def draw_events(
    start: State, things: Sequence[int], count: int, rng: np.random.Generator
) -> tuple[Event, ...]:
    """Draw a legal sequence of events: first the verb, then the thing, so that verbs are balanced.

    An event never undoes the one just before it: it could not be distinguished from a glitch.
    """
    state = start
    out: list[Event] = []
    for _ in range(count):
        options = [e for e in possible(state, things) if not (out and _undoes(e, out[-1]))]
        verbs = sorted({e.verb for e in options})
        verb = verbs[rng.integers(len(verbs))]
        options = [e for e in options if e.verb == verb]
        event = options[rng.integers(len(options))]
        if verb in ("moves", "returns"):
            free = [p for p in range(len(PLACES)) if p not in state.places]
            event = Event(verb, event.thing, free[rng.integers(len(free))])
        out.append(event)
        state = apply(state, things, event)
    return tuple(out)


_UNDOING = ({"opens", "closes"}, {"takes", "returns"}, {"moves"})


def _undoes(event: Event, before: Event) -> bool:
    return event.thing == before.thing and {event.verb, before.verb} in _UNDOING


def draw_things(world: World, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw the things of one recording, no two of one kind: colour alone distinguishes nothing."""
    kinds = rng.choice(len(THINGS) // 2, size=world.things, replace=False)
    return tuple(int(2 * kind + rng.integers(2)) for kind in kinds)


def draw_start(things: Sequence[int], rng: np.random.Generator) -> State:
    """Draw where the things of a recording are when it begins."""
    places = rng.choice(len(PLACES), size=len(things), replace=False)
    return State(
        tuple(int(p) for p in places), tuple(bool(b) for b in rng.integers(2, size=len(things)))
    )


def draw_story(
    world: World,
    rng: np.random.Generator,
    split: Split,
    things: Sequence[int] | None = None,
    start: State | None = None,
) -> Story:
    """Draw a story of one split, with the given things and start where a recording continues."""
    while True:
        chosen = tuple(things) if things is not None else draw_things(world, rng)
        begin = start if start is not None else draw_start(chosen, rng)
        count = int(rng.integers(world.events[0], world.events[1] + 1))
        gaps = np.sort(rng.choice(world.gaps, size=count, replace=False))
        events = draw_events(begin, chosen, count, rng)
        story = Story(chosen, begin, events, tuple(int(g) for g in gaps))
        if split_of(story) == split:
            return story
