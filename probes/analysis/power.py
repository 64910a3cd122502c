"""What a finished run could resolve, and how many items its next version needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd

from probes import stats
from probes.analysis.columns import CONTRAST, rows_of, where
from probes.analysis.formats import PROPORTION
from probes.analysis.measures import Measure
from probes.analysis.pairing import differences, per_item
from probes.core.types import CONTRASTS

_FAR = 100.0
"""Standard errors within which the least effect of an unbounded measure is searched."""


def planning(
    found: pd.DataFrame,
    *,
    measure: str | Measure = "accuracy",
    power_wanted: float = stats.POWER,
    alpha: float = stats.ALPHA,
    effects: Sequence[float] = (),
) -> pd.DataFrame:
    """Return what each contrast of a run could have found, and the items that effects need.

    Args:
        found: as returned by `contrasts`.
        measure: whose rows are taken; not one that compares whole cells.
        power_wanted: chance of finding a true effect.
        alpha: level of the two-sided test.
        effects: true effects, in the measure's unit (of accuracies: proportions), to give the items
            needed for.

    Returns:
        The measure's strict rows of `found` (where it has no such, the complete ones) with:
        discordance (share of items that differ), minimum_effect (the least true effect that this
        many items find with that chance, at this run's spread and clusters), items_needed (for a
        true effect as large as the estimate; inf for none), and for every effect a column
        `items_for_<points>` (or another unit), e.g. `items_for_5`.
    """
    taken = per_item(measure)
    rows = where(found, policy=taken.policies[0], measure=taken.name).copy()
    rows["discordance"] = rows["discordant"] / rows["n"].where(rows["n"] > 0)
    added = ["minimum_effect", "items_needed", *(column_for(one, taken.unit) for one in effects)]
    found_by_row = []
    for row in rows_of(rows):
        # One item has no spread to plan with.
        if row["n"] < 2:
            found_by_row.append([nan] * len(added))
            continue
        spread, options = _spread(row, taken), _options(row, alpha)
        reach = taken.difference_bounds(4 if row["name"] == "did" else 2) or (-inf, inf)
        # Without discordance there is no greatest effect: far beyond the noise all are found.
        noise = sqrt(options["design_effect"] / row["n"]) * row["sd"]
        most = reach[1] if taken.is_share else min(reach[1], _FAR * noise)
        least = stats.minimum_effect(
            row["n"], spread, power_wanted=power_wanted, most=most, **options
        )
        needed = [
            stats.items_needed(effect, spread, power_wanted=power_wanted, **options)
            for effect in (row["estimate"], *effects)
        ]
        found_by_row.append([least, *needed])
    rows[added] = np.array(found_by_row, dtype=np.float64).reshape(len(rows), len(added))
    return rows


def _spread(row: Mapping[str, Any], measure: Measure) -> stats.Spread:
    """Return the spread of an item's difference, for shares of items by effect."""
    estimate, sd, n = row["estimate"], float(row["sd"]), row["n"]
    # A greater share of right answers changes how many items differ; a shift leaves its spread.
    # Spread is over n - 1 here, mean squares over n.
    return stats.sd_square(estimate**2 + sd**2 * (n - 1) / n) if measure.is_share else sd


def _options(row: Mapping[str, Any], alpha: float) -> stats.PowerOptions:
    """Return the level, and the clusters of a contrast."""
    # Where no item differs, how alike the items of a cluster are is unknown.
    inflation = row["design_effect"] if isfinite(row["design_effect"]) else 1.0
    per_cluster = row["n"] / max(row["clusters"], 1)
    return {"alpha": alpha, "design_effect": inflation, "per_cluster": per_cluster}


def column_for(effect: float, unit: str = PROPORTION) -> str:
    """Return the name of `planning`'s column of items needed for an effect."""
    return f"items_for_{100 * effect if unit == PROPORTION else effect:g}"


def simulated(
    planned: pd.DataFrame,
    frame: pd.DataFrame,
    *,
    measure: str | Measure = "accuracy",
    alpha: float = stats.ALPHA,
    draws: int = 2000,
    seed: int = 0,
    references: Mapping[str, str] | None = None,
) -> pd.Series:
    """Check `planning`: how often do resampled runs find the minimum effect?

    Whole clusters of this run are drawn with replacement.

    Args:
        planned: as returned by `planning`.
        frame: the records behind it.
        measure: as given to `planning`.
        alpha: as given to `planning`.
        draws: resampled runs per row.
        seed: seed of the resampling.
        references: as given to `contrasts`.

    Returns:
        A share per row of `planned`; near the power wanted where the formula holds, NaN where there
        is no minimum effect.
    """
    taken = per_item(measure)
    names = [name for name in CONTRASTS if name in set(planned["name"])]
    values = differences(frame, names=names, measure=taken, references=references)
    groups = values.groupby(list(CONTRAST), sort=False).indices
    out = []
    for row in rows_of(planned):
        effect = row["minimum_effect"]
        spread = _spread(row, taken) if isfinite(effect) else nan
        planned_sd = spread(effect) if callable(spread) else spread
        if not (isfinite(planned_sd) and planned_sd > 0 and row["sd"] > 0):
            out.append(nan)
            continue
        pairs = values.iloc[groups[tuple(row[name] for name in CONTRAST)]]
        if row["stratum"]:
            pairs = where(pairs, stratum=row["stratum"])
        # Moving all differences keeps their variance; the plan's goes down with the effect.
        rescaled = planned_sd / (row["sd"] * sqrt((row["n"] - 1) / row["n"]))
        fitted = pairs["difference"].to_numpy(float) * rescaled
        out.append(
            stats.power_by_resampling(
                fitted, pairs["cluster"], effect, alpha=alpha, draws=draws, seed=seed
            )
        )
    return pd.Series(out, index=planned.index, dtype=float)
