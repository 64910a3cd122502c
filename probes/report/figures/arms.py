"""Accuracy of every member under every arm."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from probes.analysis import accuracies
from probes.analysis.columns import BLOCK, groups
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPREAD = 0.2  # distance between members within an arm, in arms
_HALF_WIDTH = 5  # arms that fit into half the width with their names
_LINE_LENGTH = 9  # letters in a line of an arm's name


def arms_figure(frame: pd.DataFrame) -> Figure:
    """Draw the accuracy of every member under every arm, one panel per setting and frame count.

    Args:
        frame: records, as returned by `probes.load`.

    Returns:
        A figure: points with 95 % Wilson intervals, chance as a dotted line.

    Raises:
        ProbesError: an empty frame.
    """
    cells = accuracies(frame)
    parts = list(groups(cells, (*BLOCK, "frames")))
    arms = list(dict.fromkeys(cells["arm"]))
    figure, axes = style.panels(len(parts), 2 if len(arms) <= _HALF_WIDTH else 1, 3.4)
    for at, (axis, (head, part)) in enumerate(zip(axes, parts, strict=True)):
        _panel(axis, part, arms)
        shown = f"{head['frames']} frames, n = {part['n'].max()}"
        axis.set_title(f"{style.title(head)}\n{shown}", size=9)
        # Panels share their axes: only the left column needs the label.
        if at % 2 == 0 or len(arms) > _HALF_WIDTH:
            axis.set_ylabel("accuracy, %")
    style.legend(figure, axes)
    return figure


def _panel(axis: Axes, part: pd.DataFrame, arms: list[str]) -> None:
    chance = style.draw_members(axis, part, arms, "arm", _SPREAD, upright=True)
    # At the left end, halfway between the axis and the first arm, nothing else is drawn.
    at = ("axes fraction", "data")
    axis.annotate("chance", (0.01, chance + 1), xycoords=at, ha="left", va="bottom", fontsize=7)
    names = [textwrap.fill(style.short(arm), _LINE_LENGTH) for arm in arms]
    axis.set_xticks(range(len(arms)), names, fontsize=8)
    axis.set_xlim(-0.75, len(arms) - 0.5)
    axis.set_ylim(0, 100)
    style.tidy(axis, "y")
