"""Accuracy of every member under every arm."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from probes.analysis import accuracies
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUP = ("pair", "task", "scoring", "setting", "seed", "frames")
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
    parts = list(cells.groupby(list(GROUP), sort=False))
    arms = list(dict.fromkeys(cells["arm"]))
    figure, axes = style.panels(len(parts), 2 if len(arms) <= _HALF_WIDTH else 1, 3.4)
    for at, (axis, (values, part)) in enumerate(zip(axes, parts, strict=True)):
        head = dict(zip(GROUP, values, strict=True))
        _panel(axis, part, arms)
        axis.set_title(
            f"{style.title(head)}\n{head['frames']} frames, n = {part['n'].max()}",
            size=9,
        )
        if at % 2 == 0 or len(arms) > _HALF_WIDTH:
            axis.set_ylabel("accuracy, %")
    style.legend(figure, axes)
    return figure


def _panel(axis: Axes, part: pd.DataFrame, arms: list[str]) -> None:
    roles = style.in_order(list(part["role"]))
    for order, role in enumerate(roles):
        rows = part[part["role"] == role].set_index("arm").reindex(arms)
        middle = 100 * rows["accuracy"]
        axis.errorbar(
            [x + style.spread(order, len(roles), _SPREAD) for x in range(len(arms))],
            middle,
            yerr=style.bars(middle, 100 * rows["low"], 100 * rows["high"]),
            linestyle="none",
            label=f"{role} member",
            **style.role_style(role),
        )
    chance = 100 * float(part["chance"].iloc[0])
    axis.axhline(chance, color="black", linestyle=":", linewidth=1)
    # At the left end, halfway between the axis and the first arm, nothing else is drawn.
    axis.annotate(
        "chance",
        (0.01, chance + 1),
        xycoords=("axes fraction", "data"),
        ha="left",
        va="bottom",
        fontsize=7,
    )
    names = [textwrap.fill(style.short(arm), _LINE_LENGTH) for arm in arms]
    axis.set_xticks(range(len(arms)), names, fontsize=8)
    axis.set_xlim(-0.75, len(arms) - 0.5)
    axis.set_ylim(0, 100)
    style.tidy(axis, "y")
