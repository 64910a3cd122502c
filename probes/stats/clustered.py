"""The mean of per-item differences, with intervals that allow for clusters and strata.

Items of one recording are not independent, so uncertainty is taken from sums over clusters. Where
changes are few, see `score`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, nan, sqrt
from typing import Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special, stats

from probes.stats.estimate import (
    Codes,
    Estimate,
    Floats,
    as_values,
    check_level,
    cluster_codes,
    undefined,
)
from probes.stats.score import PSEUDO_PAIRS, ScoreTest

Kind = Literal["cr1", "cr2", "cr3"]
Robust = Literal["score", "cr1", "cr2", "cr3"]
Weighting = Literal["items", "strata"]
Bounds = tuple[float, float]
"""The least and greatest value that an item can have."""


class StrataOptions(TypedDict, total=False):
    """Strata of `clustered_mean`."""

    strata: ArrayLike | None
    """One label per item [n], or None. Spread is then measured within strata."""
    weights: Weighting
    """`items` (every item counts the same, the default) or `strata` (every stratum does)."""


_NAMES = {
    "score": "cluster-robust score (CR2, Satterthwaite)",
    "cr1": "cluster-robust t (CR1)",
    "cr2": "cluster-robust t (CR2, Satterthwaite)",
    "cr3": "cluster-robust t (CR3)",
}


@dataclass(frozen=True, slots=True)
class _ClusteredSample:
    """Per-item values of n items in G clusters and H strata, n > 0."""

    values: Floats
    """[n]."""
    clusters: Codes
    """Cluster of each item, 0..G-1 [n]."""
    n_clusters: int
    strata: Codes
    """Stratum of each item, 0..H-1 [n]."""
    sizes: Floats
    """Items per stratum [H]."""
    means: Floats
    """Mean of each stratum [H]."""
    shares: Floats
    """Weight of each stratum in the estimate [H]; they sum to 1."""
    residuals: Floats
    """Each item's distance to its stratum's mean [n]."""

    @property
    def estimate(self) -> float:
        return float(self.shares @ self.means)

    @property
    def has_spread(self) -> bool:
        # Relative to large values, as the rounding of their mean is.
        largest = max(1.0, float(np.abs(self.values).max()))
        return bool(np.abs(self.residuals).max() > 1e-12 * largest)


def clustered_mean(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    bounds: Bounds | None = None,
    kind: Robust = "score",
    step: float | None = None,
    **of_strata: Unpack[StrataOptions],
) -> Estimate:
    """Estimate the mean of per-item values with a cluster-robust interval and test of zero.

    Args:
        values: one finite value per item [n].
        clusters: one label per item [n], or None: items are independent.
        level: coverage.
        bounds: the least and greatest value an item can have, if there are such. The
            interval ends there. Without them it is undefined where all values are equal.
        kind: `score` (variance `cr2`, at least that of independent items; a score interval where
            `step` is given, a t interval else), or a t interval by `cr1` (factor G/(G-1) *
            (n-1)/(n-H), df G-H, for G clusters and H strata), `cr2` (each cluster's leverage,
            Satterthwaite's df) or `cr3` (jackknife, df G-H), all of a regression on strata.
        step: by how much one changed answer changes a value: 1 for right and wrong, also in a DiD;
            None where values have no such unit.
        **of_strata: see `StrataOptions`.

    Returns:
        The estimate. Where values do not vary at all, never an interval of zero width. The
        spread of a stratum of one cluster is unknown: the interval is then undefined.
    """
    check_level(level)
    strata, weights = of_strata.get("strata"), of_strata.get("weights", "items")
    d, numbered, in_strata = _numbered(values, clusters, strata)
    alone = numbered[1] == len(d) and in_strata[1] == 1
    method = _name(kind, step, alone) + _of_strata(in_strata[1], weights)
    if len(d) == 0:
        return undefined(nan, n=0, clusters=0, method=method, reason="no items", level=level)
    sample = _sampled(d, numbered, in_strata, weights)
    bare = _bare(sample, method, level)
    few = _too_few_clusters(sample, strata)
    # Where no item changes, even one cluster has a score interval: that needs no spread.
    if bare.discordant and few:
        return replace(bare, reason=few)
    if kind == "score" and (sample.has_spread or (step and not few)):
        return _by_test(_test(sample, None if few else step), bounds, bare)
    if kind != "score" and sample.has_spread:
        return _t_interval(sample, kind, bounds, bare)
    return _score_interval(sample, weights, bounds, bare)


def _bare(sample: _ClusteredSample, method: str, level: float) -> Estimate:
    return undefined(
        sample.estimate,
        n=len(sample.values),
        clusters=sample.n_clusters,
        method=method,
        level=level,
        discordant=int(np.count_nonzero(sample.values)),
    )


def _numbered(
    values: ArrayLike, clusters: ArrayLike | None, strata: ArrayLike | None
) -> tuple[Floats, tuple[Codes, int], tuple[Codes, int]]:
    d = as_values(values)
    # Means over donors need not cancel to the last digit.
    d = np.where(np.abs(d) < 1e-12, 0.0, d)
    one = (np.zeros(len(d), dtype=np.intp), 1)
    return (
        d,
        cluster_codes(clusters, len(d)),
        one if strata is None else cluster_codes(strata, len(d)),
    )


def _of_strata(count: int, weights: Weighting) -> str:
    if count == 1:
        return ""
    return f", mean over {count} strata" if weights == "strata" else ", stratified"


def _name(kind: Robust, step: float | None, alone: bool) -> str:
    if kind == "score" and step is None:
        return "paired t" if alone else f"{_NAMES['cr2']}, design effect at least 1"
    if alone:
        return "paired score" if kind == "score" else "paired t"
    return _NAMES[kind]


def score_test(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    strata: ArrayLike | None = None,
    weights: Weighting = "items",
    step: float | None = None,
) -> ScoreTest | None:
    """Return the test that `clustered_mean` inverts; None where clusters are too few for one.

    Args:
        values: see `clustered_mean`.
        clusters: see there.
        strata: see there.
        weights: see there.
        step: see there.
    """
    d, numbered, of_strata = _numbered(values, clusters, strata)
    if not len(d):
        return None
    sample = _sampled(d, numbered, of_strata, weights)
    if _too_few_clusters(sample, strata) or not (step or sample.has_spread):
        return None
    return _test(sample, step)


def _test(sample: _ClusteredSample, step: float | None) -> ScoreTest:
    """Return the test of a sample that has spread or a step."""
    n, values = len(sample.values), sample.values
    alone = replace(sample, clusters=np.arange(n, dtype=np.intp), n_clusters=n)
    independent, df_alone = _variance(alone, "cr2")
    robust, df = (independent, df_alone) if sample.n_clusters == n else _variance(sample, "cr2")
    if independent <= 1e-24:
        independent = robust = 0.0
    if step is None:
        return ScoreTest(sample.estimate, independent, robust, df_alone, df)
    weight = (sample.shares / sample.sizes)[sample.strata]
    # 1 / n where all items count the same.
    squared = float(weight @ weight)
    second = float(weight @ values**2)
    third = float(weight @ values**3) / second if second > 0 else 0.0
    # Of changes in one direction the variance is m - m^2, which rises by 1 - 2 m.
    slope = squared * (third - 2 * sample.estimate)
    pseudo = PSEUDO_PAIRS * (step * squared) ** 2
    return ScoreTest(sample.estimate, independent, robust, df_alone, df, pseudo, slope)


def _by_test(test: ScoreTest, bounds: Bounds | None, bare: Estimate) -> Estimate:
    low, high = (float(end) for end in test.ends(bare.level))
    least, most = bounds or (-inf, inf)
    of_clusters = float(test.inflation) > 1
    variance = test.robust if of_clusters else test.independent
    reason = ""
    if test.robust <= 1e-24 < test.independent:
        # Items differ, yet every cluster sums to the same: clusters carry no information on spread.
        reason = "all cluster sums are equal: items taken as independent"
    return replace(
        bare,
        low=max(low, least),
        high=min(high, most),
        p=float(test.p()),
        reason=reason,
        se=sqrt(variance) if variance > 0 else nan,
        df=float(test.df if of_clusters else test.df_independent),
    )


def _sampled(
    values: Floats, clusters: tuple[Codes, int], strata: tuple[Codes, int], weights: Weighting
) -> _ClusteredSample:
    """Return values [n] in clusters and strata, each given as codes [n] and their number."""
    codes, count = strata
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    means = np.bincount(codes, weights=values, minlength=count) / sizes
    shares = sizes / len(values) if weights == "items" else np.full(count, 1.0 / count)
    residuals = values - means[codes]
    return _ClusteredSample(values, *clusters, codes, sizes, means, shares, residuals)


def _too_few_clusters(sample: _ClusteredSample, labels: ArrayLike | None) -> str | None:
    """Return where there are too few clusters to measure a spread; None where there are enough."""
    n_clusters, n_strata = sample.n_clusters, len(sample.sizes)
    if n_clusters == 1:
        return "one cluster only"
    # Every stratum's mean takes a degree of freedom.
    if n_clusters <= n_strata:
        return f"{n_clusters} clusters in {n_strata} strata"
    if labels is None or n_strata == 1:
        return None
    # A cluster may lie in several strata, so pairs are counted.
    pairs = np.unique(sample.strata * n_clusters + sample.clusters)
    of_one_cluster = np.bincount(pairs // n_clusters, minlength=n_strata) == 1
    if not of_one_cluster.any():
        return None
    names = [str(label) for label in np.unique(np.asarray(labels))[of_one_cluster]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"one cluster only in stratum {', '.join(names[:3])}{more}"


def _t_interval(
    sample: _ClusteredSample, kind: Kind, bounds: Bounds | None, bare: Estimate
) -> Estimate:
    """Return the t interval and test of a sample that has spread."""
    estimate, n, reason = bare.estimate, bare.n, ""
    variance, df = _variance(sample, kind)
    if variance <= 1e-24:
        # Items differ, yet every cluster sums to the same: clusters carry no information on spread.
        reason = "all cluster sums are equal: items taken as independent"
        alone = replace(sample, clusters=np.arange(n, dtype=np.intp), n_clusters=n)
        variance, df = _variance(alone, kind)
    se = sqrt(variance)
    # Satterthwaite's degrees of freedom are no whole number; stdtrit and stdtr take any.
    half = float(special.stdtrit(df, 0.5 + bare.level / 2)) * se
    # From the lower tail: 1 - cdf would lose the digits of a small p.
    p = 2 * float(special.stdtr(df, -abs(estimate) / se))
    # With a handful of clusters an interval can pass the ends of what is possible.
    least, most = bounds or (-inf, inf)
    low, high = max(estimate - half, least), min(estimate + half, most)
    return replace(bare, low=low, high=high, p=p, reason=reason, se=se, df=df)


def _variance(sample: _ClusteredSample, kind: Kind) -> tuple[float, float]:
    """Return the variance of the weighted mean and its degrees of freedom."""
    n, n_clusters, sizes = len(sample.values), sample.n_clusters, sample.sizes
    n_strata = len(sizes)
    # The items that a cluster has in one stratum move as one: everything is a sum over such parts.
    if n_strata == 1:
        part, cluster = sample.clusters, np.arange(n_clusters, dtype=np.intp)
        stratum = np.zeros(n_clusters, dtype=np.intp)
    else:
        known, part = np.unique(sample.clusters * n_strata + sample.strata, return_inverse=True)
        cluster, stratum = np.divmod(known, n_strata)
    items = np.bincount(part, minlength=len(cluster)).astype(np.float64)
    sums = np.bincount(part, weights=sample.residuals, minlength=len(cluster))
    weight = (sample.shares / sizes)[stratum]
    # One minus the part's leverage; above 0, as a stratum of one cluster was turned away before.
    slack = 1.0 - items / sizes[stratum]
    # CR2 divides by its root, unbiased where items are independent; CR3, a jackknife, by it.
    if kind == "cr2":
        weight = weight / np.sqrt(slack)
    elif kind == "cr3":
        weight = weight / slack
    # Parts of one cluster are added before squaring: they vary together across strata.
    scores = np.bincount(cluster, weights=weight * sums, minlength=n_clusters)
    variance = float(scores @ scores)
    df = float(n_clusters - n_strata)
    if kind == "cr1":
        return n_clusters / (n_clusters - 1) * (n - 1) / max(n - n_strata, 1) * variance, df
    if kind == "cr3":
        return (n_clusters - 1) / n_clusters * variance, df
    # Satterthwaite under independent items (Bell & McCaffrey 2002). The scores' covariance is then
    # diag(own) - U U', with U [G, H] below, and the degrees of freedom its trace^2 / norm^2.
    own = np.bincount(cluster, weights=weight**2 * items, minlength=n_clusters)
    shared = weight * items / np.sqrt(sizes[stratum])
    lost = np.bincount(cluster, weights=shared**2, minlength=n_clusters)
    if n_strata == 1:
        crossed = float(lost.sum()) ** 2
    else:
        # Sparse, as most clusters lie in few strata; the product has only H by H entries.
        table = sparse.csr_matrix((shared, (cluster, stratum)), shape=(n_clusters, n_strata))
        crossed = float((table.T @ table).power(2).sum())
    square = float(own @ own) - 2 * float(own @ lost) + crossed
    return variance, float((own - lost).sum()) ** 2 / square


def satterthwaite(sizes: Floats) -> float:
    """Return the degrees of freedom of CR2's variance of a mean, for items per cluster [G >= 2]."""
    n = float(sizes.sum())
    crossed = sizes**2 / (n - sizes)
    square = float(sizes @ sizes) + float(crossed.sum()) ** 2 - float(crossed @ crossed)
    return n**2 / square


def _score_interval(
    sample: _ClusteredSample, weights: Weighting, bounds: Bounds | None, bare: Estimate
) -> Estimate:
    """Return a score interval where no item differs from its stratum's mean.

    A cluster counts as one item: how alike the items of a cluster are is unknown.
    """
    if weights == "items" and np.ptp(sample.means) == 0:
        # All strata are alike: as one stratum, the interval need not be put together from several.
        one = np.zeros(len(sample.values), dtype=np.intp)
        sample = replace(sample, strata=one, means=sample.means[:1], shares=np.ones(1))
    bare, means = replace(bare, estimate=sample.estimate), sample.means
    no_change = bool(np.all(means == 0))
    if bounds is None:
        p = 1.0 if no_change else nan
        return replace(bare, p=p, method="none", reason="all values are equal and unbounded")
    z = float(special.ndtri(0.5 + bare.level / 2))
    independent = np.array(
        [len(np.unique(sample.clusters[sample.strata == h])) for h in range(len(means))]
    )
    unseen = unseen_share(independent.astype(np.float64), z)
    low = float(sample.shares @ (means - (means - bounds[0]) * unseen))
    high = float(sample.shares @ (means + (bounds[1] - means) * unseen))
    p = 1.0 if no_change else 2 * float(stats.norm.sf(sqrt(independent[means != 0].sum())))
    method = "score (no spread)" + (", one item per cluster" if bare.clusters < bare.n else "")
    reason = "no item differs from the mean"
    return replace(bare, low=low, high=high, p=p, method=method, reason=reason)


def unseen_share(n: Floats, z: float) -> Floats:
    """Return Wilson's upper end for something never seen in n independent items: z^2 / (n + z^2).

    With none of n pairs discordant, plus and minus this is Tango's interval too.
    """
    return z * z / (n + z * z)


def one_sided_p(estimate: Estimate, null: float, bounds: Bounds | None) -> float:
    """Return the p-value against "the true value is `null` or farther from zero".

    Args:
        estimate: what `clustered_mean` returned where there is no `score_test`.
        null: the edge, not 0; the alternative is the side towards zero.
        bounds: as given to `clustered_mean`.

    Returns:
        NaN where the estimate has no score interval either.
    """
    if bounds is None or not np.isfinite(estimate.low):
        return nan
    toward = null - estimate.estimate if null > 0 else estimate.estimate - null
    reach = bounds[1] - estimate.estimate if null > 0 else estimate.estimate - bounds[0]
    if toward <= 0:
        return 1.0
    share = toward / reach if reach > 0 else inf
    if share >= 1:
        return 0.0
    # The z at which the score interval of `_score_interval` would end exactly at `null`.
    return float(stats.norm.sf(sqrt(estimate.clusters * share / (1 - share))))
