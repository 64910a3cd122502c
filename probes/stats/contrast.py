"""One door to every combination of interval and test for per-item differences."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from probes.stats.bootstrap import Bootstrap, bootstrap
from probes.stats.clustered import Kind, Weighting, clustered_mean
from probes.stats.estimate import Estimate, as_values, is_singletons
from probes.stats.paired import mcnemar_p
from probes.stats.permutation import sign_flip

Interval = Literal["cr2", "cr1", "cr3", "percentile", "bca"]
Test = Literal["t", "permutation", "mcnemar"]


def contrast(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    strata: ArrayLike | None = None,
    weights: Weighting = "items",
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    interval: Interval = "cr2",
    test: Test = "t",
    draws: int = 9999,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of per-item differences with the interval and the test asked for.

    Args:
        values: one finite difference per item [n].
        clusters: one label per item [n], or None.
        strata: one label per item [n], or None (t intervals only).
        weights: `items` or `strata`: what counts the same.
        level: coverage.
        bounds: least and greatest difference of an item.
        interval: a kind of `clustered_mean`, or of `bootstrap`.
        test: `t`, `permutation` (whole clusters change sign) or `mcnemar` (whole differences of at
            most one, and no clusters; elsewhere p is NaN, with a reason).
        draws: bootstrap samples or random flips.
        seed: of either.

    Raises:
        ValueError: a combination that is not offered.
    """
    if interval not in get_args(Interval):
        raise ValueError(f"interval: {interval!r} is none of {', '.join(get_args(Interval))}")
    if test not in get_args(Test):
        raise ValueError(f"test: {test!r} is none of {', '.join(get_args(Test))}")
    if strata is not None and (interval in get_args(Bootstrap) or test != "t"):
        raise ValueError("strata: offered with t intervals and the t test only")
    d = as_values(values)
    kind: Kind = "cr2"
    if interval == "cr1" or interval == "cr3":
        kind = interval
    found = clustered_mean(
        d, clusters, strata=strata, weights=weights, level=level, bounds=bounds, kind=kind
    )
    if interval in ("percentile", "bca") and np.isfinite(found.se):
        resampled = bootstrap(
            d, clusters, kind=interval, draws=draws, seed=seed, level=level
        )  # fmt: skip
        found = replace(
            found, low=resampled.low, high=resampled.high, se=resampled.se, df=nan,
            method=f"{resampled.method}; {found.method} test", reason=resampled.reason,
        )  # fmt: skip
    if test == "t" or found.n == 0:
        return found
    if test == "permutation":
        p, name = sign_flip(d, clusters, draws=draws, seed=seed)
        return replace(found, p=p, method=f"{found.method.split('; ')[0]}; {name}")
    if not is_singletons(clusters, found.n):
        p, reason = nan, "McNemar's test assumes independent items, but items share clusters"
    elif not np.isin(d, (-1.0, 0.0, 1.0)).all():
        p, reason = nan, "McNemar's test needs single answers of one member"
    else:
        p, reason = mcnemar_p(int((d > 0).sum()), int((d < 0).sum())), found.reason
    return replace(
        found, p=p, reason=reason, method=f"{found.method.split('; ')[0]}; exact McNemar"
    )
