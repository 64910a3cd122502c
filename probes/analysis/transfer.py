"""The study's transfer table: what each member reaches on i-RAVEN, by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

import pandas as pd

from probes.analysis.accuracies import accuracies
from probes.analysis.columns import BLOCK, role_order, rows_of
from probes.analysis.contrasts import contrasts
from probes.analysis.formats import percent, points
from probes.core.types import ROLES

CONFIGURATIONS: Mapping[str, str] = {
    "center_single": "center",
    "distribute_four": "4-grid",
    "distribute_nine": "9-grid",
    "in_center_single_out_center_single": "in/out",
    "in_distribute_four_out_center_single": "in-4/out",
    "left_center_single_right_center_single": "L/R",
    "up_center_single_down_center_single": "U/D",
}
"""Names of the configurations in the header of the study's table, in its order."""
TRANSFER = "transfer"
"""Row of the video member's accuracy minus the image member's."""
MEAN = "mean"
"""Column of the mean over the configurations, each counting the same."""

GROUP = (*BLOCK, "frames", "arm")
"""Columns that identify one table."""
_VALUES = ("n", "estimate", "low", "high")


def transfer(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return accuracy per member and configuration, and transfer = other member - image member.

    Args:
        frame: as returned by `load`; items of other tasks are left out.
        level: coverage of the intervals.

    Returns:
        One row per (settings, frames, arm, row, configuration), `row` being a member's role,
        `transfer`, or `control - image`: columns `GROUP`, row, member, configuration (the study's
        short name, or `MEAN`), n, estimate, low, high. Accuracies in a configuration have Wilson
        intervals. The mean gives every configuration the same weight and has a cluster-robust t
        interval whose spread is measured within configurations, as has its transfer.
    """
    part = frame[frame["stratum"].isin(list(CONFIGURATIONS))]
    if part.empty:
        return pd.DataFrame(columns=[*GROUP, "row", "member", "configuration", *_VALUES])
    # Configurations count the same, also where a run has unequally many problems of each.
    cells = accuracies(part, by_stratum=True, stratify=True, level=level)
    cells = cells.rename(columns={"accuracy": "estimate"}).assign(row=cells["role"])
    found = contrasts(
        part,
        names=["transfer"],
        policies=["strict"],
        by_stratum=True,
        stratify="strata",
        level=level,
    )
    found = found.assign(row=[_difference(str(role)) for role in found["role"]])
    both = pd.concat([cells, found], ignore_index=True)
    # The rows over all strata have an empty one, which the map does not know.
    both["configuration"] = both["stratum"].map(CONFIGURATIONS).fillna(MEAN)
    return both[[*GROUP, "row", "member", "configuration", *_VALUES]]


def _difference(role: str) -> str:
    return TRANSFER if role == "video" else f"{role} - image"


def rows(found: pd.DataFrame) -> list[tuple[str, ...]]:
    """Arrange one arm's part of `transfer` as in the study.

    Returns:
        Lines of texts, the first column being the name of the line; the header comes first: a line
        per member with accuracies, one with intervals; then the same for transfer; n last.
    """
    values = {(str(row["row"]), str(row["configuration"])): row for row in rows_of(found)}
    present = {configuration for _, configuration in values}
    columns = [*(name for name in CONFIGURATIONS.values() if name in present), MEAN]
    names = sorted({name for name, _ in values}, key=_line_order)
    lines: list[tuple[str, ...]] = [("role", *columns)]
    for name in names:
        show = percent if name in ROLES else points
        of_line = [values.get((name, column), {}) for column in columns]
        lines.append((name, *(show(row.get("estimate", nan)) for row in of_line)))
        ends = [[show(row.get(end, nan)) for end in ("low", "high")] for row in of_line]
        lines.append(("95 %", *("-" if "-" in both else ",".join(both) for both in ends)))
    first = [values.get((names[0], column)) for column in columns]
    lines.append(("n", *(str(row["n"]) if row else "-" for row in first)))
    return lines


def _line_order(name: str) -> tuple[int, bool, str]:
    """Return what sorts members first, then transfer, then other differences."""
    return role_order(name)[0], name != TRANSFER, name
