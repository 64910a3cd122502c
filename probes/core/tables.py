"""Tables of finished text, and how they are written: plain lines, Markdown, HTML, CSV."""

from __future__ import annotations

import csv as csv_files
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_GAP = "  "
_SHORTEST = 8
"""Least number of characters that a member's name is cut to."""
# Characters that could become markup in a text that a model or a task wrote.
_MARKS = re.compile(r"([\\`*|]|(?<=\])[(\[:]|^[#+-](?=\s)|^={3,}|^-{3,})")


@dataclass(frozen=True, slots=True)
class Table:
    """One table."""

    title: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """Finished text, as many in a row as in the header."""
    words: int = 2
    """Leading columns that hold words, which are left-aligned; the rest hold numbers."""
    name: str = ""
    """Stem of its CSV file, unique within a report."""
    data: pd.DataFrame | None = field(default=None, compare=False)
    """What the CSV file holds, numbers unrounded. None: the rows as shown."""
    folded: bool = False
    """A page shows the rows when they are clicked open."""

    def is_word(self, column: int) -> bool:
        """Return whether a column holds words."""
        return column < self.words


def text(table: Table, width: int = 100) -> list[str]:
    """Return header, rule and rows as plain lines; members' names are cut to fit `width`."""
    widths = column_widths(table, width)
    lines = []
    for row in (table.header, *table.rows):
        cells = (cut(one, size) for one, size in zip(row, widths, strict=True))
        aligned = (
            one.ljust(size) if table.is_word(at) else one.rjust(size)
            for at, (one, size) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append(_GAP.join(aligned).rstrip())
    return [lines[0], _GAP.join("-" * size for size in widths), *lines[1:]]


def listing(tables: Sequence[Table], notes: Sequence[str] = (), width: int = 100) -> list[str]:
    """Return tables as plain lines, each below its title and above an empty line; then notes."""
    lines = [line for table in tables for line in (table.title, *text(table, width), "")]
    return lines + [line for note in notes for line in wrapped(note)]


def wrapped(note: str, width: int = 100, indent: str = "  ") -> list[str]:
    """Return a sentence in lines of at most `width` characters, indented from the second on."""
    return textwrap.wrap(note, width, subsequent_indent=indent, break_on_hyphens=False)


def column_widths(table: Table, width: int) -> list[int]:
    """Return the width of each column; only members' names are cut to fit `width`."""
    grid = [table.header, *table.rows]
    widths = [max(len(row[at]) for row in grid) for at in range(len(table.header))]
    excess = sum(widths) + len(_GAP) * len(widths) - width  # numbers and other words stay whole
    if excess > 0 and "member" in table.header:
        at = table.header.index("member")
        widths[at] = max(min(_SHORTEST, widths[at]), widths[at] - excess)
    return widths


def cut(name: str, most: int) -> str:
    """Shorten a name in the middle: the names of a pair's members often differ at the end."""
    if len(name) <= most:
        return name
    head = (most - 2) // 2
    return f"{name[:head]}..{name[len(name) - (most - 2 - head) :]}"


def markdown(table: Table) -> Iterator[str]:
    """Yield a table as Markdown (GitHub's syntax), below its title with a link to its CSV file."""
    file = f" ([CSV](tables/{table.name}.csv))" if table.name else ""
    yield f"**{escaped(table.title)}**{file}"
    yield ""
    marks = ("---" if table.is_word(at) else "---:" for at in range(len(table.header)))
    yield _markdown_row(map(escaped, table.header))
    yield _markdown_row(marks)
    for row in table.rows:
        yield _markdown_row(map(escaped, row))


def _markdown_row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Return text that Markdown shows unchanged, in one line."""
    flat = " ".join(text.split("\n"))
    # The ampersand first: it stands in what the others become.
    plain = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", plain)


def html(table: Table) -> str:
    """Return a table as HTML that scrolls by itself; a folded one has no caption."""
    from markupsafe import escape  # the templates' own: all of a page is escaped alike

    marks = [' class="word"' if table.is_word(at) else "" for at in range(len(table.header))]

    def row(cells: Sequence[str], tag: str, more: str = "") -> str:
        pairs = zip(cells, marks, strict=True)
        shown = (f"<{tag}{more}{mark}>{escape(one)}</{tag}>" for one, mark in pairs)
        return f"<tr>{''.join(shown)}</tr>"

    file = f'<span class="file">tables/{escape(table.name)}.csv</span>'
    caption = f"<caption><div>{escape(table.title)} {file}</div></caption>"
    lines = [
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">',
        "<table>",
        *([] if table.folded else [caption]),
        "<thead>",
        row(table.header, "th", ' scope="col"'),
        "</thead>",
        "<tbody>",
        *(row(one, "td") for one in table.rows),
        "</tbody>",
        "</table>",
        "</div>",
    ]
    return "\n".join(lines) + "\n"


def csv(table: Table) -> bytes:
    """Return a table as CSV (UTF-8): its data where it has some, else the rows as shown."""
    if table.data is not None:
        content: str = table.data.to_csv(index=False, lineterminator="\n")
    else:
        file = io.StringIO()
        csv_files.writer(file, lineterminator="\n").writerows([table.header, *table.rows])
        content = file.getvalue()
    # Half a character, which a server's reply may hold, cannot be written to a file.
    return content.encode("utf-8", "replace")
