"""Accuracy by the number of frames shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.analysis import accuracies
from probes.analysis.columns import BLOCK, groups
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SPREAD = 0.6  # greatest width of the arms of one frame count, in steps between counts


def frames_figure(frame: pd.DataFrame) -> Figure:
    """Draw the accuracy under every arm over the number of frames, one panel per member.

    Args:
        frame: records, as returned by `probes.load`.

    Returns:
        A figure: a line per arm with 95 % Wilson intervals, chance as a dotted line. Frame counts
        are evenly spaced; arms are offset a little, so that no interval hides another.

    Raises:
        ProbesError: an empty frame.
    """
    cells = accuracies(frame)
    arms = list(dict.fromkeys(cells["arm"]))
    counts = sorted({int(count) for count in cells["frames"]})
    # Many arms are squeezed, so that those of one count stay apart from the next.
    step = min(0.05, _SPREAD / len(arms))
    parts = list(groups(cells, (*BLOCK, "role")))
    figure, axes = style.panels(len(parts), 2, 3.4)
    for at, (axis, (head, part)) in enumerate(zip(axes, parts, strict=True)):
        for order, arm in enumerate(arms):
            rows = part[part["arm"] == arm].sort_values("frames")
            if rows.empty:
                continue
            offset = style.spread(order, len(arms), step)
            # Drawn to scale, small counts would crowd at one end.
            places = [counts.index(count) + offset for count in rows["frames"]]
            look = {"label": style.short(arm), "linewidth": 1.2, **style.arm_style(order)}
            style.draw_accuracies(axis, places, rows, **look)
        style.chance_line(axis, part)
        axis.set_title(f"{head['role']} member\n{style.title(head)}", size=9)
        axis.set_xticks(range(len(counts)), [str(count) for count in counts])
        axis.set_xlim(-0.4, len(counts) - 0.6)
        axis.set_ylim(0, 100)
        if at % 2 == 0:
            axis.set_ylabel("accuracy, %")
        if at >= len(parts) - 2:
            axis.set_xlabel("frames")
        style.tidy(axis, "y")
    style.legend(figure, axes)
    return figure
