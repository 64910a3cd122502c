"""How many items a question needs, and what a given number of items can resolve.

A gain of d points at discordance q (the share of items on which the two arms differ) varies over
items with variance q - d^2, so the power of a paired design depends on discordance, not on
accuracy. The effect can also be a difference in differences (DiD) of two members.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf, isfinite, nan, sqrt
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from probes.stats.estimate import ALPHA, POWER

Spread = float | Callable[[float], float]
"""Standard deviation of an item's difference: a number, or a function of the true effect."""


class PowerOptions(TypedDict, total=False):
    """Keyword arguments of `power`, which has their defaults."""

    alpha: float
    """Level of the test."""
    design_effect: float
    """By how much clusters inflate the variance of the mean."""
    per_cluster: float
    """Mean number of items per cluster; sets the degrees of freedom."""
    strata: float
    """Number of strata whose means are averaged; the spread is that within them."""


def sd_gain(discordance: float) -> Callable[[float], float]:
    """Return the spread of a gain as a function of the gain, at a given discordance in (0, 1]."""
    if not 0 < discordance <= 1:
        raise ValueError(f"a discordance is in (0, 1], got {discordance}")

    def sd(gain: float) -> float:
        if abs(gain) > discordance:
            raise ValueError(f"a gain of {gain} needs a discordance of at least {abs(gain)}")
        return sqrt(discordance - gain * gain)

    return sd


def sd_square(mean_square: float) -> Callable[[float], float]:
    """Return the spread as a function of the effect, for a constant mean square of differences.

    This extends a finished comparison to other effects than its own. The mean square of a gain of
    single answers is its discordance; for a DiD, or for means over donors, it takes that place. An
    effect needs a mean square of at least its own size, and raises it to that where it is smaller.

    Args:
        mean_square: mean of the squared differences, >= 0.
    """
    if not mean_square >= 0:
        raise ValueError(f"a mean square is at least 0, got {mean_square}")

    def sd(effect: float) -> float:
        return sqrt(max(max(mean_square, abs(effect)) - effect * effect, 0.0))

    return sd


def design_effect(sizes: ArrayLike, icc: float) -> float:
    """Return by how much clusters inflate the variance of a mean: 1 + (m - 1) * icc.

    Args:
        sizes: items per cluster [G]; m is the mean size of the cluster that an item is in.
        icc: correlation, within a cluster, of items' differences, in [-1, 1].
    """
    counts = np.asarray(sizes, dtype=np.float64)
    if counts.ndim != 1 or not len(counts) or counts.min() < 1:
        raise ValueError("sizes: expected at least one cluster of at least one item")
    if not -1 <= icc <= 1:
        raise ValueError(f"an icc is in [-1, 1], got {icc}")
    # Weighted by items: large clusters hold most of the pairs that are alike.
    effect = 1 + (float(counts @ counts) / float(counts.sum()) - 1) * icc
    if effect <= 0:
        raise ValueError(f"an icc of {icc} is impossible in clusters of these sizes")
    return effect


def sd_did(
    discordance_image: float,
    discordance_other: float,
    gain_other: float = 0.0,
    correlation: float = 0.0,
) -> Callable[[float], float]:
    """Return the spread of a DiD as a function of the DiD.

    Args:
        discordance_image: between the image member's two arms.
        discordance_other: between the other member's two arms.
        gain_other: the other member's true gain; the image member's is greater by the DiD.
        correlation: of the two members' gains over items; above 0 it lowers the spread.
    """
    if not -1 <= correlation <= 1:
        raise ValueError(f"a correlation is in [-1, 1], got {correlation}")
    image, other = sd_gain(discordance_image), sd_gain(discordance_other)

    def sd(did: float) -> float:
        a, b = image(did + gain_other), other(gain_other)
        return sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))

    return sd


def power(
    effect: float,
    sd: Spread,
    n: int,
    *,
    alpha: float = ALPHA,
    design_effect: float = 1.0,
    per_cluster: float = 1.0,
    strata: float = 1,
) -> float:
    """Return the chance that a two-sided t test finds a true effect.

    Args:
        effect: true gain or DiD, as a proportion (0.06 is six points).
        sd: spread of an item's difference; see `sd_gain` and `sd_did`.
        n: items.
        alpha: level of the test.
        design_effect: by how much clusters inflate the variance of the mean.
        per_cluster: mean number of items per cluster; sets the degrees of freedom.
        strata: number of strata whose means are averaged; `sd` is the spread within them.
    """
    spread = sd(effect) if callable(sd) else sd
    # Clusters, not items, are the independent observations.
    df = n / per_cluster - strata
    if df <= 0:
        return nan
    if spread <= 0:
        return 1.0 if effect else alpha
    shift = abs(effect) / (spread * sqrt(design_effect / n))
    # isf, since 1 - alpha / 2 loses digits of the small alpha of a large family.
    critical = stats.t.isf(alpha / 2, df)
    right = float(stats.nct.sf(critical, df, shift))
    # Far out scipy is slow and has NaN for the tail of the wrong sign, which is below 1e-15 there.
    return right + (float(stats.nct.cdf(-critical, df, shift)) if shift < 6 else 0.0)


def items_needed(
    effect: float, sd: Spread, *, power_wanted: float = POWER, **options: Unpack[PowerOptions]
) -> float:
    """Return the least number of items that reach the power wanted; inf where none does.

    Args:
        effect: true gain or DiD.
        sd: spread of an item's difference.
        power_wanted: chance of finding it.
        **options: see `power`.
    """
    if effect == 0:
        return inf
    _check_power(power_wanted, options)

    def reached(n: int) -> bool:
        found = power(effect, sd, n, **options)
        return isfinite(found) and found >= power_wanted

    # With fewer clusters than this there is no degree of freedom, and so no power.
    high = max(2, ceil((options.get("strata", 1) + 1) * options.get("per_cluster", 1.0)))
    # Power grows with n: doubling, then halving needs few steps.
    while not reached(high):
        high *= 2
        if high > 2**40:
            return inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high)


def minimum_effect(
    n: int,
    sd: Spread,
    *,
    power_wanted: float = POWER,
    most: float = 1.0,
    **options: Unpack[PowerOptions],
) -> float:
    """Return the least effect that n items find with chance `power_wanted` (MDE).

    Args:
        n: items.
        sd: spread of an item's difference.
        power_wanted: chance of finding it.
        most: largest effect that can be (for a gain, its discordance); NaN is returned where even
            that one would be missed.
        **options: see `power`.
    """
    _check_power(power_wanted, options)

    def short(effect: float) -> float:
        return power_wanted - power(effect, sd, n, **options)

    # The greatest effect itself may by rounding exceed the discordance, which is refused.
    least, most = 1e-9, most * (1 - 1e-9)
    # `not <=`, since power is NaN without a degree of freedom, which is no success either.
    if not short(most) <= 0:
        return nan
    return float(optimize.brentq(short, least, most, xtol=1e-10))


def largest_discordance(
    effect: float,
    n: int,
    spread: Callable[[float], Spread] = sd_gain,
    *,
    least: float | None = None,
    power_wanted: float = POWER,
    **options: Unpack[PowerOptions],
) -> float:
    """Return the greatest discordance at which n items find an effect with the chance wanted.

    Args:
        effect: true gain or DiD, not 0.
        n: items.
        spread: spread of an item's difference by discordance; for a DiD e.g.
            `lambda q: sd_did(q, q)`.
        least: the least discordance that the effect allows; default: |effect|.
        power_wanted: chance of finding it.
        **options: see `power`.

    Returns:
        In [least, 1]; NaN where the effect is missed even at the least discordance.
    """
    _check_power(power_wanted, options)
    floor = abs(effect) if least is None else least

    def over(discordance: float) -> float:
        return power(effect, spread(discordance), n, **options) - power_wanted

    # Power falls as discordance grows: if the least one is too much, all are.
    if not over(floor) >= 0:
        return nan
    if over(1.0) >= 0:
        return 1.0
    return float(optimize.brentq(over, floor, 1.0, xtol=1e-10))


def _check_power(power_wanted: float, options: PowerOptions) -> None:
    alpha = options.get("alpha", ALPHA)
    if not 0 < alpha < power_wanted < 1:
        raise ValueError(f"need 0 < alpha < power < 1, got alpha {alpha} and power {power_wanted}")


def discordance_range(a: float, b: float) -> tuple[float, float, float]:
    """Return (least, independent, greatest) discordance that two accuracies allow.

    Published accuracies bound the discordance, but do not determine it. Answers of one model to the
    same items agree more than independent ones would: the truth is between the first two.
    """
    if not (0 <= a <= 1 and 0 <= b <= 1):
        raise ValueError(f"accuracies are in [0, 1], got {a} and {b}")
    return abs(a - b), a * (1 - b) + b * (1 - a), min(a + b, 2 - a - b)
