"""The statistical gate: has a metric changed, can a change not be excluded, or is it the same?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probes import stats
from probes.analysis.cells import CellTable, tables
from probes.analysis.formats import PROPORTION
from probes.analysis.pairing import matched, paired, per_item
from probes.core.errors import ProbesError
from probes.core.types import CONTRASTS
from probes.regression.baseline import Baseline, Metric, MetricFamily
from probes.regression.snapshot import CellName, Snapshot
from probes.stats.estimate import Floats

Outcome = Literal["changed", "not excluded", "same"]
"""What a metric did: `changed` (its interval excludes 0, the adjusted p-value is at most 0.05, and
the change is larger than the band), `not excluded` (a change larger than the band is neither shown
nor ruled out) or `same` (the whole interval lies within the band, or no item changed)."""
# A band in points and an interval in proportions differ in their last digits.
_LAST_DIGITS = 1e-9


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric before and now, in its measure's unit (of accuracies: proportions)."""

    metric: Metric
    family: MetricFamily
    before: float
    now: float
    low: float
    """Lower end of the 95 % interval of `now - before`; NaN where undefined."""
    high: float
    p: float
    """Of "no change", for this metric alone; NaN where undefined."""
    adjusted: float
    """By Holm within the family; of "no change" too."""
    changed: int
    """Items whose value of the metric differs."""
    n: int
    """Items that have a value in both runs."""
    clusters: int
    band: float
    """Percentage points, or the measure's unit."""
    unit: str
    reason: str
    """Why the interval is undefined."""

    @property
    def estimate(self) -> float:
        """`now - before`."""
        return self.now - self.before

    @property
    def least_band(self) -> float:
        """The narrowest band with which this is `same`; inf: none is wide enough."""
        if not self.changed:
            return 0.0
        reach = max(abs(self.low), abs(self.high)) * self._scale
        return reach if isfinite(reach) else inf

    @property
    def outcome(self) -> Outcome:
        """What the metric did."""
        if is_changed(self.estimate * self._scale, self.low, self.high, self.adjusted, self.band):
            return "changed"
        return "same" if is_within(self.least_band, self.band) else "not excluded"

    @property
    def _scale(self) -> float:
        return 100 if self.unit == PROPORTION else 1


def is_changed(estimate: Any, low: Any, high: Any, adjusted: Any, band: Any) -> Any:
    """Return whether metrics have changed, for numbers or for arrays of them.

    Args:
        estimate: of the change, in the band's unit.
        low: lower end of its 95 % interval, in any unit; NaN where undefined.
        high: upper end.
        adjusted: the p-value, by Holm within the family; NaN where undefined.
        band: how far the metric may move.
    """
    # The p-value alone would do for t intervals; a score interval (no spread) can disagree with it.
    shown = ((low > 0) | (high < 0)) & (adjusted <= stats.ALPHA)
    return shown & (abs(estimate) > band + _LAST_DIGITS)


def is_within(reach: Any, band: Any) -> Any:
    """Return whether intervals that reach so far from 0 lie within bands."""
    return reach <= band + _LAST_DIGITS


@dataclass(frozen=True, slots=True)
class ItemValues:
    """A metric item by item; its mean is the metric."""

    items: NDArray[np.object_]
    """Ids of the items that have a value [n]."""
    clusters: NDArray[np.intp]
    values: Floats
    """In the measure's unit; means over several donors count as one answer."""


def values_by_metric(
    snapshot: Snapshot, measures: Iterable[str] = ("accuracy",)
) -> dict[Metric, ItemValues]:
    """Return every metric of a snapshot's cells of which some item has a value.

    Args:
        snapshot: of a run or a baseline.
        measures: by name; a baseline keeps choices and log-probabilities, and no extras.
    """
    frame = snapshot.frame()
    out: dict[Metric, ItemValues] = {}
    for name in measures:
        measure = per_item(name)
        policy = measure.policies[0]
        for table in tables(frame, measure):
            items = table.items
            for cell in table.cells.values():
                known = ~np.isnan(cell.values[policy])
                at = cell.items[known]
                where = _cell_name(table, cell.role, cell.arm)
                metric = Metric("accuracy" if name == "accuracy" else "mean", where, name)
                values = cell.values[policy][known]
                out[metric] = ItemValues(items.ids[at], items.clusters[at], values)
        # A gate compares a member with itself, so its own scale will do.
        for table, match in matched(frame, CONTRASTS, replace(measure, across=None)):
            items = table.items
            (pairs,) = paired(table, match, measure, (policy,))
            metric = Metric(match.name, _cell_name(table, match.role, match.arm), name)
            out[metric] = ItemValues(
                items.ids[pairs.items], items.clusters[pairs.items], pairs.differences
            )
    return {metric: values for metric, values in out.items() if len(values.values)}


def _cell_name(table: CellTable, role: str, arm: str) -> CellName:
    task, _, pair, frames, scoring, seed = table.group
    return CellName(task, pair, frames, scoring, seed, role, arm)


def failed_items(*snapshots: Snapshot) -> dict[CellName, set[str]]:
    """Return, by cell, the items of which an answer failed by machine in one of some snapshots."""
    out: dict[CellName, set[str]] = defaultdict(set)
    for snapshot in snapshots:
        for cell in snapshot.cells:
            if found := {one.item_id for one in cell.answers if one.status == "error"}:
                out[cell.name] |= found
    return dict(out)


def require_answers(snapshot: Snapshot, where: str) -> None:
    """Raise ProbesError where more answers of a cell failed than may be left out.

    Args:
        snapshot: of a run or a baseline.
        where: names it.
    """
    failed = failed_items(snapshot)
    asked = {cell.name: len({one.item_id for one in cell.answers}) for cell in snapshot.cells}
    above = [
        f"{len(items)} of {asked[cell]} items in {cell.label}"
        for cell, items in failed.items()
        if len(items) > snapshot.most_failed * asked[cell]
    ]
    if above:
        raise ProbesError(
            "cannot be judged: answers failed by machine, above "
            f"{100 * snapshot.most_failed:g} % of a cell:\n    " + "\n    ".join(above),
            where,
            "run it again: what failed is asked again, the rest comes from the store",
        )


def statistical(base: Snapshot, run: Snapshot, declared: Baseline) -> list[MetricChange]:
    """Judge every declared metric, family by family.

    Per item the metric is taken in both runs and subtracted; the mean of those differences has the
    project's cluster-robust 95 % interval and test. Items of which an answer failed by machine in
    either run are left out of the metrics of that cell.

    Args:
        base: the baseline's answers.
        run: the run's, cell by cell as in `base`, ties decided as there (`compare.resolve_ties`).
        declared: the metrics, their bands and families.

    Raises:
        ProbesError: a declared metric that cannot be computed from the cells.
    """
    measures = dict.fromkeys(metric.measure for metric in declared.bands)
    before, now = values_by_metric(base, measures), values_by_metric(run, measures)
    failed = failed_items(base, run)
    changes = []
    for metric in (one for metrics in declared.by_family().values() for one in metrics):
        for whose, known in (("its", before), ("the run's", now)):
            if metric not in known:
                raise ProbesError(
                    f"the baseline declares {metric.label}, but {whose} cells do not give that "
                    "metric",
                    "metrics",
                    "remove that line, or write the baseline anew with --update",
                )
        cells = metric.weights(base.references)
        without = {item for cell in cells for item in failed.get(cell, ())}
        changes.append(_change(metric, before[metric], now[metric], declared, without))
    # By families: what else is guarded takes no power from the primary metrics.
    by_family = [[one for one in changes if one.family == name] for name in declared.by_family()]
    return [
        replace(one, adjusted=float(p))
        for family in by_family
        for one, p in zip(family, stats.holm([one.p for one in family]), strict=True)
    ]


def _change(
    metric: Metric,
    before: ItemValues,
    now: ItemValues,
    declared: Baseline,
    without: Collection[str],
) -> MetricChange:
    """Return the change of a metric over the items that have a value in both runs."""
    # Failed answers have no value of most measures, so either run may lack a few items.
    _, old, new = np.intersect1d(before.items, now.items, assume_unique=True, return_indices=True)
    kept = ~np.isin(before.items[old], list(without))
    old, new = old[kept], new[kept]
    if not len(old):
        raise ProbesError(
            f"{metric.label}: no item has a value in both runs",
            "metrics",
            "remove that line, or write the baseline anew with --update",
        )
    # intersect1d sorts by id; the baseline's order is restored.
    order = np.argsort(old)
    old, new = old[order], new[order]
    differences = now.values[new] - before.values[old]
    # Means over donors need not cancel to the last digit.
    differences[np.abs(differences) < 1e-12] = 0.0
    measure = per_item(metric.measure)
    cells = {"accuracy": 1, "mean": 1, "did": 4}.get(metric.name, 2)
    # Now less before has twice the metric's cells, and so its range. The t interval: error rates
    # are simulated from sums by cluster (`reruns`), which are all that it needs.
    found = stats.clustered_mean(
        differences,
        before.clusters[old],
        bounds=measure.difference_bounds(2 * cells),
        kind="cr2",
    )
    changed = int(np.count_nonzero(differences))
    low, high, p, reason = found.low, found.high, found.p, found.reason
    if not changed:
        # Known exactly, and needs no score interval.
        low, high, p, reason = 0.0, 0.0, 1.0, ""
    elif measure.bounds is None and found.clusters > 1 and np.ptp(differences) < 1e-12:
        # Without bounds there is no score interval; all clusters of one sign have this p.
        low = high = found.estimate
        p, reason = 2.0 ** (1 - found.clusters), ""
    return MetricChange(
        metric=metric,
        family=declared.family(metric),
        before=float(before.values[old].mean()),
        now=float(now.values[new].mean()),
        low=low,
        high=high,
        p=p,
        adjusted=p,
        changed=changed,
        n=len(differences),
        clusters=found.clusters,
        band=declared.bands[metric],
        unit=measure.unit,
        reason=reason,
    )
