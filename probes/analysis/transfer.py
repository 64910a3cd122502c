"""The study's transfer table: what each member reaches on i-RAVEN, by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import pandas as pd

from probes.analysis.accuracies import accuracies
from probes.analysis.contrasts import contrasts

CONFIGURATIONS: Mapping[str, str] = {
    "center_single": "center",
    "distribute_four": "4-grid",
    "distribute_nine": "9-grid",
    "in_center_single_out_center_single": "in/out",
    "in_distribute_four_out_center_single": "in-4/out",
    "left_center_single_right_center_single": "L/R",
    "up_center_single_down_center_single": "U/D",
}
"""Names of the configurations as the study's table heads them, in its order."""
TRANSFER = "transfer"
"""Row of the video member's accuracy minus the image member's."""
MEAN = "mean"
"""Column of the mean over the configurations, each counting the same."""

KEYS = ("task", "setting", "pair", "scoring", "seed", "frames", "arm")
_ROLES = {"image": 0, "video": 1, "control": 2}


def transfer(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return accuracy per member and configuration, and transfer = other member - image member.

    Args:
        frame: as returned by `load`; items of other tasks are left aside.
        level: coverage of the intervals.

    Returns:
        One row per (settings, frames, arm, row, configuration), `row` being a member's role,
        `transfer`, or `control - image`: columns `KEYS`, row, member, configuration (the study's
        short name, or `MEAN`), n, estimate, low, high. Accuracies in a configuration have Wilson
        intervals. The mean gives every configuration the same weight and has a cluster-robust t
        interval whose spread is measured within configurations, as has its transfer.
    """
    part = frame[frame["stratum"].isin(list(CONFIGURATIONS))]
    if part.empty:
        return pd.DataFrame(columns=[*KEYS, "row", "member", "configuration", *_VALUES])
    cells = accuracies(part, by_stratum=True, stratify=True, level=level)
    cells = cells.rename(columns={"accuracy": "estimate"}).assign(row=cells["role"])
    found = contrasts(
        part, names=["transfer"], policies=["strict"], by_stratum=True, stratify="strata",
        level=level,
    )  # fmt: skip
    found = found.assign(row=[_difference(str(role)) for role in found["role"]])
    both = pd.concat([cells, found], ignore_index=True)
    both["configuration"] = both["stratum"].map(CONFIGURATIONS).fillna(MEAN)
    return both[[*KEYS, "row", "member", "configuration", *_VALUES]]


def _difference(role: str) -> str:
    return TRANSFER if role == "video" else f"{role} - image"


_VALUES = ("n", "estimate", "low", "high")


def rows(found: pd.DataFrame) -> list[tuple[str, ...]]:
    """Arrange one arm's part of `transfer` as the study prints it.

    Returns:
        Lines of text cells, the first column being what the line holds; the header comes first:
        a line per member with accuracies, one with intervals; then the same for transfer; n last.
    """
    at: dict[tuple[str, str], Mapping[str, Any]] = {
        (str(one["row"]), str(one["configuration"])): {str(k): v for k, v in one.items()}
        for one in found.to_dict("records")
    }
    columns = [*(name for name in CONFIGURATIONS.values() if _any(at, name)), MEAN]
    names = sorted({row for row, _ in at}, key=lambda row: (_ROLES.get(row, 9), row != TRANSFER))
    lines: list[tuple[str, ...]] = [("role", *columns)]
    for name in names:
        of = [at.get((name, column)) for column in columns]
        lines.append((name, *(_value(one, signed=name not in _ROLES) for one in of)))
        lines.append(("95 %", *(_interval(one, signed=name not in _ROLES) for one in of)))
    first = [at.get((names[0], column)) for column in columns]
    lines.append(("n", *(str(one["n"]) if one else "-" for one in first)))
    return lines


def _any(at: Mapping[tuple[str, str], Any], column: str) -> bool:
    return any(known == column for _, known in at)


def _number(value: float, signed: bool) -> str:
    text = f"{round(100 * value, 1) + 0.0:.1f}"
    return f"+{text}" if signed and not text.startswith("-") else text


def _value(one: Mapping[str, Any] | None, *, signed: bool) -> str:
    if one is None or not isfinite(one["estimate"]):
        return "-"
    return _number(one["estimate"], signed)


def _interval(one: Mapping[str, Any] | None, *, signed: bool) -> str:
    if one is None or not isfinite(one["low"]):
        return "-"
    return f"{_number(one['low'], signed)},{_number(one['high'], signed)}"
