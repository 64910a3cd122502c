"""What all figures share: how members and arms are drawn, and how a figure becomes files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.analysis.columns import in_order
from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.core.tables import cut

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Okabe and Ito's palette. Their hues have nearly one lightness, so marker and filling differ too.
_ROLES: Mapping[str, Mapping[str, Any]] = {
    "image": {"color": "#D55E00", "marker": "o"},
    "video": {"color": "#0072B2", "marker": "s", "markerfacecolor": "white"},
    "control": {"color": "#555555", "marker": "^"},
}
_OTHER_ROLE = {"color": "#000000", "marker": "D", "markerfacecolor": "white"}
_HUES = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", ":")

WIDTH = 8.4
"""Width of a figure in inches: what a report's page shows without shrinking letters below 8 pt."""
PNG_DPI = 150
PANEL = 46
"""Characters of a title that fit above half the width."""


def role_style(role: str) -> dict[str, Any]:
    """Return how points of a member are drawn (arguments of `Axes.errorbar`)."""
    return {"markersize": 6, "capsize": 3, **_ROLES.get(role, _OTHER_ROLE)}


def arm_style(index: int) -> dict[str, Any]:
    """Return how the line of an arm with this index is drawn; 24 differ from each other."""
    return {
        "color": _HUES[index % len(_HUES)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
        # 8 markers and 3 lines have no common divisor: 24 pairs differ without colour too.
        "markersize": 6,
        "capsize": 3,
        "markerfacecolor": "white" if index % 2 else _HUES[index % len(_HUES)],
    }


def spread(index: int, count: int, step: float) -> float:
    """Return the offset of one of `count` members from the middle of its row."""
    return step * (index - (count - 1) / 2)


def bars(middle: pd.Series, low: pd.Series, high: pd.Series) -> NDArray[np.float64]:
    """Return the lengths [2, n] of error bars; 0 where an interval is undefined."""
    lengths = np.array([middle - low, high - middle], dtype=np.float64)
    # Rounding can leave a Wilson end on the wrong side of an accuracy of 0 or 1.
    found: NDArray[np.float64] = np.clip(np.nan_to_num(lengths, nan=0.0), 0.0, None)
    return found


def draw_accuracies(
    axis: Axes, places: Sequence[float], cells: pd.DataFrame, upright: bool = True, **look: Any
) -> None:
    """Draw accuracies with their intervals.

    Args:
        axis: to draw on.
        places: of the cells along the other axis [n].
        cells: as returned by `accuracies` [n].
        upright: whether accuracies go upwards, not to the right.
        **look: arguments of `Axes.errorbar`.
    """
    middle = 100 * cells["accuracy"]
    lengths = bars(middle, 100 * cells["low"], 100 * cells["high"])
    if upright:
        axis.errorbar(places, middle, yerr=lengths, **look)
    else:
        axis.errorbar(middle, places, xerr=lengths, **look)


def draw_members(
    axis: Axes, cells: pd.DataFrame, names: Sequence[str], column: str, step: float, upright: bool
) -> float:
    """Draw every member's accuracies next to each other, and chance, which is returned (percent).

    Args:
        axis: to draw on.
        cells: as returned by `accuracies`.
        names: values of the column, each at its place 0, 1, ...
        column: `arm` or `stratum`.
        step: distance between members.
        upright: see `draw_accuracies`.
    """
    roles = in_order(cells["role"])
    for order, role in enumerate(roles):
        # A cell that was not run becomes NaN, which is not drawn.
        of_role = cells[cells["role"] == role].set_index(column).reindex(list(names))
        places = [at + spread(order, len(roles), step) for at in range(len(names))]
        look = {"linestyle": "none", "label": f"{role} member", **role_style(role)}
        draw_accuracies(axis, places, of_role, upright, **look)
    return chance_line(axis, cells, upright)


def chance_line(axis: Axes, cells: pd.DataFrame, upright: bool = True) -> float:
    """Draw the accuracy of guessing as a dotted line, and return it in percent."""
    chance = 100 * float(cells["chance"].iloc[0])
    draw = axis.axhline if upright else axis.axvline
    draw(chance, color="black", linestyle=":", linewidth=1)
    return chance


def one_axis(lines: int, height: float) -> tuple[Figure, Axes]:
    """Return a figure with room for lines of text and marks, whose height is in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.9 + height * lines), layout="constrained")
    axis = figure.subplots()
    # Downwards: line 0 is on top.
    axis.set_ylim(lines - 0.4, -0.6)
    return figure, axis


def name_lines(axis: Axes, names: Mapping[int, str]) -> None:
    """Write names to the left of lines, by their number, and remove what else is drawn there."""
    axis.set_yticks(list(names), list(names.values()), fontsize=8)
    axis.tick_params(axis="y", length=0)
    tidy(axis, "x")
    axis.spines["left"].set_visible(False)


def write_at_line(axis: Axes, x: float, line: int, text: str, **look: Any) -> None:
    """Write text at the height of a line; `x` is a share of the axis, 1 its right end."""
    axis.text(x, line, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8, **look)


def panels(count: int, columns: int, height: float) -> tuple[Figure, Any]:
    """Return a figure with a grid of `count` panels that share their axes, in reading order.

    Args:
        count: panels, at least 1.
        columns: most panels in a row.
        height: of one row of panels, in inches. The width is `WIDTH`; where fewer panels than
            `columns` are drawn, 3/4 of it.
    """
    from matplotlib.figure import Figure

    if count < 1:
        raise ProbesError("there is nothing to draw", fix="run something, or load another folder")
    width = WIDTH if count >= columns else 0.75 * WIDTH
    columns = min(columns, count)
    rows = ceil(count / columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.remove()
    # Where a column ends early, its last panel has the labels.
    for axis in axes[max(0, count - columns) : count]:
        axis.tick_params(labelbottom=True)
    return figure, axes[:count]


def tidy(axis: Axes, grid: str) -> None:
    """Remove lines without information, and draw faint lines across `grid` (`x` or `y`)."""
    axis.grid(axis=grid, alpha=0.3)  # type: ignore[arg-type]
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def percent_limits(drawn: Sequence[float]) -> tuple[float, float]:
    """Return ends for an axis of differences in points: round tens with zero among them."""
    known = [0.0, *(end for end in drawn if isfinite(end))]
    least, most = min(known), max(known)
    room = max(0.05 * (most - least), 1.0)
    return 10 * np.floor((least - room) / 10), 10 * np.ceil((most + room) / 10)


def title(values: Mapping[str, Any]) -> str:
    """Return the settings of a group of records, in lines that fit above a panel."""
    return plain(textwrap.fill(cut(_settings(values), 3 * PANEL), PANEL))


def heading(values: Mapping[str, Any]) -> str:
    """Return the text of `title` in one short line."""
    return plain(cut(_settings(values), 50))


def _settings(values: Mapping[str, Any]) -> str:
    found = [str(values[name]) for name in ("task", "pair", "scoring", "setting") if values[name]]
    return ", ".join([*found, f"seed {values['seed']}"] if values["seed"] else found)


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Add one legend for all panels, below them."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=min(5, len(found)),
        fontsize=8,
        frameon=False,
    )


def short(arm: str) -> str:
    """Return an arm's name as words that fit under an axis."""
    return plain(cut(arm.replace("perturbation", "perturb.").replace("_", " "), 20))


def plain(text: str) -> str:
    """Escape dollar signs, between which matplotlib would read mathematics."""
    return text.replace("$", r"\$")


def stamp(figure: Figure, text: str) -> None:
    """Write a text above a finished figure; an empty one changes nothing."""
    if text:
        figure.suptitle(plain(text), fontsize=9, fontweight="bold")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as `STEM.png` (150 dpi) and `STEM.svg`; return both paths.

    Args:
        figure: what to write.
        stem: path without suffix; its folder is made if need be.
    """
    paths = []
    for kind, content in rendered(figure).items():
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        atomic_write(paths[-1], content)
    return paths


def rendered(figure: Figure) -> dict[str, bytes]:
    """Return a figure as `png` and `svg` files; the same figure gives the same bytes."""
    engine = figure.get_layout_engine()
    figure.draw_without_rendering()  # which computes the layout
    # The layout is computed once, not once per file: that is half of the work.
    figure.set_layout_engine("none")
    try:
        return {kind: _bytes(figure, kind) for kind in ("png", "svg")}
    finally:
        figure.set_layout_engine(engine)


def _bytes(figure: Figure, kind: str) -> bytes:
    import matplotlib

    out = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}  # without a date, equal runs, equal files
    # Ids in an SVG are random without a salt; letters as paths look alike on every machine.
    with matplotlib.rc_context({"svg.hashsalt": "probes", "svg.fonttype": "path"}):
        figure.savefig(out, format=kind, dpi=PNG_DPI, metadata=metadata)
    return out.getvalue()
