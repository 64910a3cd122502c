"""The report: one HTML file that holds everything, the same as Markdown and CSV, and figures.

Importing this package is cheap; what it needs is loaded when a report is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FOLDER = "report"
"""Name of the report's folder within what it reports on."""


def write(
    paths: Sequence[Path],
    out: Path,
    measures: Sequence[str] = (),
    *,
    edited: bool = False,
    partial: bool = False,
    margin: float = 0.02,
) -> Path:
    """Write the report of some runs.

    Args:
        paths: run folders, or folders above run folders.
        out: folder for `report.html`, `report.md`, `tables/` and `plots/`; made if need be, files
            of the same names are replaced.
        measures: further ones by name; each has a section of its own.
        edited: whether tables that are not those that the runs wrote are taken; the report says so.
        partial: report on runs too of which shards are missing; the report says which.
        margin: the smallest gain that would matter, as a proportion in (0, 1): "gains nothing" is
            tested against it.

    Returns:
        The path of `report.html`.

    Raises:
        ProbesError: nothing to report on, runs that contradict each other, missing shards, a file
            of a run that cannot be read, an unknown measure, a margin without meaning, or a folder
            that cannot be written to. Nothing is written then.
    """
    from probes.report import files

    return files.write(paths, out, measures, edited=edited, partial=partial, margin=margin)
