"""What `probes power` can be asked: about a plan, a finished run or the study's published figures.

Effects and gains are percentage points, discordances percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAMES_OF_A_RUN = ("gain", "drop", "did")
"""The contrasts of a run that are shown unless others are asked for."""
EFFECTS_OF_A_RUN = (2.0, 5.0, 10.0)
"""The true effects for which items needed are shown unless others are asked for."""


@dataclass(frozen=True, slots=True)
class PowerTarget:
    """What is asked of the test."""

    power: float = 0.8
    """Chance of finding the effect."""
    alpha: float = 0.05
    """Level of the two-sided test, of the whole family."""
    family: int = 1
    """Tests in the family."""

    @property
    def level(self) -> float:
        """Level of a single test: Holm's first step."""
        return self.alpha / self.family


@dataclass(frozen=True, slots=True)
class Simulation:
    """How many runs are simulated."""

    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """What could a finished run find?"""

    run: Path | str
    """A run folder, or a folder above run folders."""
    names: tuple[str, ...] = NAMES_OF_A_RUN
    """Which contrasts."""
    effects: tuple[float, ...] = EFFECTS_OF_A_RUN
    """True effects to give the items needed for."""
    by_stratum: bool = False
    """Adds a row per stratum."""
    target: PowerTarget = PowerTarget()
    simulation: Simulation | None = None
    """Adds the power found in simulated runs."""


@dataclass(frozen=True, slots=True)
class PublishedQuestion:
    """What could the study's number of items find?"""

    task: str
    """`egoschema` or `iraven`."""
    icc: float = 0.0
    """Correlation of the differences of two items of one recording."""
    target: PowerTarget = PowerTarget()


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What could a planned run find? Effects, items or both are given; None: not given."""

    names: tuple[str, ...] = ("gain",)
    """The contrast; several are refused."""
    effects: tuple[float, ...] = ()
    items: tuple[float, ...] = ()
    """Numbers of items, of one stratum where there are strata."""
    discordances: tuple[float, ...] = ()
    other_discordance: float | None = None
    """The other member's, where it differs from the image member's."""
    other_gain: float | None = None
    """The other member's true gain."""
    correlation: float | None = None
    """Correlation of the two members' gains over items."""
    cluster_sizes: str | None = None
    """Items of one recording: `5`, `1x267,2x45` (267 of one item, 45 of two), or `egoschema`."""
    icc: float | None = None
    """Correlation of the differences of two items of one recording."""
    strata: int | None = None
    """Strata of equal size."""
    target: PowerTarget = PowerTarget()
    simulation: Simulation | None = None
    """Adds the power found in simulated runs."""
