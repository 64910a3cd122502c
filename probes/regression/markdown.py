"""A check as a Markdown summary for a CI system's page."""

from __future__ import annotations

from collections.abc import Iterator

from probes.core.tables import escaped, markdown
from probes.regression.checking import Check
from probes.regression.reruns import OperatingCharacteristics
from probes.regression.show import (
    NOT_EXCLUDED,
    change_lines,
    metric_tables,
    rates_notes,
    rates_table,
    verdict,
)


def summary(
    check: Check, run: str, against: str, limit: int, rates: OperatingCharacteristics | None
) -> str:
    """Return a check as Markdown: verdict and headline metrics first, long lists folded.

    Args:
        check: what was found.
        run: names the run.
        against: names the baseline.
        limit: answers to list; the rest are counted.
        rates: of the baseline; None: they are left out.
    """
    return "\n".join(_lines(check, run, against, limit, rates)) + "\n"


def _lines(
    check: Check, run: str, against: str, limit: int, rates: OperatingCharacteristics | None
) -> Iterator[str]:
    yield f"### probes check: {escaped(verdict(check))}"
    yield ""
    yield f"Run {escaped(run)} against {escaped(against)}"
    yield ""
    for note in check.notes:
        yield f"- note: {escaped(note)}"
    if check.why_not_exact:
        yield f"- the exact gate does not apply: {escaped('; '.join(check.why_not_exact))}"
    yield ""
    for table in metric_tables(check):
        yield from markdown(table)
        yield ""
    if any(change.outcome == "not excluded" for change in check.metric_changes):
        yield escaped(NOT_EXCLUDED)
        yield ""
    if changed := [change for change in check.answer_changes if not change.tie]:
        total = check.baseline.snapshot.records
        listed = [f"    {line}" for line in change_lines(changed, limit)]
        yield from _folded(f"{len(changed)} of {total} answers changed", listed)
    if rates is not None:
        notes = [f"- {escaped(note)}" for note in rates_notes(rates)]
        inner = [*markdown(rates_table(check.baseline, rates)), "", *notes]
        yield from _folded("What a check against this baseline finds", inner)


def _folded(title: str, lines: list[str]) -> list[str]:
    # Without the empty lines GitHub would not read what is inside as Markdown.
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]
