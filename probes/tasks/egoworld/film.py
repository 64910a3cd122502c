"""From a story to pictures: when things happen, where the head points, what is in the frame.

Time is measured in *gaps*: a clip lasts from 0 to `world.gaps`, whatever its length in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.tasks.egoworld.draw import PHASES, TONES, Painter
from probes.tasks.egoworld.world import AWAY, Event, State, Story, World, states


@dataclass(frozen=True, slots=True)
class Footage:
    """One story with all that decides its frames."""

    story: Story
    moments: tuple[float, ...]
    """When each event happens, in gaps."""
    tone: tuple[int, int, int]
    """RGB of the table."""
    sway: tuple[float, float, float, float]
    """Head motion: angular speeds (per gap) and phases in x and y."""
    hand: float
    """Half the time that the hand is in the picture around an event, in gaps."""
    drift: float
    """Amplitude of the head's motion, as a share of the picture's height."""

    def state_at(self, time: float) -> State:
        """Return the state of the table at a time."""
        return states(self.story)[sum(moment <= time for moment in self.moments)]

    def frame(self, painter: Painter, time: float) -> NDArray[np.uint8]:
        """Paint what is seen at a time: uint8 [height, width, 3]."""
        amplitude = self.drift * painter.height
        shift = (
            round(amplitude * math.sin(self.sway[0] * time + self.sway[2])),
            round(amplitude * math.sin(self.sway[1] * time + self.sway[3])),
        )
        return painter.frame(
            self.story.things, self.state_at(time), self.tone, shift, self.hand_at(time)
        )

    def hand_at(self, time: float) -> tuple[int, int] | None:
        """Return (place, phase) of the reaching hand at a time; None where it is not seen."""
        for at, moment in enumerate(self.moments):
            distance = abs(time - moment)
            if distance < self.hand:
                place = self._place(at, time)
                return place, min(PHASES - 1, int(PHASES * (1 - distance / self.hand)))
        return None

    def _place(self, at: int, time: float) -> int:
        """Return where the hand reaches: the thing's place, or its last one if it is away."""
        event, all_states = self.story.events[at], states(self.story)
        index = self.story.things.index(event.thing)
        before, after = all_states[at].places[index], all_states[at + 1].places[index]
        now, other = (before, after) if time < self.moments[at] else (after, before)
        return other if now == AWAY else now

    def events_between(self, first: float, second: float) -> list[Event]:
        """Return the events that happen in (first, second]."""
        pairs = zip(self.story.events, self.moments, strict=True)
        return [event for event, moment in pairs if first < moment <= second]


def shoot(
    story: Story, world: World, rng: np.random.Generator, tone: Sequence[int] | None = None
) -> Footage:
    """Draw what a story leaves open: moments, the table's tone (unless given), head motion."""
    red, green, blue = TONES[rng.integers(len(TONES))] if tone is None else tone
    return Footage(
        story=story,
        # Well inside the gap: ten evenly sampled frames never catch the hand, other counts do.
        moments=tuple(gap + 0.3 + 0.4 * float(rng.random()) for gap in story.gaps),
        tone=(int(red), int(green), int(blue)),
        sway=tuple(  # type: ignore[arg-type]
            float(v) for v in (*rng.uniform(1.0, 3.0, 2), *rng.uniform(0, 2 * math.pi, 2))
        ),
        hand=world.hand,
        drift=world.drift,
    )


def sample_times(gaps: int, count: int) -> list[float]:
    """Return the times, in gaps, that `count` evenly sampled frames show."""
    return [gaps * i / (count - 1) for i in range(count)] if count > 1 else [0.0]
