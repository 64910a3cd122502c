"""Whether neutral text is as long as the infills it stands for, by the tokens that were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from probes.analysis import formats
from probes.analysis.columns import BLOCK, groups, where
from probes.analysis.pairing import references
from probes.core.tables import Table
from probes.report.parts import Paragraph, ReportPart
from probes.report.study import ShownColumn, Study, plain

MOST_OFF = 0.1
"""Share by which filler may be longer or shorter than infills and still be a control of length."""
_LEAST = 0.9
"""Share of items of which that has to be true."""


def section_parts(study: Study) -> Iterator[ReportPart]:
    """Yield the lengths of filler and infills, and a warning where they differ; or nothing."""
    data = [row for arm, own in _arms(study.frame) for row in _rows(study.frame, arm, own)]
    if not data:
        return
    columns: dict[str, ShownColumn] = {
        **plain("arm role frames n"),
        "tokens of infills": lambda row: formats.number(row["infills"]),
        "tokens of filler": lambda row: formats.number(row["filler"]),
        "ratio": lambda row: formats.number(row["ratio"], 2),
        "items within 10 %": lambda row: formats.percent(row["near"]),
    }
    title = "Filler: tokens that a clip's text adds to the prompt, beside those of its infills"
    table = Table(title, words=2, name="fillers", data=pd.DataFrame(data))
    yield study.table(table, data, columns)
    if off := [row for row in data if not _is_matched(row)]:
        who = ", ".join(dict.fromkeys(f"{row['arm']} ({row['role']})" for row in off))
        yield Paragraph(
            f"Filler is not as long as the infills under {who}: its backend counts no "
            "tokens and words were matched, or the run is older. It controls for text, but not for "
            "as much text.",
            "note",
        )


def _arms(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield every arm of neutral text with the arm of the infills that it is as long as."""
    kinds: Mapping[str, str] = frame.attrs.get("infills", {})
    refs = references(frame)
    own = [arm for arm in refs if kinds.get(arm) == "own"]
    for arm, reference in refs.items():
        # Text alone is what differs where both are compared with the same frames.
        beside = sorted((o for o in own if refs[o] == reference), key=lambda o: o != "vcot")
        if kinds.get(arm) == "filler" and reference and beside:
            yield arm, beside[0]


def _rows(frame: pd.DataFrame, arm: str, own: str) -> Iterator[dict[str, Any]]:
    reference = references(frame)[arm]
    known = frame[(frame["input_tokens"] > 0) & frame["arm"].isin([arm, own, reference])]
    # Filler has the length of the first text.
    known = where(known, infill_draw=0)
    for head, part in groups(known, (*BLOCK, "role", "frames")):
        read = part.groupby(["item_id", "arm"])["input_tokens"].mean().unstack("arm")
        if not {arm, own, reference} <= {*read.columns}:
            continue
        read = read.dropna()
        added = read[[arm, own]].sub(read[reference], axis=0)
        # An item whose infills are all empty adds nothing under either arm.
        added = added[added[own] > 0]
        if added.empty:
            continue
        near = (added[arm] - added[own]).abs() <= MOST_OFF * added[own]
        mean = added.mean()
        yield {
            **head,
            "arm": arm,
            "n": len(added),
            "infills": float(mean[own]),
            "filler": float(mean[arm]),
            "ratio": float(mean[arm] / mean[own]),
            "near": float(near.mean()),
        }


def _is_matched(row: Mapping[str, Any]) -> bool:
    return bool(abs(row["ratio"] - 1) <= MOST_OFF and row["near"] >= _LEAST)
