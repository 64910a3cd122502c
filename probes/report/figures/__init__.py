"""Figures of a run, legible in greyscale and for colour-blind readers.

Every function takes what `probes.load`, `analysis.accuracies` or `analysis.contrasts` return and
gives a matplotlib figure, made without pyplot: there is no global state, and no display is needed.
"""

from probes.report.figures.answer import answer_figure
from probes.report.figures.arms import arms_figure
from probes.report.figures.forest import forest_figure, strata_figure
from probes.report.figures.frames import frames_figure
from probes.report.figures.headroom import headroom_figure
from probes.report.figures.iraven import configurations_figure
from probes.report.figures.style import rendered, save, stamp

__all__ = [
    "answer_figure",
    "arms_figure",
    "configurations_figure",
    "forest_figure",
    "frames_figure",
    "headroom_figure",
    "rendered",
    "save",
    "stamp",
    "strata_figure",
]
