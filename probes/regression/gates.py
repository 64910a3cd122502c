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
from probes.regression.compare import both, tied
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
    what: tuple[str, ...]
    """Which of key, status, choice, tokens and log-probabilities."""
    moved: float
    """Largest change of a log-probability (nats); 0 where there are none to compare."""


def other_platform(base: Snapshot, run: Snapshot) -> list[str]:
    """Return why the exact gate does not apply; empty where it does."""
    differing, unknown = [], []
    for name in sorted({*base.platform, *run.platform}):
        before, now = base.platform.get(name, UNKNOWN), run.platform.get(name, UNKNOWN)
        if UNKNOWN in (before, now):
            unknown.append(name)
        elif before != now:
            differing.append(f"{name} is {now or 'none'}, in the baseline {before or 'none'}")
    return differing + ([f"a manifest does not tell {', '.join(unknown)}"] if unknown else [])


def exact(base: Snapshot, run: Snapshot) -> list[Difference]:
    """Return the records that are not the same as in the baseline; ties are excused."""
    out = []
    for name, before, now in both(base, run):
        moved = _moved(before, now)
        excused = tied(before, now, name.scoring, SAME)
        checks = {
            "key": before.key != now.key,
            "status": before.status != now.status,
            "choice": before.choice != now.choice and not excused,
            "tokens": before.tokens != now.tokens,
            "log-probabilities": moved > SAME + _ROUNDING,
        }
        if what := tuple(name for name, differs in checks.items() if differs):
            out.append(Difference(name, before, now, what, moved))
    return out


def _moved(before: BaselineAnswer, now: BaselineAnswer) -> float:
    if len(before.logprobs) != len(now.logprobs):
        return 0.0
    pairs = zip(before.logprobs, now.logprobs, strict=True)
    gaps = [0.0 if isnan(a) and isnan(b) else abs(a - b) for a, b in pairs]
    return max((np.inf if isnan(gap) else gap for gap in gaps), default=0.0)


@dataclass(frozen=True, slots=True)
class MetricChange:
    """What became of one metric; proportions, but for the band."""

    metric: Metric
    before: float
    now: float
    low: float
    """Lower end of the 95 % interval of `now - before`; NaN where undefined."""
    high: float
    changed: int
    """Items that this metric sees differently."""
    n: int
    """Items with a public key."""
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
        """No item changed, or the whole interval lies within the band."""
        return self.least_band <= self.band + 1e-9


@dataclass(frozen=True, slots=True)
class Values:
    """A metric item by item; its mean is the metric."""

    items: NDArray[np.object_]
    """Ids of the items with a public key [n]."""
    clusters: NDArray[np.intp]
    values: NDArray[np.float64]
    """Proportions; means over several donors count as one answer."""


def values(snapshot: Snapshot) -> dict[Metric, Values]:
    """Return every metric that a snapshot's cells make; those without a keyed item are left out."""
    frame = snapshot.frame()
    out: dict[Metric, Values] = {}
    for table in tables(frame):
        known = table.items
        for cell in table.cells.values():
            name = _cell_name(table, cell.role, cell.arm)
            mine = Values(known.ids[cell.items], known.clusters[cell.items], cell.strict)
            out[Metric("accuracy", name)] = mine
    for table, match in matched(frame, CONTRASTS):
        known = table.items
        (one,) = paired(table, match, "accuracy", ("strict",))
        name = _cell_name(table, match.role, match.arm)
        mine = Values(known.ids[one.items], known.clusters[one.items], one.differences)
        out[Metric(match.name, name)] = mine
    return {metric: mine for metric, mine in out.items() if len(mine.values)}


def _cell_name(table: CellTable, role: str, arm: str) -> CellName:
    task, _, pair, frames, scoring, seed = table.group
    return CellName(task, pair, frames, scoring, seed, role, arm)


def statistical(base: Snapshot, run: Snapshot, bands: Mapping[Metric, float]) -> list[MetricChange]:
    """Set every declared metric against its band.

    Per item the metric is taken in both runs and subtracted; the mean of those differences has the
    project's cluster-robust 95 % interval. A metric passes if no item changed, or if the whole
    interval lies within -band .. +band.

    Args:
        base: what was.
        run: what is, cell by cell as in `base`, ties decided as there (see `compare.forgiven`).
        bands: percentage points by metric.

    Raises:
        ProbesError: a declared metric that the baseline's cells do not make.
    """
    before, now = values(base), values(run)
    if unknown := [metric for metric in bands if metric not in before]:
        raise ProbesError(
            f"the baseline declares {unknown[0].words}, but its cells make no such metric",
            "metrics", "remove that line, or write the baseline anew with --update",
        )  # fmt: skip
    return [_change(metric, before[metric], now[metric], band) for metric, band in bands.items()]


def _change(metric: Metric, before: Values, now: Values, band: float) -> MetricChange:
    if not np.array_equal(before.items, now.items):
        raise ProbesError(f"{metric.words}: the items differ", "metrics", "write a new baseline")
    moved = now.values - before.values
    # Means over donors need not cancel to the last digit.
    moved[np.abs(moved) < 1e-12] = 0.0
    most = {"accuracy": 1.0, "did": 4.0}.get(metric.name, 2.0)
    found = stats.clustered_mean(moved, before.clusters, bounds=(-most, most))
    changed = int(np.count_nonzero(moved))
    low, high = (found.low, found.high) if changed else (0.0, 0.0)
    return MetricChange(
        metric, float(before.values.mean()), float(now.values.mean()), low, high, changed,
        len(moved), found.clusters, band, found.reason if changed else "",
    )  # fmt: skip
