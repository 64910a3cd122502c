"""How single numbers are written in tables, notes and reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

import pandas as pd

Show = Callable[[float], str]
PROPORTION = "proportion"
"""The unit of shares of items: they are printed in percent, their differences in points."""
_LISTS = ("missing", "left_out_ids")
# Of the names of comparisons, which begin a family's name or follow a comma.
_DID = re.compile(r"(?<=: )did\b|(?<=, )did\b")


def percent(value: float) -> str:
    """Format a proportion in percent with one decimal."""
    return number(100 * value)


def points(value: float) -> str:
    """Format a difference of proportions in percentage points, signed."""
    # Adding 0.0 turns -0.0 into 0.0, so that no table shows "-0.0".
    return f"{round(100 * value, 1) + 0.0:+.1f}" if isfinite(value) else "-"


def signed(value: float) -> str:
    """Format a difference that is no share of items, e.g. of nats, with two decimals."""
    return f"{value:+.2f}" if isfinite(value) else "-"


def number(value: float, digits: int = 1) -> str:
    """Format a number; `-` where it is undefined or infinite."""
    return f"{value:.{digits}f}" if isfinite(value) else "-"


def level(unit: str) -> Show:
    """Return how a value of a measure is written that is no difference."""
    return percent if unit == PROPORTION else lambda value: number(value, 2)


def difference(unit: str) -> Show:
    """Return how a difference in a measure's unit is written."""
    return points if unit == PROPORTION else signed


def unit_name(unit: str) -> str:
    """Return what differences in a measure's unit are counted in."""
    return "points" if unit == PROPORTION else unit or "difference"


def p_value(p: float) -> str:
    """Format a p-value."""
    if not isfinite(p):
        return "-"
    # 0.000 would read as impossible.
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def bracketed(
    estimate: float, low: float, high: float, show: Show = points, undefined: str = "undefined"
) -> str:
    """Format a number with its interval as `+7.4 [+3.1, +11.7]`."""
    if not isfinite(estimate):
        return "-"
    ends = f"{show(low)}, {show(high)}" if isfinite(low) else undefined
    return f"{show(estimate)} [{ends}]"


def interval(row: Mapping[str, Any], unit: str = PROPORTION) -> str:
    """Format a contrast in its measure's unit as `+7.4 [+3.1, +11.7]`."""
    return bracketed(row["estimate"], row["low"], row["high"], difference(unit))


def accuracy(row: Mapping[str, Any]) -> str:
    """Format an accuracy with its interval as `27.3 [22.5, 32.8]`."""
    return bracketed(row["accuracy"], row["low"], row["high"], percent)


def with_interval(row: Mapping[str, Any]) -> str:
    """Format a contrast as `+7.4 points (95 % interval +3.1 to +11.7)`, or why it is undefined."""
    if not isfinite(row["estimate"]):
        return f"undefined ({row['reason'] or 'no item in common'})"
    text = f"{points(row['estimate'])} points"
    if not isfinite(row["low"]):
        return f"{text}, interval undefined ({row['reason']})"
    return f"{text} (95 % interval {points(row['low'])} to {points(row['high'])})"


def count(value: float) -> str:
    """Format a number of items; `-` where it is unknown, `none suffices` where infinite."""
    # An effect of exactly zero is found by no number of items.
    if value == float("inf"):
        return "none suffices"
    return f"{value:,.0f}" if isfinite(value) else "-"


def contrast_name(name: str) -> str:
    """Return a contrast's name as readers see it; in files and settings a DiD is `did`."""
    return "DiD" if name == "did" else name


def family(name: str) -> str:
    """Return the name of a family as readers see it."""
    return _DID.sub("DiD", name)


def compared(name: str, role: str) -> str:
    """Return whose answers a contrast compares: a member's own arms, or two members' answers."""
    return {
        "did": f"image - {role}",
        "transfer": f"{role} - image",
        "control": f"{role} - video",
    }.get(name, role)


def span(values: Iterable[int]) -> str:
    """Format whole numbers as `5-60`, or as the number that all of them are."""
    distinct = sorted(set(values))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]}-{distinct[-1]}"


def for_csv(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for a CSV file: lists of ids become text."""
    lists = [name for name in _LISTS if name in table]
    return table.assign(**{name: table[name].map(_joined) for name in lists})


def _joined(ids: Any) -> str:
    return " ".join(ids) if isinstance(ids, tuple) else ""
