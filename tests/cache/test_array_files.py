"""Extras and arrays in the store: what is put is found to the last bit, or computed again."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import sqlite3
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.cache import array_files, background_writer, rows
from probes.cache.background_writer import BackgroundWriter
from probes.cache.output_cache import Store
from probes.core import tensors
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_bytes
from probes.core.types import ArrayName, Output

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER = "ab" * 32, "cd" * 32
NAMES = ("plain", 'höhe "∞" \\ 模型', "__proto__", "arrays", "\U0001f600", "line\nbreak")


def arrays(seed: int = 0) -> dict[ArrayName, np.ndarray[Any, Any]]:
    """An array of every type, some in shapes and layouts that are easily got wrong."""
    draw = np.random.default_rng(seed)
    found = {
        ArrayName(dtype, layer, f"frame {layer} «é»"): draw.normal(0, 9, (2, 3)).astype(dtype)
        for layer, dtype in enumerate(tensors.DTYPES)
    }
    grid = draw.normal(size=(4, 6)).astype("float32")
    return found | {
        ArrayName("view"): grid[::2, 1::2].T,
        ArrayName("other byte order"): grid.astype(">f4"),
        ArrayName("scalar"): np.array(math.nan, "float64"),
        ArrayName("empty", 3): np.zeros((0, 5), "float16"),
        ArrayName("odd", None, "span"): np.array([-0.0, math.inf, -math.inf, math.nan], "float16"),
    }


def same(found: Any, expected: Any) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].shape == array.shape
        and found[name].dtype == array.dtype.newbyteorder("=")
        and found[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
        for name, array in expected.items()
    )


def output(seed: int = 0, **more: Any) -> Output:
    return Output(text="x", arrays=arrays(seed), **more)


def array_file(folder: Path) -> Path:
    (found,) = folder.glob("arrays/*/*.safetensors")
    return found


def test_a_row_is_its_output_and_a_checksum_over_key_base_and_text() -> None:
    plain = Output((-0.1, -2.5e-17, -math.inf), (1, 2, 3), "é", 7, 2, 0.25)
    text = (
        b'{"option_logprobs":[-0.1,-2.5e-17,-Infinity],"option_tokens":[1,2,3],"text":"\\u00e9",'
        b'"input_tokens":7,"output_tokens":2,"seconds":0.25,"status":"ok","error":""}'
    )
    for base, stored in ((KEY, ""), ("", ""), (OTHER, OTHER)):
        checksum = sha256_bytes(b" ".join([KEY.encode(), stored.encode(), text]))[:16]
        row = rows.row_of(KEY, base, plain)
        assert row == (KEY, stored, text + b" " + checksum.encode())
        assert rows.output_of(row) == (plain, "")
        for changed in (row._replace(key=OTHER), row._replace(base="0" * 64)):
            with pytest.raises(ValueError, match="not what was written"):
                rows.output_of(changed)


def test_extras_of_any_name_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = (0.1 + 0.2, math.nan, math.inf, -math.inf, -0.0, 5e-324)
    given = dict(zip(NAMES, values, strict=True))
    with Store(tmp_path) as store:
        store.put([(KEY, Output(extras=given)), (OTHER, Output(text='"arrays":'))])
        assert store.has([KEY, OTHER]) == {KEY, OTHER}
    with Store(tmp_path) as store:
        found = store.get([KEY])[KEY].extras
        assert store.get([OTHER])[OTHER] == Output(text='"arrays":')
    bits = {name: struct.pack("d", value) for name, value in found.items()}
    assert bits == {name: struct.pack("d", value) for name, value in given.items()}
    assert not (tmp_path / "arrays").exists()


def test_arrays_come_back_to_the_last_bit_and_are_read_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as store:
        store.put([(KEY, output()), (OTHER, Output(text="none"))])
    read: list[str] = []
    read_one = tensors.TensorFile.read
    monkeypatch.setattr(
        tensors.TensorFile, "read", lambda self, name: read.append(name) or read_one(self, name)
    )
    with Store(tmp_path) as store:
        assert store.has([KEY, OTHER]) == {KEY, OTHER}
        found = store.get([KEY, OTHER])
    assert found[OTHER].arrays == {} and len(found[KEY].arrays) == len(arrays())
    assert not read
    first = ArrayName("float32", 1, "frame 1 «é»")
    assert found[KEY].arrays[first].tobytes() == arrays()[first].tobytes()
    assert read == [tensors.label(first)]
    assert same(found[KEY].arrays, arrays())
    with pytest.raises(KeyError):
        found[KEY].arrays[ArrayName("float32")]
    assert array_file(tmp_path).parent.name == KEY[:2]
    assert b"arrays" not in sqlite_rows(tmp_path)[OTHER].encode()


def sqlite_rows(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in folder.glob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found |= dict(connection.execute("select key, output from outputs").fetchall())
    return found


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a disk does that loses a bit


@pytest.mark.parametrize(
    "harm",
    [Path.unlink, flipped, lambda path: os.truncate(path, 99)],
    ids=["missing", "flipped", "cut"],
)
@pytest.mark.parametrize("whose", ["own", "another"])
def test_an_answer_whose_arrays_are_lost_is_not_stored_and_can_be_stored_again(
    whose: str, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    with Store(tmp_path) as store:
        store.put([(KEY, output()), (OTHER, output(1))])
    if whose == "another":  # whose file this process does not write, and looks into first
        next(tmp_path.glob("*.sqlite")).rename(tmp_path / "a.sqlite")
    (path,) = tmp_path.glob(f"arrays/*/{KEY}*")
    harm(path)
    with Store(tmp_path) as store:
        assert store.has([KEY, OTHER]) == set(store.get([KEY, OTHER])) == {OTHER}
        store.put([(KEY, output())])
        assert store.has([KEY]) == {KEY}
        assert same(store.get([KEY])[KEY].arrays, arrays())
    with Store(tmp_path) as store:
        assert same(store.get([KEY])[KEY].arrays, arrays())


def test_a_kill_between_arrays_and_row_leaves_nothing_that_counts(tmp_path: Path) -> None:
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_array_files import KEY, output
        from probes.cache.output_cache import Store
        store = Store(Path({str(tmp_path)!r}))
        store._insert([], [])
        store._insert = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        store.put([(KEY, output())])
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment)
    assert done.returncode == -9
    left = array_file(tmp_path)
    with Store(tmp_path) as store:
        assert store.has([KEY]) == set() and store.get([KEY]) == {}
        store.put([(KEY, output())])
        assert same(store.get([KEY])[KEY].arrays, arrays())
    assert array_file(tmp_path) == left


def _write(folder: Path, seed: int) -> None:
    with Store(folder) as store:
        for number in range(20):
            store.put([(f"{number:064x}", output(seed * (number % 2)))])


def test_processes_that_store_the_same_key_do_not_harm_each_other(tmp_path: Path) -> None:
    """Every second answer differs between the two."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(tmp_path, seed)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with Store(tmp_path) as store:
        found = store.get(f"{number:064x}" for number in range(20))
    assert len(found) == 20
    for number in range(0, 20, 2):
        assert same(found[f"{number:064x}"].arrays, arrays(0))
    for number in range(1, 20, 2):
        one = found[f"{number:064x}"].arrays
        assert same(one, arrays(1)) or same(one, arrays(2))
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_what_a_newer_version_wrote_into_a_row_outlives_damage_and_copies(tmp_path: Path) -> None:
    row = rows.row_of(KEY, "", output(extras={"é": 1.0}), "0" * 64)
    values = json.loads(row.text.rpartition(b" ")[0]) | {"newer": {"deep": [1, None, "ü"]}}
    newer = rows.with_checksum(OTHER, "", json.dumps(values).encode())
    plain = rows.with_checksum(KEY, "", json.dumps({**values, "arrays": ""}).encode())
    keys = [f"{number:064x}" for number in range(100)]
    with Store(tmp_path) as store:
        store.put([(key, Output(text="x" * 500)) for key in keys])
        store._insert([plain, newer], [])
    (path,) = tmp_path.glob("*.sqlite")
    data = bytearray(path.read_bytes())
    at = data.find(keys[50].encode()) // 4096 * 4096
    data[at : at + 4096] = b"?" * 4096
    path.write_bytes(data)
    with Store(tmp_path) as store, pytest.warns(UserWarning, match="could still be read"):
        assert len(store.get(keys)) < 100
        assert store.get([KEY])[KEY].extras == {"é": 1.0}
    assert sqlite_rows(tmp_path)[KEY] == plain.text.decode()
    assert sqlite_rows(tmp_path)[OTHER] == newer.text.decode()


def test_a_failure_has_no_arrays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put([(KEY, output(status="error", error="out of memory", extras={"a": 1.0}))])
    assert not (tmp_path / "arrays").exists()


@pytest.mark.parametrize(
    "named",
    [
        {ArrayName("a"): np.zeros(2, "complex64")},
        {ArrayName("a"): np.array([{}])},
        {ArrayName("a"): np.zeros(2, "int8")},
        {ArrayName(""): np.zeros(2)},
        {ArrayName("a\ud800"): np.zeros(2)},
        {ArrayName("a", -1): np.zeros(2)},
    ],
    ids=["complex", "objects", "int8", "no name", "half a character", "negative layer"],
)
def test_what_cannot_be_stored_is_refused(named: Any, tmp_path: Path) -> None:
    with Store(tmp_path) as store, pytest.raises(ProbesError, match="an array of an answer"):
        store.put([(KEY, Output(arrays=named))])
    with Store(tmp_path) as store, pytest.raises(ProbesError, match="is no number"):
        store.put([(KEY, Output(extras={"a": "b"}))])  # type: ignore[dict-item]
    with Store(tmp_path) as store:
        assert store.has([KEY]) == set()


@pytest.mark.parametrize("key", ["../../../x", "/etc/passwd", "A" * 64, "", "0" * 63])
def test_no_path_leaves_the_stores_folder(key: str, tmp_path: Path) -> None:
    for pair in ((key, KEY), (KEY, key)):
        with pytest.raises(ValueError, match="is no sha256"):
            array_files.path_of(tmp_path, *pair)
    assert array_files.find(tmp_path, key, KEY) is None
    text = rows.row_of(KEY, "", output(), "0" * 64).text.rpartition(b" ")[0]
    row = rows.with_checksum(KEY, "", text.replace(b"0" * 64, (key or "..").encode()))
    with pytest.raises(ValueError, match="no file of arrays"):
        rows.output_of(row)


def test_arrays_wait_for_the_disk_and_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_writer, "MOST_BYTES", 1_000)
    disk, most, waiting = threading.Event(), [0], [0]

    def put(batch: Any) -> None:
        disk.wait(10)
        waiting[0] -= len(batch)

    writer = BackgroundWriter(put)

    def model() -> None:
        for number in range(10):
            writer.add(str(number), Output(arrays={ArrayName("a"): np.zeros(400, "uint8")}))
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
        writer.add("large", Output(arrays={ArrayName("a"): np.zeros(4_000, "uint8")}))

    thread = threading.Thread(target=model)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and waiting[0] == 2  # 800 bytes; a third would be over the bound
    writer.add("numbers", Output(text="never wait"))
    disk.set()
    thread.join(10)
    writer.finish()
    assert not thread.is_alive() and most[0] <= 4
    writer.check()
