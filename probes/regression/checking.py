"""A check: a run compared with a baseline by one of the two gates; and a baseline renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from probes.analysis.formats import unit_name
from probes.analysis.pairing import per_item
from probes.core.errors import ProbesError
from probes.regression import compare, gates, statistical
from probes.regression.baseline import TIE_TOLERANCE, Baseline, Metric, usual_families
from probes.regression.compare import AnswerChange
from probes.regression.gates import Difference
from probes.regression.snapshot import SCRIPTED, Snapshot
from probes.regression.statistical import MetricChange, Outcome

Gate = Literal["statistical", "exact"]
BAND = 3.0
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
    strict: bool = False
    """Whether `not excluded` fails too."""

    @property
    def failing(self) -> tuple[Outcome, ...]:
        """The outcomes of metrics with which the statistical gate fails."""
        return ("changed", "not excluded") if self.strict else ("changed",)

    @property
    def passed(self) -> bool:
        """Whether the run passes the deciding gate."""
        # Bands are not asked: the same records have the same metrics.
        if self.gate == "exact":
            return not self.differences
        return not any(change.outcome in self.failing for change in self.metric_changes)


def check(
    baseline: Baseline,
    run: Snapshot,
    gate: Gate = "statistical",
    where: str = "",
    *,
    strict: bool = False,
    fallback: Literal["statistical"] | None = None,
) -> Check:
    """Compare a run with a baseline.

    Args:
        baseline: with its metrics, bands and tie tolerance.
        run: as returned by `capture`.
        gate: what decides; `exact` can only do so on the baseline's platform.
        where: names the run in messages.
        strict: fail also where a change beyond the band cannot be excluded.
        fallback: what decides where `exact` was asked for and cannot; None: nothing does.

    Raises:
        ProbesError: it cannot be judged, because the run answers other questions than the
            baseline, too many of its answers failed, or the exact gate was asked for elsewhere
            than on the baseline's platform.
    """
    if run.partial:
        # What is there can be compared; that it is not the whole is one of the notes.
        whole = baseline.snapshot
        baseline = replace(baseline, snapshot=whole.restricted(run.items_by_id().keys()))
    base = baseline.snapshot
    # Before any gate: over other questions it would pass or fail by chance.
    compare.require_comparable(base, run, where)
    statistical.require_answers(run, where)
    why_not_exact = gates.platform_differences(base, run) if gate == "exact" else []
    if why_not_exact and fallback is None:
        raise ProbesError(
            "the exact gate cannot judge this run, because it was not made on the baseline's "
            f"platform: {'; '.join(why_not_exact)}",
            where,
            "run it on the baseline's platform, or let the statistical gate decide elsewhere: "
            "--fallback statistical",
        )
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
        metric_changes=tuple(statistical.statistical(base, resolved, baseline)),
        answer_changes=tuple(changes),
        notes=tuple(compare.notes(base, run)),
        strict=strict,
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
    *,
    scripted: bool = False,
) -> tuple[Baseline, list[str]]:
    """Make a baseline from a run.

    Args:
        old: its bands and tolerance are kept, and what it left undeclared stays so; metrics of
            cells that it did not hold are declared anew.
        run: as returned by `capture`.
        given: bands as for `with_bands`.
        measures: guarded besides accuracy and those of `old`.
        scripted: take a run that no model answered.

    Returns:
        The baseline, and a line for everything that was not simply kept.

    Raises:
        ProbesError: no item has a public answer, so that there is no metric; too many answers
            failed; no model answered, and `scripted` does not say that this is meant; or a measure
            that the run's answers do not have, or of which no band is known.
    """
    given = given or {}
    _require_model(run, scripted)
    statistical.require_answers(run, "--update")
    guarded = {metric.measure: band for metric, band in old.bands.items()} if old else {}
    metrics = list(
        statistical.values_by_metric(run, dict.fromkeys(["accuracy", *guarded, *measures]))
    )
    if not metrics:
        raise ProbesError(
            "no item of the run has a public answer: there is no metric to guard",
            "--update",
            "make the baseline of a run over items with known answers",
        )
    _require_guardable(measures, metrics, {**guarded, **given})
    failed = sum(answer.status == "error" for cell in run.cells for answer in cell.answers)
    left_out = f"{failed} of {run.records} records failed; their items are left out of the metrics"
    notes = [left_out] if failed else []
    usual = {m: BAND if m.measure == "accuracy" else guarded.get(m.measure, 0) for m in metrics}
    if old is None:
        families = usual_families(metrics, run.references, run.primary)
        return with_bands(Baseline(run, usual, families, TIE_TOLERANCE), given), notes
    made, changes = _replaced(old, run, usual, given)
    return made, notes + changes


def _replaced(
    old: Baseline, run: Snapshot, usual: Mapping[Metric, float], given: Mapping[str, float]
) -> tuple[Baseline, list[str]]:
    """Return a baseline with what another one declares, and a line for what comes and goes.

    Args:
        old: the other one.
        run: the answers.
        usual: every metric that they have, with the band that it has where nothing is declared.
        given: bands as for `with_bands`.
    """
    guarded = {metric.measure for metric in old.bands}
    known = set(old.snapshot.cells_by_name())
    added = [
        metric
        for metric in usual
        if metric not in old.bands
        and (metric.measure not in guarded or not metric.weights(run.references).keys() <= known)
    ]
    kept = {metric: band for metric, band in old.bands.items() if metric in usual}
    if not kept and not added:
        raise ProbesError(
            "the run has none of the metrics that the baseline declares",
            "--update",
            "remove the old baseline first if it is to guard something else",
        )
    bands = kept | {metric: usual[metric] for metric in added}
    # What was in no family before stays so.
    families = {metric: old.family(metric) for metric in kept}
    families = usual_families(bands, run.references, run.primary) | families
    made = with_bands(Baseline(run, bands, families, old.tie_tolerance), given)
    notes = [f"no longer there: {metric.label}" for metric in old.bands if metric not in kept]
    for metric in added:
        unit = unit_name(per_item(metric.measure).unit)
        notes.append(f"new, band {made.bands[metric]:g} {unit}: {metric.label}")
    return made, notes


def _require_model(run: Snapshot, scripted: bool) -> None:
    if run.scripted and not scripted:
        raise ProbesError(
            f"no model answered this run ({SCRIPTED}): a baseline of it guards no model",
            "--update",
            "run a model; or add --scripted, and the baseline says so wherever it is used",
        )


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
    cells = metric.weights(references)
    return [change for change in changes if change.weight == 2 and change.cell in cells]
