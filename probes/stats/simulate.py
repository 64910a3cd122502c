"""Simulated runs with a known truth: power by simulation, and the coverage of intervals."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from probes.stats.clustered import Kind
from probes.stats.estimate import ALPHA, Floats, as_values, cluster_codes, cluster_sums, parts_of
from probes.stats.score import PSEUDO_PAIRS, ScoreTest


@dataclass(frozen=True, slots=True)
class TrueEffect:
    """A member's true gain over items."""

    gain: float
    """As a proportion."""
    discordance: float
    """Share of items that change; at least |gain|."""


@dataclass(frozen=True, slots=True)
class EstimateBatch:
    """One estimate per simulated run [draws]."""

    estimate: Floats
    se: Floats
    """0 where a run has no spread."""
    df: Floats | float

    def covered(self, truth: float, level: float = 0.95) -> float:
        """Return the share of runs whose t interval contains the truth."""
        half = special.stdtrit(self.df, 0.5 + level / 2) * self.se
        return float(np.mean(np.abs(self.estimate - truth) <= half))

    def found(self, alpha: float = ALPHA) -> float:
        """Return the share of runs whose t test rejects "no difference"."""
        half = special.stdtrit(self.df, 1 - alpha / 2) * self.se
        # Strictly: a run in which nothing changed has 0 on both sides and finds nothing.
        return float(np.mean(np.abs(self.estimate) > half))


def estimate_sums(sums: Floats, sizes: Floats, kind: Kind = "cr2") -> EstimateBatch:
    """Estimate the mean of every run, as `clustered_mean` does for one.

    Args:
        sums: of the items of each cluster [draws, G], G >= 2.
        sizes: items per cluster [draws, G], or [G] where all runs have the same.
        kind: as in `clustered_mean`.
    """
    count, n = sums.shape[1], sizes.sum(axis=-1, keepdims=True)
    mean = sums.sum(axis=1, keepdims=True) / n
    # One minus each cluster's leverage; above 0, as there are at least two clusters.
    slack = 1.0 - sizes / n
    weight = {"cr1": count / (count - 1), "cr2": 1 / slack, "cr3": (count - 1) / count / slack**2}
    variance = ((sums - mean * sizes) ** 2 * weight[kind]).sum(axis=1) / n[..., 0] ** 2
    if kind != "cr2":
        return EstimateBatch(mean[:, 0], np.sqrt(variance), float(count - 1))
    # Satterthwaite's: the trace of the projected weights is n.
    cross = sizes**2 / (n * slack)
    square = (sizes**2).sum(axis=-1) + cross.sum(axis=-1) ** 2 - (cross**2).sum(axis=-1)
    return EstimateBatch(mean[:, 0], np.sqrt(variance), n[..., 0] ** 2 / square)


def draw(
    rng: np.random.Generator,
    draws: int,
    sizes: ArrayLike,
    gains: tuple[TrueEffect, ...],
    *,
    alike: float = 0.0,
    shared: float = 0.0,
) -> list[NDArray[np.int8]]:
    """Draw per-item differences (-1, 0, 1) of one or more members on the same items.

    Args:
        rng: source of randomness.
        draws: simulated runs.
        sizes: items per cluster [G]; items are ordered cluster by cluster.
        gains: truth of each member.
        alike: correlation, within a cluster, of the latent normal that decides an item's change.
        shared: correlation of that latent between members.

    Returns:
        One array [draws, n] per member; the mean of member m's is `gains[m].gain` in expectation.
    """
    for truth in gains:
        if not abs(truth.gain) <= truth.discordance <= 1:
            raise ValueError(f"a discordance is between |gain| and 1, got {truth}")
    counts = np.asarray(sizes, dtype=np.intp)
    codes = np.repeat(np.arange(len(counts)), counts)
    n = len(codes)

    def latent() -> Floats:
        items = rng.standard_normal((draws, n))
        if alike == 0:
            return items
        return sqrt(alike) * rng.standard_normal((draws, len(counts)))[:, codes] + (
            sqrt(1 - alike) * items
        )

    # It has clusters too: members are alike by item and by recording.
    common = latent() if shared else None
    out = []
    for truth in gains:
        z = latent()
        if common is not None:
            z = sqrt(shared) * common + sqrt(1 - shared) * z
        up, down = (truth.discordance + truth.gain) / 2, (truth.discordance - truth.gain) / 2
        # One latent decides all three outcomes, so that its correlations act on gains and losses.
        high, low = special.ndtri(1 - up), special.ndtri(down)
        out.append((z > high).astype(np.int8) - (z < low).astype(np.int8))
    return out


def estimate_many(
    values: NDArray[np.int8] | Floats, sizes: ArrayLike, kind: Kind = "cr2"
) -> EstimateBatch:
    """Estimate the mean of every row of `values` [draws, n], as `clustered_mean` does for one.

    Args:
        values: items are ordered cluster by cluster.
        sizes: items per cluster [G], G >= 2.
        kind: as in `clustered_mean`.
    """
    counts = np.asarray(sizes, dtype=np.float64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
    return estimate_sums(np.add.reduceat(values, starts, axis=1, dtype=np.float64), counts, kind)


def score_tests(
    values: NDArray[np.int8] | Floats, sizes: ArrayLike, step: float | None = None
) -> ScoreTest:
    """Return the tests of every row of `values` [draws, n], as `score_test` does for one.

    Args:
        values: items are ordered cluster by cluster.
        sizes: items per cluster [G], G >= 2.
        step: see `clustered_mean`.
    """
    x = np.asarray(values, dtype=np.float64)
    n, by_cluster = x.shape[1], estimate_many(values, sizes)
    alone = x.var(axis=1, ddof=1) / n
    if step is None:
        return ScoreTest(by_cluster.estimate, alone, by_cluster.se**2, n - 1.0, by_cluster.df)
    second = (x**2).sum(axis=1)
    third = (x**3).sum(axis=1) / np.where(second > 0, second, 1.0)
    slope = (third - 2 * by_cluster.estimate) / n
    pseudo = PSEUDO_PAIRS * (step / n) ** 2
    robust = by_cluster.se**2
    return ScoreTest(by_cluster.estimate, alone, robust, n - 1.0, by_cluster.df, pseudo, slope)


def power_by_simulation(
    gains: tuple[TrueEffect, ...],
    sizes: ArrayLike,
    *,
    draws: int = 2000,
    seed: int = 0,
    alpha: float = ALPHA,
    alike: float = 0.0,
    shared: float = 0.0,
) -> float:
    """Return the share of simulated runs in which the default test finds the effect.

    Args:
        gains: one truth for a gain; two (image, other) for a difference in differences (DiD).
        sizes: items per cluster [G]; `np.ones(n)` for independent items.
        draws: simulated runs.
        seed: seed of the simulation.
        alpha: level of the two-sided test, that of `clustered_mean`.
        alike: see `draw`.
        shared: see `draw`.
    """
    if len(gains) not in (1, 2):
        raise ValueError(f"expected one member (gain) or two (DiD), got {len(gains)}")
    rng = np.random.default_rng(seed)
    # Runs are drawn in parts of two million items: all at once would take gigabytes.
    found = 0.0
    for size in parts_of(draws, 2**21 // int(np.sum(sizes))):
        drawn = draw(rng, size, sizes, gains, alike=alike, shared=shared)
        values = drawn[0] if len(drawn) == 1 else drawn[0] - drawn[1]
        found += size * float(np.mean(score_tests(values, sizes, 1.0).p() <= alpha))
    return found / draws


def power_by_resampling(
    values: ArrayLike,
    clusters: ArrayLike | None,
    effect: float,
    *,
    draws: int = 2000,
    seed: int = 0,
    alpha: float = ALPHA,
) -> float:
    """Return the share of resampled runs that find an effect.

    Whole clusters of a finished run are drawn with replacement and every difference is moved by the
    same amount, so that the true mean is `effect`; no distribution of differences is assumed.

    Args:
        values: per-item differences of the finished run [n].
        clusters: one label per item [n], or None.
        effect: true effect.
        draws: resampled runs.
        seed: seed of the resampling.
        alpha: level of the two-sided test, that of `clustered_mean`.

    Returns:
        A share; NaN where there are fewer than two clusters.
    """
    d = as_values(values)
    codes, count = cluster_codes(clusters, len(d))
    if count < 2:
        return float("nan")
    moved = d - d.mean() + effect
    sums, squares = cluster_sums(moved, codes, count), cluster_sums(moved**2, codes, count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    rng = np.random.default_rng(seed)
    found = 0.0
    for size in parts_of(draws, 2**21 // count):
        # Clusters differ in size: every run has a number of items of its own.
        chosen = rng.integers(0, count, size=(size, count))
        by_cluster, n = estimate_sums(sums[chosen], sizes[chosen]), sizes[chosen].sum(axis=1)
        spread = np.maximum(squares[chosen].sum(axis=1) / n - by_cluster.estimate**2, 0.0)
        alone = spread / np.maximum(n - 1, 1)
        robust = by_cluster.se**2
        test = ScoreTest(by_cluster.estimate, alone, robust, np.maximum(n - 1, 1), by_cluster.df)
        found += size * float(np.mean(test.p() <= alpha))
    return found / draws
