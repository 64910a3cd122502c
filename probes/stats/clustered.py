"""The mean of per-item differences, with standard errors that know about clusters and strata.

Items of one recording are not independent, so uncertainty is taken from sums over clusters. Without
clusters and strata everything here is the ordinary paired t interval and test.
"""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special, stats

from probes.stats.estimate import (
    Codes,
    Estimate,
    Floats,
    as_values,
    check_level,
    cluster_codes,
    undefined,
)

Kind = Literal["cr1", "cr2", "cr3"]
Weighting = Literal["items", "strata"]

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
    weights: Weighting = "items",
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
        kind: how small numbers of clusters are allowed for: `cr1` (factor
            G/(G-1) * (n-1)/(n-H), df G-H, for G clusters and H strata), `cr2` (by each cluster's
            leverage, Satterthwaite's df) or `cr3` (jackknife, df G-H). With strata these are the
            variances of a regression on a dummy per stratum; with strata and independent items,
            `cr2` is the textbook sum of squared shares times s^2 / n.

    Returns:
        The estimate. Where values do not vary at all, a score interval, never of zero width. A
        stratum of one cluster tells nothing of its spread: the interval is undefined then.
    """
    check_level(level)
    d = as_values(values)
    # Means over donors need not cancel to the last digit.
    d = np.where(np.abs(d) < 1e-12, 0.0, d)
    n = len(d)
    codes, count = cluster_codes(clusters, n)
    layers, height = (np.zeros(n, dtype=np.intp), 1) if strata is None else cluster_codes(strata, n)
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
    if short := _too_few(codes, count, layers, height, strata) if discordant else "":
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
    point = share / sizes
    variance, df = _variance(residuals, point, sizes, layers, codes, count, kind)
    if variance <= 1e-24:
        # Items differ, yet every cluster sums to the same: clusters carry no information on spread.
        reason = "all cluster sums are equal: items taken as independent"
        each = np.arange(n, dtype=np.intp)
        variance, df = _variance(residuals, point, sizes, layers, each, n, kind)
    se = sqrt(variance)
    half = float(special.stdtrit(df, 0.5 + level / 2)) * se
    p = 2 * float(special.stdtr(df, -abs(estimate) / se))
    # With a handful of clusters an interval can pass the ends of what is possible.
    least, most = bounds or (-inf, inf)
    return Estimate(
        estimate, max(estimate - half, least), min(estimate + half, most), p, n, count, method,
        reason, discordant, se, df, level,
    )  # fmt: skip


def _too_few(codes: Codes, count: int, layers: Codes, height: int, strata: ArrayLike | None) -> str:
    """Say where there are too few clusters to tell a spread; empty where there are enough."""
    if count == 1:
        return "one cluster only"
    if count <= height:
        return f"{count} clusters in {height} strata"
    if strata is None or height == 1:
        return ""
    pairs = np.unique(layers * count + codes)
    lonely = np.flatnonzero(np.bincount(pairs // count, minlength=height) == 1)
    if not len(lonely):
        return ""
    names = [str(one) for one in np.unique(np.asarray(strata))[lonely]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"one cluster only in stratum {', '.join(names[:3])}{more}"


def _variance(
    residuals: Floats,
    point: Floats,
    sizes: Floats,
    layers: Codes,
    codes: Codes,
    count: int,
    kind: Kind,
) -> tuple[float, float]:
    """Return the variance of the weighted mean and its degrees of freedom.

    Args:
        residuals: each item's distance to its stratum's mean [n].
        point: weight of an item, by stratum [H].
        sizes: items by stratum [H].
        layers: stratum of each item [n].
        codes: cluster of each item [n].
        count: clusters.
        kind: see `clustered_mean`.
    """
    n, height = len(residuals), len(sizes)
    # What a cluster holds of a stratum moves as one: everything is a sum over these parts.
    if height == 1:
        part, cluster = codes, np.arange(count, dtype=np.intp)
        layer = np.zeros(count, dtype=np.intp)
    else:
        known, part = np.unique(codes * height + layers, return_inverse=True)
        cluster, layer = np.divmod(known, height)
    held = np.bincount(part, minlength=len(cluster)).astype(np.float64)
    sums = np.bincount(part, weights=residuals, minlength=len(cluster))
    weight = point[layer]
    room = 1.0 - held / sizes[layer]
    if kind == "cr2":
        weight = weight / np.sqrt(room)
    elif kind == "cr3":
        weight = weight / room
    scores = np.bincount(cluster, weights=weight * sums, minlength=count)
    variance = float(scores @ scores)
    if kind == "cr1":
        return count / (count - 1) * (n - 1) / max(n - height, 1) * variance, float(count - height)
    if kind == "cr3":
        return (count - 1) / count * variance, float(count - height)
    # Satterthwaite under independent items (Bell & McCaffrey 2002). The scores' covariance is then
    # diag(own) - U U', with U [G, H] below, and the degrees of freedom its trace^2 / norm^2.
    own = np.bincount(cluster, weights=weight**2 * held, minlength=count)
    shared = weight * held / np.sqrt(sizes[layer])
    lost = np.bincount(cluster, weights=shared**2, minlength=count)
    if height == 1:
        crossed = float(lost.sum()) ** 2
    else:
        table = sparse.csr_matrix((shared, (cluster, layer)), shape=(count, height))
        crossed = float((table.T @ table).power(2).sum())
    square = float(own @ own) - 2 * float(own @ lost) + crossed
    return variance, float((own - lost).sum()) ** 2 / square


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
