"""What every estimator returns, and how clusters are numbered and summed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
ALPHA = 0.05
"""Level of a test unless another is asked for."""
POWER = 0.8
"""Chance of finding a true effect unless another is asked for."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty; it is given even where the interval and p are undefined."""

    estimate: float
    """In the unit of the values given (proportions: times 100 for percentage points)."""
    low: float
    """Lower end of the interval; NaN where undefined."""
    high: float
    """Upper end of the interval; NaN where undefined."""
    p: float
    """Two-sided p-value of "no difference"; NaN where there is no such test."""
    n: int
    """Items."""
    clusters: int
    """Groups of items that are independent of each other."""
    method: str
    """Name of interval and test."""
    reason: str = ""
    """Why an interval or p-value is undefined, or why another than the usual one was taken."""
    discordant: int = 0
    """Items whose difference is not zero."""
    se: float = nan
    """Standard error; NaN where the method has none."""
    df: float = nan
    """Degrees of freedom of the t distribution; NaN where the method has none."""
    level: float = 0.95
    """Coverage that the interval aims at."""


def undefined(
    estimate: float,
    *,
    n: int,
    clusters: int,
    method: str,
    level: float,
    reason: str = "",
    discordant: int = 0,
) -> Estimate:
    """Return an estimate without interval and p-value, and why; they may be filled in."""
    return Estimate(estimate, nan, nan, nan, n, clusters, method, reason, discordant, level=level)


def as_values(values: ArrayLike, name: str = "values") -> Floats:
    """Return `values` as float64 [n].

    Raises:
        ValueError: if they are not one-dimensional or not all finite. The caller leaves missing
            items out; a NaN would silently become the result.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {int((~np.isfinite(array)).sum())} values are not finite")
    return array


def check_level(level: float) -> None:
    """Raise ValueError unless 0 < level < 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level is between 0 and 1, got {level}")


def cluster_codes(clusters: ArrayLike | None, n: int) -> tuple[Codes, int]:
    """Number the clusters.

    Args:
        clusters: one label per item [n] of any sortable type, or None: every item is a cluster.
        n: number of items.

    Returns:
        codes [n] in 0..G-1, and G.
    """
    if clusters is None:
        return np.arange(n, dtype=np.intp), n
    labels: NDArray[Any] = np.asarray(clusters)
    if labels.shape != (n,):
        raise ValueError(f"clusters: expected {n} labels, got shape {labels.shape}")
    if n and labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < 4 * n + 1000:
        # Small whole numbers need no sorting; most calls come with them.
        present = np.bincount(labels) > 0
        # Gaps between labels are closed, so that G counts clusters that have items.
        return (np.cumsum(present) - 1)[labels], int(present.sum())
    unique, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.intp, copy=False), len(unique)


def cluster_sums(values: Floats, codes: Codes, count: int) -> Floats:
    """Sum `values` [n] or [n, k] within clusters: [count] or [count, k]."""
    if values.ndim == 1:
        # bincount adds up repeated codes; `out[codes] += values` would keep the last of each.
        # Of no items bincount gives integers, weights or not: hence the cast.
        return np.bincount(codes, weights=values, minlength=count).astype(np.float64, copy=False)
    columns = [np.bincount(codes, weights=column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1).astype(np.float64, copy=False)


def parts_of(draws: int, most: int) -> Iterator[int]:
    """Yield the sizes of the parts in which draws are made, to stay within the memory."""
    for start in range(0, draws, max(1, most)):
        yield min(max(1, most), draws - start)


def is_singletons(clusters: ArrayLike | None, n: int) -> bool:
    """Return whether every item is a cluster by itself."""
    return cluster_codes(clusters, n)[1] == n
