"""What can still be read of a damaged file of the store.

SQLite gives up at the first bad page. Keys are hashes, spread evenly: read in many small ranges,
all rows come out except those of ranges that touch a bad page.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_DIGITS = 5
"""Most hexadecimal digits in a range's bounds: a million ranges take some ten seconds."""


def rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (table, key, output) of every readable row of a damaged file, without checking it.

    Args:
        path: a file of the store that no process writes any more.
    """
    # Not opened read-only: a log (-wal) that was renamed with the file is applied first.
    connection = sqlite3.connect(path)
    try:
        for table in ("outputs", "errors"):
            for low, high in _ranges(connection):
                found: list[tuple[str, str]] = []
                with contextlib.suppress(sqlite3.DatabaseError, OverflowError, UnicodeError):
                    # Row by row: those before the bad page are good.
                    found.extend(
                        connection.execute(
                            f"select key, output from {table} where key >= ? and key < ?",
                            (low, high),
                        )
                    )
                yield from ((table, key, output) for key, output in found)
    finally:
        connection.close()


def _ranges(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield bounds that divide all keys into ranges of about a quarter of a page."""
    try:
        (pages,) = connection.execute("pragma page_count").fetchone()
    except sqlite3.DatabaseError:  # not even the header can be read
        return
    digits = 1
    while 16**digits < 4 * pages and digits < _DIGITS:
        digits += 1
    bounds = [f"{number:0{digits}x}" for number in range(16**digits)]
    # The last range ends at "g", the letter behind all hexadecimal digits.
    yield from zip(bounds, [*bounds[1:], "g"], strict=True)
