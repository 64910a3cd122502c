"""Difference in differences (DiD): does the image member gain more from an arm than the other?"""

from __future__ import annotations

from dataclasses import replace
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from probes.stats.clustered import satterthwaite
from probes.stats.estimate import (
    Estimate,
    Floats,
    as_values,
    check_level,
    cluster_codes,
    cluster_sums,
    undefined,
)

FEWEST = 3
"""Right and wrong answers that every cell needs for an interval of log-odds."""
DIFFERENCE_WEIGHTS = np.array([1.0, -1.0])
"""Weights of the two answers that make an item's difference."""
DID_WEIGHTS = np.array([1.0, -1.0, -1.0, 1.0])
"""Weights of the four that make its DiD: image arm, image reference, other arm, other reference."""
# Shared by all callers: one change in place would turn every contrast.
DIFFERENCE_WEIGHTS.flags.writeable = DID_WEIGHTS.flags.writeable = False


def did_logit(
    cells: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    jackknife: bool = True,
) -> Estimate:
    """Estimate the DiD of log-odds: on this scale a ceiling does not force a small gain.

    Args:
        cells: 1 (right) or 0 (wrong), or means over donors, per item and cell [n, 4], in the order
            of `DID_WEIGHTS`.
        clusters: one label per item [n], or None.
        level: coverage.
        jackknife: standard error by leaving out one cluster at a time; else by linearisation (delta
            method), which is too small near a ceiling.

    Returns:
        estimate in log-odds. If a cell is all right or all wrong, its log-odds are infinite; half
        an answer is then added to either side in all four cells. Where a cell has fewer than 3
        right or 3 wrong answers there is no interval.
    """
    check_level(level)
    x = np.asarray(cells, dtype=np.float64)
    n = len(x)
    as_values(x.ravel())
    codes, count = cluster_codes(clusters, n)
    sums = x.sum(axis=0)
    # Added to all four cells or to none: raw and shrunken log-odds must not be subtracted.
    extreme = bool(np.any((sums <= 0) | (sums >= n)))
    half = 0.5 * extreme
    notes = ["a cell is all right or all wrong: half an answer added to each side"] * extreme
    bare = undefined(
        float(_logit_did(sums, float(n), half)) if n else nan,
        n=n,
        clusters=count,
        method=f"logit did, {'cluster jackknife' if jackknife else 'delta method'}, t",
        level=level,
        discordant=int(np.count_nonzero(x @ DID_WEIGHTS)),
    )
    if n == 0:
        return replace(bare, reason="no items")
    if few := _too_few(sums, n, count):
        return replace(bare, reason="; ".join([few, *notes]))
    within = cluster_sums(x, codes, count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    variance_of = _jackknife_variance if jackknife else _delta_variance
    variance = variance_of(sums, within, sizes, half)
    # Rounding leaves 1e-30 where the scores of all clusters are equal.
    if variance <= 1e-24:
        p = 1.0 if bare.estimate == 0 else nan
        return replace(bare, p=p, reason="; ".join(["no spread between clusters", *notes]))
    # Log-odds are no mean of items, but one cluster of 40 % costs them as many degrees of freedom.
    se, df = sqrt(variance), satterthwaite(sizes)
    width = float(special.stdtrit(df, 0.5 + level / 2)) * se
    p = 2 * float(special.stdtr(df, -abs(bare.estimate) / se))
    low, high = bare.estimate - width, bare.estimate + width
    return replace(bare, low=low, high=high, p=p, reason="; ".join(notes), se=se, df=df)


def _too_few(sums: Floats, n: int, clusters: int) -> str:
    """Return why there is no interval for right answers per cell [4] of n items; else empty."""
    if clusters == 1:
        return "one cluster only"
    least = float(np.minimum(sums, n - sums).min())
    return (
        f"a cell has {least:g} right or wrong answers, fewer than {FEWEST}"
        if least < FEWEST
        else ""
    )


def _jackknife_variance(sums: Floats, within: Floats, sizes: Floats, half: float) -> float:
    """Return the variance of the log-odds' DiD by leaving out one cluster at a time.

    Args:
        sums: right answers per cell [4].
        within: right answers per cluster and cell [G, 4].
        sizes: items per cluster [G].
        half: what is added to each side of every cell.
    """
    count, n = len(sizes), sizes.sum()
    right, items = sums - within, n - sizes
    left_out = _logit_did(right, items, _half_if_needed(right, items, half))
    deviations = left_out - left_out.mean()
    return (count - 1) / count * float(deviations @ deviations)


def _delta_variance(sums: Floats, within: Floats, sizes: Floats, half: float) -> float:
    """Return the variance of the log-odds' DiD by linearisation; see `_jackknife_variance`."""
    count, n = len(sizes), sizes.sum()
    # With the half, p (1 - p) is never 0, by which scores are divided.
    p = (sums + half) / (n + 2 * half)
    scores = (within - np.outer(sizes, sums / n)) / (n * p * (1 - p)) @ DID_WEIGHTS
    return count / (count - 1) * float(scores @ scores)


def _half_if_needed(sums: Floats, sizes: Floats, half: float) -> Floats:
    """Return what to add to each side, per left-out cluster [G, 1]."""
    extreme = np.any((sums <= 0) | (sums >= sizes[:, None]), axis=1)
    # Leaving a cluster out can make a cell all right or all wrong that was not so before.
    return np.where(extreme, 0.5, half)[:, None]


def _logit_did(sums: Floats, n: Floats | float, half: Floats | float) -> Floats:
    """Return the DiD of log-odds for counts of right answers [..., 4] of n items [...]."""
    wrong = np.asarray(n, dtype=np.float64)[..., None] - sums
    logits: Floats = (np.log(sums + half) - np.log(wrong + half)) @ DID_WEIGHTS
    return logits


def headroom(reference: ArrayLike, chance: float | None = None) -> float:
    """Return the most that a member could still gain, or lose, from its reference arm.

    Args:
        reference: right answers of the reference arm [n].
        chance: accuracy of guessing, for a drop; None for a gain.

    Returns:
        1 - accuracy for a gain; accuracy - chance for a drop, at least 0: a perturbation that takes
        all information away leaves guesses, not wrong answers. NaN without items or chance.
    """
    values = as_values(reference, "reference")
    if not len(values):
        return nan
    accuracy = float(values.mean())
    return 1.0 - accuracy if chance is None else float(np.maximum(accuracy - chance, 0.0))
