"""The section on answers that failed or could not be parsed, and on missing items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from probes.analysis import formats
from probes.analysis.columns import rows_of, where
from probes.config.settings import MOST_FAILED
from probes.core.tables import Table
from probes.core.types import ItemKey
from probes.report.parts import Paragraph, ReportPart, Section, counted
from probes.report.study import ShownColumn, Study, plain

_SHOWN = 200
"""Most rows of a list that the page shows; its CSV file has all of them."""
_LONGEST = 300  # characters of a reply or a reason that the page shows


def section(study: Study) -> Section:
    """Return failed and unparsed records, missing items and withheld answers."""
    parts: list[ReportPart] = [*_failed(study), *_compared(study), *_missing(study)]
    # The greatest of the cells, as the same items are withheld in each.
    if withheld := int(study.accuracies_over_all["withheld"].max()):
        items = counted(withheld, "item")
        parts.append(
            Paragraph(f"{items} without a public answer: asked, and left out of the tables.")
        )
    return Section("failed", "Failed, unparsed and missing items", tuple(parts))


def _failed(study: Study) -> Iterator[ReportPart]:
    frame = study.frame
    bad = frame[frame["status"] != "ok"]
    if bad.empty:
        yield Paragraph(f"None of {counted(len(frame), 'record')} failed or could not be parsed.")
        return
    failed = int((bad["status"] == "error").sum())
    yield Paragraph(
        f"{failed:,} failed and {len(bad) - failed:,} could not be parsed, of "
        f"{counted(len(frame), 'record')}. What could not be parsed is wrong in every strict "
        "number; an item at which a machine failed is left out of what is compared."
    )
    usual = {"unparsed": "no option can be read from the reply", "error": "no reason was given"}
    bad = bad.assign(reason=[row["error"] or usual[row["status"]] for row in rows_of(bad)])
    grouped = bad.groupby(["status", "role", "arm", "reason"], sort=False).size()
    counts = grouped.rename("records").reset_index().sort_values("records", ascending=False)
    yield cut_list(Table("By reason", words=4, name="failed-by-reason", data=counts))
    columns = ["item_id", "status", "role", "arm", *study.differing, "reason", "text", "frames"]
    title, words = "Every such record", len(columns) - 1
    yield cut_list(Table(title, words=words, name="failed", data=bad[columns], folded=True))


def _compared(study: Study) -> Iterator[ReportPart]:
    """Yield per compared cell how often a machine failed, and what that may have moved."""
    found = where(study.contrasts, policy="strict")
    found = found[found["failed_share"] > 0]
    if found.empty:
        return
    most = study.frame.attrs.get("most_failed", MOST_FAILED)
    columns: dict[str, ShownColumn] = {
        "contrast": lambda row: formats.contrast_name(row["name"]),
        **plain("role arm"),
        "failed in": "failed_in",
        "frames": "frames",
        "items, %": lambda row: formats.percent(row["failed_share"]),
        "verdict": lambda row: "yes" if row["verdict"] else "no",
        "points [95 %]": formats.interval,
        "worst case": lambda row: (
            f"{formats.points(row['worst_low'])} to {formats.points(row['worst_high'])}"
        ),
    }
    title = (
        f"Failed answers of compared cells (no verdict above {100 * most:g} %; worst case: the "
        "estimate, whatever the failed answers had been)"
    )
    table = Table(title, words=4, name="failed-cells", data=formats.for_csv(found))
    yield study.table(table, found, columns)


def _missing(study: Study) -> Iterator[ReportPart]:
    contrasts = study.contrasts
    found = contrasts[(contrasts["policy"] == "strict") & (contrasts["n_missing"] > 0)]
    if found.empty:
        return
    names = ("name", "role", "arm", *study.differing)
    rows = [(row, item) for row in rows_of(found) for item in row["missing"]]
    missing = pd.DataFrame(
        [
            {**{name: row[name] for name in names}, "item_id": item, "frames": row["frames"]}
            for row, item in rows
        ]
    )
    count = len({ItemKey(row["task"], item) for row, item in rows})
    yield Paragraph(
        "1 item has no answer on one side of a contrast and is left out of that contrast."
        if count == 1
        else f"{counted(count, 'item')} have no answer on one side of a contrast and are left out "
        "of that contrast."
    )
    title = "Items without an answer on one side of a contrast"
    words = len(names) + 1
    yield cut_list(Table(title, words=words, name="missing", data=missing, folded=True))


def cut_list(table: Table) -> Table:
    """Fill in a list from its data; a page shows its first rows, and the CSV file has all."""
    data, title = table.data, table.title
    assert data is not None
    if len(data) > _SHOWN:
        title += f" (the first {_SHOWN} of {len(data):,}; tables/{table.name}.csv has all)"
    header = tuple(map(str, data.columns))
    rows = rows_of(data.head(_SHOWN))
    shown = tuple(tuple(_short(str(row[column])) for column in header) for row in rows)
    return replace(table, title=title, header=header, rows=shown)


def _short(text: str) -> str:
    """Cut a text that is too long for a table."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
