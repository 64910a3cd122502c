"""Lengths of filler in the report: beside the infills', with a warning where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import report_pages as made
from made_records import record

from probes.core.tables import Table
from probes.report import fillers
from probes.report.parts import Paragraph
from probes.report.study import gather

CONFIG = {
    "suite": [
        {"name": "baseline", "infills": "none", "reference": ""},
        {"name": "vcot", "infills": "own", "reference": "baseline"},
        {"name": "filler", "infills": "filler", "reference": "baseline"},
    ]
}


@pytest.mark.parametrize(("tokens", "matched"), [(110, True), (190, False)])
def test_filler_stands_beside_the_infills_it_controls(
    tmp_path: Path, tokens: int, matched: bool
) -> None:
    read = {"baseline": 60, "vcot": 110, "filler": tokens}
    records = [
        record(item, arm, role, input_tokens=count)
        for item in range(6)
        for arm, count in read.items()
        for role in ("image", "video")
    ]
    run = made.write(tmp_path / "run", records, {"config": CONFIG})
    table, *told = fillers.section_parts(gather([run]))
    assert isinstance(table, Table)
    assert [row[:7] for row in table.rows] == [
        ("filler", role, "5", "6", "50.0", f"{tokens - 60:.1f}", f"{(tokens - 60) / 50:.2f}")
        for role in ("image", "video")
    ]
    assert {row[-1] for row in table.rows} == {"100.0" if matched else "0.0"}
    texts = [one.text for one in told if isinstance(one, Paragraph)]
    assert [text[:45] for text in texts] == ["Filler is not as long as the infills under fi"] * (
        not matched
    )
