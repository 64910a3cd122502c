"""How every trial of a plan was put to one member, in the plan's order, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from probes.core.scratch import Scratch


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A trial that was put to a member."""

    key: str
    """The output cache's key (hex sha256)."""
    stimulus_sha: str
    """sha256 of what was shown (hex)."""


@dataclass(frozen=True, slots=True)
class UnaskableTrial:
    """A trial that could not be put to a member."""

    problem: str
    """Why."""


class AnswerLog:
    """What became of every trial of a plan with one member.

    Args:
        scratch: where it is kept.
        space: a name of its own there.
    """

    def __init__(self, scratch: Scratch, space: str) -> None:
        self._scratch, self._space = scratch, space
        self._length = 0

    def extend(self, entries: list[TrialRequest | UnaskableTrial]) -> None:
        """Add the next trials."""
        texts = (
            json.dumps(
                [one.problem] if isinstance(one, UnaskableTrial) else [one.key, one.stimulus_sha]
            )
            for one in entries
        )
        self._scratch.put(self._space, enumerate(texts, self._length))
        self._length += len(entries)

    def __getitem__(self, number: int) -> TrialRequest | UnaskableTrial:
        """Return the entry of a trial by its place in the plan."""
        text = self._scratch.get(self._space, number) if 0 <= number < self._length else None
        if text is None:
            raise IndexError(number)
        return _entry(text)

    def __iter__(self) -> Iterator[TrialRequest | UnaskableTrial]:
        """Iterate over the entries in the order of the trials."""
        return (_entry(text) for _, text in self._scratch.scan(self._space))


def _entry(text: str) -> TrialRequest | UnaskableTrial:
    values = json.loads(text)
    return TrialRequest(*values) if len(values) == 2 else UnaskableTrial(*values)
