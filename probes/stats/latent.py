"""The latent normals that give the correlations of differences that a plan assumes."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from scipy import optimize, stats

from probes.stats.simulate import TrueEffect

_MOST = 1 - 1e-6
"""Largest latent correlation that is tried."""


def latent_shared(image: TrueEffect, other: TrueEffect, correlation: float) -> float:
    """Return the latent correlation at which two members' gains correlate over items as asked.

    Args:
        image: truth of the image member.
        other: truth of the other member.
        correlation: of their differences over items, in [0, 1).

    Returns:
        `shared` of `simulate.draw`, in [0, 1).

    Raises:
        ValueError: a negative correlation, or more than these discordances allow.
    """
    spread = sqrt(_variance(image) * _variance(other))
    return _solve(lambda at: _covariance(image, other, at) / spread, correlation, "correlation")


def latent_alike(gains: tuple[TrueEffect, ...], icc: float, shared: float = 0.0) -> float:
    """Return the latent correlation within clusters at which differences correlate as asked.

    Args:
        gains: one truth for a gain; two (image, other) for a difference in differences (DiD).
        icc: correlation, within a cluster, of items' differences, in [0, 1).
        shared: latent correlation between members; see `latent_shared`.

    Returns:
        `alike` of `simulate.draw`, in [0, 1).

    Raises:
        ValueError: a negative icc, or more than these discordances allow.
    """
    if len(gains) == 1:
        (one,) = gains
        return _solve(lambda at: _covariance(one, one, at) / _variance(one), icc, "icc")
    image, other = gains
    spread = _variance(image) + _variance(other) - 2 * _covariance(image, other, shared)

    def within(at: float) -> float:
        alike = _covariance(image, image, at) + _covariance(other, other, at)
        # Latents of two members at two items of a cluster correlate by the product of both.
        return (alike - 2 * _covariance(image, other, shared * at)) / spread

    return _solve(within, icc, "icc")


def _solve(reached: Callable[[float], float], wanted: float, name: str) -> float:
    if wanted == 0:
        return 0.0
    # Discordances bound the correlation below 1, however alike the latents are; `not >=` refuses
    # NaN too.
    if wanted < 0 or not reached(_MOST) >= wanted:
        raise ValueError(f"the simulation cannot reach a {name} of {wanted:g} here")
    # It grows with the latent correlation, so that there is one root.
    return float(optimize.brentq(lambda at: reached(at) - wanted, 0.0, _MOST, xtol=1e-9))


def _variance(one: TrueEffect) -> float:
    return one.discordance - one.gain**2


def _covariance(a: TrueEffect, b: TrueEffect, latent: float) -> float:
    """Return the covariance of two differences whose latent normals correlate by `latent`."""
    if latent == 0:
        return 0.0
    # An item changes for the better where its latent is above `up`, for the worse below `down`.
    up_a, up_b = (stats.norm.isf((one.discordance + one.gain) / 2) for one in (a, b))
    down_a, down_b = (stats.norm.ppf((one.discordance - one.gain) / 2) for one in (a, b))
    same = np.array([[1.0, latent], [latent, 1.0]])
    # One member better and the other worse: one latent's sign is turned.
    opposite = np.array([[1.0, -latent], [-latent, 1.0]])

    def both(x: float, y: float, correlation: np.ndarray) -> float:
        if not (np.isfinite(x) and np.isfinite(y)):  # one of them never changes that way
            return 0.0
        return float(stats.multivariate_normal.cdf(np.array([x, y]), cov=correlation))

    alike = both(-up_a, -up_b, same) + both(down_a, down_b, same)
    unlike = both(-up_a, down_b, opposite) + both(down_a, -up_b, opposite)
    return alike - unlike - a.gain * b.gain
