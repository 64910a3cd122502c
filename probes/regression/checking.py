"""A check: a run against a baseline, by the gate that was asked for; and a baseline renewed."""

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
    elsewhere: tuple[str, ...]
    """Why the exact gate was asked for and does not apply."""
    differences: tuple[Difference, ...]
    """Records that are not the same; empty unless the exact gate decides."""
    changes: tuple[MetricChange, ...]
    """Every declared metric."""
    flips: tuple[AnswerChange, ...]
    """Answers that changed, ties among them; the weightiest first."""
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the deciding gate lets the run through."""
        if self.gate == "exact":
            return not self.differences
        return all(change.passed for change in self.changes)


def check(baseline: Baseline, run: Snapshot, gate: Gate = "statistical", where: str = "") -> Check:
    """Hold a run against a baseline.

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
    elsewhere = gates.other_platform(base, run) if gate == "exact" else []
    decides: Gate = "exact" if gate == "exact" and not elsewhere else "statistical"
    # An exact tie is excused by the exact gate, so the metrics beside it do not see it either.
    tolerance = max(baseline.tie_tolerance, gates.SAME if decides == "exact" else 0.0)
    flips = compare.answer_changes(base, run, tolerance)
    settled = compare.resolve_ties(base, run, flips)
    return Check(
        baseline, decides, tuple(elsewhere),
        tuple(gates.exact(base, run)) if decides == "exact" else (),
        tuple(gates.statistical(base, settled, baseline.bands)),
        tuple(flips), tuple(compare.notes(base, run)),
    )  # fmt: skip


def with_bands(baseline: Baseline, given: Mapping[str, float]) -> Baseline:
    """Return a baseline with other bands.

    Args:
        baseline: to start from.
        given: percentage points by the metrics' name; under "" for all that are not named.
    """
    bands = {
        metric: given.get(metric.name, given.get("", band))
        for metric, band in baseline.bands.items()
    }
    return Baseline(baseline.snapshot, bands, baseline.tie_tolerance)


def renew(old: Baseline | None, run: Snapshot) -> tuple[Baseline, list[str]]:
    """Make a baseline of a run.

    Args:
        old: its bands and tolerance are kept, and what it left undeclared stays so; metrics of
            cells that it did not hold are declared anew.
        run: as returned by `capture`.

    Returns:
        The baseline, and a line for everything that was not simply kept.

    Raises:
        ProbesError: no item has a public key, so that there is no metric.
    """
    there = list(gates.values(run))
    if not there:
        raise ProbesError(
            "no item of the run has a public key: there is no metric to guard", "--update",
            "make the baseline of a run over items with known answers",
        )  # fmt: skip
    failed = sum(one.status == "error" for cell in run.cells for one in cell.answers)
    told = [f"{failed} of {run.records} records failed; they count as wrong"] if failed else []
    if old is None:
        return Baseline(run, dict.fromkeys(there, BAND), TIE_TOLERANCE), told
    known = set(old.snapshot.cell())
    added = [
        metric for metric in there
        if metric not in old.bands and not metric.cells(run.references) <= known
    ]  # fmt: skip
    bands = {metric: band for metric, band in old.bands.items() if metric in there}
    gone = [metric for metric in old.bands if metric not in bands]
    if not bands and not added:
        raise ProbesError(
            "the run makes none of the metrics that the baseline declares", "--update",
            "remove the old baseline first if it is to guard something else",
        )  # fmt: skip
    told += [f"no longer there: {metric.words}" for metric in gone]
    told += [f"new, band {BAND:g} points: {metric.words}" for metric in added]
    return Baseline(run, bands | dict.fromkeys(added, BAND), old.tie_tolerance), told


def flips_of(
    metric: Metric, flips: Sequence[AnswerChange], references: Mapping[str, str]
) -> list[AnswerChange]:
    """Return the flips that move a metric: right to wrong or back, in one of its cells."""
    cells = metric.cells(references)
    return [flip for flip in flips if flip.weight == 2 and flip.cell in cells]
