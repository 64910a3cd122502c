"""Accuracy per i-RAVEN configuration, as the study tabulates it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from probes.analysis import accuracies
from probes.core.errors import ProbesError
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_GROUP = ("pair", "task", "scoring", "setting", "seed", "frames", "arm")
_LINE = 0.42  # height of a configuration, in inches
_SPREAD = 0.24  # distance between members, in configurations


def configurations_figure(frame: pd.DataFrame) -> Figure:
    """Draw accuracy by member and configuration, one panel per arm.

    Args:
        frame: records of i-RAVEN, as returned by `probes.load`; a configuration is a stratum.

    Returns:
        A figure: points with 95 % Wilson intervals, chance as a dotted line.

    Raises:
        ProbesError: no record has a stratum.
    """
    cells = accuracies(frame, by_stratum=True)
    cells = cells[cells["stratum"] != ""]
    if cells.empty:
        raise ProbesError("no item has a configuration", fix="load a run of i-RAVEN")
    names = sorted(set(cells["stratum"]))
    groups = list(cells.groupby(list(_GROUP), sort=False))
    # Accuracies near chance would fill a corner of the whole range.
    most = min(100, 10 * ceil(10 * cells["high"].max() + 0.5))
    figure, axes = style.panels(len(groups), 2, 1.3 + _LINE * len(names))
    for at, (axis, (values, part)) in enumerate(zip(axes, groups, strict=True)):
        head = dict(zip(_GROUP, values, strict=True))
        roles = style.in_order(list(part["role"]))
        for order, role in enumerate(roles):
            rows = part[part["role"] == role].set_index("stratum").reindex(names)
            middle = 100 * rows["accuracy"]
            axis.errorbar(
                middle,
                [y + style.spread(order, len(roles), _SPREAD) for y in range(len(names))],
                xerr=style.bars(middle, 100 * rows["low"], 100 * rows["high"]),
                linestyle="none",
                label=f"{role} member",
                **style.role_style(role),
            )
        axis.axvline(100 * float(part["chance"].iloc[0]), color="black", linestyle=":", linewidth=1)
        arm = style.short(str(head["arm"]))
        axis.set_title(f"{arm}, {head['frames']} frames\n{style.title(head)}", size=9)
        axis.set_yticks(range(len(names)), [wrapped(name) for name in names], fontsize=8)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlim(0, most)
        if at >= len(groups) - 2:
            axis.set_xlabel("accuracy, % (dotted: chance)")
        style.tidy(axis, "x")
    style.legend(figure, axes)
    return figure


def wrapped(name: str) -> str:
    """Return a configuration's name as words, with a line break before its second part."""
    words = style.plain(style.cut(name, 44)).replace("_", " ")
    for second in (" out ", " right ", " down "):
        words = words.replace(second, f"\n{second[1:]}")
    return words
