"""How `probes power` prints numbers, tables and notes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from math import isfinite

from probes.analysis.render import lines_of
from probes.analysis.tables import Table

_WIDTH = 100


def number(value: float, digits: int = 1) -> str:
    """Format a number; `-` where it is undefined or infinite."""
    return f"{value:.{digits}f}" if isfinite(value) else "-"


def lines(tables: Sequence[Table], notes: Sequence[str]) -> Iterator[str]:
    """Yield the lines of tables and of the notes below them."""
    yield from lines_of(tables, 120)
    for note in notes:
        yield from textwrap.wrap(note, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
