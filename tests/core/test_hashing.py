"""Small files are read whenever their hash is asked for; that of a large one may be remembered."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.core import hash_memory, hashing
from probes.core.hashing import remembered_sha256, sha256_file

OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hashing, "LARGE", 100)
    # ctime cannot be set back: files of these tests would all be too young to be stored.
    monkeypatch.setattr(hash_memory, "SETTLED_NS", 0)
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the file system of this machine's temporary files, which may be an overlay."""
    monkeypatch.setattr(hash_memory, "_mount_of", lambda handle: ("ext4", "/dev/test"))


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


def test_a_large_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    for _ in range(3):
        assert remembered_sha256(file) == hashlib.sha256(b"x" * 200).hexdigest()
    assert reads == ["film"]
    sha256_file(file)
    assert reads == ["film", "film"]  # what is loaded or decoded is read


def test_a_small_file_is_always_read(tmp_path: Path, home: Path, reads: list[str]) -> None:
    file = made(tmp_path / "small", b"x" * 99)
    for _ in range(2):
        remembered_sha256(file)
    assert reads == ["small", "small"]
    assert not list(home.iterdir())


def test_the_bound_is_that_of_the_docs() -> None:
    text = (Path(hashing.__file__).parents[2] / "docs" / "faults.md").read_text()
    assert "64 MiB" in text
    assert Path(hashing.__file__).read_text().count("LARGE = 64 * 2**20") == 1


@pytest.mark.parametrize("change", ["content", "time", "size", "replaced", "same times"])
def test_a_file_that_changed_is_read_again(change: str, tmp_path: Path, reads: list[str]) -> None:
    file = made(tmp_path / "film")
    before = remembered_sha256(file)
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


def test_a_file_that_may_still_change_or_is_of_the_future_is_read(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    monkeypatch.setattr(hash_memory, "SETTLED_NS", 3 * 10**9)
    young = made(tmp_path / "film")
    monkeypatch.setattr(hash_memory, "SETTLED_NS", 0)
    later = made(tmp_path / "later", age=time.time() + 3600)
    monkeypatch.setattr(hash_memory, "SETTLED_NS", 3 * 10**9)
    for file in (young, later) * 2:
        remembered_sha256(file)
    assert len(reads) == 4
    assert not list(home.iterdir())


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
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("nfs4", "server:/films"),
        ("fuse.sshfs", "host:"),
        ("overlay", "overlay"),
        ("squashfs", "/dev/loop3"),
        ("erofs", "/dev/sda2"),
        ("ext4", "/dev/loop0"),
        ("", ""),
    ],
)
def test_where_times_are_not_the_kernels_own_nothing_is_remembered(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    reads: list[str],
    kind: str,
    source: str,
) -> None:
    monkeypatch.setattr(hash_memory, "_mount_of", lambda handle: (kind, source))
    file = made(tmp_path / "film")
    for _ in range(2):
        remembered_sha256(file)
    assert reads == ["film", "film"]
    assert not list(home.iterdir())


def test_another_file_of_the_same_times_size_and_inode_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if one image were mounted in another's place: all that the system says is the same."""
    monkeypatch.setattr(hash_memory, "_SAMPLE", 8)
    content = bytes(range(200))
    file = made(tmp_path / "film", content)
    stat, right = file.stat(), hashlib.sha256(bytes(reversed(content))).hexdigest()
    remembered_sha256(file)
    made(file, bytes(reversed(content)))
    with monkeypatch.context() as patch:
        patch.setattr(hash_memory.os, "fstat", lambda handle: stat)
        assert remembered_sha256(file) == right


def test_the_mount_of_a_file_is_what_the_system_calls_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    if not Path("/proc/self/mountinfo").exists() or not shutil.which("findmnt"):
        pytest.skip("no such facts here")
    command = ["findmnt", "-no", "FSTYPE,SOURCE", "-T", str(tmp_path)]
    kind, source = subprocess.check_output(command, text=True).split()
    with (tmp_path / "file").open("wb") as file:
        assert hash_memory._mount_of(file.fileno()) == (kind, source)


@pytest.fixture
def images(tmp_path: Path) -> Any:
    """Mount one of two read-only folders in which equal names have equal sizes and times."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "place"
    place.mkdir()
    mounted = []

    def mount(content: bytes) -> Path:
        if mounted:
            libc.umount(str(place).encode())
        done = libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=1m")
        if done:
            pytest.skip("mounting is not allowed here")
        mounted.append(1)
        made(place / "film", content)
        assert libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 32 | 1, b"") == 0
        return place / "film"

    yield mount
    libc.umount(str(place).encode())


def test_an_image_that_is_exchanged_is_read(images: Any, home: Path, reads: list[str]) -> None:
    one = images(b"x" * 200)
    found = [remembered_sha256(one), remembered_sha256(images(b"y" * 200))]
    assert found == [hashlib.sha256(c * 200).hexdigest() for c in (b"x", b"y")]
    assert reads == ["film", "film"]
    assert not list(home.iterdir())


def test_a_hash_that_was_wrong_is_forgotten(tmp_path: Path, reads: list[str]) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two", b"y" * 200)
    for file in (one, two):
        remembered_sha256(file)
    hashing.forget(one)
    for file in (one, two):
        remembered_sha256(file)
    assert reads == ["one", "two", "one"]


def test_a_home_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path / "film")
    home.rmdir()
    for other in (home, made(tmp_path / "not a folder")):
        monkeypatch.setenv("PROBES_HOME", str(other))
        assert remembered_sha256(file) == hashlib.sha256(b"x" * 200).hexdigest()
        hashing.forget(file)
    assert not home.exists()  # a folder that was deleted does not come back for this


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(st.characters(codec=None)))))
def test_rows_have_the_hash_of_their_list(rows: list[dict[str, Any]]) -> None:
    assert hashing.sha256_json_rows(iter(rows)) == hashing.sha256_json(rows)
