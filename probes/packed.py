"""What a run holds of every item until its files are written, in little room.

As objects, the infills and answers of thousands of items would be most of a run's memory.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from probes.infills import Place
from probes.types import Infill

_FRESH = 64  # clips whose infills stay objects: a clip's arms follow one another


class Packed(MutableMapping[Place, tuple[Infill, ...]]):
    """Infills by place, as compressed JSON but for the few that were unpacked last."""

    def __init__(self) -> None:
        self._packed: dict[Place, bytes] = {}
        self._fresh: OrderedDict[Place, tuple[Infill, ...]] = OrderedDict()

    def __setitem__(self, place: Place, gaps: tuple[Infill, ...]) -> None:
        rows = [dataclasses.astuple(infill) for infill in gaps]
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        self._packed[place] = zlib.compress(text.encode("utf-8", "surrogatepass"), 1)
        self._fresh.pop(place, None)

    def __getitem__(self, place: Place) -> tuple[Infill, ...]:
        if place not in self._fresh:
            text = zlib.decompress(self._packed[place]).decode("utf-8", "surrogatepass")
            self._fresh[place] = tuple(Infill(*row) for row in json.loads(text))
            while len(self._fresh) > _FRESH:
                self._fresh.popitem(last=False)
        return self._fresh[place]

    def __delitem__(self, place: Place) -> None:
        del self._packed[place]
        self._fresh.pop(place, None)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a cell was put to a member; no key where it could not be put."""

    key: str = ""
    stimulus_sha: str = ""
    problem: str = ""


class Ledger:
    """How every cell of a plan, in its order, was put to one member: 64 bytes a cell."""

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._problems: dict[int, str] = {}

    def put(self, key: str, stimulus_sha: str) -> None:
        """Note the key (hex sha256) and the stimulus (hex sha256) of the next cell."""
        self._hashes += bytes.fromhex(key) + bytes.fromhex(stimulus_sha)

    def fail(self, problem: str) -> None:
        """Note why the next cell cannot be asked."""
        self._problems[len(self)] = problem
        self._hashes += bytes(64)

    def __getitem__(self, at: int) -> Asked:
        """Return the entry of a cell."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        if (problem := self._problems.get(at)) is not None:
            return Asked(problem=problem)
        both = self._hashes[64 * at : 64 * at + 64].hex()
        return Asked(both[:64], both[64:])

    def __iter__(self) -> Iterator[Asked]:
        """Iterate over the entries in the order of the cells."""
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._hashes) // 64
