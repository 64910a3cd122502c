"""A check as text for the screen: the verdict, the metrics, the answers that changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isnan

from probes.analysis.formats import (
    PROPORTION,
    bracketed,
    compared,
    difference,
    level,
    number,
    p_value,
    unit_name,
)
from probes.analysis.pairing import per_item
from probes.core.tables import Table, listing, wrapped
from probes.core.text import letter
from probes.regression.baseline import Baseline, Metric
from probes.regression.checking import Check
from probes.regression.compare import AnswerChange, margin
from probes.regression.gates import Difference
from probes.regression.reruns import FALLS, OperatingCharacteristics
from probes.regression.snapshot import SCRIPTED, BaselineAnswer
from probes.regression.statistical import MetricChange

WIDTH = 120
"""Of the tables, whose columns of numbers are many."""
NOT_EXCLUDED = (
    "not excluded: the data cannot rule out a change larger than the band (more items can, or a "
    "wider band); only --strict fails on it"
)


def lines(check: Check, run: str, against: str, limit: int) -> list[str]:
    """Return a check as plain lines.

    Args:
        check: what was found.
        run: names the run.
        against: names the baseline.
        limit: answers to list; the rest are counted.
    """
    base = check.baseline.snapshot
    of_none = f", no model: {SCRIPTED}" if base.scripted else ""
    out = [
        f"run:      {run}",
        f"baseline: {against} ({base.created[:10]}, {len(base.items)} items, {len(base.cells)} "
        f"cells, {base.records} records{of_none})",
    ]
    for note in check.notes:
        out += wrapped(f"note: {note}", indent="    ")
    if check.why_not_exact:
        reasons = "; ".join(check.why_not_exact)
        why = f"exact gate: not on this platform ({reasons}); the statistical gate decides"
        out += wrapped(why, indent="    ")
    out += ["", verdict(check), ""]
    out += _metrics(check)
    out += _answers(check, limit)
    return out


def verdict(check: Check) -> str:
    """Return the outcome in one line."""
    if check.gate == "exact":
        total = check.baseline.snapshot.records
        if check.passed:
            return f"exact gate: PASSED, all {total} records are the same"
        return (
            f"exact gate: FAILED, {len(check.differences)} of {total} records are not the same "
            f"({counted(check.differences)})"
        )
    word = "PASSED" if check.passed else "FAILED"
    return f"statistical gate{' (--strict)' if check.strict else ''}: {word}, {outcomes(check)}"


def outcomes(check: Check) -> str:
    """Return how many metrics have each outcome."""
    counts = Counter(change.outcome for change in check.metric_changes)
    return (
        f"{counts['changed']} of {counts.total()} metrics changed, "
        f"{counts['not excluded']} not excluded, {counts['same']} same"
    )


def counted(differences: Sequence[Difference]) -> str:
    """Return in how many records each field differs, and the largest change."""
    counts = Counter(field for difference in differences for field in difference.fields)
    text = ", ".join(f"{field} in {count}" for field, count in counts.items())
    largest = max(difference.largest for difference in differences)
    return f"{text}; largest change {largest:.3g} nats" if largest else text


def metric_tables(check: Check) -> list[Table]:
    """Return the metrics as tables, a family each; of `other` ones those that moved."""
    numbers = ("baseline", "now", "change [95 % interval]", "p", "band", "outcome", "items")
    header = ("metric", "member", "frames", *numbers)
    out = []
    for family, metrics in check.baseline.by_family().items():
        of_family = [change for change in check.metric_changes if change.family == family]
        shown = [change for change in of_family if change.changed or family != "other"]
        others = dict.fromkeys(one.metric.measure for one in shown if one.unit != PROPORTION)
        units = "".join(f"; {name}: {unit_name(per_item(name).unit)}" for name in others)
        which = " that moved" if family == "other" else ""
        title = (
            f"{family.capitalize()} metrics{which} (percentage points{units}; p by Holm over "
            f"{len(metrics)}; items: how many changed)"
        )
        if shown:
            out.append(Table(title, header, tuple(_row(check, change) for change in shown)))
    return out


def _metrics(check: Check) -> list[str]:
    changes = check.metric_changes
    out = listing(metric_tables(check), width=WIDTH)
    if unchanged := sum(not change.changed for change in changes):
        out.append(f"{unchanged} of {len(changes)} metrics: no item changed")
    if any(change.outcome == "not excluded" for change in changes):
        out += wrapped(NOT_EXCLUDED)
    return out


def _row(check: Check, change: MetricChange) -> tuple[str, ...]:
    metric, cell = change.metric, change.metric.cell
    show = (level if metric.name in ("accuracy", "mean") else difference)(change.unit)
    return (
        " ".join([*prefix(check.baseline, metric), metric.what, cell.arm]),
        compared(metric.name, cell.role),
        str(cell.frames),
        show(change.before),
        show(change.now),
        interval(change),
        p_value(change.adjusted),
        f"+-{change.band:g}",
        change.outcome,
        str(change.changed),
    )


def rates_table(baseline: Baseline, rates: OperatingCharacteristics) -> Table:
    """Return the operating characteristics of a check as a table."""
    title = (
        f"What such a check finds (% of {rates.reruns} simulated re-runs of {rates.items} items, "
        f"seed {rates.seed}: {100 * rates.flipped:g} % of the answers replaced at random)"
    )
    falls = tuple(f"at -{points:g}" for points in FALLS)
    header = ("metric", "member", "frames", "band", "changed", "not excluded", *falls)
    rows = tuple(
        (
            " ".join([*prefix(baseline, one.metric), one.metric.what, one.metric.cell.arm]),
            compared(one.metric.name, one.metric.cell.role),
            str(one.metric.cell.frames),
            f"+-{one.band:g}",
            *(number(100 * v) for v in (one.false, 1 - one.same - one.false, *one.caught)),
        )
        for one in rates.rates
        if one.caught
    )
    return Table(title, header, rows)


def rates_notes(rates: OperatingCharacteristics) -> list[str]:
    """Return what the table of operating characteristics means, a sentence each."""
    return [
        f"{100 * rates.failing:.1f} % of these re-runs fail because some metric (of "
        f"{len(rates.rates)}) changed, {100 * rates.failing_strict:.0f} % under --strict",
        "at -N: changed where also N points of the items lost their right answer in a cell of the "
        "metric's arm (of the two cells of a DiD, the less favourable)",
    ]


def prefix(baseline: Baseline, metric: Metric) -> list[str]:
    """Return as much of a metric's task and pair as the baseline's metrics differ in."""
    return [
        str(getattr(metric.cell, field))
        for field in ("task", "pair", "scoring", "seed")
        if len({getattr(other.cell, field) for other in baseline.bands}) > 1
    ]


def interval(change: MetricChange) -> str:
    """Return a metric's change with its interval."""
    why, show = f"undefined: {change.reason}", difference(change.unit)
    return bracketed(change.estimate, change.low, change.high, show, why)


def _answers(check: Check, limit: int) -> list[str]:
    changed = [change for change in check.answer_changes if not change.tie]
    ties = [change for change in check.answer_changes if change.tie]
    total, tolerance = check.baseline.snapshot.records, check.baseline.tie_tolerance
    titled = {
        f"{len(changed)} of {total} answers changed (margin: nats by which the right answer leads "
        "the best other option)": changed,
        f"{len(ties)} near-ties (within {tolerance:g} nats in both runs) count as unchanged": ties,
    }
    out = []
    for title, changes in titled.items():
        if changes:
            out += ["", title, *change_lines(changes, limit)]
    listed = {(change.cell, change.now.answer_key) for change in changed}
    # A changed answer is listed once, although its record differs too.
    rest = [one for one in check.differences if (one.cell, one.now.answer_key) not in listed]
    tasks = len({one.cell.task for one in rest})
    if rest:
        out += ["", f"{len(rest)} records give the same answer, but are not the same"]
        out += [
            f"  {one.cell.item(one.now.item_id, tasks)}  {one.cell.label}: {', '.join(one.fields)}"
            + (f" (by {one.largest:.3g} nats)" if one.largest else "")
            for one in rest[:limit]
        ]
        out += more(len(rest), limit)
    return out


def change_lines(changes: Sequence[AnswerChange], limit: int) -> list[str]:
    """Return one line per changed answer, and one for those beyond the limit."""
    shown = changes[:limit]
    tasks = len({change.cell.task for change in changes})
    names = [change.cell.item(change.now.item_id, tasks) for change in shown]
    item_width = max(map(len, names), default=0)
    cell_width = max((len(change.cell.label) for change in shown), default=0)
    out = [
        f"  {name:<{item_width}}  {change.cell.label:<{cell_width}}  "
        f"{_option(change, change.before)} -> {_option(change, change.now)}"
        for name, change in zip(names, shown, strict=True)
    ]
    return out + more(len(changes), limit)


def more(count: int, limit: int) -> list[str]:
    """Return how many lines are not shown, if any."""
    return [f"  and {count - limit} more (--items {count} lists all)"] if count > limit else []


def _option(change: AnswerChange, given: BaselineAnswer) -> str:
    """Return the option chosen, whether it is right, and the right answer's margin."""
    if given.choice is None:
        return given.status
    option = letter(given.choice)
    if change.answer is None:
        return option
    word = "right" if given.choice == change.answer else "wrong"
    lead = margin(given, change.cell.scoring, change.answer)
    return f"{option} {word}" + ("" if isnan(lead) else f" ({lead:+.4f})")
