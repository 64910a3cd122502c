"""What can still be read of a damaged file of the store.

SQLite gives up at the first bad page. Keys are hashes, spread evenly: read in many small ranges,
all rows come out except those of ranges that touch a bad page. Rows that SQLite does not find,
since pages changed places or the first one is gone, are looked for among the bytes: a checksum
tells what is a row.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from probes.cache import sqlite_file
from probes.cache.rows import StoredRow, output_of
from probes.core.errors import UNSOUND

_DIGITS = 5
"""Most hexadecimal digits in a range's bounds: a million ranges take some ten seconds."""
_ROW = re.compile(rb'([0-9a-f]{64})([0-9a-f]{64})?(\{"[^\x00-\x1f]+?\} [0-9a-f]{16})')
"""Key, base and text follow one another in a page."""
_PAGE = 4096
"""Bytes of a page, as SQLite makes them unless it is told otherwise."""
_HEADS = {2: (12, 4), 10: (8, 0)}
"""Types of pages with rows: bytes of their heads, and of what stands before each row in them."""
Found = tuple[str, StoredRow]
"""A table's name and a row of it."""


def rows(path: Path) -> Iterator[Found]:
    """Yield every sound row of a damaged file, those first that look-ups would have found.

    Args:
        path: a file of the store.
    """
    yield from filter(_sound, _by_sqlite(path))
    for file in (path, path.with_name(f"{path.name}-wal")):
        yield from filter(_sound, _by_bytes(file))


def _sound(found: Found) -> bool:
    table, row = found
    try:
        output, _ = output_of(row)
    except UNSOUND:
        return False
    # A page of one table may lie in the place of one of the other.
    return (output.status == "error") == (table == "errors")


def _by_sqlite(path: Path) -> Iterator[Found]:
    # Not opened read-only: a log (-wal) is applied first.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite_file.connect(path)) as db:
        for table in ("outputs", "errors"):
            for low, high in _ranges(db):
                found: list[StoredRow] = []
                with contextlib.suppress(sqlite3.DatabaseError, OverflowError):
                    # Row by row: those before the bad page are good.
                    found.extend(
                        map(
                            sqlite_file.row_read,
                            db.execute(
                                f"select key, base, output from {table} where key >= ? and key < ?",
                                (low, high),
                            ),
                        )
                    )
                yield from ((table, row) for row in found)
            # In the order of the pages, whatever their keys: look-ups pass over those that changed
            # places.
            with contextlib.suppress(sqlite3.DatabaseError, OverflowError):
                for values in db.execute(f"select key, base, output from {table}"):
                    yield table, sqlite_file.row_read(values)


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


def _by_bytes(path: Path) -> Iterator[Found]:
    with (
        contextlib.suppress(OSError, ValueError),  # no file, or an empty one
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for match in itertools.chain(_ROW.finditer(content), _long_rows(content)):
            # Failures are not looked for: the next run asks them again.
            yield "outputs", StoredRow(match[1].decode(), (match[2] or b"").decode(), match[3])


def _long_rows(content: mmap.mmap) -> Iterator[re.Match[bytes]]:
    """Yield the rows that are continued on other pages (sqlite.org/fileformat2)."""
    most, least = ((_PAGE - 12) * share // 255 - 23 for share in (64, 32))
    for start in range(0, len(content) - _PAGE + 1, _PAGE):
        if content[start] not in _HEADS:
            continue
        head, before = _HEADS[content[start]]
        (cells,) = struct.unpack(">H", content[start + 3 : start + 5])
        for (at,) in struct.iter_unpack(
            ">H", content[start + head : start + head + 2 * min(cells, 999)]
        ):
            size, at = _number(content, start + min(at + before, _PAGE - 20))
            if not most < size < len(content):
                continue
            here = least + (size - least) % (_PAGE - 4)
            here = here if here <= most else least
            text, (following,) = content[at : at + here], _next(content, at + here)
            while 0 < following <= len(content) // _PAGE and len(text) < size:
                page = (following - 1) * _PAGE
                (following,) = _next(content, page)
                text += content[page + 4 : page + _PAGE]
            # The names of the types of the columns come first.
            if found := _ROW.search(text[:size]):
                yield found


def _next(content: mmap.mmap, at: int) -> tuple[int]:
    """Return the number of a page, counted from 1; 0 where there is none."""
    return struct.unpack(">I", content[at : at + 4].ljust(4, b"\0"))


def _number(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Return a number of as many bytes as it needs, and where it ends."""
    value = 0
    for end in range(at, min(at + 9, len(content))):
        value = value << 7 | content[end] & 0x7F
        if content[end] < 0x80:
            break
    return value, end + 1
