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
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from probes.core.errors import MachineError
from probes.core.files import home

K = TypeVar("K")
V = TypeVar("V")

_FRESH = 64  # keys whose values stay objects: a clip's arms follow one another
_SHA = 32  # bytes of a sha256


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


class SpilledDict(MutableMapping[K, tuple[V, ...]], Generic[K, V]):
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
