"""Equivalence, pooling and single clusters, as the report shows them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import report_pages as made
from made_records import bad, study

from probes import analysis
from probes.cli import main
from probes.core.errors import ProbesError
from probes.core.tables import Table
from probes.report import robustness
from probes.report.study import Study, gather


def tables(found: Study) -> dict[str, Table]:
    parts = robustness.section(found).parts
    return {part.name: part for part in parts if isinstance(part, Table)}


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def test_the_margin_is_stated_and_can_be_set(tmp_path: Path) -> None:
    run = made.write(tmp_path / "run", study(60, frames=(5,)), made.manifest())
    for margin in (0.02, 0.3):
        found = tables(gather([run], margin=margin))["equivalence"]
        assert found.title == f"Gains from vcot against a margin of {100 * margin:.1f} points"
        expected = analysis.equivalences(analysis.load(run), margin, policies=("strict",))
        expected = expected[expected["arm"] == "vcot"]
        shown = rows(found)
        assert [row["gain of"] for row in shown] == list(expected["role"])
        assert [row["gains nothing"] == "shown" for row in shown] == list(expected["equivalent"])
        for row, low, high in zip(shown, expected["low"], expected["high"], strict=True):
            assert row["smallest margin"] == f"{100 * max(abs(low), abs(high)):.1f}"
    with pytest.raises(ProbesError, match="between 0 and 100 points, got 200"):
        gather([run], margin=2.0)
    assert main.main(["report", str(run), "--margin", "0"]) == 2


def test_one_frame_count_is_not_pooled_and_two_are(tmp_path: Path) -> None:
    one = gather([made.write(tmp_path / "1", study(30, frames=(5,)), made.manifest())])
    assert "pooled" not in tables(one)
    assert "left-out" in tables(one)
    two = gather([made.write(tmp_path / "2", study(30), made.manifest())])
    (did,) = (row for row in rows(tables(two)["pooled"]) if row["contrast"] == "DiD")
    assert (did["over"], did["frames"], did["parts"]) == ("frames", "5, 10", "2")
    assert did["clusters"] == "15"


def test_cells_that_machines_spoiled_are_neither_tested_nor_pooled(tmp_path: Path) -> None:
    records = [
        bad(int(one.item_id[1:]), "error", arm="vcot", role="video", frames=one.frames)
        if (one.role, one.arm, one.frames) == ("video", "vcot", 10) and int(one.item_id[1:]) < 9
        else one
        for one in study(30)
    ]
    found = tables(gather([made.write(tmp_path / "run", records, made.manifest())]))
    tested = {(row["gain of"], row["frames"]) for row in rows(found["equivalence"])}
    assert tested == {("image", "5"), ("video", "5"), ("image", "10")}
    pooled = {(row["contrast"], row["members"]) for row in rows(found["pooled"])}
    assert pooled == {("gain", "image"), ("transfer", "video - image")}


def test_clusters_are_named(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(one, cluster="" if one.item_id == "q0" else one.cluster)
        for one in study(12, frames=(5,))
    ]
    shown = rows(tables(gather([made.write(tmp_path / "run", records)]))["left-out"])
    names = {row[f"{end} without"] for row in shown for end in ("lowest", "highest")}
    assert names <= {"q0", *(f"r{n}" for n in range(6))}
    for row in shown:
        assert float(row["lowest"]) <= float(row["points"]) <= float(row["highest"])
