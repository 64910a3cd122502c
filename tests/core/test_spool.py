"""What a run keeps on disk comes out as it went in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.core.errors import MachineError
from probes.core.spool import SpilledDict, Spool
from probes.core.types import Clip, Infill, Video
from probes.engine.answer_log import AnswerLog, HashSet, TrialRequest
from probes.media.frame_index import FrameIndex

# JSON makes one character of two halves that follow one another; models' texts have none.
TEXT = st.text(st.characters(codec=None), max_size=20).filter(
    lambda t: json.loads(json.dumps(t)) == t
)
INFILLS = st.builds(Infill, TEXT, TEXT, TEXT, TEXT, st.booleans(), TEXT)
PLACES = st.tuples(TEXT, st.integers(1, 64))


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(folder))
        yield folder


@given(st.dictionaries(PLACES, st.lists(INFILLS, max_size=4).map(tuple), max_size=8))
def test_infills(given: dict[tuple[str, int], tuple[Infill, ...]]) -> None:
    shelf: SpilledDict[tuple[str, int], Infill] = SpilledDict(Infill)
    shelf.update(given)
    assert dict(shelf) == given
    assert dict(shelf) == given  # those that are remembered, too
    for place in list(given)[:1]:
        shelf[place] = ()
        assert shelf[place] == ()
        del shelf[place]
        assert place not in shelf and len(shelf) == len(given) - 1


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e6), st.binary()), min_size=1))
def test_clips(frames: list[tuple[int, float, bytes]]) -> None:
    numbers, times, seeds = zip(*frames, strict=True)
    hashes = tuple(hashlib.sha256(seed).hexdigest() for seed in seeds)
    clips = (Clip(numbers, times, hashes, hashes[:2], (1, 2)), Clip((), (), ()))
    shelf: SpilledDict[int, Clip] = SpilledDict(Clip)
    shelf[3] = clips
    assert shelf[3] == clips


def test_few_stay_in_memory_and_no_file_has_a_name(home: Path) -> None:
    shelf, text = (
        SpilledDict[tuple[str, int], Infill](Infill),
        "The man walks through the left door.",
    )
    for number in range(500):
        shelf[f"item{number}", 10] = (Infill(text, str(number), text, "f" * 64),) * 9
    for number in (7, 499, *range(500)):
        assert shelf[f"item{number}", 10][8].common == str(number)
    assert len(shelf._fresh) == 64
    assert not list(home.rglob("*"))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = Spool()
    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(MachineError, match=r"No space left(.|\n)*make room there"):
        spool.add(b"x")


def test_a_write_that_the_system_cuts_short_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda file, data, at: write(file, bytes(data[:3]), at))
    spool = Spool()
    starts = [spool.add(data) for data in (b"0123456789", b"", b"abcd")]
    assert starts == [0, 10, 10] and len(spool) == 14
    assert spool.read(8, 5) == b"89abc"


def test_what_was_cut_off_is_told() -> None:
    spool = Spool()
    spool.add(b"0123")
    os.ftruncate(spool._file.fileno(), 2)
    with pytest.raises(MachineError, match="cannot be read: it is shorter"):
        spool.read(0, 4)


def test_a_folder_that_cannot_be_used_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("PROBES_HOME", str(home / "file"))
    with pytest.raises(MachineError, match=r"point .PROBES_HOME elsewhere"):
        Spool()
    (home / "file").unlink()


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_ledger_keeps_the_order_of_cells() -> None:
    ledger = AnswerLog()
    for number in range(5):
        if number == 2:
            ledger.fail("no frames")
        else:
            ledger.put(sha(number), sha(-number))
    assert list(ledger) == [
        TrialRequest(problem="no frames") if n == 2 else TrialRequest(sha(n), sha(-n))
        for n in range(5)
    ]
    assert ledger[4] == TrialRequest(sha(4), sha(-4))
    assert len(ledger) == 5
    for at in (-1, 5):
        with pytest.raises(IndexError):
            ledger[at]


ZEROS = "ab" * 31 + "00"


def test_hashes_are_kept_once_each_and_come_in_order() -> None:
    hashes, names = HashSet(), [ZEROS, "00" * 32, *(sha(n) for n in range(9_000))]
    for start in range(0, len(names), 500):
        hashes.update(names[start : start + 700])
    assert list(hashes) == sorted(names)
    assert len(hashes) == len(names)
    hashes.update([ZEROS, "ff" * 32])
    assert list(hashes) == sorted([*names, "ff" * 32])


def test_origins_tell_where_a_frame_is_from(tmp_path: Path) -> None:
    origins, one, other = FrameIndex(tmp_path), Video(Path("/one.mp4")), Video(Path("/other.mp4"))
    origins.add(one, {sha(n): n for n in range(50)})
    origins.add(other, {sha(49): 3, ZEROS: 2**32 - 1})
    assert origins.find(sha(7)) == (one, 7)
    assert origins.find(sha(49)) == (one, 49)
    assert origins.find(ZEROS) == (other, 2**32 - 1)
    across = sha(0)[32:] + "00" * 8 + sha(1)[:16]  # the bytes are there, the hash is not
    assert bytes.fromhex(across[:48]) in origins._all()
    for absent in (sha(50), across, "no hash", sha(7)[:8], ""):
        assert origins.find(absent) is None and absent not in origins
    assert list(origins) == [*(sha(n) for n in range(50)), ZEROS]
    assert len(origins) == 51
