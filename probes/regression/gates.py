"""The two gates: are the records the same, and do the metrics stay within their bands?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan

import numpy as np
from numpy.typing import NDArray

from probes import stats
from probes.analysis.cells import CellTable, tables
from probes.analysis.formats import PROPORTION
from probes.analysis.pairing import matched, paired, per_item
from probes.core.errors import ProbesError
from probes.core.types import CONTRASTS
from probes.regression.baseline import Metric
from probes.regression.compare import matched_answers, tied
from probes.regression.snapshot import UNKNOWN, BaselineAnswer, CellName, Snapshot

SAME = 1e-4
"""Nats: "the same" log-probability on one platform, whatever batch, shard or order."""
# Six decimal places are kept on both sides: two roundings, and some for the last bit.
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
        # Not knowing counts against the exact gate: a difference in arithmetic could be a failure.
        if UNKNOWN in (before, now):
            unknown.append(name)
        elif before != now:
            differing.append(f"{name} is {now or 'none'}, in the baseline {before or 'none'}")
    differing += _origin_differences(base, run)
    return differing + ([f"a manifest does not state {', '.join(unknown)}"] if unknown else [])


def _origin_differences(base: Snapshot, run: Snapshot) -> list[str]:
    """Return how what computed the answers differs, where both state it."""
    found = []
    for name, now in run.origins.items():
        # Which answer is of which origin is not kept: a mixture is equal to nothing.
        if len(now) > 1:
            found.append(f"answers of {name} come from {len(now)} origins")
        elif (before := base.origins.get(name)) is not None and not _alike(before, now):
            was = " + ".join(before)
            found.append(f"answers of {name} were computed by {now[0]}, in the baseline by {was}")
    return found


def _alike(before: Sequence[str], now: Sequence[str]) -> bool:
    """Return whether answers were computed alike, by the libraries that both name.

    One that a single side has (peft, of an adapter) makes another member, not another platform.
    """
    split = [text.partition("; ") for text in (*before, *now)]
    named = [{one.rpartition(" ")[0] for one in libraries.split(", ")} for libraries, _, _ in split]
    shared = set.intersection(*named)
    kept = {
        (frozenset(one for one in libraries.split(", ") if one.rpartition(" ")[0] in shared), rest)
        for libraries, _, rest in split
    }
    return len(kept) == 1


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
    # Another number of options shows as other tokens.
    if len(before.logprobs) != len(now.logprobs):
        return 0.0
    pairs = zip(before.logprobs, now.logprobs, strict=True)
    gaps = [0.0 if isnan(a) and isnan(b) else abs(a - b) for a, b in pairs]
    # NaN on one side only is a change; max() alone could pass over it.
    return max((np.inf if isnan(gap) else gap for gap in gaps), default=0.0)


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric before and now, in its measure's unit (of accuracies: proportions)."""

    metric: Metric
    before: float
    now: float
    low: float
    """Lower end of the 95 % interval of `now - before`; NaN where undefined."""
    high: float
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
        """The narrowest band that lets this change pass; inf: none does."""
        if not self.changed:
            return 0.0
        # Of the whole interval: with few items a wide one fails rather than passes.
        reach = max(abs(self.low), abs(self.high)) * (100 if self.unit == PROPORTION else 1)
        return reach if isfinite(reach) else np.inf

    @property
    def passed(self) -> bool:
        """Whether no item changed, or the whole interval is within the band."""
        # A band in points and an interval in proportions differ in their last digits.
        return self.least_band <= self.band + 1e-9


@dataclass(frozen=True, slots=True)
class ItemValues:
    """A metric item by item; its mean is the metric."""

    items: NDArray[np.object_]
    """Ids of the items that have a value [n]."""
    clusters: NDArray[np.intp]
    values: NDArray[np.float64]
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


def statistical(base: Snapshot, run: Snapshot, bands: Mapping[Metric, float]) -> list[MetricChange]:
    """Compare every declared metric with its band.

    Per item the metric is taken in both runs and subtracted; the mean of those differences has the
    project's cluster-robust 95 % interval. A metric passes if no item changed, or if the whole
    interval is within -band .. +band.

    Args:
        base: the baseline's answers.
        run: the run's, cell by cell as in `base`, ties decided as there (`compare.resolve_ties`).
        bands: percentage points (or the measure's unit) by metric.

    Raises:
        ProbesError: a declared metric that cannot be computed from the cells.
    """
    measures = dict.fromkeys(metric.measure for metric in bands)
    before, now = values_by_metric(base, measures), values_by_metric(run, measures)
    for metric in bands:
        for whose, known in (("its", before), ("the run's", now)):
            if metric not in known:
                raise ProbesError(
                    f"the baseline declares {metric.label}, but {whose} cells do not give that "
                    "metric",
                    "metrics",
                    "remove that line, or write the baseline anew with --update",
                )
    return [_change(metric, before[metric], now[metric], band) for metric, band in bands.items()]


def _change(metric: Metric, before: ItemValues, now: ItemValues, band: float) -> MetricChange:
    # Failed answers have no value of most measures, so either run may lack a few items.
    _, old, new = np.intersect1d(before.items, now.items, assume_unique=True, return_indices=True)
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
    # Now less before has twice the metric's cells, and so its range.
    found = stats.clustered_mean(
        differences, before.clusters[old], bounds=measure.difference_bounds(2 * cells)
    )
    changed = int(np.count_nonzero(differences))
    # If no item changed that is known exactly, and needs no score interval.
    low, high = (found.low, found.high) if changed else (0.0, 0.0)
    return MetricChange(
        metric=metric,
        before=float(before.values[old].mean()),
        now=float(now.values[new].mean()),
        low=low,
        high=high,
        changed=changed,
        n=len(differences),
        clusters=found.clusters,
        band=band,
        unit=measure.unit,
        reason=found.reason if changed else "",
    )
