"""Gains, drops, transfers and differences in differences (DiD) with intervals, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.27  # height of a line, in inches
_LONGEST = 24  # characters of an arm's or a stratum's name
_BLOCK = ("task", "pair", "scoring", "setting", "seed")


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
    rows = found[
        found["name"].isin(list(names)) & (found["policy"] == policy) & (found["stratum"] == "")
    ]
    if rows.empty:
        raise ProbesError(
            f"there is no {' or '.join(map(_written, names))} to draw",
            fix="run an arm and its reference arm",
        )
    lines: list[tuple[str, dict[str, Any] | None]] = []
    blocks = list(rows.groupby(list(_BLOCK), sort=False))
    for values, part in blocks:
        if len(blocks) > 1:
            lines.append((style.heading(dict(zip(_BLOCK, values, strict=True))), None))
        for row in _sorted(part):
            lines.append((_label(row), row))
    return _draw(lines, f"{_plural(names)}, percentage points")


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
    rows = found[(found["name"] == name) & (found["arm"] == arm) & (found["policy"] == "strict")]
    if rows.empty or not (rows["stratum"] != "").any():
        raise ProbesError(
            f"there is no {_written(name)} of {arm} by stratum",
            fix="contrasts(frame, by_stratum=True)",
        )
    lines: list[tuple[str, dict[str, Any] | None]] = []
    blocks = list(rows.groupby([*_BLOCK, "frames"], sort=False))
    for values, part in blocks:
        head = dict(zip((*_BLOCK, "frames"), values, strict=True))
        lines.append((f"{style.heading(head)}, {head['frames']} frames", None))
        for stratum in ("", *sorted(set(part["stratum"]) - {""})):
            for row in _sorted(part[part["stratum"] == stratum]):
                shown = style.cut(stratum, _LONGEST) or "all"
                label = f"{shown}, {row['role']}  (n = {row['n']})"
                lines.append((style.plain(label), row))
    return _draw(lines, style.plain(f"{_written(name)} of {arm}, percentage points"))


def _written(name: str) -> str:
    """Return a contrast's name as it is written in texts."""
    return "DiD" if name == "did" else name


def _plural(names: Sequence[str]) -> str:
    return " and ".join(_written(name) + ("" if name == "did" else "s") for name in names)


def _sorted(part: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows by arm (in order of appearance), frame count and member."""
    arms = list(dict.fromkeys(part["arm"]))
    rows = [{str(name): value for name, value in row.items()} for row in part.to_dict("records")]
    roles = style.in_order([str(row["role"]) for row in rows])
    return sorted(
        rows, key=lambda row: (arms.index(row["arm"]), row["frames"], roles.index(row["role"]))
    )


def _label(row: dict[str, Any]) -> str:
    member = f"image - {row['role']}" if row["name"] == "did" else str(row["role"])
    if row["name"] == "transfer":
        member = f"{row['role']} - image"
    arms = [style.cut(str(row[name]), _LONGEST) for name in ("arm", "reference") if row[name]]
    return style.plain(f"{' - '.join(arms)}, {row['frames']} frames, {member}")


def _draw(lines: Sequence[tuple[str, dict[str, Any] | None]], label: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 0.9 + _LINE * len(lines)), layout="constrained")
    axis = figure.subplots()
    rows = [row for _, row in lines if row is not None]
    ends = [100 * row[end] for row in rows for end in ("low", "high", "estimate")]
    known = [end for end in ends if isfinite(end)]
    axis.set_xlim(*style.percent_limits(min(known, default=0.0), max(known, default=0.0)))
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.axvline(0, color="black", linewidth=1)
    row_transform = axis.get_yaxis_transform()  # x as a share of the axis, y as a line
    for y, (text, row) in enumerate(lines):
        if row is None:
            axis.axhline(y - 0.5, color="black", linewidth=0.4, alpha=0.5)
            axis.text(
                0.005,
                y,
                text,
                transform=row_transform,
                va="center",
                fontsize=8,
                weight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
            continue
        _draw_contrast(axis, y, row)
        figures = _figures(row)
        axis.text(
            1.01, y, figures, transform=row_transform, va="center", fontsize=8, family="monospace"
        )
    axis.set_yticks(
        [y for y, (_, row) in enumerate(lines) if row is not None],
        [text for text, row in lines if row is not None],
        fontsize=8,
    )
    axis.set_xlabel(label, fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    style.tidy(axis, "x")
    axis.spines["left"].set_visible(False)
    return figure


def _draw_contrast(axis: Axes, y: int, row: dict[str, Any]) -> None:
    middle, low, high = (100 * row[name] for name in ("estimate", "low", "high"))
    bounded = isfinite(low) and isfinite(high)
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
    return f"{middle} [{100 * row['low']:+5.1f}, {100 * row['high']:+5.1f}]"
