"""Hashes of files are remembered until the files change."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.core import hashing
from probes.core.hashing import remembered_sha256

OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hashing, "_LARGE", 100)
    # ctime cannot be set back: files of these tests would all be too young to be stored.
    monkeypatch.setattr(hashing, "_SETTLED_NS", 0)
    forget()
    return tmp_path / "home"


def forget() -> None:
    """Forget what this process knows, as if it were another one."""
    hashing._remembered_sha256.cache_clear()
    hashing._remembered.cache_clear()


def made(path: Path, content: bytes = b"x" * 200, age: float = OLD) -> Path:
    path.write_bytes(content)
    os.utime(path, (age, age))
    time.sleep(0.02)  # longer than a tick of any disk's clock: a state of its own
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read to be hashed."""
    names: list[str] = []
    digest = hashlib.file_digest

    def spy(file: Any, name: str) -> Any:
        names.append(Path(file.name).name)
        return digest(file, name)

    monkeypatch.setattr(hashing.hashlib, "file_digest", spy)
    return names


def test_a_large_file_is_read_once_by_all_processes(tmp_path: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    expected = hashlib.sha256(b"x" * 200).hexdigest()
    for _ in range(3):
        assert remembered_sha256(file) == expected
        forget()
    assert reads == ["film"]


def test_the_hash_of_a_small_file_is_not_stored(
    tmp_path: Path, home: Path, reads: list[str]
) -> None:
    file = made(tmp_path / "small", b"x" * 99)
    for _ in range(2):
        remembered_sha256(file)
    assert reads == ["small"]
    assert not home.exists()


@pytest.mark.parametrize("change", ["content", "time", "size", "replaced", "same times"])
def test_a_file_that_changed_is_read_again(change: str, tmp_path: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    before = remembered_sha256(file)
    forget()
    if change == "time":
        os.utime(file, (OLD + 1, OLD + 1))
    elif change == "size":
        made(file, b"x" * 201)
    elif change == "replaced":
        made(tmp_path / "other", b"y" * 200).replace(file)
    else:
        # A copy that keeps times: the inode's own time of change shows it.
        made(file, b"y" * 200, OLD if change == "same times" else OLD + 1)
    after = remembered_sha256(file)
    assert reads == ["film", "film"]
    assert after == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (after == before) == (change == "time")


def test_the_hash_of_a_file_that_may_still_change_is_not_stored(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_SETTLED_NS", 3 * 10**9)
    remembered_sha256(made(tmp_path / "film"))
    assert not home.exists()


def test_the_hash_of_a_file_that_changes_while_it_is_read_is_not_stored(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path / "film")
    digest = hashlib.file_digest

    def change(opened: Any, name: str) -> Any:
        content = digest(opened, name)
        made(file, b"z" * 200)
        return content

    monkeypatch.setattr(hashing.hashlib, "file_digest", change)
    remembered_sha256(file)
    assert not home.exists()


@pytest.mark.parametrize("left", [b"\n[", b'\n["half a line", 20', b"\n\xff\xfe 00000000", b"\n"])
def test_what_a_killed_process_left_does_no_harm(
    left: bytes, tmp_path: Path, home: Path, reads: list[str]
) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two", b"y" * 200)
    remembered_sha256(one)
    with (home / "hashes.jsonl").open("ab") as file:
        file.write(left)
    forget()
    remembered_sha256(two)
    forget()
    assert (remembered_sha256(one), remembered_sha256(two)) == tuple(
        hashlib.sha256(c * 200).hexdigest() for c in (b"x", b"y")
    )
    assert reads == ["one", "two"]


def test_a_line_that_was_changed_is_not_used(tmp_path: Path, home: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    right = remembered_sha256(file)
    lines = home / "hashes.jsonl"
    lines.write_bytes(lines.read_bytes().replace(right[:8].encode(), b"00000000"))
    forget()
    assert remembered_sha256(file) == right
    assert reads == ["film", "film"]


def _hash_all(folder: Path, home: Path) -> None:
    os.environ["PROBES_HOME"] = str(home)
    hashing._LARGE, hashing._SETTLED_NS = 100, 0
    for path in sorted(folder.iterdir()):
        remembered_sha256(path)


def test_processes_may_store_hashes_at_the_same_time(
    tmp_path: Path, home: Path, reads: list[str]
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(60):
        (folder / f"film{number}").write_bytes(bytes([number]) * 200)
    time.sleep(0.02)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_hash_all, args=(folder, home)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    for path in folder.iterdir():
        assert remembered_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reads == []


def test_a_home_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, home: Path) -> None:
    home.write_text("not a folder")
    file = made(tmp_path / "film")
    assert remembered_sha256(file) == hashlib.sha256(b"x" * 200).hexdigest()


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(st.characters(codec=None)))))
def test_rows_have_the_hash_of_their_list(rows: list[dict[str, Any]]) -> None:
    assert hashing.sha256_json_rows(iter(rows)) == hashing.sha256_json(rows)
