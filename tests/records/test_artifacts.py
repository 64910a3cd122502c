"""Arrays of a run: what is written is read, one at a time, or a file is named that is damaged."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import probes
from probes.core import tensors
from probes.core.errors import MachineError, ProbesError
from probes.core.types import ArrayName
from probes.records import artifacts, parquet, schema
from probes.records.artifacts import NamedArray
from probes.records.schema import ArtifactRow

KEYS = [f"{number:064x}" for number in range(4)]


def made(*keys: str, size: int = 30) -> list[NamedArray]:
    """Two arrays for every key, in the order in which they are stored."""
    return [
        (key, name, np.arange(size, dtype=dtype) + int(key, 16))
        for key in keys
        for name, dtype in (
            (ArrayName("attention", 3, "frame 0"), "float32"),
            (ArrayName("höhe «∞»"), "int64"),
        )
    ]


def plain(found: Any) -> list[tuple[Any, ...]]:
    return [
        (key, name, array.dtype.name, array.shape, array.tobytes()) for key, name, array in found
    ]


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


@pytest.mark.parametrize("limit", [artifacts.SHARD_BYTES, 400, 1])
def test_arrays_come_back_whatever_files_they_are_in(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SHARD_BYTES", limit)
    artifacts.write(tmp_path, iter(made(*KEYS)))
    found = artifacts.read(tmp_path)
    assert plain(found) == plain(made(*KEYS))
    count = {400: 4, 1: 8}.get(limit, 1)
    shards = [f"artifacts/artifacts-{number:05d}.safetensors" for number in range(count)]
    assert files(tmp_path) == ["artifacts.parquet", *shards]
    facts = artifacts.facts(tmp_path)
    size = sum(path.stat().st_size for path in (tmp_path / "artifacts").iterdir())
    assert facts == {"arrays": 8, "names": ["attention", "höhe «∞»"], "bytes": size}


def test_every_type_and_shape_comes_back(tmp_path: Path) -> None:
    given = [
        (KEYS[0], ArrayName(dtype, n), np.array([[0, 1, 2]]).astype(dtype))
        for n, dtype in enumerate(tensors.DTYPES)
    ]
    given += [
        (KEYS[1], ArrayName("scalar"), np.array(np.nan)),
        (KEYS[1], ArrayName("empty"), np.zeros((0, 3), "float16")),
    ]
    artifacts.write(tmp_path, given)
    assert plain(artifacts.read(tmp_path)) == plain(given)


def test_one_array_is_found_by_its_name_and_no_other_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.write(tmp_path, made(*KEYS))
    read: list[str] = []
    read_one = tensors.TensorFile.read
    monkeypatch.setattr(
        tensors.TensorFile, "read", lambda self, name: read.append(name) or read_one(self, name)
    )
    found = probes.artifacts(tmp_path)
    array = found.array(KEYS[2], "attention", 3, "frame 0")
    assert array.tolist() == made(KEYS[2])[0][2].tolist()
    assert read == [f'{KEYS[2]} ["attention", 3, "frame 0"]']
    index = found.index
    assert list(index.columns) == list(schema.names(ArtifactRow))
    assert list(index["layer"][:2]) == [3, index["layer"][1]] and index["layer"].isna().sum() == 4
    some = probes.artifacts(tmp_path, name="höhe «∞»")
    assert len(some) == 4 and {name.name for _, name, _ in some} == {"höhe «∞»"}
    assert plain(artifacts.read(tmp_path, key=KEYS[1])) == plain(made(KEYS[1]))
    with pytest.raises(ProbesError, match="no array attention, layer 4, frame 0") as caught:
        found.array(KEYS[2], "attention", 4, "frame 0")
    assert "did you mean attention, layer 3, frame 0?" in caught.value.fix
    with pytest.raises(ProbesError, match="the answer 77 has no array attention"):
        found.array("77", "attention")
    assert "artifacts" in dir(probes)


def test_memory_holds_the_arrays_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, count = 2**20, 40
    monkeypatch.setattr(artifacts, "SHARD_BYTES", 4 * one)

    def arrays() -> Iterator[NamedArray]:
        for number in range(count):
            yield f"{number:064x}", ArrayName("a"), np.full(one, number, "uint8")

    tracemalloc.start()
    artifacts.write(tmp_path, arrays())
    assert sum(int(array[0]) for _, _, array in artifacts.read(tmp_path)) == sum(range(count))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 14 * one  # a file's arrays, the file as it is written, and some more


def test_a_run_without_arrays_has_no_files_of_them(tmp_path: Path) -> None:
    with pytest.raises(ProbesError, match="there is no run in this folder"):
        artifacts.read(tmp_path)
    (tmp_path / "records.parquet").touch()
    artifacts.write(tmp_path, made(*KEYS))
    (tmp_path / "artifacts" / ".artifacts-00001.safetensors.99.abc").touch()  # a process was killed
    artifacts.write(tmp_path, [])
    assert files(tmp_path) == ["records.parquet"] and not (tmp_path / "artifacts").exists()
    assert artifacts.facts(tmp_path) == {}
    assert len(artifacts.read(tmp_path)) == 0 and artifacts.read(tmp_path).index.empty
    assert list(artifacts.read(tmp_path).index.columns) == list(schema.names(ArtifactRow))


def test_arrays_are_written_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "SHARD_BYTES", 1)
    artifacts.write(tmp_path, made(*KEYS))

    def breaks() -> Iterator[NamedArray]:
        yield from made(*KEYS[:2])
        raise MachineError("the disk is full")

    with pytest.raises(MachineError, match="full"):
        artifacts.write(tmp_path, breaks())
    assert files(tmp_path) == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [flip, Path.unlink, lambda path: os.truncate(path, 300), lambda path: path.write_bytes(b"x")],
    ids=["flipped", "missing", "cut", "other"],
)
def test_a_damaged_file_is_named_and_the_same_run_writes_it_again(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    artifacts.write(tmp_path, made(*KEYS))
    path = tmp_path / "artifacts" / "artifacts-00000.safetensors"
    harm(path)
    with pytest.raises(ProbesError, match="the arrays cannot be read") as caught:
        list(artifacts.read(tmp_path))
    assert caught.value.where == str(path)
    assert "the same `probes run`" in caught.value.fix


@pytest.mark.parametrize(
    "shard", ["../artifacts-00000.safetensors", "/etc/passwd", "x.safetensors"]
)
def test_an_index_names_files_of_its_folder_only(shard: str, tmp_path: Path) -> None:
    artifacts.write(tmp_path, made(KEYS[0]))
    table = pq.read_table(tmp_path / "artifacts.parquet")
    column = pa.array([shard] * len(table))
    table = table.set_column(table.column_names.index("shard"), "shard", column)
    parquet.write(tmp_path / "artifacts.parquet", table)
    for attempt in (
        lambda: list(artifacts.read(tmp_path)),
        lambda: artifacts.merge([tmp_path], tmp_path / "merged"),
    ):
        with pytest.raises(ProbesError, match="is not the name of a file of arrays"):
            attempt()


def test_runs_are_merged_and_equal_keys_are_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SHARD_BYTES", 400)
    runs = [tmp_path / name for name in ("a", "none", "b", "c")]
    for run, keys in zip(runs, (KEYS[:2], [], KEYS[1:3], KEYS[:1]), strict=True):
        artifacts.write(run, made(*keys))
    artifacts.merge(runs, tmp_path / "merged")
    assert plain(artifacts.read(tmp_path / "merged")) == plain(made(*KEYS[:3]))
    shards = sorted((tmp_path / "merged" / "artifacts").iterdir())
    assert [path.name for path in shards] == [f"artifacts-{n:05d}.safetensors" for n in range(3)]
    assert shards[0].samefile(tmp_path / "a" / "artifacts" / "artifacts-00000.safetensors")
    (tmp_path / "b" / "artifacts" / "artifacts-00001.safetensors").unlink()
    with pytest.raises(ProbesError, match="No such file"):
        artifacts.merge(runs, tmp_path / "again")
    assert files(tmp_path / "again") == []


def test_an_array_that_is_damaged_in_one_run_is_taken_from_another(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "b")]
    for run, keys in zip(runs, (KEYS[:2], KEYS[:3]), strict=True):
        artifacts.write(run, made(*keys))
    shard = runs[0] / "artifacts" / "artifacts-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # of the last array, and of no other
    shard.write_bytes(content)
    for number, order in enumerate((runs, runs[::-1])):
        artifacts.merge(order, tmp_path / f"merged{number}")
        merged = artifacts.read(tmp_path / f"merged{number}")
        found, whole = plain(merged), plain(made(*KEYS[:3]))
        assert sorted(found, key=str) == sorted(whole, key=str)
    with pytest.raises(ProbesError, match="not what was written") as refusal:
        artifacts.merge(runs[:1], tmp_path / "alone")
    assert refusal.value.where == str(shard)
    assert files(tmp_path / "alone") == []
