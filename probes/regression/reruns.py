"""Simulated re-runs of a baseline: how often does a check give which outcome?

The recorded answers are kept, 1.5 % of them are replaced by another option at random, and, for the
power, right answers of one cell turn wrong until its accuracy has fallen by so many points. Every
re-run is judged by the rules of the statistical gate, all metrics of a family at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf, isfinite, nan

import numpy as np
from numpy.typing import NDArray
from scipy import special

from probes import stats
from probes.regression.baseline import Baseline, Metric, MetricFamily
from probes.regression.flips import CellOdds, Flips
from probes.regression.snapshot import CellName
from probes.regression.statistical import (
    is_changed,
    is_within,
)
from probes.stats.estimate import Floats
from probes.stats.simulate import estimate_sums

FLIPPED = 0.015
"""Share of all answers that are replaced by another option at random in a simulated re-run."""
FALLS = (1.0, 2.0, 5.0)
"""Percentage points of the regressions whose power is told."""
RERUNS = 1000
"""Simulated re-runs of each kind: a share of 5 % is known to within 1.4 points, of 80 % to 2.5."""
HELD = 0.5
"""Least share of re-runs with random flips in which a metric is `same` if its band holds."""
WANTED_POWER = 0.8
"""Least share of re-runs in which a fall of the last of `FALLS` is found."""
WANTED_FALSE = 0.05
"""Largest share of re-runs with random flips that may fail."""


@dataclass(frozen=True, slots=True)
class MetricRates:
    """What is to be expected of one metric."""

    metric: Metric
    band: float
    """Percentage points."""
    false: float
    """Share of re-runs with random flips alone in which the metric is `changed`."""
    same: float
    """Share of them in which it is `same`; in the rest a change is `not excluded`."""
    caught: tuple[float, ...]
    """Share of re-runs in which it is `changed` if a cell of its arm also fell by each of `FALLS`;
    NaN where the cell has not so much to lose; empty of `other` metrics."""
    holding_band: float
    """The narrowest band with which it is `same` in a share of `HELD` of the re-runs."""
    items_needed: float
    """About how many items hold the band; inf where more items do not help."""

    @property
    def holds(self) -> bool:
        """Whether the items are enough for the band."""
        return self.same >= HELD


@dataclass(frozen=True, slots=True)
class OperatingCharacteristics:
    """Error rates of a check against one baseline, by simulation."""

    rates: tuple[MetricRates, ...]
    """Of every guarded metric of accuracies, family by family."""
    failing: float
    """Share of re-runs with random flips in which any metric is `changed`: the check fails."""
    failing_strict: float
    """Share of them in which any metric is not `same`: the check fails under --strict."""
    items: int
    reruns: int
    seed: int
    flipped: float
    """Share of the answers that are replaced."""


class _MetricSums:
    """Turns flips of cells into a metric's change in every re-run."""

    def __init__(
        self, cells: Mapping[CellName, tuple[float, CellOdds]], clusters: Mapping[str, str]
    ) -> None:
        items = sorted(set.intersection(*(set(odds.items) for _, odds in cells.values())))
        _, codes = np.unique([clusters[item] for item in items], return_inverse=True)
        self.sizes: Floats = np.bincount(codes).astype(np.float64)
        """Items by cluster [G]."""
        of_item = dict(zip(items, codes, strict=True))
        self.cells: dict[CellName, tuple[NDArray[np.intp], Floats]] = {}
        """Cluster (-1: the metric lacks the item) and weight of each answer, by cell."""
        for name, (weight, odds) in cells.items():
            # Several donors or rotations of an item are averaged.
            _, index, counts = np.unique(odds.items, return_inverse=True, return_counts=True)
            code = np.array([of_item.get(item, -1) for item in odds.items], dtype=np.intp)
            self.cells[name] = code, np.where(code >= 0, weight / counts[index], 0.0)

    def changes(self, flips: Mapping[CellName, Flips], reruns: int) -> Floats:
        """Return estimate, half the 95 % interval, and p, in proportions [3, reruns]."""
        count = len(self.sizes)
        if count < 2:
            return np.full((3, reruns), nan)
        at, change = [], []
        for name, (code, weight) in self.cells.items():
            one = flips[name]
            at.append(one.rerun * count + np.maximum(code[one.answer], 0))
            change.append(one.change * weight[one.answer])
        sums = np.bincount(np.concatenate(at), np.concatenate(change), reruns * count)
        found = estimate_sums(sums.astype(np.float64).reshape(reruns, count), self.sizes)
        half = special.stdtrit(found.df, 1 - stats.ALPHA / 2) * found.se
        # Where nothing changed, 0 divided by 0: that is no change.
        t = np.divide(found.estimate, found.se, out=np.zeros(reruns), where=found.se > 0)
        return np.stack([found.estimate, half, 2 * special.stdtr(found.df, -np.abs(t))])


@dataclass(frozen=True, slots=True)
class _Judged:
    """The metrics of a family in every re-run [reruns, m], in points."""

    changed: NDArray[np.bool_]
    estimate: Floats
    reach: Floats
    """The farther end of the interval from 0."""
    same: NDArray[np.bool_]


class _RerunWorld:
    """All cells of a baseline, and the metrics that its accuracies give."""

    def __init__(self, declared: Baseline, reruns: int, rate: float, seed: int) -> None:
        base, items = declared.snapshot, declared.snapshot.items_by_id()
        self.reruns, self.bands, self.rng = reruns, declared.bands, np.random.default_rng(seed)
        self.odds = {cell.name: CellOdds(cell, items) for cell in base.cells}
        # Without metrics of other measures, which the flips of answers do not give.
        self.families = {
            family: chosen
            for family, metrics in declared.by_family().items()
            if (chosen := [metric for metric in metrics if metric.measure == "accuracy"])
        }
        self.sums: dict[Metric, _MetricSums] = {}
        for metric in (one for metrics in self.families.values() for one in metrics):
            weights = metric.weights(base.references)
            cells = {cell: (weight, self.odds[cell]) for cell, weight in weights.items()}
            self.sums[metric] = _MetricSums(cells, base.clusters(metric.cell.task))
        self.flips = {name: odds.flips(self.rng, reruns, rate) for name, odds in self.odds.items()}
        self._unmoved = {m: sums.changes(self.flips, reruns) for m, sums in self.sums.items()}

    def judged(
        self, family: MetricFamily, moved: Mapping[CellName, Flips] | None = None
    ) -> _Judged:
        """Judge the metrics of a family in every re-run, as the gate does in one.

        Args:
            family: one that has metrics.
            moved: cells whose answers change otherwise than at random.
        """
        metrics, moved = self.families[family], moved or {}
        flips = {**self.flips, **moved}
        found = [
            self._unmoved[metric]
            if moved.keys().isdisjoint(self.sums[metric].cells)
            else self.sums[metric].changes(flips, self.reruns)
            for metric in metrics
        ]
        estimate, half, p = np.stack(found, axis=-1)
        bands = np.array([self.bands[metric] for metric in metrics])
        low, high = estimate - half, estimate + half
        reach = 100 * (np.abs(estimate) + half)
        changed = is_changed(100 * estimate, low, high, _holm_rows(p), bands)
        return _Judged(changed, 100 * estimate, reach, is_within(reach, bands))

    def caught(self, family: MetricFamily, at: int, points: float) -> float:
        """Return how often a metric is said to have changed when a cell of its arm falls."""
        metric, shares = self.families[family][at], []
        # A DiD has two such cells. Random flips lower all cells, which adds to a fall of one and
        # takes from a fall of the other: the less favourable counts.
        for cell in self.sums[metric].cells:
            if cell.arm != metric.cell.arm:
                continue
            fallen = self.odds[cell].fallen(self.flips[cell], self.rng, self.reruns, points)
            if fallen is None:
                return nan
            shares.append(float(self.judged(family, {cell: fallen}).changed[:, at].mean()))
        return min(shares)


def _holm_rows(p: Floats) -> Floats:
    """Return Holm's adjusted p-values of every row [rows, m], as `stats.holm` does for one."""
    order = np.argsort(p, axis=1)
    factors = np.arange(p.shape[1], 0, -1)
    ranked = np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * factors, axis=1)
    out = np.empty_like(p)
    np.put_along_axis(out, order, np.minimum(ranked, 1.0), axis=1)
    return out


def operating_characteristics(
    declared: Baseline, *, reruns: int = RERUNS, seed: int = 0, rate: float = FLIPPED
) -> OperatingCharacteristics | None:
    """Simulate re-runs of a baseline and judge them by the statistical gate.

    Args:
        declared: answers, metrics, bands and families.
        reruns: of each kind.
        seed: of the simulation.
        rate: share of answers that are replaced by another option at random.

    Returns:
        The rates, or None where no accuracy is guarded.
    """
    world = _RerunWorld(declared, reruns, rate, seed)
    if not world.families:
        return None
    rates: list[MetricRates] = []
    failing, strictly = np.zeros(reruns, dtype=bool), np.zeros(reruns, dtype=bool)
    for family, metrics in world.families.items():
        judged = world.judged(family)
        failing |= judged.changed.any(axis=1)
        strictly |= (judged.changed | ~judged.same).any(axis=1)
        for at, metric in enumerate(metrics):
            guarded = family != "other"
            caught = tuple(world.caught(family, at, points) for points in FALLS if guarded)
            items = float(world.sums[metric].sizes.sum())
            rates.append(_rates(metric, world.bands[metric], judged, at, caught, items))
    return OperatingCharacteristics(
        rates=tuple(rates),
        failing=float(failing.mean()),
        failing_strict=float(strictly.mean()),
        items=len(declared.snapshot.items),
        reruns=reruns,
        seed=seed,
        flipped=rate,
    )


def _rates(
    metric: Metric,
    band: float,
    judged: _Judged,
    at: int,
    caught: tuple[float, ...],
    items: float,
) -> MetricRates:
    reach = judged.reach[:, at]
    # With one cluster no interval is defined, however wide the band.
    holding = float(np.quantile(reach, HELD)) if np.isfinite(reach).all() else inf
    # Random flips pull an accuracy towards chance, however many items there are; the rest of the
    # reach shrinks with their root.
    pull = abs(float(judged.estimate[:, at].mean()))
    needed = ceil(items * ((holding - pull) / (band - pull)) ** 2) if band > pull else inf
    return MetricRates(
        metric=metric,
        band=band,
        false=float(judged.changed[:, at].mean()),
        same=float(judged.same[:, at].mean()),
        caught=caught,
        holding_band=holding,
        items_needed=needed,
    )


def warnings(rates: OperatingCharacteristics) -> list[str]:
    """Return what the items of a baseline are too few for, a sentence each."""
    out = []
    flips = f"{100 * rates.flipped:g} % of the answers flipped"
    if rates.failing > WANTED_FALSE:
        out.append(
            f"{100 * rates.failing:.0f} % of re-runs fail by chance alone, with {flips}: take "
            "wider bands or more items"
        )
    weak = [one for one in rates.rates if not one.holds]
    for one in (one for one in weak if one.caught):
        ways = []
        if isfinite(one.items_needed):
            ways.append(f"about {one.items_needed:.0f} items")
        if isfinite(one.holding_band):
            ways.append(f"--band {one.metric.kind}={one.holding_band:.1f}")
        out.append(
            f"{rates.items} items cannot hold the band of {one.band:g} points of "
            f"{one.metric.label}: with {flips}, only {100 * one.same:.0f} % of re-runs are the same"
            + (f" (half of them are with {' or '.join(ways)})" if ways else "")
        )
    blind = [one for one in rates.rates if one.caught and one.caught[-1] < WANTED_POWER]
    out += [
        f"{rates.items} items find a fall of {FALLS[-1]:g} points of {one.metric.label} in only "
        f"{100 * one.caught[-1]:.0f} % of re-runs: take more items"
        for one in blind
    ]
    if rest := sum(not one.caught for one in weak):
        out.append(f"{rates.items} items cannot hold the bands of {rest} other metrics")
    return out
