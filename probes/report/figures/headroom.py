"""What every member had left to gain, and how much of it an arm gained."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.34  # height of a line, in inches


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
    from matplotlib.figure import Figure

    rows = found[
        (found["name"] == "gain")
        & (found["arm"] == arm)
        & (found["policy"] == "strict")
        & (found["stratum"] == "")
    ]
    if rows.empty:
        raise ProbesError(f"there is no gain of {arm} to draw", fix="run it and its reference arm")
    figure = Figure(figsize=(style.WIDTH, 0.9 + _LINE * len(rows)), layout="constrained")
    axis = figure.subplots()
    several = len(rows[["task", "pair", "scoring", "setting", "seed"]].drop_duplicates()) > 1
    labels = []
    for y, row in enumerate(rows.to_dict("records")):
        values = {str(name): value for name, value in row.items()}
        _line(axis, y, values)
        head = f"\n{style.heading(values)}" if several else ""
        labels.append(f"{values['role']}, {values['frames']} frames{head}")
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    change = f"from {rows['reference'].iloc[0]} (marker) to {arm} (arrow's head)"
    axis.set_xlabel(style.plain(f"accuracy, %: {change}; hatched: room to gain"), fontsize=8)
    axis.tick_params(axis="y", length=0)
    style.tidy(axis, "x")
    axis.spines["left"].set_visible(False)
    return figure


def _line(axis: Axes, y: int, row: dict[str, Any]) -> None:
    start, end = 100 * row["mean_b"], 100 * row["mean_a"]
    if not (isfinite(start) and isfinite(end)):
        return
    look = style.role_style(str(row["role"]))
    look.pop("capsize")
    axis.barh(
        y,
        100 - start,
        left=start,
        height=0.5,
        facecolor="white",
        edgecolor="#999999",
        hatch="////",
        linewidth=0.6,
    )
    # An arrow's head needs some length; a shorter change is drawn as a line.
    shape = "-|>" if abs(end - start) > 2 else "-"
    axis.annotate(
        "",
        (end, y),
        (start, y),
        arrowprops={
            "arrowstyle": shape,
            "color": look["color"],
            "linewidth": 2,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )
    axis.plot([start], [y], linestyle="none", clip_on=False, **look)
    room = 100 - start
    share = f" ({100 * (end - start) / room:.0f} %)" if room > 0 else ""
    axis.text(
        1.02,
        y,
        f"{end - start:+.1f} of {room:.1f}{share}",
        transform=axis.get_yaxis_transform(),
        va="center",
        fontsize=8,
    )
