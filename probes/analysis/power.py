"""What a finished run could resolve, and how many items its next version needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite, nan, sqrt
from typing import Any

import pandas as pd

from probes import stats
from probes.analysis.cells import SETTING
from probes.analysis.pairing import differences
from probes.core.types import CONTRASTS


def planning(
    found: pd.DataFrame,
    *,
    power_wanted: float = 0.8,
    alpha: float = 0.05,
    effects: Sequence[float] = (),
) -> pd.DataFrame:
    """Return what each contrast of a run could have found, and the items that effects need.

    Args:
        found: as returned by `contrasts`, of accuracies.
        power_wanted: chance of finding a true effect.
        alpha: level of the two-sided test.
        effects: true effects, as proportions, to give the items needed for.

    Returns:
        The strict rows of `found` with: discordance (share of items that differ), minimum_effect
        (the least true effect that this many items find with that chance, at this run's spread and
        clusters), items_needed (for a true effect as large as the estimate; inf for none), and for
        every effect a column `items_for_<points>`, e.g. `items_for_5`.
    """
    rows = found[(found["policy"] == "strict") & (found["measure"] == "accuracy")].copy()
    rows["discordance"] = rows["discordant"] / rows["n"].where(rows["n"] > 0)
    least: list[float] = []
    needed: dict[str, list[float]] = {"items_needed": []}
    needed |= {column_for(effect): [] for effect in effects}
    for row in _each(rows):
        if row["n"] < 2:
            least.append(nan)
            for column in needed.values():
                column.append(nan)
            continue
        spread, options = _spread(row), _options(row, alpha)
        most = 2.0 if row["name"] == "did" else 1.0
        least.append(
            stats.minimum_effect(row["n"], spread, power_wanted=power_wanted, most=most, **options)
        )
        for column, effect in zip(needed.values(), [row["estimate"], *effects], strict=True):
            column.append(stats.items_needed(effect, spread, power_wanted=power_wanted, **options))
    rows["minimum_effect"] = least
    for name, column in needed.items():
        rows[name] = column
    return rows


def _spread(row: Mapping[str, Any]) -> Callable[[float], float]:
    """Return the spread of an item's difference by effect, at a contrast's mean square."""
    estimate, sd, n = row["estimate"], row["sd"], row["n"]
    return stats.sd_square(estimate**2 + sd**2 * (n - 1) / n)


def _options(row: Mapping[str, Any], alpha: float) -> stats.PowerOptions:
    """Return the level, and the clusters of a contrast."""
    # Where no item differs, how alike the items of a cluster are is unknown.
    inflation = row["design_effect"] if isfinite(row["design_effect"]) else 1.0
    return {
        "alpha": alpha,
        "design_effect": inflation,
        "per_cluster": row["n"] / max(row["clusters"], 1),
    }


def _each(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for _, row in rows.iterrows():
        yield {str(name): value for name, value in row.items()}


def column_for(effect: float) -> str:
    """Return the name of `planning`'s column of items needed for an effect (a proportion)."""
    return f"items_for_{100 * effect:g}"


def simulated(
    planned: pd.DataFrame,
    frame: pd.DataFrame,
    *,
    alpha: float = 0.05,
    draws: int = 2000,
    seed: int = 0,
    references: Mapping[str, str] | None = None,
) -> pd.Series:
    """Check `planning`: how often do resampled runs find the minimum effect?

    Whole clusters of this run are drawn with replacement.

    Args:
        planned: as returned by `planning`.
        frame: the records behind it.
        alpha: as given to `planning`.
        draws: resampled runs per row.
        seed: seed of the resampling.
        references: as given to `contrasts`.

    Returns:
        A share per row of `planned`; near the power wanted where the formula holds, NaN where there
        is no minimum effect.
    """
    names = [name for name in CONTRASTS if name in set(planned["name"])]
    columns = [*SETTING, "name", "role", "arm"]
    values = differences(frame, names=names, references=references)
    groups = values.groupby(columns, sort=False).indices
    out = []
    for row in _each(planned):
        pairs = values.iloc[groups[tuple(row[name] for name in columns)]]
        if row["stratum"]:
            pairs = pairs[pairs["stratum"] == row["stratum"]]
        effect = row["minimum_effect"]
        # Moving all differences keeps their variance; the plan's goes down with the effect.
        spread = pairs["difference"].to_numpy(float)
        planned_sd = _spread(row)(effect) if isfinite(effect) else nan
        if not (isfinite(planned_sd) and planned_sd > 0 and row["sd"] > 0):
            out.append(nan)
            continue
        fitted = spread * (planned_sd / (row["sd"] * sqrt((row["n"] - 1) / row["n"])))
        out.append(
            stats.power_by_resampling(
                fitted, pairs["cluster"], effect, alpha=alpha, draws=draws, seed=seed
            )
        )
    return pd.Series(out, index=planned.index, dtype=float)
