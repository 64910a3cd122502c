"""Sections -> files: an HTML page, the same as Markdown, tables as CSV, figures as PNG and SVG."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from probes.analysis.draws import coverage
from probes.core import tables
from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.report import markdown, page, provenance, study
from probes.report.parts import PageHead
from probes.report.sections import build
from probes.report.shortening import shortened
from probes.report.study import Study

_log = logging.getLogger(__name__)


def write(
    paths: Sequence[Path],
    out: Path,
    measures: Sequence[str] = (),
    *,
    edited: bool = False,
    partial: bool = False,
    margin: float = 0.02,
) -> Path:
    """Write a report; see `probes.report.write`."""
    gathered = study.gather(paths, measures, edited=edited, partial=partial, margin=margin)
    sections, rendered = build(gathered)
    svgs = {name: files["svg"] for name, files in rendered.items()}
    sections = [shortened(section) for section in sections]
    head = PageHead(title(gathered), provenance.facts(gathered), _introduction(gathered))
    html = page.render(head, sections, svgs)
    text = markdown.render(head, sections)
    parts = [part for section in sections for part in section.parts]
    # Half a character, which a server's reply may hold, cannot be written to a file: "replace".
    try:
        for name, files in rendered.items():
            for kind, content in files.items():
                atomic_write(out / "plots" / f"{name}.{kind}", content)
        for part in parts:
            if isinstance(part, tables.Table):
                atomic_write(out / "tables" / f"{part.name}.csv", tables.csv(part))
        atomic_write(out / "report.md", text.encode("utf-8", "replace"))
        # Last: where the page is, everything else is there too.
        atomic_write(out / "report.html", html.encode("utf-8", "replace"))
    except OSError as error:
        what = f"the report cannot be written: {error.strerror or error}"
        raise ProbesError(what, str(out), "name another folder with --out") from error
    for lacking in gathered.frame.attrs.get("partial", ()):
        _log.warning("the report is of partial data: %s", lacking)
    return out / "report.html"


def _introduction(gathered: Study) -> str:
    return (
        "Accuracies are in percent and differences in percentage points, with 95 % intervals. The "
        "difference in differences (DiD) is gain(image) - gain(other). "
        f"{coverage(gathered.frame)}"
    )


def title(gathered: Study) -> str:
    """Return the report's title: pairs and tasks."""
    pairs = ", ".join(dict.fromkeys(str(block["pair"]) for block in gathered.blocks))
    tasks = ", ".join(dict.fromkeys(str(block["task"]) for block in gathered.blocks))
    return f"{pairs} on {tasks}"
