"""Infills of folders that were written before they named their task."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import made_records
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from probes.core.errors import ProbesError
from probes.records import infills, schema
from probes.records.schema import InfillRow

ROW = InfillRow("shared", 5, "q0", 0, "f0", "f1", "it moves", "", "", "g", True, "", ())
OLDER = schema.arrow_schema(InfillRow).remove(len(schema.names(InfillRow)) - 1)


def write(folder: Path, *rows: InfillRow, older: bool = True) -> Path:
    table = schema.to_table(rows, InfillRow)
    pq.write_table(table.select(OLDER.names) if older else table, folder / "infills.parquet")
    return folder


def test_the_task_follows_from_the_items(tmp_path: Path) -> None:
    items = [made_records.item(0), dataclasses.replace(made_records.item(1), task="u")]
    made_records.write_run(tmp_path, [], items=items)
    write(tmp_path, ROW, dataclasses.replace(ROW, item_id="q1"))
    assert [row.task for row in infills.read_rows(tmp_path)] == ["egoworld", "u"]
    columns = ("task", "text", "item_id")
    table = infills.read(tmp_path, columns)
    assert table.column_names == list(columns)
    assert table.select(["text", "item_id"]).to_pylist()[1] == {"text": "it moves", "item_id": "q1"}
    assert infills.read(tmp_path, ("text",)).column_names == ["text"]


def test_a_lender_that_no_table_names_is_of_the_runs_only_task(tmp_path: Path) -> None:
    made_records.write_run(tmp_path, [made_records.record(0)])
    write(tmp_path, ROW, dataclasses.replace(ROW, item_id="q7"))
    assert [row.task for row in infills.read_rows(tmp_path)] == ["egoworld", "egoworld"]
    two = [made_records.record(0), made_records.record(1, task="u")]
    made_records.write_run(tmp_path, two)
    with pytest.raises(ProbesError, match="the item 'q7' is in no other table"):
        infills.read_rows(tmp_path)


def test_an_id_of_two_tasks_is_refused_and_one_that_says_its_task_is_not(tmp_path: Path) -> None:
    two = [made_records.record(0), made_records.record(0, task="u")]
    made_records.write_run(tmp_path, two)
    write(tmp_path, ROW)
    with pytest.raises(ProbesError) as caught:
        infills.read_rows(tmp_path)
    assert "the item 'q0' is one of each of the tasks egoworld, u" in caught.value.what
    assert caught.value.where == str(tmp_path / "infills.parquet")
    named = dataclasses.replace(ROW, task="u")
    write(tmp_path, named, older=False)
    assert infills.read_rows(tmp_path) == [named]


def test_a_table_joined_of_both_versions_is_whole(tmp_path: Path) -> None:
    made_records.write_run(tmp_path, [], items=[made_records.item(0)])
    named = dataclasses.replace(ROW, task="u")
    whole = schema.to_table([named, ROW], InfillRow)
    at = whole.column_names.index("task")
    joined = whole.set_column(at, "task", pa.array(["u", None], pa.string()))
    pq.write_table(joined, tmp_path / "infills.parquet")
    assert [row.task for row in infills.read_rows(tmp_path)] == ["u", "egoworld"]


def test_a_folder_without_the_table_has_none(tmp_path: Path) -> None:
    assert infills.read_rows(tmp_path) == []
    assert infills.read(tmp_path, ("text",)).schema.names == ["text"]
