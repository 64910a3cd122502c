"""A check: a run compared with a baseline by one of the two gates; and a baseline renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from probes.analysis.formats import unit_name
from probes.analysis.pairing import per_item
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
        # Bands are not asked: the same records have the same metrics.
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
    if run.partial:
        # What is there can be compared; that it is not the whole is one of the notes.
        whole = baseline.snapshot
        baseline = replace(baseline, snapshot=whole.restricted(run.items_by_id().keys()))
    base = baseline.snapshot
    # Before any gate: over other questions it would pass or fail by chance.
    compare.require_comparable(base, run, where)
    why_not_exact = gates.platform_differences(base, run) if gate == "exact" else []
    decides: Gate = "exact" if gate == "exact" and not why_not_exact else "statistical"
    # The exact gate excuses an exact tie, so the metrics printed with it must not count it either.
    tolerance = max(baseline.tie_tolerance, gates.SAME if decides == "exact" else 0.0)
    changes = compare.answer_changes(base, run, tolerance)
    # Before the metrics, or what a rounding decides would move them.
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
        given: bands by the metrics' kind; under "" for all of accuracies that are not named.
    """
    bands = {metric: _band(metric, given, band) for metric, band in baseline.bands.items()}
    return replace(baseline, bands=bands)


def _band(metric: Metric, given: Mapping[str, float], usual: float) -> float:
    # A number of points means nothing to a metric that is counted in another unit.
    for_all = given.get("", usual) if metric.measure == "accuracy" else usual
    return given.get(metric.kind, for_all)


def renew(
    old: Baseline | None,
    run: Snapshot,
    given: Mapping[str, float] | None = None,
    measures: Sequence[str] = (),
) -> tuple[Baseline, list[str]]:
    """Make a baseline from a run.

    Args:
        old: its bands and tolerance are kept, and what it left undeclared stays so; metrics of
            cells that it did not hold are declared anew.
        run: as returned by `capture`.
        given: bands as for `with_bands`.
        measures: guarded besides accuracy and those of `old`.

    Returns:
        The baseline, and a line for everything that was not simply kept.

    Raises:
        ProbesError: no item has a public answer, so that there is no metric; or a measure that
            the run's answers do not have, or of which no band is known.
    """
    given = given or {}
    guarded = {metric.measure: band for metric, band in old.bands.items()} if old else {}
    metrics = list(gates.values_by_metric(run, dict.fromkeys(["accuracy", *guarded, *measures])))
    if not metrics:
        raise ProbesError(
            "no item of the run has a public answer: there is no metric to guard",
            "--update",
            "make the baseline of a run over items with known answers",
        )
    _require_guardable(measures, metrics, {**guarded, **given})
    failed = sum(answer.status == "error" for cell in run.cells for answer in cell.answers)
    notes = (
        [f"{failed} of {run.records} records failed; their items are left out"] if failed else []
    )
    usual = {m: BAND if m.measure == "accuracy" else guarded.get(m.measure, 0) for m in metrics}
    if old is None:
        return with_bands(Baseline(run, usual, TIE_TOLERANCE), given), notes
    known = set(old.snapshot.cells_by_name())
    added = [
        metric
        for metric in metrics
        if metric not in old.bands
        and (metric.measure not in guarded or not metric.cells(run.references) <= known)
    ]
    kept = {metric: band for metric, band in old.bands.items() if metric in metrics}
    if not kept and not added:
        raise ProbesError(
            "the run has none of the metrics that the baseline declares",
            "--update",
            "remove the old baseline first if it is to guard something else",
        )
    bands = kept | {metric: usual[metric] for metric in added}
    made = with_bands(Baseline(run, bands, old.tie_tolerance), given)
    notes += [f"no longer there: {metric.label}" for metric in old.bands if metric not in kept]
    for metric in added:
        unit = unit_name(per_item(metric.measure).unit)
        notes.append(f"new, band {made.bands[metric]:g} {unit}: {metric.label}")
    return made, notes


def _require_guardable(
    measures: Sequence[str], metrics: Sequence[Metric], bands: Mapping[str, float]
) -> None:
    """Raise ProbesError unless the run has metrics of some measures, and bands of them are known.

    Args:
        measures: to be guarded besides accuracy.
        metrics: that the run has.
        bands: by measure.
    """
    for name in measures:
        if all(metric.measure != name for metric in metrics):
            raise ProbesError(
                f"no answer has a value of {name}: a baseline keeps choices and log-probabilities",
                "--measure",
                "take a measure that is made of them",
            )
        if name not in ("accuracy", *bands):
            unit = per_item(name).unit or "its unit"
            raise ProbesError(
                f"there is no usual band of {name}", "--band", f"add --band {name}=B, B in {unit}"
            )


def changes_behind(
    metric: Metric, changes: Sequence[AnswerChange], references: Mapping[str, str]
) -> list[AnswerChange]:
    """Return the changed answers that move a metric: right to wrong or back, in its cells."""
    cells = metric.cells(references)
    return [change for change in changes if change.weight == 2 and change.cell in cells]
