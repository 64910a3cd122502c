"""The section that lists every answer that is none, and every item that is not there."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from probes.report.parts import DataTable, Paragraph, ReportPart, Section, counted
from probes.report.study import Study, rows

SHOWN = 200
"""Most rows of a list that stand in the page; its CSV file has all of them."""
_LONGEST = 300  # characters of a reply or a reason that stand in the page


def section(study: Study) -> Section:
    """Return failed and unparsed records, missing items and withheld keys."""
    parts: list[ReportPart] = list(_bad(study))
    parts += _missing(study)
    flat = study.cells[study.cells["stratum"] == ""]
    if withheld := int(flat["withheld"].max()):
        parts.append(
            Paragraph(
                f"{counted(withheld, 'item')} without a public key: asked, and left out of tables."
            )
        )
    return Section("failed", "Failed, unparsed and missing items", tuple(parts))


def _bad(study: Study) -> Iterator[ReportPart]:
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
    known = bad.assign(reason=_reasons(bad))
    grouped = known.groupby(["status", "role", "arm", "reason"], sort=False).size()
    counts = grouped.rename("records").reset_index().sort_values("records", ascending=False)
    yield _grid("failed-by-reason", "By reason", counts, ("status", "role", "arm", "reason"))
    columns = ["item_id", "status", "role", "arm", *study.told_apart, "reason", "text", "frames"]
    yield _grid("failed", "Every such record", known[columns], tuple(columns[:-1]), folded=True)


def _reasons(bad: pd.DataFrame) -> list[str]:
    return [
        row["error"] or ("no option can be read from the reply" if row["status"] == "unparsed"
                         else "no reason was given")
        for row in rows(bad)
    ]  # fmt: skip


def _missing(study: Study) -> Iterator[ReportPart]:
    found = study.found[(study.found["policy"] == "strict") & (study.found["n_missing"] > 0)]
    if found.empty:
        return
    names = ("name", "role", "arm", *study.told_apart)
    listed = pd.DataFrame(
        [
            {**{name: row[name] for name in names}, "item_id": item, "frames": row["frames"]}
            for row in rows(found)
            for item in row["missing"]
        ]
    )
    yield Paragraph(
        f"{counted(listed['item_id'].nunique(), 'item')} lacks an answer on one side of a contrast "
        "and is left out of that contrast."
        if listed["item_id"].nunique() == 1
        else f"{counted(listed['item_id'].nunique(), 'item')} lack an answer on one side of a "
        "contrast and are left out of that contrast."
    )
    words = (*names, "item_id")
    yield _grid("missing", "Items that one side of a contrast lacks", listed, words, folded=True)


def _grid(
    name: str, title: str, table: pd.DataFrame, words: tuple[str, ...], folded: bool = False
) -> DataTable:
    """Return a list of which at most `SHOWN` rows stand in the page."""
    header = tuple(str(column) for column in table.columns)
    shown = tuple(
        tuple(short(str(row[column])) for column in header) for row in rows(table.head(SHOWN))
    )
    if len(table) > SHOWN:
        title += f" (the first {SHOWN} of {len(table):,}; tables/{name}.csv has all)"
    return DataTable(name, title, header, shown, len(words), table, folded)


def short(text: str) -> str:
    """Cut a text that is too long for a table's cell."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
