"""Cluster bootstrap: whole clusters are drawn with replacement (percentile and BCa intervals)."""

from __future__ import annotations

from dataclasses import replace
from math import nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from probes.stats.estimate import (
    Estimate,
    Floats,
    as_values,
    check_level,
    cluster_codes,
    cluster_sums,
    parts_of,
    undefined,
)

Bootstrap = Literal["percentile", "bca"]


def bootstrap(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    kind: Bootstrap = "bca",
    draws: int = 9999,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate a mean with a cluster bootstrap interval.

    Args:
        values: one finite value per item [n].
        clusters: one label per item [n], or None.
        kind: `percentile` or `bca` (bias-corrected and accelerated).
        draws: bootstrap samples.
        seed: seed of the samples; equal seeds give equal intervals.
        level: coverage.

    Returns:
        The estimate; p is NaN, since the bootstrap is used for intervals only.
    """
    check_level(level)
    x = as_values(values)
    n = len(x)
    codes, count = cluster_codes(clusters, n)
    bare = undefined(
        float(x.mean()) if n else nan,
        n=n,
        clusters=count,
        method=f"{'' if count == n else 'cluster '}bootstrap ({kind}), {draws} draws, seed {seed}",
        level=level,
        discordant=int(np.count_nonzero(x)),
    )
    if count < 2:
        return replace(bare, reason="one cluster only" if n else "no items")
    sums = cluster_sums(x, codes, count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    means = _resampled_means(sums, sizes, draws, seed)
    # No interval rather than one of zero width, which would claim certainty.
    if np.ptp(means) <= 1e-12:
        return replace(bare, reason="all bootstrap samples give the same value")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if kind == "bca":
        # Clusters are left out whole, as they are drawn whole: their items are not independent.
        left_out = (sums.sum() - sums) / (n - sizes)
        tails = bca_tails(means, bare.estimate, left_out, tails)
        # ndtri is infinite at 0 and 1: with every sample on one side there is no bias to correct.
        if not np.isfinite(tails).all():
            return replace(bare, reason="the estimate is outside all bootstrap samples")
    low, high = (float(end) for end in np.quantile(means, tails))
    return replace(bare, low=low, high=high, se=float(means.std(ddof=1)))


def _resampled_means(sums: Floats, sizes: Floats, draws: int, seed: int) -> Floats:
    """Return the means of samples of whole clusters [draws], given their sums and sizes [G]."""
    rng = np.random.default_rng(seed)
    count = len(sizes)
    even = np.full(count, 1.0 / count)
    means = []
    # A part's counts stay within tens of megabytes, however many clusters there are.
    for size in parts_of(draws, 2**22 // count):
        # How often each cluster is drawn is all that a mean needs: no items are copied.
        times = rng.multinomial(count, even, size=size).astype(np.float64)
        # A ratio, since samples of uneven clusters do not all hold n items.
        means.append((times @ sums) / (times @ sizes))
    return np.concatenate(means)


def bca_tails(replicates: Floats, estimate: float, left_out: Floats, tails: Floats) -> Floats:
    """Return the bias-corrected and accelerated quantile levels (Efron 1987).

    Args:
        replicates: bootstrap values [draws].
        estimate: value of the sample.
        left_out: values without each cluster in turn [G].
        tails: nominal quantile levels [2].
    """
    # Ties count half: means of whole numbers often equal the estimate exactly.
    below = (replicates < estimate).mean() + (replicates <= estimate).mean()
    bias = special.ndtri(below / 2)
    deviations = left_out.mean() - left_out
    square = float(deviations @ deviations)
    # Equal left-out values carry no acceleration; the formula would be 0 / 0.
    skew = float((deviations**3).sum()) / (6 * square * sqrt(square)) if square > 0 else 0.0
    z = bias + special.ndtri(tails)
    levels: Floats = special.ndtr(bias + z / (1 - skew * z))
    return levels
