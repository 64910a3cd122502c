"""How single numbers of the report's tables are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def nats(row: Mapping[str, Any]) -> str:
    """Format a contrast of margins or log-odds as `+0.98 [+0.21, +1.75]`."""
    if not isfinite(row["estimate"]):
        return "-"
    if not isfinite(row["low"]):
        return f"{row['estimate']:+.2f} [undefined]"
    return f"{row['estimate']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def whole(value: float) -> str:
    """Format a number of items; `-` where there is none, a word where none suffices."""
    if value == float("inf"):
        return "none suffices"
    return f"{value:,.0f}" if isfinite(value) else "-"


def plain(table: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table for a CSV file: lists of ids become text, `columns` are all that is kept."""
    kept = table[list(columns)] if columns else table
    lists = [name for name in _LISTS if name in kept]
    return kept.assign(**{name: kept[name].map(_joined) for name in lists})


def _joined(ids: Any) -> str:
    return " ".join(ids) if isinstance(ids, tuple) else ""


__all__ = ["accuracy", "interval", "nats", "p_value", "percent", "plain", "points", "whole"]
