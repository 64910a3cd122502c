"""A check as text: a short diff for the screen, and JUnit XML for a CI system."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import isnan
from xml.etree import ElementTree

from probes.analysis.formats import PROPORTION, bracketed, difference, level, unit_name
from probes.analysis.pairing import per_item
from probes.core.tables import Table, listing, wrapped
from probes.core.text import letter
from probes.regression.baseline import Metric
from probes.regression.checking import Check, changes_behind
from probes.regression.compare import AnswerChange, margin
from probes.regression.gates import Difference, MetricChange
from probes.regression.snapshot import BaselineAnswer

# Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def lines(check: Check, run: str, against: str, limit: int) -> list[str]:
    """Return a check as plain lines.

    Args:
        check: what was found.
        run: names the run.
        against: names the baseline.
        limit: answers to list; the rest are counted.
    """
    base = check.baseline.snapshot
    out = [
        f"run:      {run}",
        f"baseline: {against} ({base.created[:10]}, {len(base.items)} items, {len(base.cells)} "
        f"cells, {base.records} records)",
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
            f"({_counted(check.differences)})"
        )
    changes = check.metric_changes
    failed = sum(not change.passed for change in changes)
    if failed:
        return f"statistical gate: FAILED, {failed} of {len(changes)} metrics left their bands"
    return f"statistical gate: PASSED, all {len(changes)} metrics stay within their bands"


def _counted(differences: Sequence[Difference]) -> str:
    """Return in how many records each field differs, and the largest change."""
    counts = Counter(field for difference in differences for field in difference.fields)
    text = ", ".join(f"{field} in {count}" for field, count in counts.items())
    largest = max(difference.largest for difference in differences)
    return f"{text}; largest change {largest:.3g} nats" if largest else text


def _metrics(check: Check) -> list[str]:
    changes = check.metric_changes
    shown = [change for change in changes if change.changed or not change.passed]
    out = []
    if shown:
        numbers = ("baseline", "now", "change [95 % interval]", "band", "items")
        header = ("metric", "member", "frames", *numbers)
        rows = tuple(_row(check, change) for change in shown)
        others = dict.fromkeys(one.metric.measure for one in shown if one.unit != PROPORTION)
        units = "".join(f"; {name}: {unit_name(per_item(name).unit)}" for name in others)
        title = f"Metrics that moved (percentage points{units}; items: how many changed)"
        out += listing([Table(title, header, rows)])
    if unchanged := len(changes) - len(shown):
        out.append(f"{unchanged} of {len(changes)} metrics: no item changed")
    return out


def _row(check: Check, change: MetricChange) -> tuple[str, ...]:
    metric, cell = change.metric, change.metric.cell
    show = (level if metric.name in ("accuracy", "mean") else difference)(change.unit)
    return (
        " ".join([*_prefix(check, metric), metric.what, cell.arm]),
        cell.role,
        str(cell.frames),
        show(change.before),
        show(change.now),
        _interval(change),
        f"+-{change.band:g}" + ("" if change.passed else " LEFT"),
        str(change.changed),
    )


def _prefix(check: Check, metric: Metric) -> list[str]:
    """Return as much of a metric's task and pair as the baseline's metrics differ in."""
    return [
        str(getattr(metric.cell, field))
        for field in ("task", "pair", "scoring", "seed")
        if len({getattr(other.cell, field) for other in check.baseline.bands}) > 1
    ]


def _interval(change: MetricChange) -> str:
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
            out += ["", title, *_change_lines(changes, limit)]
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
        out += _more(len(rest), limit)
    return out


def _change_lines(changes: Sequence[AnswerChange], limit: int) -> list[str]:
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
    return out + _more(len(changes), limit)


def _more(count: int, limit: int) -> list[str]:
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


def junit(check: Check, run: str, against: str, limit: int) -> bytes:
    """Return a check as JUnit XML: a test case for every cell or metric of the deciding gate.

    Failures contain the answers that changed. Where the exact gate was asked for and does not
    apply, it is a skipped case.
    """
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name=f"probes check {_clean(run)}")
    properties = ElementTree.SubElement(suite, "properties")
    facts = [("baseline", against), ("gate", check.gate), *(("note", note) for note in check.notes)]
    for name, value in facts:
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    if check.why_not_exact:
        case = _add_case(suite, "exact", "same records")
        ElementTree.SubElement(case, "skipped", message=_clean("; ".join(check.why_not_exact)))
    cases = _exact_cases if check.gate == "exact" else _metric_cases
    for name, message, detail in cases(check, limit):
        case = _add_case(suite, check.gate, name)
        if message:
            failure = ElementTree.SubElement(case, "failure", message=_clean(message))
            failure.text = _clean(detail)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _add_case(suite: ElementTree.Element, gate: str, name: str) -> ElementTree.Element:
    classname = f"probes.check.{gate}"
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_clean(name))


def _metric_cases(check: Check, limit: int) -> Iterator[tuple[str, str, str]]:
    """Yield (name, message, detail) of every metric; the message is empty where it passed."""
    references = check.baseline.snapshot.references
    for change in check.metric_changes:
        message = detail = ""
        if not change.passed:
            unit = unit_name(change.unit)
            message = f"{_interval(change)} {unit} left the band +-{change.band:g}"
            behind = changes_behind(change.metric, check.answer_changes, references)
            detail = "\n".join(_change_lines(behind, limit))
        name = " ".join([*_prefix(check, change.metric), change.metric.label])
        yield name, message, detail


def _exact_cases(check: Check, limit: int) -> Iterator[tuple[str, str, str]]:
    """Yield (name, message, detail) of every cell; the message is empty where it is the same."""
    for cell in check.baseline.snapshot.cells:
        differences = [one for one in check.differences if one.cell == cell.name]
        message = detail = ""
        if differences:
            count = f"{len(differences)} of {len(cell.answers)} records"
            message = f"{count} are not the same ({_counted(differences)})"
            of_cell = [change for change in check.answer_changes if change.cell == cell.name]
            rows = _change_lines([change for change in of_cell if not change.tie], limit)
            rows += [f"  {one.now.item_id}: {', '.join(one.fields)}" for one in differences[:limit]]
            detail = "\n".join(rows + _more(len(differences), limit))
        name = cell.name
        yield f"{name.task} {name.pair} {name.scoring}: {name.label}", message, detail


def _clean(text: str) -> str:
    # A CI system refuses the whole file for one such character in an item's id.
    return _NOT_XML.sub("?", text)
