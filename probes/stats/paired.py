"""Gain, drop and transfer: two answers to the same items, compared item by item."""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probes.stats.clustered import Kind, Weighting, clustered_mean
from probes.stats.estimate import Estimate, as_values, is_singletons, same_length

BOUNDS = (-1.0, 1.0)
"""The least and greatest difference of two answers to one item."""
DIFFERENCE_WEIGHTS = np.array([1.0, -1.0])
DIFFERENCE_WEIGHTS.flags.writeable = False
"""Weights of the two sides of a difference."""


def difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    strata: ArrayLike | None = None,
    weights: Weighting = "items",
    level: float = 0.95,
    kind: Kind = "cr2",
) -> Estimate:
    """Estimate mean(a) - mean(b) over paired items, with a cluster-robust t interval and test.

    Args:
        a: 1 (right) or 0 (wrong) per item [n]; or a mean over donors in between.
        b: the reference's answers to the same items [n].
        clusters: one label per item [n], or None.
        strata: one label per item [n], or None.
        weights: `items` or `strata`: what counts the same.
        level: coverage.
        kind: see `clustered_mean`.

    Returns:
        estimate in [-1, 1]. With no discordant pair p = 1 and the interval is a score interval.
    """
    first, second = as_values(a, "a"), as_values(b, "b")
    same_length(first, second)
    return clustered_mean(
        first - second, clusters, strata=strata, weights=weights, level=level, bounds=BOUNDS,
        kind=kind,
    )  # fmt: skip


def mcnemar(a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None = None) -> tuple[float, str]:
    """Return the exact two-sided McNemar p-value and, where it is NaN, why.

    It is offered only where every item is its own cluster: with clusters it rejects far too often.
    """
    gained, lost, n = discordant_pairs(a, b)
    if not is_singletons(clusters, n):
        return nan, "McNemar's test assumes independent items, but items share clusters"
    return mcnemar_p(gained, lost), ""


def mcnemar_p(gained: int, lost: int) -> float:
    """Return the exact two-sided binomial p-value of `gained` against `lost` discordant pairs."""
    if gained + lost == 0:
        return 1.0
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))


def discordant_pairs(a: ArrayLike, b: ArrayLike) -> tuple[int, int, int]:
    """Return (right only in a, right only in b, items) of two 0/1 arrays [n].

    Raises:
        ValueError: if an answer is neither 0 nor 1 (a mean over donors has no 2x2 table).
    """
    first, second = as_values(a, "a"), as_values(b, "b")
    same_length(first, second)
    for name, values in (("a", first), ("b", second)):
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(f"{name}: a 2x2 table needs answers that are 0 or 1")
    gained = int(np.count_nonzero(first > second))
    lost = int(np.count_nonzero(first < second))
    return gained, lost, len(first)
