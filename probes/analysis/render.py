"""The study's tables -> text: plain lines, rich tables on a console, Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from probes.analysis.tables import TableBlock, Tables
from probes.core.tables import column_widths, cut, escaped, markdown, text, wrapped

if TYPE_CHECKING:
    from rich.console import Console


def render(tables: Tables, console: Console | None = None, width: int = 100) -> list[str]:
    """Return the tables as plain ASCII lines; print them on `console` if one is given.

    Args:
        tables: as returned by `study_tables`.
        console: prints rich tables there as well.
        width: columns of a plain line; members' names are shortened to fit.
    """
    lines: list[str] = []
    for block in tables.blocks:
        lines += [*([""] if lines else []), *wrapped(block.title, width, indent="")]
        lines.append("=" * min(len(block.title), width))
        for table in block.tables:
            lines += ["", *wrapped(table.title, width, indent=""), *text(table, width)]
        lines += ["", *(line for note in block.notes for line in wrapped(note, width))]
        if console is not None:
            _rich(block, console)
    if tables.notes:
        lines += ["", *(line for note in tables.notes for line in wrapped(note, width))]
        if console is not None:
            _dim(tables.notes, console)
    return lines


def to_markdown(tables: Tables) -> str:
    """Return the tables as Markdown (GitHub's table syntax), e.g. for a notebook."""
    lines: list[str] = []
    for block in tables.blocks:
        lines += [f"## {escaped(block.title)}", ""]
        for table in block.tables:
            lines += [*markdown(table), ""]
        lines += [*(f"- {escaped(note)}" for note in block.notes), ""]
    lines += tables.notes
    return "\n".join(lines).rstrip("\n") + "\n"


def _rich(block: TableBlock, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    console.print(Text(f"\n{block.title}", style="bold"))
    for table in block.tables:
        shown = RichTable(
            title=Text(table.title),
            title_justify="left",
            box=None,
            padding=(0, 2, 0, 0),
            header_style="bold underline",
        )
        for at, name in enumerate(table.header):
            shown.add_column(Text(name), justify="left" if table.is_word(at) else "right")
        widths = column_widths(table, console.width)
        for row in table.rows:
            shown.add_row(*(Text(cut(one, size)) for one, size in zip(row, widths, strict=True)))
        console.print(shown)
        console.print()
    _dim(block.notes, console)


def _dim(notes: Iterable[str], console: Console) -> None:
    from rich.text import Text

    # Text, not markup: names and ids may have square brackets in them.
    for note in notes:
        console.print(Text(note, style="dim"))
