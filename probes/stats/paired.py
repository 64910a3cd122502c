"""Gain, drop and transfer: two answers to the same items, compared item by item."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probes.stats.clustered import clustered_mean
from probes.stats.estimate import Estimate, as_values, same_length

BOUNDS = (-1.0, 1.0)
"""The least and greatest difference of two answers to one item."""
DIFFERENCE_WEIGHTS = np.array([1.0, -1.0])
DIFFERENCE_WEIGHTS.flags.writeable = False
"""Weights of the two sides of a difference."""


def difference(a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Estimate mean(a) - mean(b) over paired items, with a cluster-robust t interval and test.

    Args:
        a: 1 (right) or 0 (wrong) per item [n]; or a mean over donors in between.
        b: the reference's answers to the same items [n].
        clusters: one label per item [n], or None.

    Returns:
        estimate in [-1, 1]. With no discordant pair p = 1 and the interval is a score interval.
    """
    first, second = as_values(a, "a"), as_values(b, "b")
    same_length(first, second)
    return clustered_mean(first - second, clusters, bounds=BOUNDS)


def mcnemar_p(gained: int, lost: int) -> float:
    """Return the exact two-sided binomial p-value of `gained` against `lost` discordant pairs."""
    if gained + lost == 0:
        return 1.0
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))
