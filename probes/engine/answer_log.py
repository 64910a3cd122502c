"""How every trial was put to a member, kept on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from probes.core.spool import _SHA, Spool


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """How a cell was put to a member; no key where it could not be put."""

    key: str = ""
    stimulus_sha: str = ""
    problem: str = ""


class AnswerLog:
    """How every cell of a plan, in its order, was put to one member."""

    def __init__(self) -> None:
        self._spool = Spool()
        self._problems: dict[int, str] = {}

    def put(self, key: str, stimulus_sha: str) -> None:
        """Note the key (hex sha256) and the stimulus (hex sha256) of the next cell."""
        self._spool.add(bytes.fromhex(key) + bytes.fromhex(stimulus_sha))

    def fail(self, problem: str) -> None:
        """Note why the next cell cannot be asked."""
        self._problems[len(self)] = problem
        self._spool.add(bytes(2 * _SHA))

    def __getitem__(self, at: int) -> TrialRequest:
        """Return the entry of a cell."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        if (problem := self._problems.get(at)) is not None:
            return TrialRequest(problem=problem)
        both = self._spool.read(2 * _SHA * at, 2 * _SHA).hex()
        return TrialRequest(both[: 2 * _SHA], both[2 * _SHA :])

    def __iter__(self) -> Iterator[TrialRequest]:
        """Iterate over the entries in the order of the cells."""
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._spool) // (2 * _SHA)


class HashSet:
    """Different sha256 hashes, in little more than the 32 bytes of each; iterated in order."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, f"S{_SHA}")
        self._new: set[bytes] = set()

    def update(self, names: Iterable[str]) -> None:
        """Add hashes, given in hex."""
        self._new.update(map(bytes.fromhex, names))
        if len(self._new) > max(4_096, len(self._sorted) // 8):
            self._sort()

    def _sort(self) -> None:
        new = np.array(list(self._new), self._sorted.dtype)
        self._sorted = np.unique(np.concatenate([self._sorted, new]))
        self._new.clear()

    def __iter__(self) -> Iterator[str]:
        self._sort()
        # NumPy takes zeros at the end of such an element for padding.
        return (name.ljust(_SHA, b"\0").hex() for name in map(bytes, self._sorted))

    def __len__(self) -> int:
        self._sort()
        return len(self._sorted)
