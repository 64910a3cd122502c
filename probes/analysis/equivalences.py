"""Evidence that a contrast is small: "the video member gains nothing" needs a test of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from probes import stats
from probes.analysis.cells import SETTING
from probes.analysis.pairing import MATCH, Policy, check, matched, paired
from probes.core.errors import ProbesError


def equivalences(
    frame: pd.DataFrame,
    margin: float,
    *,
    names: Sequence[str] = ("gain",),
    policies: Sequence[Policy] = ("strict", "complete"),
    alpha: float = 0.05,
    references: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Test whether contrasts of accuracies are within (-margin, margin) (two one-sided tests).

    Args:
        frame: as returned by `load`, or part of it.
        margin: the smallest difference that would matter, a proportion in (0, 1); to be fixed
            before looking.
        names: which contrasts; see `contrasts`.
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
    check(names, "accuracy", policies)
    if not 0 < margin < 1:
        raise ProbesError(
            f"a margin is a proportion between 0 and 1, got {margin}",
            "margin",
            "two points are 0.02",
        )
    if not 0 < alpha < 0.5:
        raise ProbesError(f"a level is between 0 and 0.5, got {alpha}", "alpha", "try 0.05")
    fields = [field.name for field in dataclasses.fields(stats.Equivalence)]
    columns = [*SETTING, *MATCH, "policy", *fields]
    rows: list[dict[str, Any]] = []
    for table, match in matched(frame, names, "accuracy", references):
        bound = len(match.cells) / 2
        for pairs in paired(table, match, "accuracy", policies):
            clusters = table.items.clusters[pairs.items]
            found = stats.equivalence(
                pairs.differences, margin, clusters, alpha=alpha, bounds=(-bound, bound)
            )
            tested = {name: getattr(found, name) for name in fields}
            rows.append({**table.settings, **match.columns, "policy": pairs.policy, **tested})
    return pd.DataFrame(rows, columns=columns)
