"""The section on how far a result holds: equivalence, pooling, and single clusters."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from probes.analysis import formats, pools
from probes.analysis.formats import compared, contrast_name
from probes.analysis.tables import TableRow
from probes.core.tables import Table
from probes.report.parts import Paragraph, ReportPart, Section
from probes.report.study import ShownColumn, Study

_OF: dict[str, ShownColumn] = {
    "contrast": lambda row: contrast_name(str(row["name"])),
    "members": lambda row: compared(row["name"], row["role"]),
    "arm": "arm",
}


def section(study: Study) -> Section:
    """Return tests of "gains nothing", pooled contrasts, and ranges without single clusters."""
    parts = [*_equivalence(study), *_pooled(study), *_left_out(study)]
    if not parts:
        parts.append(Paragraph("vcot was not run together with its reference arm."))
    return Section("robustness", "Equivalence, pooling, single clusters", tuple(parts))


def _equivalence(study: Study) -> Iterator[ReportPart]:
    found = study.equivalences
    if found.empty:
        return
    margin = formats.points(study.margin)[1:]
    yield Paragraph(
        'A gain that cannot be told from 0 is no evidence of 0: "gains nothing" needs a test of '
        f"its own. Here it is that the gain is less than {margin} points either way (two one-sided "
        "tests, TOST; each at level 0.05, so that the interval has 90 %). The margin (--margin) is "
        "to be fixed before a look at the numbers; the last column is the smallest one with which "
        "the test would have succeeded. All of this section is secondary: its p-values belong to "
        "no family and are not adjusted."
    )
    columns: dict[str, ShownColumn] = {
        "gain of": "role",
        "arm": "arm",
        **{name: name for name in ("frames", "n", "clusters")},
        "points [90 %]": formats.interval,
        f"p, gain < {margin}": lambda row: formats.p_value(row["p_below"]),
        f"p, within {margin}": lambda row: formats.p_value(row["p"]),
        "gains nothing": lambda row: "shown" if row["equivalent"] else "not shown at this n",
        "smallest margin": _smallest,
    }
    title = f"Gains from vcot against a margin of {margin} points"
    data = formats.for_csv(found)
    yield study.table(Table(title, words=2, name="equivalence", data=data), found, columns)


def _smallest(row: TableRow) -> str:
    return formats.percent(max(abs(row["low"]), abs(row["high"]))) if isfinite(row["low"]) else "-"


def _pooled(study: Study) -> Iterator[ReportPart]:
    found = pools.pools(study.differences)
    if found.empty:
        return
    yield Paragraph(
        "Pooled by inverse variance over frame counts, seeds and pairs, as far as several were "
        "run. Items that are in several parts are held together by clusters: another frame count "
        "or seed on the same items adds little. One value stands for all parts, as if they had "
        "one true value."
    )
    columns: dict[str, ShownColumn] = {
        **_OF,
        "over": "over",
        "frames": "frames",
        "seeds": "seed",
        "parts": lambda row: str(row["parts"]),
        "clusters": "clusters",
        "points [95 %]": formats.interval,
        "p, not adjusted": lambda row: formats.p_value(row["p"]),
    }
    table = Table("Pooled contrasts", words=4, name="pooled", data=found)
    yield study.table(table, found, columns)


def _left_out(study: Study) -> Iterator[ReportPart]:
    first = study.frame.drop_duplicates("item_id")
    labels = dict(zip(first["item_id"], first["cluster"].fillna(""), strict=True))
    names = {item: cluster or item for item, cluster in labels.items()}
    found = pools.left_out(study.differences, names)
    if found.empty:
        return
    yield Paragraph(
        "How much a single cluster (a recording; an item that is of none) decides: the estimate "
        "over all items, and the least and greatest one with one cluster left out."
    )
    columns: dict[str, ShownColumn] = {
        **_OF,
        "lowest without": "without_lowest",
        "highest without": "without_highest",
        **{name: name for name in ("frames", "clusters")},
        "points": lambda row: formats.points(row["estimate"]),
        "lowest": lambda row: formats.points(row["lowest"]),
        "highest": lambda row: formats.points(row["highest"]),
    }
    title = "Range of estimates, one cluster left out"
    table = Table(title, words=5, name="left-out", data=found, folded=len(found) > 12)
    yield study.table(table, found, columns)
