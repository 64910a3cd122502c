"""Evidence that a contrast is small: "the video member gains nothing" needs a test of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import pandas as pd

from probes import stats
from probes.analysis.columns import MATCH, SETTING
from probes.analysis.measures import POLICIES, Measure, Policy
from probes.analysis.pairing import check, matched, paired, per_item
from probes.core.errors import ProbesError


def equivalences(
    frame: pd.DataFrame,
    margin: float,
    *,
    names: Sequence[str] = ("gain",),
    measure: str | Measure = "accuracy",
    policies: Sequence[Policy] = POLICIES,
    alpha: float = stats.ALPHA,
    references: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Test whether contrasts are within (-margin, margin) (two one-sided tests).

    Args:
        frame: as returned by `load`, or part of it.
        margin: the smallest difference that would matter, in the measure's unit (of accuracies: a
            proportion in (0, 1)); to be fixed before looking.
        names: which contrasts; see `contrasts`.
        measure: see `contrasts`; not one that compares whole cells.
        policies: see `contrasts`.
        alpha: level of either one-sided test.
        references: see `contrasts`.

    Returns:
        One row per contrast: settings, name, role, member, arm, reference, policy, and the fields
        of `stats.Equivalence`: estimate, low and high (of the interval with coverage 1 - 2 alpha),
        p, p_below, p_above, margin, alpha, equivalent, n, clusters, method and reason. `p_below`
        alone is the test of "gains less than the margin".

    Raises:
        ProbesError: a margin or level without meaning, or cells that must not be compared.
    """
    check(names, policies)
    taken = per_item(measure)
    # A margin as wide as the measure's range would be met by any data.
    low, high = taken.bounds or (0.0, inf)
    if not 0 < margin < high - low:
        raise ProbesError(
            f"a margin is between 0 and {high - low:g}, got {margin}",
            "margin",
            "two points of accuracy are 0.02",
        )
    if not 0 < alpha < 0.5:
        raise ProbesError(f"a level is between 0 and 0.5, got {alpha}", "alpha", "try 0.05")
    fields = [field.name for field in dataclasses.fields(stats.Equivalence)]
    rows: list[dict[str, Any]] = []
    for table, match in matched(frame, names, taken, references):
        for pairs in paired(table, match, taken, policies):
            found = stats.equivalence(
                pairs.differences,
                margin,
                table.items.clusters[pairs.items],
                alpha=alpha,
                bounds=taken.difference_bounds(len(match.cells)),
                step=taken.step,
            )
            tested = {name: getattr(found, name) for name in fields}
            rows.append({**table.settings, **match.columns, "policy": pairs.policy, **tested})
    return pd.DataFrame(rows, columns=[*SETTING, *MATCH, "policy", *fields])
