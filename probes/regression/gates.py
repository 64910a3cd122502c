"""The two gates: are the records the same, and do the metrics stay within their bands?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, isnan

import numpy as np
from numpy.typing import NDArray

from probes import stats
from probes.analysis.cells import CellTable, tables
from probes.analysis.pairing import matched, paired
from probes.core.errors import ProbesError
from probes.core.types import CONTRASTS
from probes.regression.baseline import Metric
from probes.regression.compare import matched_answers, tied
from probes.regression.snapshot import UNKNOWN, BaselineAnswer, CellName, Snapshot

SAME = 1e-4
"""Nats: "the same" log-probability on one platform, whatever batch, shard or order."""
# Six decimal places are kept, on both sides.
_ROUNDING = 1.1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is not the same."""

    cell: CellName
    before: BaselineAnswer
    now: BaselineAnswer
    fields: tuple[str, ...]
    """Which of key, status, choice, tokens and log-probabilities differ."""
    largest: float
    """Largest change of a log-probability (nats); 0 where there are none to compare."""


def platform_differences(base: Snapshot, run: Snapshot) -> list[str]:
    """Return why the exact gate does not apply; empty where it does."""
    differing, unknown = [], []
    for name in sorted({*base.platform, *run.platform}):
        before, now = base.platform.get(name, UNKNOWN), run.platform.get(name, UNKNOWN)
        if UNKNOWN in (before, now):
            unknown.append(name)
        elif before != now:
            differing.append(f"{name} is {now or 'none'}, in the baseline {before or 'none'}")
    return differing + ([f"a manifest does not state {', '.join(unknown)}"] if unknown else [])


def exact(base: Snapshot, run: Snapshot) -> list[Difference]:
    """Return the records that are not the same as in the baseline; ties are excused."""
    out = []
    for name, before, now in matched_answers(base, run):
        largest = _largest_change(before, now)
        excused = tied(before, now, name.scoring, SAME)
        checks = {
            "key": before.key != now.key,
            "status": before.status != now.status,
            "choice": before.choice != now.choice and not excused,
            "tokens": before.tokens != now.tokens,
            "log-probabilities": largest > SAME + _ROUNDING,
        }
        if fields := tuple(field for field, differs in checks.items() if differs):
            out.append(Difference(name, before, now, fields, largest))
    return out


def _largest_change(before: BaselineAnswer, now: BaselineAnswer) -> float:
    if len(before.logprobs) != len(now.logprobs):
        return 0.0
    pairs = zip(before.logprobs, now.logprobs, strict=True)
    gaps = [0.0 if isnan(a) and isnan(b) else abs(a - b) for a, b in pairs]
    return max((np.inf if isnan(gap) else gap for gap in gaps), default=0.0)


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric before and now; proportions, except for the band."""

    metric: Metric
    before: float
    now: float
    low: float
    """Lower end of the 95 % interval of `now - before`; NaN where undefined."""
    high: float
    changed: int
    """Items whose value of the metric differs."""
    n: int
    """Items with a public answer."""
    clusters: int
    band: float
    """Percentage points."""
    reason: str
    """Why the interval is undefined."""

    @property
    def estimate(self) -> float:
        """`now - before`."""
        return self.now - self.before

    @property
    def least_band(self) -> float:
        """The narrowest band that lets this change pass (percentage points); inf: none does."""
        if not self.changed:
            return 0.0
        reach = 100 * max(abs(self.low), abs(self.high))
        return reach if isfinite(reach) else np.inf

    @property
    def passed(self) -> bool:
        """Whether no item changed, or the whole interval is within the band."""
        return self.least_band <= self.band + 1e-9


@dataclass(frozen=True, slots=True)
class ItemValues:
    """A metric item by item; its mean is the metric."""

    items: NDArray[np.object_]
    """Ids of the items with a public answer [n]."""
    clusters: NDArray[np.intp]
    values: NDArray[np.float64]
    """Proportions; means over several donors count as one answer."""


def values_by_metric(snapshot: Snapshot) -> dict[Metric, ItemValues]:
    """Return every metric of a snapshot's cells that has an item with a public answer."""
    frame = snapshot.frame()
    out: dict[Metric, ItemValues] = {}
    for table in tables(frame):
        items = table.items
        for cell in table.cells.values():
            out[Metric("accuracy", _cell_name(table, cell.role, cell.arm))] = ItemValues(
                items.ids[cell.items], items.clusters[cell.items], cell.strict
            )
    for table, match in matched(frame, CONTRASTS):
        items = table.items
        (pairing,) = paired(table, match, "accuracy", ("strict",))
        out[Metric(match.name, _cell_name(table, match.role, match.arm))] = ItemValues(
            items.ids[pairing.items], items.clusters[pairing.items], pairing.differences
        )
    return {metric: values for metric, values in out.items() if len(values.values)}


def _cell_name(table: CellTable, role: str, arm: str) -> CellName:
    task, _, pair, frames, scoring, seed = table.group
    return CellName(task, pair, frames, scoring, seed, role, arm)


def statistical(base: Snapshot, run: Snapshot, bands: Mapping[Metric, float]) -> list[MetricChange]:
    """Compare every declared metric with its band.

    Per item the metric is taken in both runs and subtracted; the mean of those differences has the
    project's cluster-robust 95 % interval. A metric passes if no item changed, or if the whole
    interval is within -band .. +band.

    Args:
        base: the baseline's answers.
        run: the run's, cell by cell as in `base`, ties decided as there (`compare.resolve_ties`).
        bands: percentage points by metric.

    Raises:
        ProbesError: a declared metric that cannot be computed from the baseline's cells.
    """
    before, now = values_by_metric(base), values_by_metric(run)
    if unknown := [metric for metric in bands if metric not in before]:
        raise ProbesError(
            f"the baseline declares {unknown[0].label}, but its cells do not give that metric",
            "metrics",
            "remove that line, or write the baseline anew with --update",
        )
    return [_change(metric, before[metric], now[metric], band) for metric, band in bands.items()]


def _change(metric: Metric, before: ItemValues, now: ItemValues, band: float) -> MetricChange:
    if not np.array_equal(before.items, now.items):
        raise ProbesError(f"{metric.label}: the items differ", "metrics", "write a new baseline")
    differences = now.values - before.values
    # Means over donors need not cancel to the last digit.
    differences[np.abs(differences) < 1e-12] = 0.0
    most = {"accuracy": 1.0, "did": 4.0}.get(metric.name, 2.0)
    found = stats.clustered_mean(differences, before.clusters, bounds=(-most, most))
    changed = int(np.count_nonzero(differences))
    low, high = (found.low, found.high) if changed else (0.0, 0.0)
    return MetricChange(
        metric=metric,
        before=float(before.values.mean()),
        now=float(now.values.mean()),
        low=low,
        high=high,
        changed=changed,
        n=len(differences),
        clusters=found.clusters,
        band=band,
        reason=found.reason if changed else "",
    )
