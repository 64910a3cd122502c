"""What a report consists of, before it becomes HTML, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probes.analysis import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INTRODUCTION = (
    "What does a model do between the frames? Accuracies are in percent and differences in "
    "percentage points, with 95 % intervals. The difference in differences (DiD) is gain(image) - "
    "gain(other)."
)
"""The paragraph below a report's title."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or a few."""

    text: str
    kind: str = ""
    """`verdict`, `caveat` or `note`; empty for plain text."""


@dataclass(frozen=True, slots=True)
class BulletList:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table."""

    name: str
    """Stem of its CSV file, unique within the report."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Finished text."""
    words: int = 1
    """Leading columns that hold words; the rest hold numbers."""
    data: pd.DataFrame | None = None
    """What the CSV file holds, numbers unrounded. None: the rows as shown."""
    folded: bool = False
    """Shown when it is clicked open."""


@dataclass(frozen=True, slots=True)
class FigurePart:
    """A figure."""

    name: str
    """Stem of its files, unique within the report."""
    title: str
    """Says what is drawn, also for readers who do not see it."""
    figure: Figure


@dataclass(frozen=True, slots=True)
class Fragment:
    """Finished HTML; the Markdown version has `instead`."""

    html: str
    instead: str


ReportPart = Paragraph | BulletList | DataTable | FigurePart | Fragment


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and the parts below it."""

    id: str
    title: str
    parts: tuple[ReportPart, ...]


def from_table(table: Table, name: str, data: pd.DataFrame | None = None) -> DataTable:
    """Return a table of the analysis as a part of a report.

    Args:
        table: finished text.
        name: stem of the CSV file.
        data: what the CSV file holds; None: the rows as shown.
    """
    return DataTable(name, table.title, table.header, table.rows, table.words, data)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return names in one line: at most `most` of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(n: int, what: str) -> str:
    """Return `1 item`, `2 items`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
