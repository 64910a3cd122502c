"""A damaged file of the store is replaced by one with all of its rows that are sound."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path

from probes.cache import recovery, sqlite_file
from probes.cache.rows import StoredRow

_AT_A_TIME = 1_000  # rows of a transaction
_INSERT = "insert or ignore into {} values (?, ?, ?)"


def rebuild(path: Path) -> tuple[str, int]:
    """Put a sound file in the place of a damaged one, which is kept under another name.

    The new file has the name of the old one: of two rows of a key in two files, the first file's
    is served, and that must not change.

    Returns:
        The name that the damaged file has now, and how many outputs the new one has.

    Raises:
        OSError, sqlite3.Error: nothing can be written here.
    """
    made = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    damaged = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
    try:
        before = _state(path)
        kept = copy_sound(path, made)
        # A log left behind would be used with the next file. First the file: it is what counts.
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(damaged.with_name(damaged.name + ending))
        made.rename(path)
    finally:
        for ending in ("", "-journal"):
            made.with_name(made.name + ending).unlink(missing_ok=True)
    if _state(damaged) != before:
        # The process whose file it is has written meanwhile; from now on it sees that it is gone.
        kept += copy_sound(damaged, path)
    return damaged.name, kept


def copy_sound(damaged: Path, target: Path) -> int:
    """Copy the sound rows of a damaged file; return how many outputs were new to the target."""
    kept = 0
    with contextlib.closing(sqlite_file.connect(target)) as connection:
        connection.executescript(sqlite_file.CREATE)
        found = recovery.rows(damaged) if damaged.is_file() else iter(())
        while some := list(itertools.islice(found, _AT_A_TIME)):
            with connection:
                for table in ("outputs", "errors"):
                    # The bytes that were stored, not an output made of them: a newer version may
                    # have written fields that this one does not know.
                    rows = [row for name, row in some if name == table]
                    done = connection.executemany(_INSERT.format(table), rows_as_text(rows))
                    kept += done.rowcount if table == "outputs" and rows else 0
    return kept


def rows_as_text(rows: Sequence[StoredRow]) -> list[tuple[str, str, str]]:
    """Return rows as they are written: texts, also where they were read as bytes."""
    return [(row.key, row.base, row.text.decode()) for row in rows]


def drop(path: Path, rows: list[StoredRow]) -> None:
    """Remove rows that do not hold, as they are: what replaced one meanwhile stays.

    Raises:
        sqlite3.Error: the file cannot be written, or is damaged.
    """
    with contextlib.closing(sqlite_file.connect(path)) as connection, connection:
        connection.executemany(
            "delete from outputs where key = ? "
            "and (cast(output as blob) = ? or typeof(output) <> 'text')",
            [(row.key, row.text) for row in rows],
        )


def _state(path: Path) -> list[tuple[int, int]]:
    """Return size and time of change of a file and its log."""
    found = []
    for ending in ("", "-wal"):
        with contextlib.suppress(OSError):
            stat = path.with_name(path.name + ending).stat()
            found.append((stat.st_size, stat.st_mtime_ns))
    return found


def is_sound(path: Path) -> bool:
    """Return whether a file can be used: another process may have replaced the damaged one."""
    try:
        reader = sqlite_file.open_reader(path)
    except sqlite_file.OtherTablesError:
        return True
    except sqlite3.Error:
        return False
    if reader is None:
        return True
    with contextlib.closing(reader):
        return not sqlite_file.damage(reader)
