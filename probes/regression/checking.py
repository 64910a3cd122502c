"""A check: a run compared with a baseline by one of the two gates; and a baseline renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from probes.core.errors import ProbesError
from probes.regression import compare, gates
from probes.regression.baseline import TIE_TOLERANCE, Baseline, Metric
from probes.regression.compare import AnswerChange
from probes.regression.gates import Difference, MetricChange
from probes.regression.snapshot import Snapshot

Gate = Literal["statistical", "exact"]
BAND = 5.0
"""Percentage points that a metric may move where nothing else was declared."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found."""

    baseline: Baseline
    gate: Gate
    """The gate that decides."""
    why_not_exact: tuple[str, ...]
    """Why the exact gate, which was asked for, does not apply; empty where it does."""
    differences: tuple[Difference, ...]
    """Records that are not the same; empty unless the exact gate decides."""
    metric_changes: tuple[MetricChange, ...]
    """Every declared metric."""
    answer_changes: tuple[AnswerChange, ...]
    """Answers that changed, ties included; those of the largest weight first."""
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the run passes the deciding gate."""
        if self.gate == "exact":
            return not self.differences
        return all(change.passed for change in self.metric_changes)


def check(baseline: Baseline, run: Snapshot, gate: Gate = "statistical", where: str = "") -> Check:
    """Compare a run with a baseline.

    Args:
        baseline: with its metrics, bands and tie tolerance.
        run: as returned by `capture`.
        gate: `exact` decides only on the baseline's platform; elsewhere `statistical` does.
        where: names the run in messages.

    Raises:
        ProbesError: the run answers other questions than the baseline.
    """
    base = baseline.snapshot
    compare.require_comparable(base, run, where)
    why_not_exact = gates.platform_differences(base, run) if gate == "exact" else []
    decides: Gate = "exact" if gate == "exact" and not why_not_exact else "statistical"
    # The exact gate excuses an exact tie, so the metrics printed with it must not count it either.
    tolerance = max(baseline.tie_tolerance, gates.SAME if decides == "exact" else 0.0)
    changes = compare.answer_changes(base, run, tolerance)
    resolved = compare.resolve_ties(base, run, changes)
    return Check(
        baseline=baseline,
        gate=decides,
        why_not_exact=tuple(why_not_exact),
        differences=tuple(gates.exact(base, run)) if decides == "exact" else (),
        metric_changes=tuple(gates.statistical(base, resolved, baseline.bands)),
        answer_changes=tuple(changes),
        notes=tuple(compare.notes(base, run)),
    )


def with_bands(baseline: Baseline, given: Mapping[str, float]) -> Baseline:
    """Return a baseline with other bands.

    Args:
        baseline: the one to start from.
        given: percentage points by the metrics' name; under "" for all that are not named.
    """
    bands = {
        metric: given.get(metric.name, given.get("", band))
        for metric, band in baseline.bands.items()
    }
    return Baseline(baseline.snapshot, bands, baseline.tie_tolerance)


def renew(old: Baseline | None, run: Snapshot) -> tuple[Baseline, list[str]]:
    """Make a baseline from a run.

    Args:
        old: its bands and tolerance are kept, and what it left undeclared stays so; metrics of
            cells that it did not hold are declared anew.
        run: as returned by `capture`.

    Returns:
        The baseline, and a line for everything that was not simply kept.

    Raises:
        ProbesError: no item has a public answer, so that there is no metric.
    """
    metrics = list(gates.values_by_metric(run))
    if not metrics:
        raise ProbesError(
            "no item of the run has a public answer: there is no metric to guard",
            "--update",
            "make the baseline of a run over items with known answers",
        )
    failed = sum(answer.status == "error" for cell in run.cells for answer in cell.answers)
    notes = [f"{failed} of {run.records} records failed; they count as wrong"] if failed else []
    if old is None:
        return Baseline(run, dict.fromkeys(metrics, BAND), TIE_TOLERANCE), notes
    known = set(old.snapshot.cells_by_name())
    added = [
        metric
        for metric in metrics
        if metric not in old.bands and not metric.cells(run.references) <= known
    ]
    bands = {metric: band for metric, band in old.bands.items() if metric in metrics}
    gone = [metric for metric in old.bands if metric not in bands]
    if not bands and not added:
        raise ProbesError(
            "the run has none of the metrics that the baseline declares",
            "--update",
            "remove the old baseline first if it is to guard something else",
        )
    notes += [f"no longer there: {metric.label}" for metric in gone]
    notes += [f"new, band {BAND:g} points: {metric.label}" for metric in added]
    return Baseline(run, bands | dict.fromkeys(added, BAND), old.tie_tolerance), notes


def changes_behind(
    metric: Metric, changes: Sequence[AnswerChange], references: Mapping[str, str]
) -> list[AnswerChange]:
    """Return the changed answers that move a metric: right to wrong or back, in its cells."""
    cells = metric.cells(references)
    return [change for change in changes if change.weight == 2 and change.cell in cells]
