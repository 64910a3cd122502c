"""What a report consists of, before it becomes HTML, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probes.core.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class PageHead:
    """What stands above all sections."""

    title: str
    facts: tuple[str, ...]
    """Date, version and command of the runs."""
    introduction: str
    """How numbers and intervals are to be read."""


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
class FigurePart:
    """A figure."""

    name: str
    """Stem of its files, unique within the report."""
    title: str
    """Says what is drawn, also for readers who do not see it."""
    figure: Figure
    narrow: bool = False
    """Whether its words can still be read when it shrinks to a phone's width."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """HTML, with its own style and scripts if it needs such; it must load nothing."""

    html: str | Callable[[int], str]
    """Finished, or made when the rest of the page is: given the bytes that are left for it."""
    instead: str = ""
    """What the Markdown version has in its place."""


ReportPart = Paragraph | BulletList | Table | FigurePart | Fragment


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and the parts below it."""

    id: str
    """Unique within the report."""
    title: str
    parts: tuple[ReportPart, ...]


def counted(n: int, what: str) -> str:
    """Return `1 item`, `2 items`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
