"""Tables -> text: plain lines, rich tables on a console, Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.analysis.tables import Table, TableBlock, Tables

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "
_SHORTEST = 8
"""Least number of characters that a member's name is cut to."""


def render(tables: Tables, console: Console | None = None, width: int = 100) -> list[str]:
    """Return the tables as plain ASCII lines; print them on `console` if one is given.

    Args:
        tables: as returned by `study_tables`.
        console: prints rich tables there as well.
        width: columns of a plain line; members' names are shortened to fit.
    """
    lines: list[str] = []
    for block in tables.blocks:
        if lines:
            lines.append("")
        lines += _block(block, width)
        if console is not None:
            _rich(block, console)
    return lines


def to_markdown(tables: Tables) -> str:
    """Return the tables as Markdown (GitHub's table syntax)."""
    parts: list[str] = []
    for block in tables.blocks:
        parts += [f"## {_escaped(block.title)}", ""]
        for table in block.tables:
            marks = ["---" if i < table.words else "---:" for i in range(len(table.header))]
            parts += [f"**{_escaped(table.title)}**", ""]
            parts += ["| " + " | ".join(map(_escaped, row)) + " |" for row in (table.header,)]
            parts += ["| " + " | ".join(marks) + " |"]
            parts += ["| " + " | ".join(map(_escaped, row)) + " |" for row in table.rows]
            parts.append("")
        parts += [f"- {_escaped(note)}" for note in block.notes]
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _block(block: TableBlock, width: int) -> list[str]:
    lines = [block.title, "=" * min(len(block.title), width)]
    for table in block.tables:
        lines += ["", table.title, *_plain(table, width)]
    lines.append("")
    for note in block.notes:
        lines += textwrap.wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _plain(table: Table, width: int) -> list[str]:
    sizes = _sizes(table, width)
    lines = []
    for row in (table.header, *table.rows):
        parts = [
            _cut(text, size).ljust(size) if i < table.words else text.rjust(size)
            for i, (text, size) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append(_GAP.join(parts).rstrip())
    rule = _GAP.join("-" * size for size in sizes)
    return [lines[0], rule, *lines[1:]]


def _sizes(table: Table, width: int) -> list[int]:
    """Return the width of each column; only members' names are cut to fit `width`."""
    grid = [table.header, *table.rows]
    sizes = [max(len(row[i]) for row in grid) for i in range(len(table.header))]
    excess = sum(sizes) + len(_GAP) * len(sizes) - width
    if excess > 0 and "member" in table.header:
        at = table.header.index("member")
        sizes[at] = max(min(_SHORTEST, sizes[at]), sizes[at] - excess)
    return sizes


def _cut(text: str, size: int) -> str:
    """Shorten in the middle: the names of a pair's members often differ at the end."""
    if len(text) <= size:
        return text
    head = (size - 2) // 2
    return text[:head] + ".." + text[len(text) - (size - 2 - head) :]


def _rich(block: TableBlock, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    console.print(Text(f"\n{block.title}", style="bold"))
    for table in block.tables:
        shown = RichTable(
            title=Text(table.title), title_justify="left", box=None, padding=(0, 2, 0, 0),
            header_style="bold underline",
        )  # fmt: skip
        sizes = _sizes(table, console.width)
        for i, name in enumerate(table.header):
            shown.add_column(Text(name), justify="left" if i < table.words else "right")
        for row in table.rows:
            shown.add_row(*(Text(_cut(text, size)) for text, size in zip(row, sizes, strict=True)))
        console.print(shown)
        console.print()
    # Text, not markup: names and ids may have square brackets in them.
    for note in block.notes:
        console.print(Text(note, style="dim"))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def lines_of(tables: Sequence[Table], width: int = 100) -> list[str]:
    """Return single tables as plain lines, without title and notes of a block."""
    return [line for table in tables for line in (table.title, *_plain(table, width), "")]
