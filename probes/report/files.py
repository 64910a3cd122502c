"""Sections -> files: an HTML page, the same as Markdown, tables as CSV, figures as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.report import (
    extras,
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
    gathered = study.gather(paths)
    sections = build(gathered)
    parts = [part for section in sections for part in section.parts]
    rendered = {
        part.name: figures.rendered(part.figure) for part in parts if isinstance(part, FigurePart)
    }
    tables = [part for part in parts if isinstance(part, DataTable)]
    svgs = {name: files["svg"] for name, files in rendered.items()}
    html = page.render(title(gathered), sections, svgs, gathered)
    text = markdown.render(title(gathered), sections)
    # Half a character, which a server's reply may hold, cannot be written to a file: "replace".
    try:
        for name, files in rendered.items():
            for kind, content in files.items():
                atomic_write(out / "plots" / f"{name}.{kind}", content)
        for table in tables:
            atomic_write(out / "tables" / f"{table.name}.csv", csv_of(table))
        atomic_write(out / "report.md", text.encode("utf-8", "replace"))
        # Last: where the page is, everything else is there too.
        atomic_write(out / "report.html", html.encode("utf-8", "replace"))
    except OSError as error:
        what = f"the report cannot be written: {error.strerror or error}"
        raise ProbesError(what, str(out), "name another folder with --out") from error
    return out / "report.html"


def build(gathered: Study) -> list[Section]:
    """Return a report's sections in order, without the item browser."""
    sections = [
        summary.summary(gathered),
        results.study_tables(gathered),
        results.published(gathered),
        members.frame_as(gathered),
        results.forests(gathered),
        results.arms(gathered),
        results.by_frames(gathered),
        strata.iraven(gathered),
        strata.strata(gathered),
        strata.power(gathered),
        extras.section(gathered),
        failures.section(gathered),
        infills.section(gathered),
        provenance.section(gathered),
    ]
    return [section for section in sections if section is not None]


def title(gathered: Study) -> str:
    """Return the report's title: pairs and tasks."""
    pairs = ", ".join(dict.fromkeys(str(block["pair"]) for block in gathered.blocks))
    tasks = ", ".join(dict.fromkeys(str(block["task"]) for block in gathered.blocks))
    return f"{pairs} on {tasks}"


def csv_of(table: DataTable) -> bytes:
    """Return a table as CSV (UTF-8): its data where it has some, else the rows as shown."""
    import pandas as pd

    data = table.data
    if data is None:
        data = pd.DataFrame(table.rows, columns=list(table.header))
    text: str = data.to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8", "replace")
