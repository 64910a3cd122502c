"""How single numbers are written in the report's tables."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import pandas as pd

from probes.analysis.tables import interval, p_value, percent, points

_LISTS = ("missing", "left_out_ids")


def accuracy(row: Mapping[str, Any]) -> str:
    """Format an accuracy with its interval as `27.3 [22.5, 32.8]`."""
    if not isfinite(row["accuracy"]):
        return "-"
    return f"{percent(row['accuracy'])} [{percent(row['low'])}, {percent(row['high'])}]"


def with_interval(row: Mapping[str, Any]) -> str:
    """Format a contrast as `+7.4 points (95 % interval +3.1 to +11.7)`, or why it is undefined."""
    if not isfinite(row["estimate"]):
        return f"undefined ({row['reason'] or 'no item in common'})"
    text = f"{points(row['estimate'])} points"
    if not isfinite(row["low"]):
        return f"{text}, interval undefined ({row['reason']})"
    return f"{text} (95 % interval {points(row['low'])} to {points(row['high'])})"


def nats(row: Mapping[str, Any]) -> str:
    """Format a contrast of margins or log-odds as `+0.98 [+0.21, +1.75]`."""
    if not isfinite(row["estimate"]):
        return "-"
    if not isfinite(row["low"]):
        return f"{row['estimate']:+.2f} [undefined]"
    return f"{row['estimate']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def count(value: float) -> str:
    """Format a number of items; `-` where it is unknown, `none suffices` where infinite."""
    if value == float("inf"):
        return "none suffices"
    return f"{value:,.0f}" if isfinite(value) else "-"


def for_csv(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for a CSV file: lists of ids become text."""
    lists = [name for name in _LISTS if name in table]
    return table.assign(**{name: table[name].map(_joined) for name in lists})


def _joined(ids: Any) -> str:
    return " ".join(ids) if isinstance(ids, tuple) else ""


__all__ = [
    "accuracy",
    "count",
    "for_csv",
    "interval",
    "nats",
    "p_value",
    "percent",
    "points",
    "with_interval",
]
