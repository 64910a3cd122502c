"""A score interval for means of answers' changes, which holds where few of them change.

A t interval takes its variance from the changes that were seen. With a handful, all in one
direction, a sample that shows too few of them has too small a variance as well, and the interval
misses on that side: 85 % coverage instead of 95 %. Tango's score interval takes the variance under
the hypothesis instead and covers, but is wide where hardly anything changed. This one lies between:
its variance moves half as far towards the hypothesis, and 2.5 pseudo-pairs (one and a quarter for,
as many against) are added to it. Both numbers were chosen by simulation (benchmarks/defaults.py):
the narrowest that covers in every cell. With no change in n items it ends at 3.1 / n, the rule of
three; with many changes it is the t interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

PSEUDO_PAIRS = 2.5
"""Changes that are added to the variance."""
_TOWARDS_NULL = 0.5
"""How far the variance moves from the observed one to that under the hypothesis."""
_FARTHEST = 1.75
"""Standard errors up to which it falls. Beyond, small p-values would be too small."""


@dataclass(frozen=True, slots=True)
class ScoreTest:
    """Tests of every value that the mean could have; all fields are numbers or arrays alike."""

    estimate: Any
    independent: Any
    """Variance of the mean if items were independent."""
    robust: Any
    """Variance of the mean by clusters."""
    df_independent: Any
    df: Any
    """Satterthwaite's, of the variance by clusters."""
    pseudo: Any = 0.0
    """Variance that pseudo-pairs add; 0: an ordinary t test."""
    slope: Any = 0.0
    """By how much the variance rises per unit of the mean: the skewness of the changes."""

    @property
    def inflation(self) -> Any:
        """The design effect, before it is kept from falling below 1."""
        some = np.asarray(self.independent) > 0
        return np.where(some, self.robust / np.where(some, self.independent, 1.0), 0.0)

    def ends(self, level: float = 0.95) -> tuple[Any, Any]:
        """Return (low, high): the values that the two-sided test does not reject."""
        # Both tests must reject: that of independent items is the floor of a design effect of 1.
        tail = 0.5 + level / 2
        limit = np.maximum(
            special.stdtrit(self.df_independent, tail) ** 2,
            special.stdtrit(self.df, tail) ** 2 * self.inflation,
        )
        base = self.independent + self.pseudo
        tilt = _TOWARDS_NULL * np.abs(self.slope)
        # Both solve distance^2 = limit * variance(distance), whose variance is linear.
        bend = limit * tilt / 2
        root = np.sqrt(bend**2 + limit * base)
        farthest = _FARTHEST * np.sqrt(base)
        near = root - bend
        near = np.where(near <= farthest, near, np.sqrt(limit * (base - tilt * farthest)))
        rising = np.asarray(self.slope) >= 0
        below, above = np.where(rising, near, root + bend), np.where(rising, root + bend, near)
        return self.estimate - below, self.estimate + above

    def distance(self, null: Any) -> Any:
        """Return how many standard errors of independent items lie between estimate and `null`."""
        gap = np.asarray(null - self.estimate, dtype=np.float64)
        base = self.independent + self.pseudo
        farthest = _FARTHEST * np.sqrt(base)
        tilt = _TOWARDS_NULL * np.abs(self.slope)
        rising = np.asarray(self.slope) * gap >= 0
        change = tilt * np.where(rising, np.abs(gap), -np.minimum(np.abs(gap), farthest))
        variance = base + change
        safe = np.where(variance > 0, variance, 1.0)
        return np.where(variance > 0, np.abs(gap) / np.sqrt(safe), np.where(gap == 0, 0.0, np.inf))

    def tail(self, null: Any) -> Any:
        """Return the one-sided p-value of `null` against the estimate's side of it."""
        away = self.distance(null)
        inflation = self.inflation
        shrunk = away / np.sqrt(np.where(inflation > 0, inflation, 1.0))
        clustered = np.where(inflation > 0, special.stdtr(self.df, -shrunk), 0.0)
        # The weaker of both, as `ends` takes the farther of both.
        return np.maximum(special.stdtr(self.df_independent, -away), clustered)

    def p(self, null: Any = 0.0) -> Any:
        """Return the two-sided p-value: below 1 - level where `ends(level)` leave `null` out."""
        return np.minimum(1.0, 2 * self.tail(null))
