"""Ties, mass on letters and bounds, counted and told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import made_records
import pytest

from probes import analysis, report
from probes.analysis.scored import frame_lines, of_frame
from probes.records.scored import ScoredAnswers, exempt, lines


def lettered(role: str, masses: list[float], **changes: Any) -> list[Any]:
    return [
        made_records.record(at, role=role, scoring="letter", letter_mass=mass, **changes)
        for at, mass in enumerate(masses)
    ]


def frame_of(records: list[Any]) -> Any:
    return analysis.from_records(records)


def test_members_are_counted_by_their_scored_answers() -> None:
    records = lettered("image", [0.25, 0.5], tied=True)
    records += lettered("video", [0.75], option_tokens=(1, 0, 1, 1, 0))
    records += [made_records.bad(5, "error", role="video", scoring="letter")]
    found = of_frame(frame_of(records))
    assert found["image", "tiny-image"] == ScoredAnswers(2, 2, 0, 2, 0.75)
    assert found["video", "tiny-video"] == ScoredAnswers(1, 0, 1, 1, 0.75)
    one = ScoredAnswers()
    for record in records[:2]:
        one.add(record.option_tokens, record.tied, record.letter_mass)
    assert one == found["image", "tiny-image"]
    assert one.as_dict() == {"answers": 2, "tied": 2, "bounded": 0, "letter_mass": 0.375}
    cloze = of_frame(frame_of(made_records.cell([1, 0, 1])))["image", "tiny-image"]
    assert (cloze.answers, cloze.by_letter) == (3, 0)
    assert math.isnan(cloze.mean)
    assert "letter_mass" not in cloze.as_dict()
    assert of_frame(frame_of([made_records.bad(0, "unparsed", scoring="generate")])) == {}


def test_lines_say_what_must_be_known_and_nothing_else() -> None:
    records = lettered("image", [0.25, 0.5], tied=True) + lettered("video", [0.4, 0.6])
    told = frame_lines(frame_of(records))
    assert [line.split(":")[0] for line in told] == ["ties", "mass on letters"]
    assert told[0].startswith("ties: 2 of 2 answers of image")
    assert told[1].startswith("mass on letters: 0.38 on average, tiny-image (image)")
    assert [line[:4] for line in frame_lines(frame_of(records), ["tiny-image"])] == ["ties"]
    bounded = frame_of(lettered("video", [0.9], option_tokens=(1, 0, 1, 1, 1)))
    assert frame_lines(bounded)[0].startswith("bounds: 1 of 1 answers of video")
    assert list(lines({})) == []


def test_embedded_checkpoints_and_scripted_members_are_exempt() -> None:
    members = [
        {"name": "a", "repo": "embedded:image"},
        {"name": "b", "repo": "org/b"},
    ]
    assert exempt({"pair": {"members": members}, "backend": {"name": "hf"}}) == {"a"}
    assert exempt({"pair": {"members": members}, "backend": {"name": "server"}}) == {"a"}
    assert exempt({"pair": {"members": members}, "backend": {"name": "scripted"}}) == {"a", "b"}
    assert exempt({}) == set()


@pytest.mark.parametrize("repo", ["embedded:image", "org/7b"])
def test_tables_and_report_tell_it_whatever_the_pair_is_called(repo: str, tmp_path: Path) -> None:
    records = lettered("image", [0.25, 0.5]) + lettered("video", [0.9, 0.9], tied=True)
    members = [
        {"name": f"tiny-{role}", "role": role, "repo": name}
        for role, name in (("image", repo), ("video", "org/video"))
    ]
    config = {"pair": {"name": "tiny", "members": members}, "backend": {"name": "hf"}}
    run = tmp_path / "run"
    made_records.write_run(run, records, config=config)
    (block,) = analysis.study_tables(analysis.load(run)).blocks
    notes = block.notes
    shown = "mass on letters: 0.38" in " ".join(notes)
    assert shown == (repo == "org/7b")
    assert any(note.startswith("ties: 2 of 2 answers of video") for note in notes)
    report.write([run], tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert ("Mass on letters: 0.38" in page) == shown
    assert "Ties: 2 of 2 answers of video" in page


def test_older_records_have_neither(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    made_records.write_run(tmp_path, lettered("image", [0.1], tied=True))
    table = pq.read_table(tmp_path / "records.parquet").drop_columns(["letter_mass", "tied"])
    pq.write_table(table, tmp_path / "records.parquet")
    frame = analysis.load(tmp_path)
    assert frame["letter_mass"].isna().all()
    assert frame["tied"].tolist() == [False]
    assert frame_lines(frame) == []
    assert json.loads(json.dumps(of_frame(frame)["image", "tiny-image"].as_dict())) == {
        "answers": 1,
        "tied": 0,
        "bounded": 0,
    }
