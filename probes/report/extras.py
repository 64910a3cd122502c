"""The section on further numbers of answers: what backends, readouts and controllers gave along."""

from __future__ import annotations

from probes import analysis
from probes.analysis import formats
from probes.analysis.columns import BLOCK
from probes.core.tables import Table
from probes.report.parts import Paragraph, Section
from probes.report.study import ShownColumn, Study, plain

_CELL = (*BLOCK, "arm", "role", "frames")


def section(study: Study) -> Section | None:
    """Return mean, number and share of NaN of every extra by cell; None where no answer has any."""
    extras = analysis.extras(study.frame)
    if extras.empty:
        return None
    cells = study.frame[list(_CELL)].iloc[extras["row"]].reset_index(drop=True)
    grouped = cells.assign(
        name=extras["name"], value=extras["value"], missing=extras["value"].isna()
    ).groupby([*_CELL, "name"], sort=False)
    # Infinities stay: a mean over some of them is infinite, or NaN where they cancel out.
    found = grouped.agg(
        n=("missing", "size"), mean=("value", "mean"), nan=("missing", "mean")
    ).reset_index()
    text = (
        "Numbers that came along with the answers, by the names that their source gave them. n "
        "counts the answers that have the number; the mean leaves out those that are NaN."
    )
    columns: dict[str, ShownColumn] = {
        "number": "name",
        **plain("arm role frames n"),
        "mean": lambda row: f"{row['mean']:.4g}",
        "NaN, %": lambda row: formats.percent(row["nan"]),
    }
    table = Table("Further numbers of the answers", words=3, name="extras", data=found)
    shown = study.table(table, found, columns)
    return Section("extras", "Further numbers", (Paragraph(text), shown))
