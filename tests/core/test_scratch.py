"""What a run keeps in its temporary table comes out as it went in."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.core.errors import MachineError
from probes.core.scratch import HashSet, Scratch, SpilledDict
from probes.core.types import Clip, Infill

# JSON makes one character of two halves that follow one another; models' texts have none.
TEXT = st.text(st.characters(codec=None), max_size=20).filter(
    lambda t: json.loads(json.dumps(t)) == t
)
STATUS = st.sampled_from(("ok", "empty", "failed", "not_applicable"))
INFILLS = st.builds(Infill, TEXT, TEXT, TEXT, TEXT, STATUS, TEXT)
CLIP_KEYS = st.tuples(TEXT, st.integers(1, 64))


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(folder))
        yield folder


@given(st.dictionaries(CLIP_KEYS, st.lists(INFILLS, max_size=4).map(tuple), max_size=8))
def test_infills(given: dict[tuple[str, int], tuple[Infill, ...]]) -> None:
    spilled: SpilledDict[tuple[str, int], Infill] = SpilledDict(Scratch(), "x", Infill)
    spilled.update(given)
    assert dict(spilled) == given
    assert list(spilled) == list(given)
    assert dict(spilled) == given  # those that are remembered, too
    for key in list(given)[:1]:
        spilled[key] = ()
        assert spilled[key] == ()
        assert key in spilled and len(spilled) == len(given)
        with pytest.raises(TypeError):
            del spilled[key]


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e6), st.binary()), min_size=1))
def test_clips(frames: list[tuple[int, float, bytes]]) -> None:
    numbers, times, seeds = zip(*frames, strict=True)
    hashes = tuple(hashlib.sha256(seed).hexdigest() for seed in seeds)
    clips = (Clip(numbers, times, hashes, hashes[:2], (1, 2)), Clip((), (), ()))
    spilled: SpilledDict[int, Clip] = SpilledDict(Scratch(), "clips", Clip)
    spilled[3] = clips
    assert spilled[3] == clips


def test_few_stay_in_memory_and_no_file_has_a_name(home: Path) -> None:
    text = "The man walks through the left door."
    spilled: SpilledDict[tuple[str, int], Infill] = SpilledDict(Scratch(), "x", Infill)
    for number in range(500):
        spilled[f"item{number}", 10] = (Infill(text, str(number), text, "f" * 64),) * 9
    for number in (7, 499, *range(500)):
        assert spilled[f"item{number}", 10][8].common == str(number)
    assert len(spilled._recent) == 64
    assert not list(home.rglob("*"))


def test_spaces_are_kept_separate_and_scanned_in_order() -> None:
    scratch = Scratch()
    scratch.put("a", [(5, "five"), (1, "one")])
    scratch.put("b", ((n, str(n)) for n in range(2_500)))
    scratch.put("a", [(5, "FIVE"), (2**60 - 1, "last")])
    assert list(scratch.scan("a")) == [(1, "one"), (5, "FIVE"), (2**60 - 1, "last")]
    assert list(scratch.scan("b")) == [(n, str(n)) for n in range(2_500)]
    assert (scratch.count("a"), scratch.count("b"), scratch.count("c")) == (3, 2_500, 0)
    assert (scratch.get("a", 1), scratch.get("a", 2), scratch.get("c", 1)) == ("one", None, None)
    assert list(scratch.scan("c")) == []


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_hashes_are_kept_once_each_and_come_in_order() -> None:
    names = ["ab" * 31 + "00", "00" * 32, *(sha(n) for n in range(3_000))]
    hashes = HashSet(Scratch(), "hashes")
    for start in range(0, len(names), 500):
        hashes.update(names[start : start + 700])
    assert list(hashes) == sorted(names)
    assert len(hashes) == len(names)
    hashes.update([names[0], "ff" * 32])
    assert list(hashes) == sorted([*names, "ff" * 32])


def test_a_scan_goes_on_while_others_write() -> None:
    scratch = Scratch()
    scratch.put("a", ((n, str(n)) for n in range(1_500)))
    found = []
    for number, text in scratch.scan("a"):
        scratch.put("b", [(number, text)])
        found.append(text)
    assert len(found) == scratch.count("b") == 1_500


def test_several_threads_may_write() -> None:
    scratch = Scratch()

    def work(start: int) -> None:
        for n in range(start, start + 200):
            scratch.put("a", [(n, str(n))])

    threads = [threading.Thread(target=work, args=(200 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(scratch.scan("a")) == [(n, str(n)) for n in range(800)]


def test_a_full_disk_ends_the_run() -> None:
    scratch = Scratch()
    scratch._db.execute("PRAGMA max_page_count = 4")  # what a full disk makes SQLite say
    with pytest.raises(MachineError, match=r"full(.|\n)*make room there"):
        scratch.put("a", ((n, "x" * 1_000) for n in range(1_000)))


def test_after_a_full_disk_every_thread_reports_that(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch._db.execute("PRAGMA max_page_count = 4")
    with pytest.raises(MachineError) as first:
        scratch.put("a", ((n, "x" * 1_000) for n in range(1_000)))
    scratch.close()
    with pytest.raises(MachineError) as later:
        scratch.get("a", 1)
    assert str(later.value) == str(first.value)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left, new = tmp_path / ".scratch-left", tmp_path / ".scratch-new"
    for path in (left, new):
        path.write_bytes(b"x")
    os.utime(left, (0, 0))
    Scratch(tmp_path)
    assert list(tmp_path.iterdir()) == [new]  # it may be another process's, not yet without a name


def test_what_the_disk_does_not_give_back_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch()
    scratch.put("a", [(1, "x")])
    scratch.close()
    with pytest.raises(MachineError, match="cannot be read"):
        scratch.get("a", 1)
    scratch = Scratch()
    scratch.close()
    with pytest.raises(MachineError, match="cannot be written"):
        scratch.put("a", [(1, "y")])


def test_a_folder_that_cannot_be_used_ends_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("PROBES_HOME", str(home / "file"))
    with pytest.raises(MachineError, match=r"point .PROBES_HOME elsewhere"):
        Scratch()
    (home / "file").unlink()


def test_a_home_that_can_only_be_read_uses_the_folder_of_temporary_files(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    made = []

    def remember(name: str, **settings: object) -> sqlite3.Connection:
        made.append(Path(name).parent)
        return connect(name, **settings)  # type: ignore[call-overload,no-any-return]

    def refuse(*, prefix: str, dir: Path) -> tuple[int, str]:
        if dir == home:
            raise PermissionError(13, "Permission denied")
        handle = os.open(path := tmp_path / "named", os.O_CREAT | os.O_RDWR)
        return handle, str(path)

    monkeypatch.setattr("sqlite3.connect", remember)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    scratch = Scratch()
    scratch.put("a", [(1, "x")])
    assert scratch.get("a", 1) == "x"
    assert made == [tmp_path] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE entries SET text = 'x' WHERE name = 1",
        "UPDATE entries SET text = NULL WHERE name = 1",
        "UPDATE entries SET text = CAST(x'ff' AS TEXT) WHERE name = 1",
        "UPDATE entries SET sum = NULL WHERE name = 1",
        "UPDATE entries SET name = 1.5 WHERE name = 1",
        "UPDATE entries SET name = 7 WHERE name = 1",
        "DELETE FROM entries WHERE name = 1",
        # Rows of two names, and of two spaces, in each other's place.
        "UPDATE entries SET name = name + 10 WHERE name IN (0, 2);"
        "UPDATE entries SET name = 12 - name WHERE name >= 10",
        "UPDATE entries SET space = space + 10; UPDATE entries SET space = 11 - space",
    ],
)
def test_a_row_that_changed_ends_the_run(harm: str) -> None:
    def filled() -> tuple[Scratch, SpilledDict[int, Infill]]:
        scratch = Scratch()
        spilled: SpilledDict[int, Infill] = SpilledDict(scratch, "a", Infill)
        for number in range(3):
            spilled[number] = (Infill(str(number), "", "", "", "ok", ""),)
        scratch.put("b", [(n, f"b{n}") for n in range(3)])
        scratch._db.executescript(harm)
        return scratch, spilled

    spilled = filled()[1]
    with pytest.raises(MachineError, match="cannot be read"):
        [spilled[number] for number in range(3)]
    for space in "ab":
        with pytest.raises(MachineError, match="cannot be read"):
            list(filled()[0].scan(space))


def test_bytes_that_changed_on_the_disk_never_come_back_as_another_text() -> None:
    rng = random.Random(3)
    for _ in range(5):
        scratch = Scratch()
        texts = {n: f"text {n} " * 20 for n in range(20_000)}
        scratch.put("a", texts.items())
        ((_, _, name),) = scratch._db.execute("PRAGMA database_list")
        open_files = (fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
        (handle,) = (fd for fd in open_files if name in str(fd.readlink()))
        with handle.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for _ in range(30):
                file.seek(rng.randrange(4_096, size))
                file.write(rng.randbytes(3))
        with pytest.raises(MachineError, match="cannot be read"):
            for n in texts:
                assert scratch.get("a", n) in (None, texts[n])
            assert all(text == texts[n] for n, text in scratch.scan("a"))
        scratch.close()
