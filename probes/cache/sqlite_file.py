"""One file of the store: opening it, checking its version, claiming it, and its rows.

On a local disk the files use SQLite's write-ahead log (fast, and a reader never waits). It needs
shared memory, which network file systems do not have, so elsewhere the rollback journal is used;
$PROBES_STORE_JOURNAL=wal or =delete decides where the guess by the disk's type is wrong.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from probes.core.errors import ProbesError
from probes.core.types import Output

VERSION = 2
"""Version of tables and rows, kept in every file as its `user_version`. Rows may gain fields within
it: a reader leaves out those that it does not know, and no row is ever written from one read."""
CREATE = f"""
    begin;
    create table if not exists outputs (key text primary key, output text) without rowid;
    create table if not exists errors (key text primary key, output text) without rowid;
    pragma user_version = {VERSION};
    commit;
"""
HAS_ARRAYS = """instr(output, '"arrays":') > 0"""
"""SQL: whether a row may have arrays; within a text the quotation marks would be escaped."""
_CACHE_KB = 512  # small: a store has a connection per file, and keys are looked up in order
_WAIT_S = 60.0
"""How long to wait for a locked file."""
_LOCAL = (
    "apfs bcachefs btrfs ext2 ext3 ext4 f2fs hfs jfs overlay ramfs reiserfs tmpfs ufs xfs zfs"
).split()
_PLAIN = tuple(field.name for field in fields(Output) if field.name not in ("extras", "arrays"))
"""Fields that every row has."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file, or create it."""
    # The lock of `Store` guards every connection, so threads may share them.
    return sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)


def open_reader(path: Path) -> sqlite3.Connection | None:
    """Open a file for reading; None while another process is still creating it.

    Raises:
        sqlite3.Error: it is damaged, or cannot be read.
        ProbesError: its tables are those of another version.
    """
    with contextlib.ExitStack() as opened:
        connection = opened.enter_context(contextlib.closing(connect(path)))
        connection.execute(f"pragma cache_size = -{_CACHE_KB}")
        if not _has_tables(connection, path):
            return None
        opened.pop_all()  # it stays open
        return connection


def open_writer(path: Path) -> sqlite3.Connection:
    """Open a file for writing, with its tables; raises as `open_reader` does."""
    mode = journal(path.parent)
    with contextlib.ExitStack() as opened:
        connection = opened.enter_context(contextlib.closing(connect(path)))
        connection.execute(f"pragma cache_size = -{_CACHE_KB}")
        # Set at every opening: `wal` is kept in the file, which may have been copied from a local
        # disk to another.
        connection.execute(f"pragma journal_mode = {mode}")
        # With a log, a power cut can lose the last outputs but not damage the file.
        connection.execute(f"pragma synchronous = {'normal' if mode == 'wal' else 'full'}")
        if not _has_tables(connection, path):
            connection.executescript(CREATE)  # one transaction: no reader sees half the tables
        opened.pop_all()
        return connection


def is_damage(error: Exception) -> bool:
    """Return whether an error means that the file is damaged."""
    # The low byte is the kind of error; higher bits hold details (SQLITE_CORRUPT_INDEX, ...).
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _has_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file has its tables; without them it is new.

    Raises:
        ProbesError: the tables are those of another version.
    """
    connection.execute("begin")  # one moment: another process may be creating the tables
    (found,) = connection.execute("pragma user_version").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    connection.rollback()
    if found == VERSION:
        return True
    if found == 0 and tables == 0:
        return False
    newer = "a newer" if found > VERSION else "an older or a foreign"
    raise ProbesError(
        f"this file of the store was written by {newer} version (tables {found}, here {VERSION})",
        str(path),
        "use that version of interframe-probes, or set PROBES_HOME to another folder, or move the "
        "file away: its outputs are then computed again",
    )


def claim(folder: Path) -> tuple[Path, IO[str]]:
    """Return the first file of this host that no running process holds, and the lock on it.

    The host is in the name because on some network disks the locks of one machine have no effect on
    another; where there are no locks at all, every process gets a file of its own.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
    for number in itertools.count():
        path = folder / f"{host}-{number}.sqlite"
        try:
            lock = path.with_suffix(".lock").open("a")
        except PermissionError:
            if not path.with_suffix(".lock").exists():
                raise
            continue  # another user's file, in a shared store
        # The system frees the lock with the process, however that ends: none is left behind.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        except OSError:
            return folder / f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}.sqlite", lock
        return path, lock
    raise AssertionError("unreachable: count() does not end")


def journal(folder: Path) -> str:
    """Return SQLite's journal mode for a folder: `wal` on a local disk, else `delete`."""
    name = "PROBES_STORE_JOURNAL"
    if given := os.environ.get(name):
        if given.lower() not in ("wal", "delete"):
            raise ProbesError(f"{given!r} is not a journal mode", f"${name}", "use wal or delete")
        return given.lower()
    return "wal" if disk_type(folder) in _LOCAL else "delete"


def disk_type(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that holds a folder; empty where it is unknown."""
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
        # The kernel writes a space in a path as \040.
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[1])
        inside = mount == "/" or here == mount or here.startswith(f"{mount}/")
        # The deepest mount counts; of several at one place the last, which hides those before.
        if inside and len(mount) >= len(best):
            best, kind = mount, words[2]
    return kind


def select(
    reader: sqlite3.Connection, value: str, keys: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield (key, value) of those keys that have an output.

    Args:
        reader: the file.
        value: an expression over the columns `key` and `output`.
        keys: which.
    """
    # All keys as one JSON list: a query has room for a thousand values of its own at most.
    query = f"select key, {value} from outputs where key in (select value from json_each(?))"
    return reader.execute(query, [json.dumps(keys)])


def row_of(output: Output, arrays: str = "") -> str:
    """Return a row's text: JSON, then its checksum, as SQLite has none and disks lose bits.

    Args:
        output: without extras and arrays it has the row that it always had.
        arrays: sha256 of the file with its arrays; empty where it has none.

    Raises:
        ProbesError: an extra is no number.
    """
    # Not `asdict`, which would copy all arrays.
    values = {name: getattr(output, name) for name in _PLAIN}
    try:
        more = {"extras": {str(k): float(v) for k, v in output.extras.items()}, "arrays": arrays}
    except (TypeError, ValueError) as error:
        raise ProbesError(
            f"an extra of an answer is no number: {error}",
            ", ".join(map(str, output.extras)),
            "correct the backend or the readout that gives it",
        ) from error
    values |= {name: value for name, value in more.items() if value}
    # NaN and infinities are kept: Python writes them into JSON, and reads them back.
    return with_checksum(json.dumps(values, separators=(",", ":")))


def with_checksum(text: str) -> str:
    """Return a text with its checksum appended."""
    # Against lost bits, not against an attacker: whoever can write the store can write answers.
    return f"{text} {zlib.crc32(text.encode()):08x}"


def output_of(row: str) -> tuple[Output, str]:
    """Return the output of a row, and the sha256 of the file with its arrays; empty without any.

    Raises:
        Exception: one of `UNSOUND`: the row is not an output.
    """
    text, _, checksum = row.rpartition(" ")
    # Checked before JSON is read: one changed digit of a number would still be good JSON.
    if int(checksum, 16) != zlib.crc32(text.encode()):
        raise ValueError("a row is not what was written")
    found = json.loads(text)
    # Fields of a newer version are left out, those that an older one lacked get their defaults.
    values: dict[str, Any] = {name: found[name] for name in _PLAIN if name in found}
    for name in ("option_logprobs", "option_tokens"):
        values[name] = tuple(values[name])
    values["extras"] = {name: float(value) for name, value in found.get("extras", {}).items()}
    # It becomes part of a file's name.
    if not re.fullmatch("([0-9a-f]{64})?", arrays := found.get("arrays") or ""):
        raise ValueError("a row names no file of arrays")
    return Output(**values), arrays
