"""Sections -> Markdown (GitHub's table syntax)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probes.core.tables import escaped, markdown
from probes.report.parts import (
    BulletList,
    FigurePart,
    Fragment,
    PageHead,
    Paragraph,
    ReportPart,
    Section,
)


def render(head: PageHead, sections: Sequence[Section]) -> str:
    """Return a report as Markdown; its figures are the files in `plots/`.

    Sections that only a page can show are left out.
    """
    lines = [f"# {escaped(head.title)}", ""]
    for text in (*head.facts, head.introduction):
        lines += [escaped(text), ""]
    for section in sections:
        if all(isinstance(part, Fragment) and not part.instead for part in section.parts):
            continue
        lines += [f"## {escaped(section.title)}", ""]
        for part in section.parts:
            lines += [*_part(part), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


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
        yield from markdown(part)
