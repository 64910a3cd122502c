"""The format of a run folder: what is written is read, by this version and of older ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_records
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_records_docs import markdown

from probes.core import hashing
from probes.core.errors import ProbesError
from probes.records import manifest, parquet, schema
from probes.records.schema import ArtifactRow, InfillRow, ItemRow, Record

ITEM = ItemRow(
    "q0",
    "t",
    "what?",
    ("a", "b"),
    None,
    "",
    "r0",
    "videos/q0.mp4",
    None,
    {"5": ("f0", "f1"), "10": ("f0", "f2")},
    (),
    (2, 5),
    {"type": "first"},
)
INFILL = InfillRow(
    "shared", 5, "q0", 0, "f0", "f1", "it moves", "c", "e", "g", True, "", (0, 2), "ok"
)
ARTIFACT = ArtifactRow("k", "attention", None, "frame 0", (2, 0), "bool", "s", "t", "0" * 64)
EXTRAS = [{}, {"é": 0.1 + 0.2, "": -math.inf}, {"😀 «x»": 1.0}]


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        (Record, made_records.study(items=4)),
        (Record, [made_records.record(n, extras=one) for n, one in enumerate(EXTRAS)]),
        (ItemRow, [ITEM, dataclasses.replace(ITEM, frame_hashes={}, meta={})]),
        (InfillRow, [INFILL]),
        (ArtifactRow, [ARTIFACT]),
    ],
    ids=["records", "extras", "items", "infills", "artifacts"],
)
def test_rows_come_back_as_they_went_in(row: type, rows: list[Any], tmp_path: Path) -> None:
    parquet.write(tmp_path / "rows.parquet", schema.to_table(rows, row))
    table = schema.read(tmp_path / "rows.parquet", row)
    assert table.schema == schema.arrow_schema(row)
    assert list(schema.rows(table, row)) == rows


def test_only_named_columns_are_read(tmp_path: Path) -> None:
    parquet.write(tmp_path / "infills.parquet", schema.to_table([INFILL], InfillRow))
    table = schema.read(tmp_path / "infills.parquet", InfillRow, ("text", "role"))
    assert table.to_pylist() == [{"text": "it moves", "role": "shared"}]
    rows = [made_records.record(n, extras=one) for n, one in enumerate(EXTRAS)]
    parquet.write(tmp_path / "records.parquet", schema.to_table(rows, Record))
    table = schema.read(tmp_path / "records.parquet", Record, ("extras",))
    assert table.to_pylist() == [{"extras": list(one.items())} for one in EXTRAS]


def test_an_older_table_of_records_has_no_rotation() -> None:
    table = schema.to_table(made_records.study(items=2), Record).drop_columns(["rotation"])
    assert schema.conform(table, Record, "records.parquet")["rotation"].to_pylist() == [0] * 40


def test_an_older_table_of_records_has_no_extras() -> None:
    rows = [made_records.record(n, extras=one) for n, one in enumerate(EXTRAS)]
    table = schema.to_table(rows, Record)
    for older in (table.drop_columns(["extras"]), table.drop_columns(["extras", "rotation"])):
        found = schema.conform(older, Record, "records.parquet")
        assert [row.extras for row in schema.rows(found, Record)] == [{}, {}, {}]
        joined = pa.concat_tables([older, table], promote_options="default")
        found = schema.conform(joined, Record, "records.parquet", ("extras", "rotation"))
        assert [dict(one) for one in found["extras"].to_pylist()] == [{}, {}, {}, *EXTRAS]
        assert found["rotation"].to_pylist() == [0] * 6


@pytest.mark.parametrize(
    ("ok", "text", "error", "status"),
    [
        (True, "it moves", "", "ok"),
        (True, "", "", "not_applicable"),
        (False, "", "common: the reply is empty", "empty"),
        (False, "", "condense: the reply is empty", "empty"),
        (False, "", "", "empty"),
        (False, "", "event: out of memory", "failed"),
        (False, "", "event: the server says: the reply is empty", "failed"),
    ],
)
def test_an_older_table_of_infills_has_no_status(
    ok: bool, text: str, error: str, status: str
) -> None:
    row = dataclasses.replace(INFILL, ok=ok, text=text, error=error)
    table = schema.to_table([row], InfillRow).drop_columns(["status"])
    for columns in (None, ("status",), ("status", "gap")):
        found = schema.conform(table, InfillRow, "infills.parquet", columns)
        assert found["status"].to_pylist() == [status]


def test_a_table_without_what_a_new_column_follows_from_is_refused() -> None:
    table = schema.to_table([INFILL], InfillRow).drop_columns(["status", "ok"])
    with pytest.raises(ProbesError, match="have no column status, nor those that it follows from"):
        schema.conform(table, InfillRow, "infills.parquet", ("status", "gap"))


def test_nulls_of_tables_of_two_versions_are_filled() -> None:
    old = dataclasses.replace(INFILL, ok=False, text="", error="event: the reply is empty")
    table = schema.to_table([INFILL, old, INFILL], InfillRow)
    status = pa.array(["ok", None, None], pa.string())
    table = table.set_column(table.column_names.index("status"), "status", status)
    found = schema.conform(table, InfillRow, "infills.parquet")
    assert found["status"].to_pylist() == ["ok", "empty", "ok"]


def test_only_the_columns_that_are_needed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write(
        tmp_path / "records.parquet", schema.to_table(made_records.study(items=2), Record)
    )
    asked: list[Any] = []
    read = parquet.read
    monkeypatch.setattr(
        parquet,
        "read",
        lambda path, what, columns: asked.append(columns) or read(path, what, columns),
    )
    schema.read(tmp_path / "records.parquet", Record, ("role", "arm"))
    assert asked == [["role", "arm"]]


def test_values_as_pandas_or_others_write_them_are_taken() -> None:
    table = schema.to_table(made_records.study(items=2, frames=(5,)), Record)
    floats = pa.array([float("nan"), *(n % 5 for n in range(1, len(table)))], pa.float64())
    for name, column in (
        ("choice", floats),
        ("status", pa.array(["unparsed", *["ok"] * (len(table) - 1)])),
        ("arm", table["arm"].dictionary_encode()),
        ("frames", table["frames"].cast(pa.int32())),
    ):
        table = table.set_column(table.column_names.index(name), name, column)
    found = schema.conform(table, Record, "records.parquet")
    assert found.schema == schema.arrow_schema(Record)
    assert found["choice"].to_pylist() == [None, *(n % 5 for n in range(1, len(table)))]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["arm"]), "the records have no columns arm"),
        (
            lambda t: t.set_column(9, "frames", pa.array(["x"] * len(t))),
            "column frames holds string",
        ),
    ],
)
def test_what_is_no_table_of_records_is_refused(
    change: Callable[[pa.Table], pa.Table], words: str, tmp_path: Path
) -> None:
    table = change(schema.to_table(made_records.study(items=2), Record))
    pq.write_table(table, tmp_path / "records.parquet")
    with pytest.raises(ProbesError, match=words) as caught:
        schema.read(tmp_path / "records.parquet", Record)
    assert str(tmp_path) in str(caught.value)


def test_half_a_character_becomes_a_question_mark() -> None:
    row = dataclasses.replace(ITEM, media_path="a\ud800b", options=("x\udfff", "y"))
    (found,) = schema.rows(schema.to_table([row], ItemRow), ItemRow)
    assert (found.media_path, found.options) == ("a?b", ("x?", "y"))
    row = made_records.record(0, extras={"a\ud800": 1.0})
    assert next(schema.rows(schema.to_table([row], Record), Record)).extras == {"a?": 1.0}


@pytest.mark.parametrize("row", [Record, ItemRow, InfillRow, ArtifactRow])
def test_every_column_has_a_meaning_and_those_with_a_default_are_behind_the_others(
    row: type,
) -> None:
    assert all(field.column.meaning for field in schema.fields(row))
    later = [field.default is not dataclasses.MISSING for field in schema.fields(row)]
    assert later == sorted(later)


def test_a_new_column_is_one_field(tmp_path: Path) -> None:
    """What docs/decisions/0015-adding-a-column.md shows."""
    from typing import Annotated

    new = dataclasses.make_dataclass(
        "New",
        [("entropy", Annotated[float | None, schema.Column("of the options")], None)],
        bases=(InfillRow,),
        frozen=True,
        slots=True,
    )
    old = schema.to_table([INFILL], InfillRow)
    found = schema.conform(old, new, "infills.parquet")
    assert found["entropy"].to_pylist() == [None]
    assert found.schema.field("entropy").type == pa.float64()
    assert "| `entropy` | double, or null | of the options |" in markdown(new)


def test_a_manifest_is_read_as_it_was_written_without_secrets(tmp_path: Path) -> None:
    written = manifest.Manifest(
        git="c0ffee",
        dirty=False,
        packages={"torch": "2"},
        device="cpu",
        config={"backend": {"options": {"api_key": "sk-abcdefghijklmnopqrstuvwxyz"}}},
        data={},
        seeds={"run": 0},
        created="now",
        platform={},
        members={},
        counts={"error": 0},
        failed_infills=0,
        empty_infills=1,
        donors={},
        decode_passes=2,
        backends={},
        seconds={"files": 0.5},
    )
    manifest.write_manifest(tmp_path, written)
    found = manifest.read_manifest(tmp_path)
    assert "sk-abcdefghijklmnopqrstuvwxyz" not in (tmp_path / "manifest.json").read_text()
    expected = dataclasses.asdict(written) | {"config": found["config"]}
    names = "frames_lost artifacts origins scored notes comparability remarks"
    for name in names.split():
        assert expected.pop(name) in ((), {})
    own = found.pop("sha256")
    assert own == hashing.sha256_json(found)
    assert expected.pop("sha256") == ""
    assert found == expected
