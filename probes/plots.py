"""Pictures of a run: drawn from records, legible in greyscale and for colour-blind readers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probes.analysis import accuracies

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lightness and marker differ as well as hue (Okabe and Ito's palette), so print does not lose it.
_ROLES = {"image": ("#D55E00", "o"), "video": ("#0072B2", "s"), "control": ("#999999", "^")}
_SPREAD = 0.16  # distance between members within an arm, in arms


def arms_figure(frame: pd.DataFrame) -> Figure:
    """Draw the accuracy of every member under every arm, one panel per setting and frame count.

    Args:
        frame: records, as returned by `probes.load`.

    Returns:
        A figure: points with 95 % Wilson intervals, chance as a dotted line.
    """
    from matplotlib.figure import Figure

    cells = accuracies(frame)
    panels = list(cells.groupby(["pair", "task", "scoring", "seed", "frames"], sort=False))
    figure = Figure(figsize=(1.2 + 3.4 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for at, (axis, (values, part)) in enumerate(zip(axes, panels, strict=True)):
        pair, task, scoring, _, frames = values
        _panel(axis, part)
        axis.set_title(f"{task}, {pair}, {scoring}\n{frames} frames, n = {part['n'].max()}", size=9)
        if at == 0:
            axis.set_ylabel("accuracy, %")
            axis.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    arms = list(dict.fromkeys(part["arm"]))
    roles = [role for role in _ROLES if role in set(part["role"])]
    for order, role in enumerate(roles):
        rows = part[part["role"] == role].set_index("arm").reindex(arms)
        colour, marker = _ROLES[role]
        middle = 100 * rows["accuracy"]
        axis.errorbar(
            [x + _SPREAD * (order - (len(roles) - 1) / 2) for x in range(len(arms))],
            middle,
            yerr=[middle - 100 * rows["low"], 100 * rows["high"] - middle],
            fmt=marker, color=colour, capsize=3, markersize=6, label=f"{role} member",
        )  # fmt: skip
    chance = 100 * float(part["chance"].iloc[0])
    axis.axhline(chance, color="black", linestyle=":", linewidth=1)
    axis.annotate("chance", (0.01, chance - 1), xycoords=("axes fraction", "data"), ha="left",
                  va="top", fontsize=7)  # fmt: skip
    axis.set_xticks(range(len(arms)), [arm.replace("_", "\n") for arm in arms], fontsize=8)
    axis.set_ylim(0, 105)
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG (150 dpi) and SVG; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths
