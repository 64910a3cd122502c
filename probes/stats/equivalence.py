"""Equivalence: evidence that a difference is small, which "not significant" is not."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from numpy.typing import ArrayLike

from probes.stats.clustered import Bounds, clustered_mean, one_sided_p, score_test
from probes.stats.estimate import ALPHA


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests of a difference against -margin and +margin."""

    estimate: float
    low: float
    """Lower end of the interval with coverage 1 - 2 alpha."""
    high: float
    """Upper end of that interval."""
    p: float
    """The greater of the two one-sided p-values; NaN where undefined."""
    p_below: float
    """Against "the difference is margin or more": the test of "gains less than the margin"."""
    p_above: float
    """Against "the difference is -margin or less"."""
    margin: float
    alpha: float
    equivalent: bool
    """Whether p <= alpha; then the interval is within the margin."""
    n: int
    clusters: int
    method: str
    reason: str = ""


def equivalence(
    values: ArrayLike,
    margin: float,
    clusters: ArrayLike | None = None,
    *,
    alpha: float = ALPHA,
    bounds: Bounds | None = None,
    step: float | None = None,
) -> Equivalence:
    """Test whether the mean of per-item differences is within (-margin, margin) (TOST).

    Args:
        values: one finite difference per item [n].
        margin: the smallest difference that would matter, > 0, in the unit of the values; to be
            fixed before looking.
        clusters: one label per item [n], or None.
        alpha: level of either one-sided test.
        bounds: least and greatest difference of an item; needed where no item differs at all.
        step: see `clustered_mean`.
    """
    if margin <= 0:
        raise ValueError(f"margin must be positive, got {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is between 0 and 0.5, got {alpha}")
    # Both one-sided tests at alpha reject exactly where this interval is within the margin.
    found = clustered_mean(values, clusters, level=1 - 2 * alpha, bounds=bounds, step=step)
    test = score_test(values, clusters, step=step)
    if test is None:
        below, above = (one_sided_p(found, edge, bounds) for edge in (margin, -margin))
    else:
        # An estimate on the far side of an edge speaks for the hypothesis, not against it.
        tails = [float(test.tail(edge)) for edge in (margin, -margin)]
        below = tails[0] if found.estimate < margin else 1 - tails[0]
        above = tails[1] if found.estimate > -margin else 1 - tails[1]
    # Both hypotheses must fall, so the weaker test decides; two tests need no correction here.
    p = max(below, above) if isfinite(below) and isfinite(above) else float("nan")
    same = ("estimate", "low", "high", "n", "clusters", "reason")
    return Equivalence(
        **{name: getattr(found, name) for name in same},
        p=p,
        p_below=below,
        p_above=above,
        margin=margin,
        alpha=alpha,
        equivalent=isfinite(p) and p <= alpha,
        method=f"TOST, {found.method}",
    )
