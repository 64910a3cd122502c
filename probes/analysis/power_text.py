"""How numbers, tables and notes are printed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.analysis import Table

_WIDTH = 100


def number(value: float, digits: int = 1) -> str:
    """Format a number; `-` where it is undefined or without end."""
    return f"{value:.{digits}f}" if isfinite(value) else "-"


def lines(tables: Sequence[Table], notes: Sequence[str]) -> Iterator[str]:
    """Return tables and the notes below them as lines."""
    from probes.analysis.render import lines_of

    yield from lines_of(tables, 120)
    for note in notes:
        yield from textwrap.wrap(note, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
