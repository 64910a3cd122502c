"""A check in words: a short diff for the screen, and JUnit XML for a CI system."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from math import isfinite, isnan
from xml.etree import ElementTree

from probes.analysis.render import lines_of
from probes.analysis.tables import Table, percent, points
from probes.regression.baseline import Metric
from probes.regression.checking import Check, flips_of
from probes.regression.compare import AnswerChange, margin
from probes.regression.gates import Difference, MetricChange
from probes.regression.snapshot import BaselineAnswer

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# What XML 1.0 has no way to write, not even escaped.
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
        out += _wrapped(f"note: {note}")
    if check.elsewhere:
        reasons = "; ".join(check.elsewhere)
        told = f"exact gate: not on this platform ({reasons}); the statistical gate decides"
        out += _wrapped(told)
    out += ["", verdict(check), ""]
    out += _metrics(check)
    out += _answers(check, limit)
    return out


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 100, subsequent_indent="    ", break_on_hyphens=False)


def verdict(check: Check) -> str:
    """Return the outcome in one line."""
    if check.gate == "exact":
        total = check.baseline.snapshot.records
        if check.passed:
            return f"exact gate: PASSED, all {total} records are the same"
        return (
            f"exact gate: FAILED, {len(check.differences)} of {total} records are not the same "
            f"({_tally(check.differences)})"
        )
    left = sum(not change.passed for change in check.changes)
    if left:
        return f"statistical gate: FAILED, {left} of {len(check.changes)} metrics left their bands"
    return f"statistical gate: PASSED, all {len(check.changes)} metrics stay within their bands"


def _tally(differences: Sequence[Difference]) -> str:
    counts = Counter(what for one in differences for what in one.what)
    told = ", ".join(f"{what} in {count}" for what, count in counts.items())
    moved = max(one.moved for one in differences)
    return f"{told}; largest change {moved:.3g} nats" if moved else told


def _metrics(check: Check) -> list[str]:
    moved = [change for change in check.changes if change.changed or not change.passed]
    still = len(check.changes) - len(moved)
    header = ("metric", "member", "frames", "baseline", "now", "change [95 % interval]", "band",
              "items")  # fmt: skip
    out = []
    if moved:
        rows = tuple(_row(check, change) for change in moved)
        title = "Metrics that moved (percentage points; items: how many changed)"
        out += lines_of([Table(title, header, rows)])
    if still:
        out.append(f"{still} of {len(check.changes)} metrics: no item changed")
    return out


def _row(check: Check, change: MetricChange) -> tuple[str, ...]:
    show = percent if change.metric.name == "accuracy" else points
    cell = change.metric.cell
    band = f"+-{change.band:g}" + ("" if change.passed else " LEFT")
    return (
        " ".join([*_prefix(check, change.metric), change.metric.name, cell.arm]), cell.role,
        str(cell.frames), show(change.before), show(change.now), moved_by(change), band,
        str(change.changed),
    )  # fmt: skip


def metric_words(check: Check, metric: Metric) -> str:
    """Name a metric, with as much of its task and pair as the baseline's metrics differ in."""
    return " ".join([*_prefix(check, metric), metric.words])


def _prefix(check: Check, metric: Metric) -> list[str]:
    return [
        str(getattr(metric.cell, field))
        for field in ("task", "pair", "scoring", "seed")
        if len({getattr(other.cell, field) for other in check.baseline.bands}) > 1
    ]


def moved_by(change: MetricChange) -> str:
    """Return a metric's change with its interval."""
    if not isfinite(change.low):
        return f"{points(change.estimate)} [undefined: {change.reason}]"
    return f"{points(change.estimate)} [{points(change.low)}, {points(change.high)}]"


def _answers(check: Check, limit: int) -> list[str]:
    changed = [flip for flip in check.flips if not flip.tie]
    ties = len(check.flips) - len(changed)
    out = []
    if changed:
        total = check.baseline.snapshot.records
        out += [
            "",
            f"{len(changed)} of {total} answers changed (margin: nats by which the key leads the "
            "best other option)",
        ]
        out += flip_lines(changed, limit)
    if ties:
        tolerance = check.baseline.tie_tolerance
        out += ["", f"{ties} near-ties (within {tolerance:g} nats in both runs) were forgiven"]
        out += flip_lines([flip for flip in check.flips if flip.tie], limit)
    flipped = {(flip.cell, flip.now.place) for flip in changed}
    rest = [one for one in check.differences if (one.cell, one.now.place) not in flipped]
    if rest:
        out += ["", f"{len(rest)} records give the same answer, but are not the same"]
        out += [
            f"  {one.now.item_id}  {one.cell.words}: {', '.join(one.what)}"
            + (f" (by {one.moved:.3g} nats)" if one.moved else "")
            for one in rest[:limit]
        ]
        out += _more(len(rest), limit)
    return out


def flip_lines(flips: Sequence[AnswerChange], limit: int) -> list[str]:
    """Return one line per flip, and one for those beyond the limit."""
    shown = flips[:limit]
    width = max((len(flip.now.item_id) for flip in shown), default=0)
    cells = max((len(flip.cell.words) for flip in shown), default=0)
    out = [
        f"  {flip.now.item_id:<{width}}  {flip.cell.words:<{cells}}  "
        f"{_said(flip, flip.before)} -> {_said(flip, flip.now)}"
        for flip in shown
    ]
    return out + _more(len(flips), limit)


def _more(count: int, limit: int) -> list[str]:
    return [f"  and {count - limit} more (--items {count} lists all)"] if count > limit else []


def _said(flip: AnswerChange, answer: BaselineAnswer) -> str:
    if answer.choice is None:
        return answer.status
    letter = _LETTERS[answer.choice] if answer.choice < len(_LETTERS) else str(answer.choice)
    if flip.key is None:
        return letter
    verdict = "right" if answer.choice == flip.key else "wrong"
    lead = margin(answer, flip.cell.scoring, flip.key)
    return f"{letter} {verdict}" + ("" if isnan(lead) else f" ({lead:+.4f})")


def junit(check: Check, run: str, against: str, limit: int) -> bytes:
    """Return a check as JUnit XML: a test case for every cell or metric of the deciding gate.

    Failures carry the answers that changed. Where the exact gate was asked for and does not apply,
    it is a skipped case.
    """
    suite = ElementTree.Element("testsuite", name=f"probes check {_clean(run)}")
    properties = ElementTree.SubElement(suite, "properties")
    told = [("baseline", against), ("gate", check.gate), *(("note", note) for note in check.notes)]
    for name, value in told:
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    if check.elsewhere:
        case = ElementTree.SubElement(
            suite, "testcase", classname="probes.check.exact", name="same records"
        )
        ElementTree.SubElement(case, "skipped", message=_clean("; ".join(check.elsewhere)))
    cases = _exact_cases(check, limit) if check.gate == "exact" else _metric_cases(check, limit)
    for name, message, detail in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"probes.check.{check.gate}", name=_clean(name)
        )
        if message:
            failure = ElementTree.SubElement(case, "failure", message=_clean(message))
            failure.text = _clean(detail)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _metric_cases(check: Check, limit: int) -> list[tuple[str, str, str]]:
    out = []
    for change in check.changes:
        message = detail = ""
        if not change.passed:
            message = f"{moved_by(change)} points left the band +-{change.band:g}"
            mine = flips_of(change.metric, check.flips, check.baseline.snapshot.references)
            detail = "\n".join(flip_lines(mine, limit))
        out.append((metric_words(check, change.metric), message, detail))
    return out


def _exact_cases(check: Check, limit: int) -> list[tuple[str, str, str]]:
    out = []
    for cell in check.baseline.snapshot.cells:
        mine = [one for one in check.differences if one.cell == cell.name]
        message = detail = ""
        if mine:
            total = len(cell.answers)
            message = f"{len(mine)} of {total} records are not the same ({_tally(mine)})"
            flips = [flip for flip in check.flips if flip.cell == cell.name and not flip.tie]
            listed = [f"  {one.now.item_id}: {', '.join(one.what)}" for one in mine[:limit]]
            detail = "\n".join([*flip_lines(flips, limit), *listed, *_more(len(mine), limit)])
        name = cell.name
        out.append((f"{name.task} {name.pair} {name.scoring}: {name.words}", message, detail))
    return out


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
