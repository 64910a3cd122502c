"""What the members of the tiny pair are taught: samples drawn from stories.

The stages make the pair. The image member sees one frame, or two, or reads text about what
happened; it is never asked about many frames that no text explains. The video member is. Text
between frames is sometimes wrong or missing, so that frames matter where text is given.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.config.prompts import prompt_set
from probes.tasks.egoworld.draw import Painter
from probes.tasks.egoworld.film import Footage, sample_times, shoot
from probes.tasks.egoworld.questions import TYPES, Question, ask, name, narrate
from probes.tasks.egoworld.world import (
    AWAY,
    PLACES,
    VERBS,
    Event,
    Split,
    State,
    World,
    draw_story,
    draw_things,
)

LETTERS = "ABCDE"
START, END = "<s> user:", " assistant:"
DESCRIBE, NARRATE = " what is there?", " what happens?"

Rng = np.random.Generator
SamplePiece = str | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Ask:
    """One question about a shared context, and its answer."""

    prompt: str
    answer: str
    kind: str
    """What is being practised: caption, common, event, narrate, cloze or letter."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A shared context (frames and text in order) and the questions that follow it."""

    context: tuple[SamplePiece, ...]
    asks: tuple[Ask, ...]


class Curriculum:
    """Draws samples of every source.

    Args:
        world: sizes of the world.
        mix: `mix` of conf/train/tiny.yaml.
        side: height and width of a frame in pixels.
        split: of the stories that are drawn.
    """

    def __init__(self, world: World, mix: Mapping[str, Any], side: int, split: Split) -> None:
        self.world, self.mix, self.split = world, mix, split
        self._painter = Painter(side, side)
        prompts = prompt_set("tiny")
        # The prompts of the harness: what is trained is what is asked.
        # Frames are in the shared context, before every question: placeholders of them go.
        self._common = prompts.common.replace("{frame_a}{frame_b}", "")
        self._event = prompts.event.replace("{frame_a}{frame_b}", "")
        self._cloze = prompts.cloze.replace("{context}", "")
        self._letter = prompts.letter.replace("{context}", "")
        self._between = prompts.between

    def draw(self, source: str, noise: Mapping[str, float], rng: Rng) -> Sample:
        """Draw one sample of a source: describe, look, read, text, drill or watch."""
        if source in ("read", "text", "watch"):
            return self._clip(noise, rng, frames=source != "text", texts=source != "watch")
        table = {"describe": self._describe, "look": self._look, "drill": self._drill}
        return table[source](rng)

    def footage(self, rng: Rng) -> Footage:
        """Film a new story of this curriculum's split."""
        return shoot(draw_story(self.world, rng, self.split), self.world, rng)

    def _describe(self, rng: Rng) -> Sample:
        footage = self.footage(rng)
        time = float(rng.uniform(0, self.world.gaps))
        frame = footage.frame(self._painter, time)
        caption = caption_of(footage.story.things, footage.state_at(time))
        return Sample((START, frame), (Ask(DESCRIBE + END, f" {caption}", "caption"),))

    def _look(self, rng: Rng) -> Sample:
        footage = self.footage(rng)
        times = self._times(rng)
        at = int(rng.integers(len(times) - 1))
        # Neighbours among a clip's sampled frames: what the harness asks infills about.
        first, second = times[at], times[at + 1]
        common = common_of(footage, first, second)
        given = common
        if rng.random() < self.mix["wrong_common"]:
            # The event stays true: step 2 has to learn from the frames, not to trust step 1.
            given = _listed(draw_things(self.world, rng))
        event = narrate(footage.events_between(first, second))
        return Sample(
            (START, footage.frame(self._painter, first), footage.frame(self._painter, second)),
            (
                Ask(self._common + END, f" {common}", "common"),
                Ask(self._event.replace("{common}", given) + END, f" {event}", "event"),
            ),
        )

    def _clip(self, noise: Mapping[str, float], rng: Rng, *, frames: bool, texts: bool) -> Sample:
        footage = self.footage(rng)
        times = self._times(rng)
        true_texts = _narrated(footage, times)
        infills = [""] * len(true_texts)
        if texts:
            infills = self._with_noise(footage, times, noise, rng)
        context: list[SamplePiece] = [START]
        for at, time in enumerate(times):
            if frames:
                context.append(footage.frame(self._painter, time))
            if at < len(infills) and infills[at]:
                context.append(self._between.replace("{infill}", infills[at]))
        asks = []
        if frames != texts and (not texts or infills == true_texts):
            # From frames, this is what video finetuning teaches; from text it is copying, the first
            # step towards looking up what comes after something.
            asks.append(Ask(NARRATE + END, f" {' '.join(true_texts)}", "narrate"))
        # The answer is what happened, even where the texts are wrong: then only frames have it.
        for kind in TYPES:
            question = ask(footage.story, kind, rng)
            if question is not None:
                asks.append(self._cloze_ask(question))
                if rng.random() < self.mix["letter_share"]:
                    asks.append(self._letter_ask(question, rng))
        return Sample(tuple(context), tuple(asks))

    def _drill(self, rng: Rng) -> Sample:
        """Draw a sentence and listed options: only the sentence's letter has to be found."""
        things = draw_things(self.world, rng)
        texts = [Event(verb, thing).text() for verb in VERBS for thing in things]
        chosen = [texts[i] for i in rng.permutation(len(texts))[: len(LETTERS) + 1]]
        asks = []
        for answer in chosen[:2]:
            wrong = [t for t in chosen if t != answer][:4]
            question = Question("drill", answer, answer, tuple(wrong))
            asks.append(self._letter_ask(question, rng))
        return Sample((START,), tuple(asks))

    def _cloze_ask(self, question: Question) -> Ask:
        return Ask(
            self._cloze.replace("{question}", question.text) + END, f" {question.answer}", "cloze"
        )

    def _letter_ask(self, question: Question, rng: Rng) -> Ask:
        # Drawn evenly: with a usual place, its letter would be learnt instead of the search.
        position = int(rng.integers(len(LETTERS)))
        listed = "\n".join(
            f"{letter}. {text}"
            for letter, text in zip(LETTERS, question.options(position), strict=True)
        )
        prompt = self._letter.replace("{question}", question.text).replace("{options}", listed)
        return Ask(prompt + END, f" {LETTERS[position]}", "letter")

    def _times(self, rng: Rng) -> list[float]:
        """Return the times of a clip's frames; mostly at the frame counts of the study."""
        counts = self.mix["frame_counts"]
        shares = np.array(list(counts.values()), float)
        count = int(list(counts)[rng.choice(len(counts), p=shares / shares.sum())])
        return sample_times(self.world.gaps, count)

    def _with_noise(
        self, footage: Footage, times: Sequence[float], noise: Mapping[str, float], rng: Rng
    ) -> list[str]:
        """Return the text of every gap: true, or wrong or missing as often as `noise` says."""
        kind = rng.random()
        if kind < noise["other"]:
            # The whole text of one other story: it contradicts the frames, but not itself.
            return _narrated(self.footage(rng), times)
        texts = _narrated(footage, times)
        if kind < noise["other"] + noise["gaps"]:
            for at in range(len(texts)):
                drawn = rng.random()
                if drawn < noise["missing"]:
                    texts[at] = ""
                elif drawn < noise["missing"] + noise["wrong"]:
                    texts[at] = self._mistake(footage, rng)
        return texts

    def _mistake(self, footage: Footage, rng: Rng) -> str:
        """Return what a bad caption might say: an event with one of the clip's own things."""
        # Its own things: others would give the mistake away without a look at the frames.
        things = footage.story.things
        if rng.random() < 0.3:
            return narrate([])
        return Event(VERBS[rng.integers(len(VERBS))], things[rng.integers(len(things))]).text()


def _narrated(footage: Footage, times: Sequence[float]) -> list[str]:
    """Return what happened between each two neighbouring times."""
    return [narrate(footage.events_between(a, b)) for a, b in itertools.pairwise(times)]


def caption_of(things: Sequence[int], state: State) -> str:
    """Return the dense caption of one frame, place by place."""
    out = []
    for place, place_name in enumerate(PLACES):
        if place in state.places:
            at = state.places.index(place)
            how = "open" if state.opened[at] else "closed"
            out.append(f"{name(things[at])} is {how} at the {place_name}.")
    return " ".join(out) or "nothing."


def common_of(footage: Footage, first: float, second: float) -> str:
    """Return the things that both frames show, in the order of THINGS."""
    a, b = footage.state_at(first), footage.state_at(second)
    both = [
        thing
        for thing, x, y in zip(footage.story.things, a.places, b.places, strict=True)
        if AWAY not in (x, y)
    ]
    return _listed(both)


def _listed(things: Sequence[int]) -> str:
    return (", ".join(name(thing) for thing in sorted(things)) or "nothing") + "."
