"""The mean of per-item differences, with standard errors that know about clusters and strata.

Items of one recording are not independent, so uncertainty is taken from sums over clusters. Without
clusters and strata everything here is the ordinary paired t interval and test.
"""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from probes.stats.estimate import (
    Codes,
    Estimate,
    Floats,
    as_values,
    check_level,
    cluster_codes,
    cluster_sums,
    undefined,
)

Kind = Literal["cr1", "cr2", "cr3"]
Weights = Literal["items", "strata"]

_NAMES = {
    "cr1": "cluster-robust t (CR1)",
    "cr2": "cluster-robust t (CR2, Satterthwaite)",
    "cr3": "cluster-robust t (CR3)",
}


def clustered_mean(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    strata: ArrayLike | None = None,
    weights: Weights = "items",
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    kind: Kind = "cr2",
) -> Estimate:
    """Estimate the mean of per-item values with a cluster-robust t interval and test of zero.

    Args:
        values: one finite value per item [n].
        clusters: one label per item [n], or None: items are independent.
        strata: one label per item [n], or None. Spread is then measured within strata.
        weights: `items` (every item counts the same) or `strata` (every stratum does).
        level: coverage.
        bounds: the least and greatest value an item can have, if there are such. The
            interval ends there. Without them there is none where all values are equal.
        kind: how small numbers of clusters are allowed for (with strata always `cr1`): `cr1`
            (factor G/(G-1) * (n-1)/(n-H), df G-H, for G clusters and H strata), `cr2` (by each
            cluster's leverage, Satterthwaite's df) or `cr3` (jackknife, df G-1).

    Returns:
        The estimate. Where values do not vary at all, a score interval, never of zero width.
    """
    check_level(level)
    d = as_values(values)
    n = len(d)
    codes, count = cluster_codes(clusters, n)
    layers, height = (np.zeros(n, dtype=np.intp), 1) if strata is None else cluster_codes(strata, n)
    if height > 1:
        # With strata, leverage differs within a cluster; CR1 is what regression packages do there.
        kind = "cr1"
    method = _NAMES[kind] if count < n or height > 1 else "paired t"
    if height > 1:
        method += f", mean over {height} strata" if weights == "strata" else ", stratified"
    discordant = int(np.count_nonzero(d))
    if n == 0:
        return undefined(nan, n=0, clusters=0, method=method, reason="no items", level=level)
    sizes = np.bincount(layers, minlength=height).astype(np.float64)
    means = np.bincount(layers, weights=d, minlength=height) / sizes
    share = sizes / n if weights == "items" else np.full(height, 1.0 / height)
    estimate = float(share @ means)
    if count <= height:
        short = "one cluster only" if count == 1 else f"{count} clusters in {height} strata"
        return undefined(
            estimate, n=n, clusters=count, method=method, reason=short, discordant=discordant,
            level=level,
        )  # fmt: skip
    residuals = d - means[layers]
    reason = ""
    if np.abs(residuals).max() <= 1e-12 * max(1.0, float(np.abs(d).max())):
        if weights == "items" and np.ptp(means) == 0:
            # One stratum as good as all: the interval need not be pieced together.
            means, share, layers = means[:1], np.ones(1), np.zeros(n, dtype=np.intp)
        return _all_alike(means, share, layers, codes, count, n, bounds, level, discordant)
    point = (share / sizes)[layers]
    variance, df = _variance(residuals, point, height, codes, count, kind)
    if variance <= 1e-24:
        # Items differ, yet every cluster sums to the same: clusters carry no information on spread.
        reason = "all cluster sums are equal: items taken as independent"
        each = np.arange(n, dtype=np.intp)
        variance, df = _variance(residuals, point, height, each, n, "cr1")
    se = sqrt(variance)
    half = float(special.stdtrit(df, 0.5 + level / 2)) * se
    p = 2 * float(special.stdtr(df, -abs(estimate) / se))
    # With a handful of clusters an interval can pass the ends of what is possible.
    least, most = bounds or (-inf, inf)
    return Estimate(
        estimate, max(estimate - half, least), min(estimate + half, most), p, n, count, method,
        reason, discordant, se, df, level,
    )  # fmt: skip


def _variance(
    residuals: Floats,
    point: Floats,
    height: int,
    codes: Codes,
    count: int,
    kind: Kind,
) -> tuple[float, float]:
    """Return the variance of the weighted mean and its degrees of freedom."""
    n = len(residuals)
    scores = cluster_sums(residuals * point, codes, count)
    if kind == "cr1":
        factor = count / (count - 1) * (n - 1) / max(n - height, 1)
        return factor * float(scores @ scores), float(count - height)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    room = 1.0 - sizes / n
    if kind == "cr3":
        spread = scores / room
        return (count - 1) / count * float(spread @ spread), float(count - 1)
    adjust = 1.0 / room
    # Satterthwaite under independent items (Bell & McCaffrey 2002), in closed form for a mean.
    trace = float(np.sum(adjust * (sizes - sizes**2 / n)))
    diagonal = adjust * (sizes - sizes**2 / n)
    cross = adjust * sizes**2 / n
    square = float(diagonal @ diagonal) + float(cross.sum() ** 2 - cross @ cross)
    return float(adjust @ scores**2), trace * trace / square


def _all_alike(
    means: Floats,
    share: Floats,
    layers: Codes,
    codes: Codes,
    count: int,
    n: int,
    bounds: tuple[float, float] | None,
    level: float,
    discordant: int,
) -> Estimate:
    """Return a score interval where no item differs from its stratum's mean.

    A cluster counts as one item: nothing tells how alike the items of a cluster are.
    """
    estimate = float(share @ means)
    nothing = bool(np.all(means == 0))
    if bounds is None:
        return Estimate(
            estimate, nan, nan, 1.0 if nothing else nan, n, count, "none",
            "all values are equal and unbounded", discordant, level=level,
        )  # fmt: skip
    z = float(special.ndtri(0.5 + level / 2))
    independent = np.array([len(np.unique(codes[layers == h])) for h in range(len(means))])
    unseen = unseen_share(independent.astype(np.float64), z)
    low = float(share @ (means - (means - bounds[0]) * unseen))
    high = float(share @ (means + (bounds[1] - means) * unseen))
    p = 1.0 if nothing else 2 * float(stats.norm.sf(sqrt(independent[means != 0].sum())))
    method = "score (no spread)" if count == n else "score (no spread), one item per cluster"
    return Estimate(
        estimate, low, high, p, n, count, method, "no item differs from the mean", discordant,
        level=level,
    )  # fmt: skip


def unseen_share(n: Floats, z: float) -> Floats:
    """Return Wilson's upper end for something never seen in n independent items: z^2 / (n + z^2).

    With none of n pairs discordant, plus and minus this is Tango's interval too.
    """
    return z * z / (n + z * z)


def one_sided_p(estimate: Estimate, null: float, bounds: tuple[float, float] | None) -> float:
    """Return the p-value against "the true value lies at `null` or farther from zero".

    Args:
        estimate: what `clustered_mean` returned.
        null: the edge, not 0; the alternative is the side towards zero.
        bounds: as given to `clustered_mean`.

    Returns:
        NaN where the estimate has neither a standard error nor a score interval.
    """
    toward = null - estimate.estimate if null > 0 else estimate.estimate - null
    if np.isfinite(estimate.se):
        return float(special.stdtr(estimate.df, -toward / estimate.se))
    if bounds is None or not np.isfinite(estimate.low):
        return nan
    room = bounds[1] - estimate.estimate if null > 0 else estimate.estimate - bounds[0]
    if toward <= 0:
        return 1.0
    share = toward / room if room > 0 else inf
    if share >= 1:
        return 0.0
    # The z at which the score interval of `_all_alike` would end exactly at `null`.
    return float(stats.norm.sf(sqrt(estimate.clusters * share / (1 - share))))
