"""Cluster bootstrap: whole clusters are drawn with replacement (percentile and BCa intervals)."""

from __future__ import annotations

from collections.abc import Callable
from math import nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from probes.stats.estimate import (
    Estimate,
    Floats,
    check_level,
    cluster_codes,
    cluster_sums,
    undefined,
)

Bootstrap = Literal["percentile", "bca"]
Statistic = Callable[[Floats], Floats]
"""Column means [..., k] -> statistic [...]."""


def bootstrap(
    columns: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    statistic: Statistic | None = None,
    kind: Bootstrap = "bca",
    draws: int = 9999,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate a function of column means with a cluster bootstrap interval.

    Args:
        columns: finite values per item [n] or [n, k].
        clusters: one label per item [n], or None.
        statistic: vectorised over leading axes; default: the mean of the first column.
        kind: `percentile` or `bca` (bias-corrected and accelerated).
        draws: bootstrap samples.
        seed: seed of the samples; equal seeds give equal intervals.
        level: coverage.

    Returns:
        The estimate; p is NaN, since the bootstrap is used for intervals only.
    """
    check_level(level)
    x = _checked(columns)
    n = len(x)
    function = statistic if statistic is not None else _first_column
    codes, count = cluster_codes(clusters, n)
    method = f"{'' if count == n else 'cluster '}bootstrap ({kind}), {draws} draws, seed {seed}"
    discordant = int(np.count_nonzero(x[:, 0])) if x.shape[1] == 1 else 0
    estimate = float(function(x.mean(axis=0))) if n else nan

    def without_interval(reason: str) -> Estimate:
        return undefined(
            estimate, n=n, clusters=count, method=method, reason=reason, discordant=discordant,
            level=level,
        )  # fmt: skip

    if count < 2:
        return without_interval("one cluster only" if n else "no items")
    sums = cluster_sums(x, codes, count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    replicates = _replicates(sums, sizes, function, draws, seed)
    usable = replicates[np.isfinite(replicates)]
    reason = "" if len(usable) == draws else f"undefined in {draws - len(usable)} draws"
    if len(usable) < draws / 2 or np.ptp(usable) <= 1e-12:
        return without_interval(reason or "all bootstrap samples give the same value")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if kind == "bca":
        left_out = function((sums.sum(axis=0) - sums) / (n - sizes)[:, None])
        tails = bca_tails(usable, estimate, left_out, tails)
        if not np.isfinite(tails).all():
            return without_interval("the estimate is outside all bootstrap samples")
    low, high = (float(end) for end in np.quantile(usable, tails))
    return Estimate(
        estimate, low, high, nan, n, count, method, reason, discordant,
        float(usable.std(ddof=1)), level=level,
    )  # fmt: skip


def _checked(columns: ArrayLike) -> Floats:
    """Return finite values as columns [n, k]."""
    x = np.asarray(columns, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"columns: expected finite values [n] or [n, k], got shape {x.shape}")
    return x


def _first_column(means: Floats) -> Floats:
    return means[..., 0]


def _replicates(sums: Floats, sizes: Floats, function: Statistic, draws: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    count = len(sizes)
    even = np.full(count, 1.0 / count)
    out = np.empty(draws)
    block = max(1, 2**22 // count)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, draws, block):
            size = min(block, draws - start)
            times = rng.multinomial(count, even, size=size).astype(np.float64)
            means = (times @ sums) / (times @ sizes)[:, None]
            out[start : start + size] = function(means)
    return out


def bca_tails(replicates: Floats, estimate: float, left_out: Floats, tails: Floats) -> Floats:
    """Return the bias-corrected and accelerated quantile levels (Efron 1987).

    Args:
        replicates: bootstrap values [draws].
        estimate: value of the sample.
        left_out: values without each cluster in turn [G].
        tails: nominal quantile levels [2].
    """
    below = (replicates < estimate).mean() + (replicates <= estimate).mean()
    bias = special.ndtri(below / 2)
    deviations = left_out.mean() - left_out
    square = float(deviations @ deviations)
    skew = float((deviations**3).sum()) / (6 * square * sqrt(square)) if square > 0 else 0.0
    z = bias + special.ndtri(tails)
    levels: Floats = special.ndtr(bias + z / (1 - skew * z))
    return levels
