"""A check as JUnit XML for a CI system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from probes.analysis.formats import p_value, unit_name
from probes.regression.checking import Check, changes_behind
from probes.regression.show import (
    change_lines,
    counted,
    interval,
    more,
    prefix,
    verdict,
)

# Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(check: Check, run: str, against: str, limit: int) -> bytes:
    """Return a check as JUnit XML: a test case for every cell or metric of the deciding gate.

    A metric that changed is a failure with the answers that did; one where a change is not excluded
    is a skipped case, or under --strict a failure. Where the exact gate was asked for and does not
    apply, it is a skipped case too.
    """
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name=f"probes check {_clean(run)}")
    properties = ElementTree.SubElement(suite, "properties")
    facts = [("baseline", against), ("gate", check.gate), ("verdict", verdict(check))]
    facts += [("note", note) for note in check.notes]
    for name, value in facts:
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    if check.why_not_exact:
        case = _add_case(suite, "exact", "same records")
        ElementTree.SubElement(case, "skipped", message=_clean("; ".join(check.why_not_exact)))
    cases = _exact_cases if check.gate == "exact" else _metric_cases
    for name, kind, message, detail in cases(check, limit):
        case = _add_case(suite, check.gate, name)
        if kind != "same":
            tag = "failure" if kind in check.failing else "skipped"
            found = ElementTree.SubElement(case, tag, message=_clean(message), type=kind)
            found.text = _clean(detail)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _add_case(suite: ElementTree.Element, gate: str, name: str) -> ElementTree.Element:
    classname = f"probes.check.{gate}"
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_clean(name))


def _metric_cases(check: Check, limit: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, kind, message, detail) of every metric; the kind is the outcome."""
    references = check.baseline.snapshot.references
    for change in check.metric_changes:
        message = detail = ""
        if change.outcome != "same":
            message = (
                f"{change.outcome}: {interval(change)} {unit_name(change.unit)}, band "
                f"+-{change.band:g}, p {p_value(change.adjusted)} ({change.family}, by Holm)"
            )
            behind = changes_behind(change.metric, check.answer_changes, references)
            detail = "\n".join(change_lines(behind, limit))
        name = " ".join([*prefix(check.baseline, change.metric), change.metric.label])
        yield name, change.outcome, message, detail


def _exact_cases(check: Check, limit: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, kind, message, detail) of every cell; the kind is `changed` or `same`."""
    for cell in check.baseline.snapshot.cells:
        differences = [one for one in check.differences if one.cell == cell.name]
        message = detail = ""
        if differences:
            count = f"{len(differences)} of {len(cell.answers)} records"
            message = f"{count} are not the same ({counted(differences)})"
            of_cell = [change for change in check.answer_changes if change.cell == cell.name]
            rows = change_lines([change for change in of_cell if not change.tie], limit)
            rows += [f"  {one.now.item_id}: {', '.join(one.fields)}" for one in differences[:limit]]
            detail = "\n".join(rows + more(len(differences), limit))
        name = cell.name
        kind = "changed" if differences else "same"
        yield f"{name.task} {name.pair} {name.scoring}: {name.label}", kind, message, detail


def _clean(text: str) -> str:
    # A CI system refuses the whole file for one such character in an item's id.
    return _NOT_XML.sub("?", text)
