"""Infills as the report reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import report_pages as made
from made_records import item, study

from probes import analysis
from probes.records import schema
from probes.records.schema import ItemRow
from probes.report import leaks, write


def test_infills_of_shards_are_counted_once(tmp_path: Path) -> None:
    rows = [made.infill(0), made.infill(1)]
    whole = study(4, frames=(5,))
    for shard in (0, 1):
        part = [r for r in whole if int(r.item_id[1:]) % 2 == shard]
        made.write(tmp_path / "runs" / str(shard), part, made.manifest(), rows)
    assert len(leaks.read(analysis.load(tmp_path / "runs"))) == 2


OPTIONS = ("c washes a plate", "c carries the box", "c opens the door", "c sits", "c looks up")


def run_with(tmp_path: Path, texts: list[str]) -> Path:
    """A run of as many items as texts; the right answer of item i is option i % 5."""
    rows = [made.infill(number, text) for number, text in enumerate(texts)]
    folder = made.write(tmp_path / "run", study(len(texts), frames=(5,)), made.manifest(), rows)
    items = [replace(item(number), options=OPTIONS) for number in range(len(texts))]
    pq.write_table(schema.to_table(items, ItemRow), folder / "items.parquet")
    return folder


def test_a_form_of_the_right_answers_own_word_is_found(tmp_path: Path) -> None:
    texts = ["he washed it", "carrying on with boxes", "a plate is washed", "c is there", "up"]
    found = leaks.read(analysis.load(run_with(tmp_path, texts)))
    assert found["stems"].tolist() == [[0], [1], [0], [], []]
    assert found["stems_answer"].tolist() == [True, True, False, False, False]
    assert not found["leaks_answer"].any()
    clips = leaks.clips_with_leaked_answer(found, by_stem=True)
    assert clips["item_id"].tolist() == ["q0", "q1"]
    assert leaks.clips_with_leaked_answer(found).empty


def test_the_report_sets_stems_of_the_right_answer_beside_those_of_wrong_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"png": b"png", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    monkeypatch.setattr("probes.report.figures.rendered", lambda figure: drawn)
    texts = ["he washed it", "carrying boxes", "a plate is washed", "c is there", "up"] * 8
    write([run_with(tmp_path, texts)], tmp_path / "out")
    (row,) = pd.read_csv(tmp_path / "out" / "tables" / "leaks.csv").to_dict("records")
    # Of the items two in five; of their four wrong options one, of one item in five.
    assert (row["items_stem_key"], row["items_stem_wrong"]) == (16, 2.0)
    rest = pd.read_csv(tmp_path / "out" / "tables" / "without-leaks.csv")
    assert set(rest.loc[rest["without"] == "stem", "n"]) == {24}
    assert set(rest.loc[rest["without"] == "leak", "n"]) == {40}
