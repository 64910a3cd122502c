"""One file of the store: opening it, checking its tables, claiming it, and reading its rows.

On a local disk the files use SQLite's write-ahead log (fast, and a reader never waits). It needs
shared memory, which network file systems do not have, so elsewhere the rollback journal is used;
$PROBES_STORE_JOURNAL=wal or =delete decides where the guess by the disk's type is wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import re
import shutil
import socket
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from probes.cache.rows import StoredRow
from probes.core.errors import ProbesError

VERSION = 3
"""Version of tables and rows, kept in every file as its `user_version`. Rows may gain fields within
it: a reader leaves out those that it does not know, and no row is ever written from one read.
Another version needs another text of `CREATE` too: with this text, another number is damage."""
CREATE = f"""
    begin;
    create table if not exists outputs (key text primary key, base text, output text) without rowid;
    create table if not exists errors (key text primary key, base text, output text) without rowid;
    create index if not exists outputs_by_base on outputs (base) where base <> '';
    pragma user_version = {VERSION};
    commit;
"""
LookUpColumn = Literal["key", "base"]
_WHERE: dict[LookUpColumn, str] = {"key": "", "base": " and base <> ''"}
"""What else a look-up says, for SQLite to see that the index fits."""
_DAMAGE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_TOOBIG,
    # The statements are always the same: a table is not what it says it is.
    sqlite3.SQLITE_ERROR,
)
_CACHE_KB = 512  # small: a store has a connection per file, and keys are looked up in order
_WAIT_S = 60.0
"""How long to wait for a locked file."""
_LOCAL = (
    "apfs bcachefs btrfs ext2 ext3 ext4 f2fs hfs jfs overlay ramfs reiserfs tmpfs ufs xfs zfs"
).split()


class OtherTablesError(Exception):
    """A file holds tables of another version, or of another program."""


def connect(path: Path, uri: str = "") -> sqlite3.Connection:
    """Open a file, or create it; by a URI of SQLite's where one is given."""
    # The lock of `Store` guards every connection, so threads may share them.
    connection = sqlite3.connect(
        uri or path, timeout=_WAIT_S, check_same_thread=False, uri=bool(uri)
    )
    # Damaged text need not be UTF-8: as bytes every row arrives, and its checksum decides.
    connection.text_factory = bytes
    return connection


def open_reader(path: Path) -> sqlite3.Connection | None:
    """Open a file for reading; None while another process is still creating it.

    Raises:
        sqlite3.Error: it is damaged, or cannot be read.
        OtherTablesError: its tables are not those of this version.
    """
    if writable(path):
        return _whole(connect(path), path)
    # Where nothing may be written: SQLite must make no files for its log beside this one.
    name = f"file:{str(path).replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode=ro"
    try:
        return _whole(connect(path, name), path)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
        ):
            raise
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        # Nobody writes it: a file with a log that is in use has one.
        return _whole(connect(path, f"{name}&immutable=1"), path)
    with tempfile.TemporaryDirectory(prefix="probes-store-") as folder:
        for one in (path, log):
            shutil.copyfile(one, Path(folder) / one.name)
        # The copy stays open, and goes with the process.
        return _whole(connect(Path(folder) / path.name), path)


def writable(path: Path) -> bool:
    """Return whether a file, and the log that SQLite keeps beside it, can be written."""
    return os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)


def _whole(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection | None:
    """Return a connection if its file has the tables, else close it."""
    with contextlib.ExitStack() as opened:
        opened.enter_context(contextlib.closing(connection))
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
    return code in _DAMAGE


def damage(connection: sqlite3.Connection) -> str:
    """Return what is wrong with the structure of a file; empty where it is sound.

    Every page is read: pages that changed places are sound one by one, and look-ups then miss rows
    without any error.
    """
    try:
        (found,) = connection.execute("pragma integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return str(error)
    return "" if found == b"ok" else bytes(found).decode("utf-8", "replace")


@functools.cache
def _tables() -> frozenset[tuple[Any, ...]]:
    with contextlib.closing(connect(Path(":memory:"))) as connection:
        connection.executescript(CREATE)
        return frozenset(connection.execute("select name, sql from sqlite_master"))


def _has_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file has its tables; without them it is new.

    Raises:
        OtherTablesError: the tables are those of another version, or of another program.
        sqlite3.DatabaseError: a part of what says so is damaged.
    """
    connection.execute("begin")  # one moment: another process may be creating the tables
    (found,) = connection.execute("pragma user_version").fetchone()
    tables = frozenset(connection.execute("select name, sql from sqlite_master"))
    connection.rollback()
    if found == VERSION and tables == _tables():
        return True
    if found == 0 and not tables:
        return False
    if found == VERSION or tables == _tables():
        # One of the two is right: the other has changed on the disk.
        error = sqlite3.DatabaseError("its tables or its version are not what was written")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    if 0 < found < VERSION:
        what = "an older version, which does not say what computed its answers: it may be deleted"
    else:
        what = "a newer version, or another program"
    raise OtherTablesError(f"{path.name} (of {what})")


def claim(folder: Path, usable: Callable[[Path], bool]) -> tuple[Path, IO[str]]:
    """Return the first file of this host that no running process holds, and the lock on it.

    The host is in the name because on some network disks the locks of one machine have no effect on
    another; where there are no locks at all, every process gets a file of its own.

    Args:
        folder: of the store.
        usable: whether a file is one that this version writes.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
    for number in itertools.count():
        path = folder / f"{host}-{number}.sqlite"
        guard = path.with_suffix(".lock")
        try:
            lock = guard.open("a")
        except (PermissionError, IsADirectoryError):
            if not guard.exists():
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
        if usable(path):
            return path, lock
        lock.close()
    raise AssertionError("unreachable: count() does not end")


@contextlib.contextmanager
def repairing(folder: Path) -> Iterator[None]:
    """Let one process at a time repair files of a store, where there are locks."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a disk without locks, or that cannot be written
            lock = held.enter_context((folder / "repair.lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
    reader: sqlite3.Connection, column: LookUpColumn, values: Sequence[str]
) -> Iterator[StoredRow]:
    """Yield the rows with some keys or bases, in the order of their keys or bases.

    Args:
        reader: the file.
        column: `key` or `base`.
        values: which.
    """
    # All values as one JSON list: a query has room for a thousand of its own at most.
    query = (
        f"select key, base, output from outputs "
        f"where {column} in (select value from json_each(?)){_WHERE[column]}"
    )
    return map(row_read, reader.execute(query, [json.dumps(values)]))


def row_read(values: Sequence[Any]) -> StoredRow:
    """Return a row as it was read; what is no text becomes empty, and its checksum fails."""
    key, base, text = (value if isinstance(value, bytes) else b"" for value in values)
    return StoredRow(key.decode("utf-8", "replace"), base.decode("utf-8", "replace"), text)
