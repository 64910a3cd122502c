"""The section on answers that failed or could not be parsed, and on missing items."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from probes.report.parts import DataTable, Paragraph, ReportPart, Section, counted
from probes.report.study import Study, rows

SHOWN = 200
"""Most rows of a list that the page shows; its CSV file has all of them."""
_LONGEST = 300  # characters of a reply or a reason that the page shows


def section(study: Study) -> Section:
    """Return failed and unparsed records, missing items and withheld answers."""
    parts: list[ReportPart] = [*_failed(study), *_missing(study)]
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
        f"{counted(len(frame), 'record')}; they count as wrong in every strict number."
    )
    bad = bad.assign(reason=_reasons(bad))
    grouped = bad.groupby(["status", "role", "arm", "reason"], sort=False).size()
    counts = grouped.rename("records").reset_index().sort_values("records", ascending=False)
    yield _table("failed-by-reason", "By reason", counts, ("status", "role", "arm", "reason"))
    columns = ["item_id", "status", "role", "arm", *study.differing, "reason", "text", "frames"]
    yield _table("failed", "Every such record", bad[columns], tuple(columns[:-1]), folded=True)


def _reasons(bad: pd.DataFrame) -> list[str]:
    without_error = {"unparsed": "no option can be read from the reply"}
    return [
        row["error"] or without_error.get(row["status"], "no reason was given") for row in rows(bad)
    ]


def _missing(study: Study) -> Iterator[ReportPart]:
    contrasts = study.contrasts
    found = contrasts[(contrasts["policy"] == "strict") & (contrasts["n_missing"] > 0)]
    if found.empty:
        return
    names = ("name", "role", "arm", *study.differing)
    missing = pd.DataFrame(
        [
            {**{name: row[name] for name in names}, "item_id": item, "frames": row["frames"]}
            for row in rows(found)
            for item in row["missing"]
        ]
    )
    count = missing["item_id"].nunique()
    yield Paragraph(
        "1 item has no answer on one side of a contrast and is left out of that contrast."
        if count == 1
        else f"{counted(count, 'item')} have no answer on one side of a contrast and are left out "
        "of that contrast."
    )
    title = "Items without an answer on one side of a contrast"
    yield _table("missing", title, missing, (*names, "item_id"), folded=True)


def _table(
    name: str, title: str, table: pd.DataFrame, words: tuple[str, ...], folded: bool = False
) -> DataTable:
    """Return a list of which the page shows at most `SHOWN` rows."""
    header = tuple(str(column) for column in table.columns)
    shown = tuple(
        tuple(short(str(row[column])) for column in header) for row in rows(table.head(SHOWN))
    )
    if len(table) > SHOWN:
        title += f" (the first {SHOWN} of {len(table):,}; tables/{name}.csv has all)"
    return DataTable(name, title, header, shown, len(words), table, folded)


def short(text: str) -> str:
    """Cut a text that is too long for a table."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
