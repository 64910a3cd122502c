"""The answer in one figure: both members without and with an arm's text, and the DiD beside it.

DiD is the difference in differences: gain of the image member minus gain of the other member.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from probes.analysis.columns import BLOCK, role_order, rows_of, where
from probes.analysis.formats import bracketed, points
from probes.core.errors import ProbesError
from probes.report.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 4.9  # inches: a phone shows it at three quarters, where its letters are legible
_LINE = 0.4  # height of a member's line, in inches
_SIZE = 9  # of letters, in points


def answer_figure(found: pd.DataFrame, arm: str = "vcot") -> Figure:
    """Draw every member's accuracy in the reference arm and under an arm, and the DiD.

    Args:
        found: as returned by `contrasts`, of accuracies.
        arm: the arm.

    Returns:
        A figure with one line per frame count and member. Left: an open marker is the accuracy in
        the reference arm, a filled one that under the arm. Right, in the other member's line: the
        DiD with its interval, in percentage points.

    Raises:
        ProbesError: the arm has no DiD.
    """
    found = where(found, arm=arm, policy="strict", stratum="")
    gains, dids = (rows_of(where(found, name=name)) for name in ("gain", "did"))
    if not dids:
        raise ProbesError(f"there is no DiD of {arm} to draw", fix="run it and its reference arm")
    gains.sort(key=lambda row: (row["frames"], role_order(str(row["role"]))))
    figure, (left, right) = _axes(len(gains))
    of = {(*(row[name] for name in (*BLOCK, "frames", "role")),): row for row in dids}
    names = {}
    for y, row in enumerate(gains):
        _accuracies(left, y, row)
        names[y] = style.plain(f"{row['role']}, {row['frames']} frames")
        if did := of.get((*(row[name] for name in (*BLOCK, "frames", "role")),)):
            _did(right, y, did)
    left.set_yticks(list(names), list(names.values()), fontsize=_SIZE)
    # Room for the numbers beside markers at either end.
    left.set_xlim(-15, 115)
    left.set_xticks([0, 50, 100])
    reference = str(dids[0]["reference"])
    left.set_xlabel(style.plain(f"accuracy, %: {reference} (open)\nto {arm} (filled)"))
    right.set_xlabel("DiD, points\n(95 % interval)")
    ends = [100 * row[end] for row in dids for end in ("low", "high", "estimate")]
    right.set_xlim(*style.percent_limits(ends))
    right.axvline(0, color="black", linewidth=1)
    return figure


def _axes(lines: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 0.85 + _LINE * lines), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axis in axes:
        style.tidy(axis, "x")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.tick_params(axis="x", labelsize=_SIZE)
        axis.xaxis.label.set_size(_SIZE)
    # Downwards: line 0 is on top.
    axes[0].set_ylim(lines - 0.4, -0.7)
    return figure, axes


def _accuracies(axis: Axes, y: int, row: dict[str, Any]) -> None:
    start, end = 100 * row["mean_b"], 100 * row["mean_a"]
    if not (isfinite(start) and isfinite(end)):
        return
    look = style.role_style(str(row["role"])) | {"clip_on": False}
    look.pop("capsize")
    axis.plot([start, end], [y, y], color=look["color"], linewidth=2)
    for x, face in ((start, "white"), (end, look["color"])):
        axis.plot([x], [y], linestyle="none", **{**look, "markerfacecolor": face, "markersize": 8})
    # Beside the line's ends, on the side where it is not.
    for x, other in ((start, end), (end, start)) if start != end else ((end, start),):
        side = -1 if x < other else 1
        place: dict[str, Any] = {
            "ha": "right" if side < 0 else "left",
            "va": "center",
            "fontsize": _SIZE,
        }
        axis.annotate(f"{x:.1f}", (x, y), (8 * side, 0), textcoords="offset points", **place)


def _did(axis: Axes, y: int, row: dict[str, Any]) -> None:
    middle, low, high = (100 * row[name] for name in ("estimate", "low", "high"))
    text = bracketed(row["estimate"], row["low"], row["high"], points)
    axis.annotate(
        text if row["verdict"] else f"{text}: no verdict",
        (0.5, y),
        (0, 5),
        xycoords=axis.get_yaxis_transform(),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=_SIZE,
        # On white, since the zero line may run through it.
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )
    if not isfinite(middle):
        return
    bounded = isfinite(low) and isfinite(high)
    # matplotlib refuses negative lengths, which rounding can leave.
    length = [[max(middle - low, 0.0)], [max(high - middle, 0.0)]] if bounded else None
    look: dict[str, Any] = {"linestyle": "none", "color": "black", "marker": "D", "capsize": 3}
    axis.errorbar([middle], [y], xerr=length, **look)
