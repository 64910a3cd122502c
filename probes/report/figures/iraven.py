"""Accuracy per i-RAVEN configuration, as the study tabulates it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from probes.analysis import accuracies
from probes.analysis.columns import BLOCK, groups
from probes.core.errors import ProbesError
from probes.core.tables import cut
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

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
    parts = list(groups(cells, (*BLOCK, "frames", "arm")))
    # Accuracies near chance would fill a corner of the whole range.
    # Where every answer failed there is no interval either.
    most = min(100, 10 * ceil(10 * cells["high"].fillna(1.0).max() + 0.5))
    figure, axes = style.panels(len(parts), 2, 1.3 + _LINE * len(names))
    for at, (axis, (head, part)) in enumerate(zip(axes, parts, strict=True)):
        style.draw_members(axis, part, names, "stratum", _SPREAD, upright=False)
        arm = style.short(str(head["arm"]))
        axis.set_title(f"{arm}, {head['frames']} frames\n{style.title(head)}", size=9)
        axis.set_yticks(range(len(names)), [wrapped(name) for name in names], fontsize=8)
        # Downwards, so that the first configuration is on top as in a table.
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlim(0, most)
        if at >= len(parts) - 2:
            axis.set_xlabel("accuracy, % (dotted: chance)")
        style.tidy(axis, "x")
    style.legend(figure, axes)
    return figure


def wrapped(name: str) -> str:
    """Return a configuration's name as words, with a line break before its second part."""
    words = style.plain(cut(name, 44)).replace("_", " ")
    for second in (" out ", " right ", " down "):
        words = words.replace(second, f"\n{second[1:]}")
    return words
