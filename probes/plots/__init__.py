"""Pictures of a run, legible in greyscale and for colour-blind readers.

Every function takes what `probes.load`, `analysis.accuracies` or `analysis.contrasts` return and
gives a matplotlib figure, made without pyplot: nothing is global, nothing needs a display.
"""

from probes.plots.arms import arms_figure
from probes.plots.forest import forest_figure, strata_figure
from probes.plots.frames import frames_figure
from probes.plots.headroom import headroom_figure
from probes.plots.iraven import configurations_figure
from probes.plots.style import rendered, save

__all__ = [
    "arms_figure", "configurations_figure", "forest_figure", "frames_figure", "headroom_figure",
    "rendered", "save", "strata_figure",
]  # fmt: skip
