"""What a run needs again later, kept on disk meanwhile: clips, infills, what every cell was put as.

As objects, those of thousands of items would be most of a run's memory. The files have no name, so
that the system frees them with the process, however it ends; what is in them can be made again.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import numpy as np

from probes.provenance import home
from probes.types import MachineError, Media

K = TypeVar("K")
V = TypeVar("V")

_FRESH = 64  # keys whose values stay objects: a clip's arms follow one another
_SHA = 32  # bytes of a sha256
_ORIGIN = _SHA + 4 + 4  # a frame, its media, its number there


class Spool:
    """Bytes in a file without a name.

    Args:
        folder: whose disk it lies on; by default `home()`, where the store needs room too. Where
            nothing may be written there, the system's folder of temporary files: a run that is
            complete needs no more than to read its home.

    Raises:
        MachineError: no file can be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder = folder or home()
        try:
            self._file = _unnamed(folder)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise self._refused(error) from error
            try:
                self._file = _unnamed(Path(tempfile.gettempdir()))
            except OSError:
                raise self._refused(error) from error
        self._size = 0

    def add(self, data: bytes) -> int:
        """Append bytes and return where they begin.

        Raises:
            MachineError: the disk is full.
        """
        start, left = self._size, memoryview(data)
        try:
            while left:
                left = left[os.pwrite(self._file.fileno(), left, start + len(data) - len(left)) :]
        except OSError as error:
            raise self._refused(error) from error
        self._size += len(data)
        return start

    def read(self, start: int, size: int) -> bytes:
        """Return the bytes that begin there.

        Raises:
            MachineError: the disk does not give them back.
        """
        try:
            data = os.pread(self._file.fileno(), size, start)
            if len(data) < size:
                raise OSError(errno.EIO, "it is shorter than what was written")
        except OSError as error:
            raise self._refused(error, "read") from error
        return data

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def _refused(self, error: OSError, what: str = "written") -> MachineError:
        return MachineError(
            f"a temporary file cannot be {what}: {error.strerror or error}", str(self._folder),
            "make room there, or point $PROBES_HOME elsewhere",
        )  # fmt: skip


def _unnamed(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(buffering=0, dir=folder)


class Shelf(MutableMapping[K, tuple[V, ...]], Generic[K, V]):
    """Tuples of dataclasses by key, as JSON on disk but for the few that were looked up last.

    Args:
        kind: the dataclass; its fields are JSON's types or tuples of them.
    """

    def __init__(self, kind: type[V]) -> None:
        self._kind: Any = kind
        self._spool = Spool()
        self._starts: dict[K, int] = {}
        self._fresh: OrderedDict[K, tuple[V, ...]] = OrderedDict()

    def __setitem__(self, key: K, values: Sequence[V]) -> None:
        rows: list[Any] = [astuple(value) for value in values]  # type: ignore[call-overload]
        data = json.dumps(rows, separators=(",", ":")).encode("ascii")
        self._starts[key] = self._spool.add(len(data).to_bytes(8) + data)
        self._fresh.pop(key, None)

    def __getitem__(self, key: K) -> tuple[V, ...]:
        if (found := self._fresh.get(key)) is None:
            start = self._starts[key]
            size = int.from_bytes(self._spool.read(start, 8))
            rows = json.loads(self._spool.read(start + 8, size))
            found = tuple(self._kind(*map(_frozen, row)) for row in rows)
            self._fresh[key] = found
            while len(self._fresh) > _FRESH:
                self._fresh.popitem(last=False)
        return found

    def __delitem__(self, key: K) -> None:
        del self._starts[key]
        self._fresh.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._starts

    def __iter__(self) -> Iterator[K]:
        return iter(self._starts)

    def __len__(self) -> int:
        return len(self._starts)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Asked:
    """How a cell was put to a member; no key where it could not be put."""

    key: str = ""
    stimulus_sha: str = ""
    problem: str = ""


class Ledger:
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

    def __getitem__(self, at: int) -> Asked:
        """Return the entry of a cell."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        if (problem := self._problems.get(at)) is not None:
            return Asked(problem=problem)
        both = self._spool.read(2 * _SHA * at, 2 * _SHA).hex()
        return Asked(both[: 2 * _SHA], both[2 * _SHA :])

    def __iter__(self) -> Iterator[Asked]:
        """Iterate over the entries in the order of the cells."""
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._spool) // (2 * _SHA)


class Hashes:
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


class Origins:
    """Which number of which media every frame is: 40 bytes a frame, on disk.

    Args:
        folder: whose disk they lie on.
    """

    def __init__(self, folder: Path) -> None:
        self._media: list[Media] = []
        self._rows = Spool(folder)

    def add(self, media: Media, numbers: Mapping[str, int]) -> None:
        """Note the frames of a media file: their numbers by sha256 (hex)."""
        place = len(self._media).to_bytes(4)
        self._media.append(media)
        rows = (bytes.fromhex(name) + place + at.to_bytes(4) for name, at in numbers.items())
        self._rows.add(b"".join(rows))

    def find(self, name: str) -> tuple[Media, int] | None:
        """Return a media file that holds the frame of that sha256 (hex), and its number there."""
        try:
            wanted = bytes.fromhex(name)
        except ValueError:
            return None
        if len(wanted) != _SHA:
            return None
        rows = self._all()
        at = rows.find(wanted)
        while at % _ORIGIN and at >= 0:  # across two rows
            at = rows.find(wanted, at + 1)
        if at < 0:
            return None
        where = rows[at + _SHA : at + _ORIGIN]
        return self._media[int.from_bytes(where[:4])], int.from_bytes(where[4:])

    def _all(self) -> bytes:
        return self._rows.read(0, len(self._rows))

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the frames, each once, as they were first noted."""
        rows = self._all()
        starts = range(0, len(rows), _ORIGIN)
        return iter(dict.fromkeys(rows[at : at + _SHA].hex() for at in starts))

    def __len__(self) -> int:
        return sum(1 for _ in self)
