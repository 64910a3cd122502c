"""Single proportions and the paired 2x2 table: Wilson's and Tango's score intervals."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from probes.stats.estimate import (
    Estimate,
    as_values,
    check_level,
    cluster_codes,
    cluster_sums,
    undefined,
)


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
    z = float(special.ndtri(0.5 + level / 2))
    p = successes / n
    # Pulled towards one half: near 0 and 1 the usual interval shrinks to nothing.
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not leave 1e-17 where the end is exactly 0 or 1.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def accuracy(
    correct: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """Estimate a share of right answers with Wilson's interval.

    With clusters, n is replaced by the effective number of items: the one at which independent
    items would have the cluster-robust variance found here; never more than n.

    Args:
        correct: 1 or 0 per item [n] (or a mean over donors, in between).
        clusters: one label per item [n], or None.
        level: coverage.

    Returns:
        estimate in [0, 1]; p is NaN, since an accuracy alone tests nothing.
    """
    check_level(level)
    values = as_values(correct, "correct")
    n = len(values)
    codes, count = cluster_codes(clusters, n)
    method = "Wilson" if count == n else "Wilson, effective n by clusters"
    if n == 0:
        return undefined(nan, n=0, clusters=0, method=method, reason="no items", level=level)
    mean = float(values.mean())
    if mean < 0 or mean > 1:
        raise ValueError(f"correct: expected values in [0, 1], their mean is {mean}")
    effective, reason = float(n), ""
    if count < n:
        binomial = mean * (1 - mean) / n
        if count == 1:
            effective, reason = 1.0, "one cluster only: taken as one item"
        elif binomial == 0:
            # All right or all wrong: how alike a cluster's items are is unknown.
            effective, reason = float(count), "all answers alike: one item per cluster"
        else:
            scores = cluster_sums(values - mean, codes, count)
            robust = count / (count - 1) * float(scores @ scores) / n**2
            # Never more than n: a variance below the binomial one may be chance in few clusters.
            effective = min(float(n), n * binomial / robust) if robust > 0 else float(n)
    low, high = wilson(mean * effective, effective, level)
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
    z = float(special.ndtri(0.5 + level / 2))
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
