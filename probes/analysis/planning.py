"""From a finished run to the next one: what it could resolve, and how many items it would take."""

from __future__ import annotations

from math import nan
from typing import Any

import pandas as pd

from probes import stats


def planning(
    found: pd.DataFrame, *, power_wanted: float = 0.8, alpha: float = 0.05
) -> pd.DataFrame:
    """Return what each contrast of a run could have found, and what its estimate would need.

    Args:
        found: as returned by `contrasts`, of accuracies.
        power_wanted: chance of finding a true effect.
        alpha: level of the two-sided test.

    Returns:
        The strict rows of `found` with: discordance (share of items that differ), minimum_effect
        (the least true effect that this many items find with that chance, at this run's spread and
        clusters) and items_needed (for a true effect as large as the estimate; inf for none).
    """
    rows = found[(found["policy"] == "strict") & (found["measure"] == "accuracy")].copy()
    rows["discordance"] = rows["discordant"] / rows["n"].where(rows["n"] > 0)
    least, needed = [], []
    each: list[dict[str, Any]] = [dict(row) for _, row in rows.iterrows()]
    for row in each:
        n, sd = row["n"], row["sd"]
        usable = sd > 0 and row["design_effect"] > 0
        common = {
            "power_wanted": power_wanted, "alpha": alpha, "design_effect": row["design_effect"],
            "per_cluster": n / max(row["clusters"], 1),
        }  # fmt: skip
        most = 2.0 if row["name"] == "did" else 1.0
        least.append(stats.minimum_effect(n, sd, most=most, **common) if usable else nan)
        needed.append(stats.items_needed(row["estimate"], sd, **common) if usable else nan)
    rows["minimum_effect"] = least
    rows["items_needed"] = needed
    return rows
