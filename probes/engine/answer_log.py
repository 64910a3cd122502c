"""How every trial of a plan was put to one member, in the plan's order, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from probes.core.scratch import Scratch


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """How a trial was put to a member, or why it could not be."""

    key: str = ""
    """The output cache's key (hex sha256)."""
    stimulus_sha: str = ""
    """sha256 of what was shown (hex)."""
    problem: str = ""
    """Why it was not asked; then there is no key and no stimulus."""


class AnswerLog:
    """What became of every trial of a plan with one member.

    Args:
        scratch: where it is kept.
        space: a name of its own there.
    """

    def __init__(self, scratch: Scratch, space: str) -> None:
        self._scratch, self._space = scratch, space
        self._length = 0

    def extend(self, entries: list[TrialRequest]) -> None:
        """Add the next trials."""
        # In the plan's order and without names: a trial is known by its number alone.
        texts = (json.dumps([one.key, one.stimulus_sha, one.problem]) for one in entries)
        self._scratch.put(self._space, enumerate(texts, self._length))
        self._length += len(entries)

    def __getitem__(self, number: int) -> TrialRequest:
        """Return the entry of a trial by its place in the plan."""
        text = self._scratch.get(self._space, number)
        if text is None:
            raise self._scratch.damaged() if 0 <= number < self._length else IndexError(number)
        return TrialRequest(*json.loads(text))

    def __iter__(self) -> Iterator[TrialRequest]:
        """Iterate over the entries in the order of the trials."""
        return (TrialRequest(*json.loads(text)) for _, text in self._scratch.scan(self._space))
