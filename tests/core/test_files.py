"""Hashes are remembered while files stay as they are, and files are written as a whole or not."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.core import files, hashing
from probes.core.errors import MachineError
from probes.core.files import atomic_write
from probes.core.hashing import sha256_file

OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(files, "_LARGE", 100)
    # ctime cannot be set back: files of these tests would all be too young to be noted.
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    forget()
    return tmp_path / "home"


def forget() -> None:
    """As in another process."""
    hashing._sha256_file.cache_clear()
    hashing._remembered.cache_clear()


def made(path: Path, content: bytes = b"x" * 200, age: float = OLD) -> Path:
    path.write_bytes(content)
    os.utime(path, (age, age))
    time.sleep(0.02)  # coarser than any disk's clock: a state of its own
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were read to be hashed."""
    found: list[str] = []
    digest = hashlib.file_digest

    def spy(file: Any, name: str) -> Any:
        found.append(Path(file.name).name)
        return digest(file, name)

    monkeypatch.setattr(files.hashlib, "file_digest", spy)
    return found


def test_a_large_file_is_read_once_by_all_processes(tmp_path: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    expected = hashlib.sha256(b"x" * 200).hexdigest()
    for _ in range(3):
        assert sha256_file(file) == expected
        forget()
    assert reads == ["film"]


def test_a_small_file_is_not_noted(tmp_path: Path, home: Path, reads: list[str]) -> None:
    file = made(tmp_path / "note", b"x" * 99)
    for _ in range(2):
        sha256_file(file)
    assert reads == ["note"]
    assert not home.exists()


@pytest.mark.parametrize("change", ["content", "time", "size", "replaced", "same times"])
def test_whatever_changes_is_read_again(change: str, tmp_path: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    before = sha256_file(file)
    forget()
    if change == "time":
        os.utime(file, (OLD + 1, OLD + 1))
    elif change == "size":
        made(file, b"x" * 201)
    elif change == "replaced":
        made(tmp_path / "other", b"y" * 200).replace(file)
    else:
        # A copy that keeps times: the inode's own time of change tells.
        made(file, b"y" * 200, OLD if change == "same times" else OLD + 1)
    after = sha256_file(file)
    assert reads == ["film", "film"]
    assert after == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (after == before) == (change == "time")


def test_what_may_still_change_is_not_noted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED_NS", 3 * 10**9)
    sha256_file(made(tmp_path / "film"))
    assert not home.exists()


def test_a_file_that_changes_while_it_is_read_is_not_noted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path / "film")
    digest = hashlib.file_digest

    def meddle(opened: Any, name: str) -> Any:
        found = digest(opened, name)
        made(file, b"z" * 200)
        return found

    monkeypatch.setattr(files.hashlib, "file_digest", meddle)
    sha256_file(file)
    assert not home.exists()


@pytest.mark.parametrize("left", [b"\n[", b'\n["half a line", 20', b"\n\xff\xfe 00000000", b"\n"])
def test_what_a_killed_process_left_spoils_nothing(
    left: bytes, tmp_path: Path, home: Path, reads: list[str]
) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two", b"y" * 200)
    sha256_file(one)
    with (home / "hashes.jsonl").open("ab") as file:
        file.write(left)
    forget()
    sha256_file(two)
    forget()
    assert (sha256_file(one), sha256_file(two)) == tuple(
        hashlib.sha256(c * 200).hexdigest() for c in (b"x", b"y")
    )
    assert reads == ["one", "two"]


def test_a_line_that_was_changed_is_not_believed(
    tmp_path: Path, home: Path, reads: list[str]
) -> None:
    file = made(tmp_path / "film")
    right = sha256_file(file)
    notes = home / "hashes.jsonl"
    notes.write_bytes(notes.read_bytes().replace(right[:8].encode(), b"00000000"))
    forget()
    assert sha256_file(file) == right
    assert reads == ["film", "film"]


def _hash_all(folder: Path, home: Path) -> None:
    os.environ["PROBES_HOME"] = str(home)
    hashing._LARGE, hashing._SETTLED_NS = 100, 0
    for path in sorted(folder.iterdir()):
        sha256_file(path)


def test_processes_may_note_at_the_same_time(tmp_path: Path, home: Path, reads: list[str]) -> None:
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
        assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reads == []


def test_a_home_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, home: Path) -> None:
    home.write_text("no folder")
    file = made(tmp_path / "film")
    assert sha256_file(file) == hashlib.sha256(b"x" * 200).hexdigest()


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "table"
    atomic_write(file, b"old")

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: Full(io.FileIO(self, mode)))
        with pytest.raises(MachineError, match="No space left") as caught:
            atomic_write(file, b"new")
    assert caught.value.where == str(file)
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    assert file.read_bytes() == b"old"


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "table", b"new")


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(st.characters(codec=None)))))
def test_rows_have_the_hash_of_their_list(rows: list[dict[str, Any]]) -> None:
    assert hashing.sha256_json_rows(iter(rows)) == hashing.sha256_json(rows)
