"""The verdict on a pair stands beside the answer, before any table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from probes.core.tables import Table
from probes.report.members import comparability
from probes.report.parts import BulletList, Paragraph
from probes.report.sections import SECTIONS
from probes.report.study import Study

FOUND: dict[str, Any] = {
    "verdict": "not comparable",
    "faults": ["video: its prompt ends in an opened thought"],
    "differences": ["config rope: unset in image, 2.5 in video"],
    "unseen": ["image: pixel values"],
    "members": {"video": {"passes": {"compared": 3, "largest": 2e-6}}},
}


def of(*manifests: dict[str, Any]) -> Study:
    return Study(pd.DataFrame(), {str(at): one for at, one in enumerate(manifests)})


def test_the_section_follows_the_answer_and_names_everything_once() -> None:
    order = ["summary", "comparability", "limits", "findings"]
    assert list(SECTIONS.entries())[:4] == order
    manifest = {"config": {"pair": {"name": "mine"}}, "comparability": FOUND}
    section = comparability(of(manifest, manifest))
    assert section is not None
    texts = [part.text for part in section.parts if isinstance(part, Paragraph)]
    assert texts == ["Pair mine: not comparable, by what probes doctor found of its members."]
    (bullets,) = (part for part in section.parts if isinstance(part, BulletList))
    assert bullets.items == (
        "video: its prompt ends in an opened thought",
        "config rope: unset in image, 2.5 in video",
        "not seen: image: pixel values",
        "video: 3 prompts were put to its own class too; option scores differ by at most 2.0e-06",
    )


def test_many_differences_are_folded() -> None:
    found = {**FOUND, "differences": [f"config {n}: differs" for n in range(9)]}
    section = comparability(of({"config": {"pair": {"name": "mine"}}, "comparability": found}))
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    assert table.folded
    assert len(table.rows) == 11
    # Faults are never folded.
    (bullets,) = (part for part in section.parts if isinstance(part, BulletList))
    assert bullets.items == tuple(FOUND["faults"])


def test_older_runs_have_no_such_section() -> None:
    assert comparability(of({}, {"config": {}})) is None
