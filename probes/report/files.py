"""Sections -> files: an HTML page, the same as Markdown, tables as CSV, pictures as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.report import (
    failures,
    figures,
    infills,
    markdown,
    members,
    page,
    provenance,
    results,
    strata,
    study,
    summary,
)
from probes.report.parts import DataTable, FigurePart, Section
from probes.report.study import Study


def write(paths: Sequence[Path], out: Path) -> Path:
    """Write a report; see `probes.report.write`."""
    known = study.gather(paths)
    sections = build(known)
    pictures = {
        part.name: figures.rendered(part.figure)
        for section in sections for part in section.parts if isinstance(part, FigurePart)
    }  # fmt: skip
    svgs = {name: kinds["svg"] for name, kinds in pictures.items()}
    html = page.render(title(known), sections, svgs, known)
    text = markdown.render(title(known), sections)
    # Half a character, which a server's reply may hold, is none that a file can have: "replace".
    try:
        for name, kinds in pictures.items():
            for kind, content in kinds.items():
                atomic_write(out / "plots" / f"{name}.{kind}", content)
        for grid in (p for section in sections for p in section.parts if isinstance(p, DataTable)):
            atomic_write(out / "tables" / f"{grid.name}.csv", csv_of(grid))
        atomic_write(out / "report.md", text.encode("utf-8", "replace"))
        atomic_write(
            out / "report.html", html.encode("utf-8", "replace")
        )  # last: it says all else is there
    except OSError as error:
        what = f"the report cannot be written: {error.strerror or error}"
        raise ProbesError(what, str(out), "name another folder with --out") from error
    return out / "report.html"


def build(known: Study) -> list[Section]:
    """Return a report's sections in order, without the item browser."""
    found = [
        summary.summary(known),
        results.study_tables(known),
        results.published(known),
        members.frame_as(known),
        results.forests(known),
        results.arms(known),
        results.by_frames(known),
        strata.iraven(known),
        strata.strata(known),
        strata.power(known),
        failures.section(known),
        infills.section(known),
        provenance.section(known),
    ]
    return [section for section in found if section is not None]


def title(known: Study) -> str:
    """Return the report's title: pairs and tasks."""
    pairs = ", ".join(dict.fromkeys(str(block["pair"]) for block in known.blocks))
    tasks = ", ".join(dict.fromkeys(str(block["task"]) for block in known.blocks))
    return f"{pairs} on {tasks}"


def csv_of(grid: DataTable) -> bytes:
    """Return a table as CSV (UTF-8): its data where it has some, else the rows as shown."""
    import pandas as pd

    data = grid.data
    if data is None:
        data = pd.DataFrame(grid.rows, columns=list(grid.header))
    text: str = data.to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8", "replace")
