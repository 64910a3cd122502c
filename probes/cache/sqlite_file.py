"""One file of the store: how it is opened, told apart, claimed by a process, and what a row is.

On a local disk the files use SQLite's write-ahead log (fast, and a reader never waits). It needs
shared memory, which network file systems do not have, so elsewhere the rollback journal is used;
$PROBES_STORE_JOURNAL=wal or =delete decides where the guess by the disk's type is wrong.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import socket
import sqlite3
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from probes.core.errors import ProbesError
from probes.core.types import Output

VERSION = 2
"""Of the tables; kept in every file as its `user_version`. Files of version 1, whose rows have no
checksum, are read, and become files of this version with the first row that is added."""
_READABLE = (1, VERSION)
TABLES = """
    create table if not exists outputs (key text primary key, output text) without rowid;
    create table if not exists errors (key text primary key, output text) without rowid;
"""
CHUNKS = (16, 128, 900)
"""Keys in one query, of which there are so few kinds because SQLite keeps each, 0.1 MB a large one;
its oldest default bound is 999."""
_CACHE_KB = 512  # a store has two connections, and one more for every file: keys are asked in order
_WAIT_S = 60.0
"""How long a locked file is waited for."""
_LOCAL = {
    "apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "overlay", "ramfs",
    "reiserfs", "tmpfs", "ufs", "xfs", "zfs",
}  # fmt: skip
_FIELDS = {field.name for field in fields(Output)}

UNSOUND = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading a row that is no output can raise."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file, which is made if need be."""
    # The lock of `Store` guards every connection, so threads may share them.
    connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
    try:
        connection.execute(f"pragma cache_size = -{_CACHE_KB}")
    except BaseException:  # of a damaged file
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error means that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def check_version(connection: sqlite3.Connection, path: Path) -> bool:
    """Say whether the file has its tables.

    Raises:
        ProbesError: they are those of another version.
    """
    connection.execute("begin")  # one look: another process may be making the tables
    (found,) = connection.execute("pragma user_version").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    connection.rollback()
    if found in _READABLE:
        return True
    if found == 0 and tables == 0:
        return False
    newer = "a newer" if found > VERSION else "an older or a foreign"
    raise ProbesError(
        f"this file of the store was written by {newer} version (tables {found}, here {VERSION})",
        str(path),
        "use that version of interframe-probes, or set PROBES_HOME to another folder, or move the "
        "file away: what it holds is then computed again",
    )


def claim(folder: Path) -> tuple[Path, IO[str]]:
    """Return the first file of this host that no living process holds, and the lock on it.

    The host is in the name because locks of one machine mean nothing to another on some network
    disks; where there are no locks at all, every process gets a file of its own.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
    for number in itertools.count():
        path = folder / f"{host}-{number}.sqlite"
        try:
            held = path.with_suffix(".lock").open("a")
        except PermissionError:
            if not path.with_suffix(".lock").exists():
                raise
            continue  # another user's, in a store that is shared
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            continue
        except OSError:
            return folder / f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}.sqlite", held
        return path, held
    raise AssertionError("unreachable: count() does not end")


def journal(folder: Path) -> str:
    """Return SQLite's journal mode for a folder: `wal` on a local disk, else `delete`."""
    name = "PROBES_STORE_JOURNAL"
    if given := os.environ.get(name):
        if given.lower() not in ("wal", "delete"):
            raise ProbesError(f"{given!r} is no journal mode", f"${name}", "use wal or delete")
        return given.lower()
    return "wal" if disk_type(folder) in _LOCAL else "delete"


def disk_type(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that holds a folder; empty where it is not known."""
    best, kind = "", ""
    here = str(folder.resolve())
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[1])
        inside = place == "/" or here == place or here.startswith(f"{place}/")
        if inside and len(place) >= len(best):
            best, kind = place, words[2]
    return kind


def select(
    reader: sqlite3.Connection, table: str, columns: str, keys: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield what two columns of a table hold for those of the keys that it has."""
    for start in range(0, len(keys), CHUNKS[-1]):
        some = list(keys[start : start + CHUNKS[-1]])
        size = next(size for size in CHUNKS if size >= len(some))
        marks = ",".join("?" * size)
        query = f"select {columns} from {table} where key in ({marks})"
        yield from reader.execute(query, some + some[:1] * (size - len(some)))


def row_of(output: Output) -> str:
    """Return a row's text: JSON with its checksum behind it, as SQLite has none and disks rot."""
    text = json.dumps(asdict(output), separators=(",", ":"))
    return f"{text} {zlib.crc32(text.encode()):08x}"


def output_of(row: str) -> Output:
    """Return the output that a row's text holds; one of `UNSOUND` where it holds none."""
    text = row
    if not row.endswith("}"):  # as the rows of version 1 do
        text, _, check = row.rpartition(" ")
        if int(check, 16) != zlib.crc32(text.encode()):
            raise ValueError("a row is not what was written")
    values: dict[str, Any] = {k: v for k, v in json.loads(text).items() if k in _FIELDS}
    for name in ("option_logprobs", "option_tokens"):
        values[name] = tuple(values[name])
    return Output(**values)
