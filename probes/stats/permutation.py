"""Exact tests: if an arm changes nothing, a difference could as well have the other sign."""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probes.stats.estimate import Floats, as_values, cluster_codes, cluster_sums, parts_of

_MOST_STEPS = 2**27
"""Work above which random flips replace exact counting."""
_ENUMERATED = 16
"""Clusters up to which all sign patterns of uneven sums are listed."""


def sign_flip(
    values: ArrayLike, clusters: ArrayLike | None = None, *, draws: int = 9999, seed: int = 0
) -> tuple[float, str]:
    """Return the two-sided p-value of "the mean is zero" when whole clusters change sign.

    For whole-number differences p is exact, whatever the number of clusters; with one item per
    cluster this is the exact McNemar test. For other values all patterns of signs are enumerated
    for up to 16 clusters, and drawn at random beyond (add-one correction, so that p is never 0).

    Args:
        values: per-item differences [n].
        clusters: one label per item [n], or None.
        draws: random flips, where needed.
        seed: seed of the random flips.

    Returns:
        (p, name of the method); p is NaN without items.
    """
    d = as_values(values)
    if len(d) == 0:
        return nan, "sign-flip (no items)"
    codes, count = cluster_codes(clusters, len(d))
    # A flip turns a sum's sign, so that only its size matters.
    sums = np.abs(cluster_sums(d, codes, count))
    observed = abs(float(d.sum()))
    scale = max(float(sums.sum()), 1e-300)
    # A sum of zero is the same under both signs: it adds nothing but work.
    sums = sums[sums > 1e-12 * scale]
    if len(sums) == 0:
        return 1.0, "sign-flip (nothing to flip)"
    # Whole sums take few values, so all sign patterns can be counted without listing them.
    whole = np.rint(sums)
    if np.abs(sums - whole).max() < 1e-9 and len(sums) * whole.sum() <= _MOST_STEPS:
        return _counted(whole.astype(np.int64), round(observed)), "sign-flip, exact"
    if len(sums) <= _ENUMERATED:
        # Bit k of a number is the sign of cluster k.
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        totals = np.abs((2.0 * patterns - 1.0) @ sums)
        # Ties count as extreme, and rounding must not drop the observed pattern itself.
        return float(np.mean(totals >= observed - 1e-12 * scale)), "sign-flip, exact"
    hits = _random_hits(sums, observed - 1e-12 * scale, draws, seed)
    # The observed signs count as one of the draws: so the test keeps its level.
    return (hits + 1) / (draws + 1), f"sign-flip, {draws} draws, seed {seed}"


def mcnemar_p(gained: int, lost: int) -> float:
    """Return the exact two-sided binomial p-value of `gained` against `lost` discordant pairs."""
    if gained + lost == 0:
        return 1.0
    # Doubling counts the middle twice where both numbers are equal.
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))


def _counted(sums: np.ndarray, observed: int) -> float:
    """Return P(|sum of randomly signed `sums`| >= observed) by building up the distribution."""
    total = int(sums.sum())
    # chance[k]: probability that the sum of those flipped to plus is k.
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    reached = 0
    for size in sums:  # convolved with a fair coin: plus its sum, or plus nothing
        step = int(size)
        moved = chance[: reached + 1] * 0.5
        chance[: reached + 1] = moved
        chance[step : step + reached + 1] += moved
        reached += step
    # The signed sum is 2 * plus - total.
    distance = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(chance[distance >= observed].sum()))


def _random_hits(sums: Floats, threshold: float, draws: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    hits = 0
    for size in parts_of(draws, 2**22 // len(sums)):
        signs = rng.integers(0, 2, size=(size, len(sums)), dtype=np.int8) * 2.0 - 1.0
        hits += int(np.count_nonzero(np.abs(signs @ sums) >= threshold))
    return hits
