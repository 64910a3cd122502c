"""What every member had left to gain, and how much of it an arm gained."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from probes.analysis.columns import BLOCK, rows_of, where
from probes.core.errors import ProbesError
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.34  # height of a line, in inches
_HATCHED: dict[str, Any] = {"fc": "white", "ec": "#999999", "hatch": "////", "linewidth": 0.6}


def headroom_figure(found: pd.DataFrame, arm: str = "vcot") -> Figure:
    """Draw, per member and frame count, the change from the reference's accuracy to the arm's.

    Args:
        found: as returned by `contrasts`, of accuracies.
        arm: the arm of the gain.

    Returns:
        A figure: hatched bars are the room above the reference arm, arrows what the arm changed.

    Raises:
        ProbesError: the arm has no gain.
    """
    rows = where(found, name="gain", arm=arm, policy="strict", stratum="")
    if rows.empty:
        raise ProbesError(f"there is no gain of {arm} to draw", fix="run it and its reference arm")
    figure, axis = style.one_axis(len(rows), _LINE)
    several = len(rows[list(BLOCK)].drop_duplicates()) > 1
    names = {}
    for y, row in enumerate(rows_of(rows)):
        _line(axis, y, row)
        head = f"\n{style.heading(row)}" if several else ""
        names[y] = f"{row['role']}, {row['frames']} frames{head}"
    style.name_lines(axis, names)
    axis.set_xlim(0, 100)
    change = f"from {rows['reference'].iloc[0]} (marker) to {arm} (arrow's head)"
    axis.set_xlabel(style.plain(f"accuracy, %: {change}; hatched: room to gain"), fontsize=8)
    return figure


def _line(axis: Axes, y: int, row: dict[str, Any]) -> None:
    start, end = 100 * row["mean_b"], 100 * row["mean_a"]
    if not (isfinite(start) and isfinite(end)):
        return
    look = style.role_style(str(row["role"]))
    # Axes.plot does not know it.
    look.pop("capsize")
    axis.barh(y, 100 - start, left=start, height=0.5, **_HATCHED)
    # An arrow's head needs some length; a shorter change is drawn as a line.
    shape = "-|>" if abs(end - start) > 2 else "-"
    whole = {"shrinkA": 0, "shrinkB": 0}  # from point to point, without a gap at its ends
    arrow = {"arrowstyle": shape, "color": look["color"], "linewidth": 2, **whole}
    axis.annotate("", (end, y), (start, y), arrowprops=arrow)
    # Unclipped: at 0 or 100 % half of the marker would be cut off.
    axis.plot([start], [y], linestyle="none", clip_on=False, **look)
    room = 100 - start
    share = f" ({100 * (end - start) / room:.0f} %)" if room > 0 else ""
    style.write_at_line(axis, 1.02, y, f"{end - start:+.1f} of {room:.1f}{share}")
