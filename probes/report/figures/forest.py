"""Gains, drops, transfers and differences in differences (DiD) with intervals, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from probes.analysis.columns import BLOCK, groups, in_order, rows_of, where
from probes.analysis.comparisons import drops, reading
from probes.analysis.formats import compared, contrast_name
from probes.core.errors import ProbesError
from probes.core.tables import cut
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.27  # height of a line, in inches
_LONGEST = 24  # characters of an arm's or a stratum's name

ForestLine = tuple[str, dict[str, Any] | None]
"""A line's text and the contrast that is drawn in it; None: a heading."""


def forest_figure(
    found: pd.DataFrame, names: Sequence[str] = ("gain", "drop"), policy: str = "strict"
) -> Figure:
    """Draw contrasts with their intervals, one line each, under a heading per pair and task.

    Args:
        found: as returned by `contrasts`, of accuracies.
        names: which contrasts are drawn.
        policy: `strict` or `complete`.

    Returns:
        A figure in percentage points. An undefined interval is written as such instead of drawn.

    Raises:
        ProbesError: no such contrast.
    """
    rows = where(found[found["name"].isin(list(names))], policy=policy, stratum="")
    if rows.empty:
        raise ProbesError(
            f"there is no {' or '.join(map(contrast_name, names))} to draw",
            fix="run an arm and its reference arm",
        )
    lines: list[ForestLine] = []
    blocks = list(groups(rows, BLOCK))
    fewer = drops(rows_of(rows))
    for head, part in blocks:
        part = part.assign(reading=[reading(row, row["arm"] in fewer) for row in rows_of(part)])
        if len(blocks) > 1:
            lines.append((style.heading(head), None))
        lines += [(_label(row), row) for row in _sorted(part)]
    return _draw(lines, f"{_plural(names)}, percentage points (>: right of zero)")


def strata_figure(found: pd.DataFrame, name: str = "gain", arm: str = "vcot") -> Figure:
    """Draw one contrast of one arm in every stratum, with one line per member.

    Args:
        found: as returned by `contrasts(..., by_stratum=True)`.
        name: which contrast.
        arm: which arm.

    Returns:
        A figure in percentage points; the line `all` is the contrast over all strata.

    Raises:
        ProbesError: no such contrast, or no strata.
    """
    rows = where(found, name=name, arm=arm, policy="strict")
    if rows.empty or not (rows["stratum"] != "").any():
        raise ProbesError(
            f"there is no {contrast_name(name)} of {arm} by stratum",
            fix="contrasts(frame, by_stratum=True)",
        )
    lines: list[ForestLine] = []
    for head, part in groups(rows, (*BLOCK, "frames")):
        lines.append((f"{style.heading(head)}, {head['frames']} frames", None))
        for stratum in ("", *sorted(set(part["stratum"]) - {""})):
            for row in _sorted(part[part["stratum"] == stratum]):
                shown = cut(stratum, _LONGEST) or "all"
                label = f"{shown}, {row['role']}  (n = {row['n']})"
                lines.append((style.plain(label), row))
    return _draw(lines, style.plain(f"{contrast_name(name)} of {arm}, percentage points"))


def _plural(names: Sequence[str]) -> str:
    return " and ".join(contrast_name(name) + ("" if name == "did" else "s") for name in names)


def _sorted(part: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows by arm (in order of appearance), frame count and member."""
    arms = list(dict.fromkeys(part["arm"]))
    roles = in_order(part["role"])
    return sorted(
        rows_of(part),
        key=lambda row: (arms.index(row["arm"]), row["frames"], roles.index(row["role"])),
    )


def _label(row: dict[str, Any]) -> str:
    member = compared(row["name"], str(row["role"]))
    arms = [cut(str(row[name]), _LONGEST) for name in ("arm", "reference") if row[name]]
    return style.plain(f"{' - '.join(arms)}, {row['frames']} frames, {member}")


def _draw(lines: Sequence[ForestLine], label: str) -> Figure:
    figure, axis = style.one_axis(len(lines), _LINE)
    rows = [row for _, row in lines if row is not None]
    # Estimates too: one without an interval must still lie within the axis.
    ends = [100 * row[end] for row in rows for end in ("low", "high", "estimate")]
    axis.set_xlim(*style.percent_limits(ends))
    axis.axvline(0, color="black", linewidth=1)
    for y, (text, row) in enumerate(lines):
        if row is None:
            axis.axhline(y - 0.5, color="black", linewidth=0.4, alpha=0.5)
            # On white, since the zero line may run through a heading.
            frame = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            style.write_at_line(axis, 0.005, y, text, weight="bold", bbox=frame)
        else:
            _draw_contrast(axis, y, row)
            style.write_at_line(axis, 1.01, y, _figures(row), family="monospace")
    style.name_lines(axis, {y: text for y, (text, row) in enumerate(lines) if row is not None})
    axis.set_xlabel(label, fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    return figure


def _draw_contrast(axis: Axes, y: int, row: dict[str, Any]) -> None:
    middle, low, high = (100 * row[name] for name in ("estimate", "low", "high"))
    bounded = isfinite(low) and isfinite(high)
    # matplotlib refuses negative lengths, which rounding can leave.
    length = [[max(middle - low, 0.0)], [max(high - middle, 0.0)]] if bounded else None
    look = style.role_style(str(row["role"]))
    axis.errorbar([middle], [y], xerr=length, linestyle="none", **look)


def _figures(row: dict[str, Any]) -> str:
    """Return estimate and interval as text of constant width."""
    if not isfinite(row["estimate"]):
        return "no items in common"
    middle = f"{100 * row['estimate']:+5.1f}"
    if not isfinite(row["low"]):
        return f"{middle} [undefined]"
    ends = f"{middle} [{100 * row['low']:+5.1f}, {100 * row['high']:+5.1f}]"
    # What the right side means differs between rows: a gain and a drop may stand in one figure.
    return f"{ends} > {row['reading']}" if row.get("reading") else ends
