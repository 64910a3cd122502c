"""Several contrasts of the same items as one, and how much a single cluster decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from probes.stats.clustered import satterthwaite, score_test
from probes.stats.estimate import (
    Estimate,
    as_values,
    check_level,
    cluster_codes,
    cluster_sums,
    undefined,
)


def pooled(
    parts: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    level: float = 0.95,
    step: float | None = None,
) -> Estimate:
    """Pool means of per-item differences over frame counts, seeds or pairs by inverse variance.

    The parts may share items: what they have in common enters by clusters, whose labels must mean
    the same in all parts. So a second seed on the same items adds little, as it should.

    Args:
        parts: values [n_k] and cluster labels [n_k] of each of the K parts; an item without a
            cluster has a label of its own, the same in all parts.
        level: coverage.
        step: see `clustered_mean`; it keeps a part in which nothing changed from weighing
            infinitely much.

    Returns:
        The fixed-effect mean with a t interval (CR2, Satterthwaite, design effect at least 1); n
        is the number of values in all parts.
    """
    check_level(level)
    every_part = [(as_values(values), np.asarray(labels)) for values, labels in parts]
    kept = [(values, own) for values, own in every_part if len(values)]
    every: NDArray[Any] = np.concatenate([own for _, own in kept]) if kept else np.array([])
    codes, count = cluster_codes(every, len(every))
    bare = undefined(
        nan,
        n=len(every),
        clusters=count,
        method=f"inverse-variance mean of {len(kept)} parts, t (CR2, Satterthwaite)",
        level=level,
        discordant=sum(int(np.count_nonzero(values)) for values, _ in kept),
    )
    if not kept:
        return replace(bare, reason="no items")
    known = [one for own in kept if (one := score_test(*own, step=step)) is not None]
    variances = np.array([max(one.robust, one.independent) + one.pseudo for one in known])
    if len(known) < len(kept) or not (variances > 0).all():
        return replace(bare, reason="a part has one cluster only, or no spread")
    weights = 1 / variances
    weights /= weights.sum()
    weight = np.concatenate(
        [np.full(len(own), w / len(own)) for w, (_, own) in zip(weights, kept, strict=True)]
    )
    residuals = np.concatenate([values - values.mean() for values, _ in kept])
    # A cluster's share of the whole weight is its leverage on the pooled mean.
    shares = cluster_sums(weight, codes, count)
    scores = cluster_sums(weight * residuals, codes, count)
    variance = float((scores**2 / (1 - shares)).sum())
    alone = float(weights**2 @ [one.independent for one in known])
    variance = max(variance, alone) + float(weights**2 @ [one.pseudo for one in known])
    estimate = float(weights @ [values.mean() for values, _ in kept])
    se, df = sqrt(variance), satterthwaite(shares)
    half = float(special.stdtrit(df, 0.5 + level / 2)) * se
    p = 2 * float(special.stdtr(df, -abs(estimate) / se))
    low, high = estimate - half, estimate + half
    return replace(bare, estimate=estimate, low=low, high=high, p=p, se=se, df=df)


@dataclass(frozen=True, slots=True)
class LeftOutRange:
    """The least and greatest mean that leaving out one cluster gives."""

    low: float
    """NaN where there are fewer than two clusters."""
    high: float
    low_cluster: Any = ""
    """Label of the cluster without which the mean is `low`."""
    high_cluster: Any = ""


def leave_one_out(values: ArrayLike, clusters: ArrayLike | None = None) -> LeftOutRange:
    """Return between which values the mean moves when any one cluster is left out.

    Args:
        values: one finite value per item [n].
        clusters: one label per item [n], or None: items are left out one by one, and named by
            their index.
    """
    x = as_values(values)
    codes, count = cluster_codes(clusters, len(x))
    if count < 2:
        return LeftOutRange(nan, nan)
    sizes = np.bincount(codes, minlength=count)
    left = (x.sum() - cluster_sums(x, codes, count)) / (len(x) - sizes)
    labels = np.unique(np.arange(len(x)) if clusters is None else np.asarray(clusters))
    least, most = int(left.argmin()), int(left.argmax())
    return LeftOutRange(
        float(left[least]), float(left[most]), labels[least].item(), labels[most].item()
    )
