"""Many tests at once: Holm (family-wise error) and Benjamini-Hochberg (false discovery rate)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probes.stats.estimate import Floats


def holm(p: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values [m]; undefined ones stay NaN and do not count in the family.

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection
    at alpha, whatever the dependence between tests.
    """
    return _adjusted(p, _step_down)


def _step_down(p: Floats) -> Floats:
    order = np.argsort(p, kind="stable")
    out = np.empty(len(p))
    # Never below that of a smaller p, or the greater one could be rejected alone.
    out[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(1.0, out)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Return Benjamini-Hochberg adjusted p-values [m]; undefined ones stay NaN and do not count.

    Rejecting where the adjusted value is at most q keeps the expected share of false rejections at
    q for independent or positively dependent tests.
    """
    return _adjusted(p, stats.false_discovery_control)


def _adjusted(p: ArrayLike, rule: Callable[[Floats], Floats]) -> Floats:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"p: expected one dimension, got shape {values.shape}")
    # A test that could not be made is no chance of a false rejection.
    known = ~np.isnan(values)
    if ((values[known] < 0) | (values[known] > 1)).any():
        raise ValueError("p: p-values are between 0 and 1")
    out = np.full(len(values), np.nan)
    if known.any():
        out[known] = rule(values[known])
    return out
