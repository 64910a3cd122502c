"""Every combination of interval and test for per-item differences, in one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from probes.stats.bootstrap import Bootstrap, bootstrap
from probes.stats.clustered import Bounds, Robust, Weighting, clustered_mean
from probes.stats.estimate import Estimate, Floats, as_values, is_singletons
from probes.stats.permutation import mcnemar_p, sign_flip

Interval = Literal["score", "cr2", "cr1", "cr3", "percentile", "bca"]
Test = Literal["own", "permutation", "mcnemar"]


@dataclass(frozen=True, slots=True)
class ContrastMethod:
    """How the interval and the test of a contrast are made."""

    interval: Interval = "score"
    """A kind of `clustered_mean`, or of `bootstrap`."""
    test: Test = "own"
    """`own` (the interval's; the bootstrap has that of `cr2`), `permutation` (whole clusters change
    sign) or `mcnemar` (whole differences of at most one, and no clusters; elsewhere p is NaN, with
    a reason)."""
    level: float = 0.95
    """Coverage."""
    weights: Weighting = "items"
    """`items` or `strata`: what counts the same."""
    draws: int = 9999
    """Bootstrap samples or random flips."""
    seed: int = 0
    """Seed of either."""

    def __post_init__(self) -> None:
        if self.interval not in get_args(Interval):
            raise ValueError(f"interval: {self.interval!r} is not one of {_listed(Interval)}")
        if self.test not in get_args(Test):
            raise ValueError(f"test: {self.test!r} is not one of {_listed(Test)}")


def _listed(choices: object) -> str:
    return ", ".join(get_args(choices))


DEFAULT = ContrastMethod()


def contrast(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    strata: ArrayLike | None = None,
    bounds: Bounds | None = None,
    step: float | None = None,
    method: ContrastMethod = DEFAULT,
) -> Estimate:
    """Estimate the mean of per-item differences with the interval and the test asked for.

    Args:
        values: one finite difference per item [n].
        clusters: one label per item [n], or None.
        strata: one label per item [n], or None (not with the bootstrap).
        bounds: least and greatest difference of an item.
        step: see `clustered_mean`.
        method: the interval and the test.

    Raises:
        ValueError: a combination that is not offered.
    """
    interval = method.interval
    # Resampling and sign flips go over all clusters at once: they would ignore the strata.
    if strata is not None and (interval in get_args(Bootstrap) or method.test != "own"):
        raise ValueError("strata: offered without bootstrap, sign-flip and McNemar's test only")
    d = as_values(values)
    # The bootstrap is used for intervals only: its p-value is that of the CR2 t test.
    kind: Robust = "cr2" if interval == "percentile" or interval == "bca" else interval
    found = clustered_mean(
        d,
        clusters,
        strata=strata,
        weights=method.weights,
        level=method.level,
        bounds=bounds,
        kind=kind,
        step=step,
    )
    # Without spread all samples are alike, so the score interval stays.
    if (interval == "percentile" or interval == "bca") and np.isfinite(found.se):
        resampled = bootstrap(
            d, clusters, kind=interval, draws=method.draws, seed=method.seed, level=method.level
        )
        low, high, se, reason = resampled.low, resampled.high, resampled.se, resampled.reason
        method_name = f"{resampled.method}; {found.method} test"
        found = replace(found, low=low, high=high, se=se, df=nan, method=method_name, reason=reason)
    return found if found.n == 0 else _with_test(found, d, clusters, method)


def _with_test(
    found: Estimate, d: Floats, clusters: ArrayLike | None, method: ContrastMethod
) -> Estimate:
    """Return an estimate of differences `d` [n] with the p-value of another test than its own."""
    if method.test == "own":
        return found
    reason = found.reason
    if method.test == "permutation":
        p, name = sign_flip(d, clusters, draws=method.draws, seed=method.seed)
    else:
        name = "exact McNemar"
        # Pairs of one recording are no independent trials of the binomial.
        if not is_singletons(clusters, found.n):
            p, reason = nan, "McNemar's test assumes independent items, but items share clusters"
        elif not np.isin(d, (-1.0, 0.0, 1.0)).all():
            p, reason = nan, "McNemar's test needs single answers of one member"
        else:
            p = mcnemar_p(int((d > 0).sum()), int((d < 0).sum()))
    # A bootstrap's name ends with the test that is replaced here.
    interval = found.method.split("; ")[0]
    return replace(found, p=p, reason=reason, method=f"{interval}; {name}")
