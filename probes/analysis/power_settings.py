"""What `probes power` can be asked: about a plan, a finished run or the study's published figures.

Effects and gains are percentage points, discordances percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probes import stats


@dataclass(frozen=True, slots=True)
class PowerTarget:
    """What is asked of the test."""

    power: float = stats.POWER
    """Chance of finding the effect."""
    alpha: float = stats.ALPHA
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
    names: tuple[str, ...] = ()
    """Which contrasts; empty: gains, drops and DiD."""
    effects: tuple[float, ...] = ()
    """True effects to give the items needed for, in points or the measure's unit; empty: 2, 5 and
    10 points."""
    measure: str = "accuracy"
    """A registered one that has per-item differences."""
    by_stratum: bool = False
    """Adds a row per stratum."""
    target: PowerTarget = PowerTarget()
    simulation: Simulation | None = None
    """Adds the power found in simulated runs."""
    edited: bool = False
    """Takes tables that are not those that the run wrote; the answer says so."""
    partial: bool = False
    """Answer although shards of the run are missing; the answer then says which."""


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
