"""What a run needs again later and does not keep in memory: one temporary SQLite table.

As Python objects, the clips and infills of thousands of items would be most of a run's memory
(docs/decisions/0014-spilled-to-disk.md). The file has no name in its folder, so that the system
frees it with the process, however that ends. By the next process all of its content can be made
once more, by this one it cannot: every row has a checksum, and damage ends the run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from probes.core.errors import MachineError
from probes.core.files import home

K = TypeVar("K")
V = TypeVar("V")
Name = int | bytes

_PREFIX = ".scratch-"
_LEFT_S = 60.0  # a file has a name for a millisecond; one that has it for longer was left
_CACHE_KB = 2_048  # of SQLite's pages in memory
_NEXT = "SELECT name, text, sum FROM entries WHERE space = ? AND name > ?"
_ROW = "INTO entries VALUES (?, ?, ?, ?)"
_CHUNK = 1_000  # rows that a scan reads at a time
_RECENT = 64  # values that a dictionary keeps as objects: a clip's arms follow one another


class Scratch:
    """A temporary table of texts by (space, name); safe to share between threads.

    Names of a space are numbers from 0, or bytes.

    Args:
        folder: whose disk it is on; by default `home()`, where the output cache needs room too.
            Where nothing may be written there, the system's folder of temporary files: a run that
            is complete needs only to read its home.

    Raises:
        MachineError: no file can be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or home()
        self._lock = threading.Lock()
        self._spaces: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        """Names of every space: a row that is lost leaves no trace in the table."""
        self._broken: MachineError | None = None
        try:
            try:
                self._db = _unnamed(self._folder)
            except OSError as error:
                # A full disk is no reason to go elsewhere: the output cache would soon meet it too.
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                self._db = _unnamed(Path(tempfile.gettempdir()))
        except (OSError, sqlite3.Error) as error:
            raise self._refused(error) from error

    def put(self, space: str, entries: Iterable[tuple[Name, str]]) -> None:
        """Store (name, text); what was stored under a name is replaced.

        All entries of a call are in memory at once.

        Raises:
            MachineError: the disk is full.
        """
        with self._lock:
            number = self._spaces.setdefault(space, len(self._spaces))
            rows = [(number, name, text, _sum(space, name, text)) for name, text in entries]
            try:
                new = self._db.executemany(f"INSERT OR IGNORE {_ROW}", rows).rowcount
                if new < len(rows):
                    self._db.executemany(f"INSERT OR REPLACE {_ROW}", rows)
            except sqlite3.Error as error:
                raise self._refused(error) from error
            self._counts[space] = self._counts.get(space, 0) + max(new, 0)

    def get(self, space: str, name: Name) -> str | None:
        """Return the text under a name; None where there is none.

        Raises:
            MachineError: the disk does not give it back as it was.
        """
        found = self._select(
            "SELECT name, text, sum FROM entries WHERE space = ? AND name = ?", space, name
        )
        if found and found[0][0] != name:
            raise self.damaged()
        return next(self._checked(space, found))[1] if found else None

    def scan(self, space: str) -> Iterator[tuple[Any, str]]:
        """Yield (name, text) of a space in the order of the names.

        Raises:
            MachineError: the disk does not give them back as they were.
        """
        last: Any = -1  # SQLite puts all numbers before all bytes
        expected, found = self.count(space), 0
        # In pieces, each under the lock by itself: others write while a long scan is consumed.
        while rows := self._select(f"{_NEXT} ORDER BY name LIMIT {_CHUNK}", space, last):
            names = [last, *(row[0] for row in rows)]
            # A damaged tree may lead in a circle.
            sound = all(isinstance(name, int | bytes) for name in names)
            if not sound or any(_order(a) >= _order(b) for a, b in pairwise(names)):
                raise self.damaged()
            yield from self._checked(space, rows)
            last, found = rows[-1][0], found + len(rows)
        if found < expected:
            raise self.damaged()

    def count(self, space: str) -> int:
        """Count the names of a space."""
        with self._lock:
            return self._counts.get(space, 0)

    def _checked(self, space: str, rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, str]]:
        for name, text, check in rows:
            if not isinstance(text, str) or check != _sum(space, name, text):
                raise self.damaged()
            yield name, text

    def damaged(self) -> MachineError:
        """Return the error of a row that is not what was put there."""
        return self._refused(OSError(errno.EIO, "its content changed on the disk"), "read")

    def close(self) -> None:
        """Free the file."""
        with self._lock:
            self._db.close()

    def _select(self, statement: str, space: str, *values: Name) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                number = self._spaces.get(space, -1)
                return self._db.execute(statement, (number, *values)).fetchall()
            except sqlite3.Error as error:
                raise self._refused(error, "read") from error

    def _refused(self, error: Exception, what: str = "written") -> MachineError:
        # The first reason counts: without a journal, a full disk leaves a table that looks damaged.
        if self._broken is None:
            reason = getattr(error, "strerror", None) or error
            fix = "make room there, or point $PROBES_HOME elsewhere"
            if what == "read":
                fix = (
                    "check that disk, or point $PROBES_HOME elsewhere; then the same command again"
                )
            problem = f"a temporary file cannot be {what}: {reason}"
            self._broken = MachineError(problem, str(self._folder), fix)
        return self._broken


def _sum(space: str, name: Any, text: str) -> bytes:
    """Return a checksum of a row; lengths keep what is in it from moving into its neighbour."""
    label = name if isinstance(name, bytes) else str(name).encode()
    parts = (space.encode(), label, text.encode())
    head = f"{len(parts[0])} {len(label)} {type(name).__name__} "
    return hashlib.blake2b(head.encode() + b"".join(parts), digest_size=8).digest()


def _order(name: Any) -> tuple[bool, Any]:
    return isinstance(name, bytes), name


def _unnamed(folder: Path) -> sqlite3.Connection:
    """Return a table in a file of that folder that has no name there."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_left(folder)
    handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
    os.close(handle)
    try:
        # Without Python's own transactions: nothing ever has to be taken back.
        db = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        # Nothing survives the process, so nothing has to be safe: no journal, no waiting for disks.
        db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
            f"PRAGMA cache_size = -{_CACHE_KB}"
        )
        db.execute(
            "CREATE TABLE entries (space INTEGER, name, text TEXT, sum, PRIMARY KEY (space, name)) "
            "WITHOUT ROWID"
        )
    finally:
        # SQLite keeps the open file, and without a journal it never looks for the name again.
        Path(name).unlink()
    return db


def _remove_left(folder: Path) -> None:
    """Remove what a process left that was killed before it could take its file's name away."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process was faster, or may not
            if path.stat().st_mtime < time.time() - _LEFT_S:
                path.unlink()


class SpilledDict(MutableMapping[K, tuple[V, ...]], Generic[K, V]):
    """Tuples of dataclasses by key: keys in memory, values in a scratch table but for a few.

    Args:
        scratch: the table.
        space: a name of its own there.
        kind: the dataclass; its fields are JSON's types or tuples of them.
    """

    def __init__(self, scratch: Scratch, space: str, kind: type[V]) -> None:
        self._scratch, self._space = scratch, space
        self._kind: Any = kind
        self._numbers: dict[K, int] = {}
        self._recent: OrderedDict[K, tuple[V, ...]] = OrderedDict()

    def __setitem__(self, key: K, values: Iterable[V]) -> None:
        rows: list[Any] = [astuple(value) for value in values]  # type: ignore[call-overload]
        text = json.dumps(rows, separators=(",", ":"))
        # A key that is set again keeps its number, and its row is replaced.
        number = self._numbers.setdefault(key, len(self._numbers))
        self._scratch.put(self._space, [(number, text)])
        # Else an older value, still kept as objects, would be read in place of this one.
        self._recent.pop(key, None)

    def __getitem__(self, key: K) -> tuple[V, ...]:
        if (found := self._recent.get(key)) is None:
            text = self._scratch.get(self._space, self._numbers[key])
            if text is None:  # it was put there, and its row is lost
                raise self._scratch.damaged()
            rows = json.loads(text)
            found = tuple(self._kind(*map(_frozen, row)) for row in rows)
            self._recent[key] = found
            # By age of reading, not of use: a dictionary that is gone through needs no more.
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return found

    def __delitem__(self, key: K) -> None:
        raise TypeError("nothing is taken out of a spilled dictionary")

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def __iter__(self) -> Iterator[K]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class HashSet:
    """Distinct sha256 hashes (hex), in a scratch table.

    Args:
        scratch: the table.
        space: a name of its own there.
    """

    def __init__(self, scratch: Scratch, space: str) -> None:
        self._scratch, self._space = scratch, space

    def update(self, hashes: Iterable[str]) -> None:
        """Add hashes."""
        self._scratch.put(self._space, ((bytes.fromhex(name), "") for name in set(hashes)))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the hashes, in order."""
        return (name.hex() for name, _ in self._scratch.scan(self._space))

    def __len__(self) -> int:
        return self._scratch.count(self._space)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
