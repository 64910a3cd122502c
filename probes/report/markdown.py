"""Sections -> Markdown (GitHub's table syntax)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from probes.report.parts import (
    INTRODUCTION,
    BulletList,
    DataTable,
    FigurePart,
    Fragment,
    Paragraph,
    ReportPart,
    Section,
)

# Characters that could become markup in a text that a model or a task wrote.
_MARKS = re.compile(r"([\\`*|]|(?<=\])[(\[:]|^[#+-](?=\s)|^={3,}|^-{3,})")


def render(title: str, sections: Sequence[Section]) -> str:
    """Return a report as Markdown; its figures are the files in `plots/`."""
    lines = [f"# {escaped(title)}", "", escaped(INTRODUCTION), ""]
    for section in sections:
        lines += [f"## {escaped(section.title)}", ""]
        for part in section.parts:
            lines += [*_part(part), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows unchanged, in one line."""
    flat = " ".join(text.split("\n"))
    plain = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", plain)


def _part(part: ReportPart) -> Iterator[str]:
    if isinstance(part, Paragraph):
        text = escaped(part.text)
        yield {"verdict": f"**{text}**", "caveat": f"> **Caveat.** {text}"}.get(part.kind, text)
    elif isinstance(part, BulletList):
        yield from (f"- {escaped(item)}" for item in part.items)
    elif isinstance(part, FigurePart):
        yield f"![{escaped(part.title)}](plots/{part.name}.svg)"
    elif isinstance(part, Fragment):
        yield escaped(part.instead)
    else:
        yield from _table(part)


def _table(table: DataTable) -> Iterator[str]:
    yield f"**{escaped(table.title)}** ([CSV](tables/{table.name}.csv))"
    yield ""
    yield _line(table.header)
    yield _line(
        ["---" if at < table.words else "---:" for at in range(len(table.header))], raw=True
    )
    for row in table.rows:
        yield _line(row)


def _line(texts: Sequence[str], raw: bool = False) -> str:
    return "| " + " | ".join(text if raw else escaped(text) for text in texts) + " |"
