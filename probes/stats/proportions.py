"""Single proportions and the paired 2x2 table: Wilson's and Tango's score intervals."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from probes.stats.clustered import Weighting, score_test
from probes.stats.estimate import Estimate, as_values, check_level, cluster_codes, undefined


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion.

    Args:
        successes: number of successes, 0..n; need not be whole (an effective count).
        n: number of trials, > 0; need not be whole.
        level: coverage.
    """
    check_level(level)
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"wilson: {successes} successes in {n} trials")
    return _wilson(successes / n, n, _normal(level))


def _normal(level: float) -> float:
    return float(special.ndtri(0.5 + level / 2))


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of n items for a critical value."""
    # Pulled towards one half: near 0 and 1 the usual interval shrinks to nothing.
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not leave 1e-17 where the end is exactly 0 or 1.
    return 0.0 if p <= 0 else max(0.0, centre - half), 1.0 if p >= 1 else min(1.0, centre + half)


def accuracy(
    correct: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    *,
    strata: ArrayLike | None = None,
    weights: Weighting = "items",
) -> Estimate:
    """Estimate a share of right answers with Wilson's interval.

    With clusters or strata, n is replaced by the effective number of items: the one at which
    independent items would have the variance found here (CR2), never more than by independent
    items, and the normal quantile by t's with Satterthwaite's degrees of freedom.

    Args:
        correct: 1 or 0 per item [n] (or a mean over donors, in between).
        clusters: one label per item [n], or None.
        level: coverage.
        strata: see `clustered_mean`.
        weights: see `clustered_mean`.

    Returns:
        estimate in [0, 1]; p is NaN, since an accuracy alone tests nothing.
    """
    check_level(level)
    values = as_values(correct, "correct")
    n = len(values)
    count = cluster_codes(clusters, n)[1]
    plain = count == n and strata is None
    method = "Wilson" if plain else "Wilson, effective n (CR2, Satterthwaite)"
    if n == 0:
        return undefined(nan, n=0, clusters=0, method=method, reason="no items", level=level)
    if not 0 <= float(values.mean()) <= 1:
        raise ValueError(f"correct: expected values in [0, 1], their mean is {values.mean()}")
    effective, critical, mean, reason = float(n), _normal(level), float(values.mean()), ""
    # Its own step gives a test even where all answers are alike.
    test = None if plain else score_test(values, clusters, strata=strata, weights=weights, step=1.0)
    if test is not None:
        mean = float(test.estimate)
        critical = float(special.stdtrit(test.df, 0.5 + level / 2))
        # Never more than of independent items: a smaller variance may be chance in few clusters.
        larger = max(test.robust, test.independent)
        effective = mean * (1 - mean) / larger if larger > 0 else float(n)
        effective = min(effective, float(n)) if strata is None else effective
    elif not plain:
        # How alike a cluster's items are is unknown: each counts as one.
        effective, reason = float(count), "too few clusters: one item per cluster"
        reason = "one cluster only: taken as one item" if count == 1 else reason
    low, high = _wilson(mean, effective, critical)
    return Estimate(mean, low, high, nan, n, count, method, reason, level=level)


def tango(gained: int, lost: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two paired proportions.

    Args:
        gained: items right only on the first side.
        lost: items right only on the second side.
        n: items in all, > 0 and independent.
        level: coverage.

    Returns:
        (low, high) of (gained - lost) / n; never of zero width.
    """
    check_level(level)
    if n <= 0 or gained < 0 or lost < 0 or gained + lost > n:
        raise ValueError(f"tango: {gained} gained and {lost} lost of {n} items")
    z = _normal(level)
    estimate = (gained - lost) / n

    def distance(delta: float) -> float:
        return _tango_score(gained, lost, n, delta) ** 2 - z * z

    # The score grows monotonically away from the estimate, up to the ends of the parameter space.
    edge = 1 - 1e-12  # at 1 itself the variance is 0 and the score infinite
    low = -1.0 if lost == n else float(optimize.brentq(distance, -edge, estimate, xtol=1e-13))
    high = 1.0 if gained == n else float(optimize.brentq(distance, estimate, edge, xtol=1e-13))
    return low, high


def _tango_score(gained: int, lost: int, n: int, delta: float) -> float:
    """Return the score statistic of the hypothesis that the difference is `delta`."""
    a = 2.0 * n
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    # The greater root is the likeliest share of losses if the difference is delta; max() is for
    # rounding.
    only_lost = (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * only_lost + delta * (1 - delta))
    top = gained - lost - n * delta
    if variance <= 0:
        return 0.0 if top == 0 else float(np.copysign(np.inf, top))
    return top / sqrt(variance)
