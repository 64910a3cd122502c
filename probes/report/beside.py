"""What stands beside the contrasts: the study's predictions, and the same under other writers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from probes.analysis import comparisons, formats
from probes.analysis.columns import BLOCK, rows_of, where
from probes.analysis.formats import compared, contrast_name
from probes.core.tables import Table
from probes.report.parts import ReportPart
from probes.report.study import ShownColumn, Study

_ALIKE = tuple(name for name in BLOCK if name != "setting")


def beside(study: Study) -> Iterator[ReportPart]:
    """Yield predicted signs beside measured ones, and the sensitivity to who wrote the text."""
    found = comparisons.predictions(study.contrasts)
    if len(found):
        columns: dict[str, ShownColumn] = {
            "contrast": lambda row: contrast_name(row["name"]),
            "arm": "arm",
            "members": lambda row: compared(row["name"], row["role"]),
            "predicted": "predicted",
            "frames": "frames",
            "measured [95 %]": formats.interval,
            "agrees": "agrees",
        }
        title = "What the study's account predicts, and what was measured (points)"
        table = Table(title, words=4, name="predictions", data=formats.for_csv(found))
        yield study.table(table, found, columns)
    if (of_writers := by_writer(study)) is not None:
        yield of_writers


def by_writer(study: Study) -> Table | None:
    """Return the gains and DiD of vcot by who wrote the text; None where one writer wrote all."""
    writers = {tuple(map(str, block.values())): study.writers(block) for block in study.blocks}
    if len(set(filter(None, writers.values()))) < 2:
        return None
    found = where(study.contrasts, policy="strict", arm="vcot")
    found = found[found["name"].isin(["gain", "did"])]
    rows = [
        {**row, "writer": writers[tuple(str(row[name]) for name in BLOCK)]}
        for row in rows_of(found)
    ]
    order = [*_ALIKE, "frames", "name", "role", "writer"]
    ordered = pd.DataFrame(rows).sort_values(order, kind="stable")
    columns: dict[str, ShownColumn] = {
        "contrast": lambda row: contrast_name(row["name"]),
        "members": lambda row: compared(row["name"], row["role"]),
        "text by": "writer",
        "frames": "frames",
        "tokens": comparisons.tokens,
        "points [95 %]": formats.interval,
    }
    title = "Sensitivity: gains and DiD of vcot by who wrote the text"
    table = Table(title, words=3, name="writers", data=formats.for_csv(ordered))
    return study.table(table, ordered, columns)
