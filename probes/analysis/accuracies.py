"""One row per cell: accuracy with its interval, and what guessing would reach."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes import stats
from probes.analysis.cells import Cell, Items, tables
from probes.analysis.columns import SETTING

COLUMNS = (
    *SETTING,
    *"role member arm stratum n clusters accuracy low high complete_n complete_accuracy".split(),
    *"chance majority majority_option records unparsed failed withheld".split(),
)


def accuracies(
    frame: pd.DataFrame, *, by_stratum: bool = False, stratify: bool = False, level: float = 0.95
) -> pd.DataFrame:
    """Return the accuracy of every cell.

    Args:
        frame: as returned by `load`, or part of it.
        by_stratum: adds a row per stratum.
        stratify: a cell's accuracy is the mean over its strata, each counting the same; its
            spread is then measured within strata.
        level: coverage of the intervals.

    Returns:
        One row per cell: settings, role, member, arm, stratum, n (items whose right answer is
        known and at which no machine failed), clusters, accuracy (strict: unparsed is wrong) with
        low and high (Wilson, at the effective number of
        items), complete_n and complete_accuracy (parsed answers only), chance (mean
        of 1 / number of options), majority (the accuracy of always giving majority_option, the
        commonest right answer), and the whole cell's counts: records, unparsed, failed (records),
        withheld (items whose right answer is withheld).
    """
    rows: list[dict[str, Any]] = []
    for table in tables(frame):
        for cell in table.cells.values():
            for stratum, chosen in _strata(table.items, cell, by_stratum):
                # Within one stratum there is nothing to average: Wilson's interval applies.
                equal = stratify and not stratum
                row = _row(table.items, cell, chosen, level, equal)
                rows.append({**table.settings, "stratum": stratum, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _strata(items: Items, cell: Cell, by_stratum: bool) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the whole cell, named "", and each of its strata, with the items chosen [n]."""
    yield "", np.ones(len(cell.items), dtype=bool)
    if by_stratum:
        strata = items.strata[cell.items]
        # Items without a stratum belong to the whole only.
        for stratum in sorted({str(name) for name in strata} - {""}):
            yield stratum, strata == stratum


def _row(
    items: Items, cell: Cell, chosen: NDArray[np.bool_], level: float, equal_strata: bool
) -> dict[str, Any]:
    # Where a machine failed there is no answer to count.
    chosen = chosen & ~np.isnan(cell.values["strict"])
    strict, complete = cell.values["strict"][chosen], cell.values["complete"][chosen]
    parsed = complete[~np.isnan(complete)]  # NaN: no donor's answer could be parsed
    numbers = cell.items[chosen]
    found = stats.accuracy(
        strict,
        items.clusters[numbers],
        level,
        strata=items.strata[numbers] if equal_strata else None,
        weights="strata" if equal_strata else "items",
    )
    majority, option = position_majority(items.answers[numbers])
    of_cell = ("role", "member", "arm", "unparsed", "failed", "withheld")
    return {
        **{name: getattr(cell, name) for name in of_cell},
        **{name: getattr(found, name) for name in ("n", "clusters", "low", "high")},
        "accuracy": found.estimate,
        "complete_n": len(parsed),
        "complete_accuracy": float(parsed.mean()) if len(parsed) else nan,
        "chance": chance(items.n_options[numbers]),
        "majority": majority,
        "majority_option": option,
        "records": cell.rows,
    }


def chance(n_options: NDArray[np.float64]) -> float:
    """Return the accuracy of guessing evenly, over items whose number of options is known (> 0)."""
    known = n_options[n_options > 0]
    return float((1 / known).mean()) if len(known) else nan


def position_majority(answers: NDArray[np.float64]) -> tuple[float, int]:
    """Return the accuracy of always giving the commonest answer, and which answer that is.

    NaN and -1 where there are no answers.
    """
    if not len(answers):
        return nan, -1
    # No NaN to cast: items with a withheld answer are in no cell of accuracies.
    counts = np.bincount(answers.astype(np.intp))
    # Of equally common answers argmax names the first.
    return float(counts.max() / len(answers)), int(counts.argmax())
