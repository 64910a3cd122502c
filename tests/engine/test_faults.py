"""What goes wrong on a machine: each thing has an outcome, and nothing that was done is lost."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from processes import ROOT, SCRIPTED, Place, rows_in_store, table
from running import ITEMS, Spy, lasting, settings

from probes.cache import sqlite_file
from probes.config.settings import RunConfig
from probes.core.errors import MachineError, ProbesError
from probes.core.types import FrameRef, Output
from probes.engine.run import RunResult, execute
from probes.media import decoder_pool
from probes.media.frame_store import FrameStore
from probes.tasks import registry

TWO_ARMS = [f"~suite.arms.{arm}" for arm in ("visual_perturbation", "text_perturbation", "blind")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def go(cfg: RunConfig) -> RunResult:
    return execute(cfg, cfg.out)


def asked() -> int:
    return sum(Spy.asked.values())


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(folder / "home"))
        return go(settings(world, folder / "out"))


def prompts(result: RunResult) -> int:
    """How many different prompts a run asks in all."""
    return sum(one["unique"] for one in result.counts["prompts"].values())


# --- disks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [20, 41, 70])
def test_a_disk_that_is_full_ends_the_run_and_with_room_it_goes_on(
    writes: int,
    settle: Any,
    spy: Any,
    home: Path,
    tmp_path: Path,
    whole: RunResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After so many files: 40 are those of the frames, the others the run's own."""
    left = [writes]
    opened = Path.open

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(self: Path, mode: str = "r", *more: Any, **settings: Any) -> Any:
        left[0] -= mode == "wb"
        if mode == "wb" and left[0] < 0:
            return Full(io.FileIO(self, "wb"))
        return opened(self, mode, *more, **settings)

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "no links here")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        patch.setattr(os, "link", no_links)
        with pytest.raises(MachineError, match="No space left"):
            go(settle())
    halves = [p for p in (*home.rglob(".*"), *(tmp_path / "out").rglob(".*")) if p.is_file()]
    assert not halves
    before = asked()
    assert lasting(go(settle()).records) == lasting(whole.records)
    assert asked() == prompts(whole)  # both parts together: nothing was asked twice
    assert before == (asked() if writes > 40 else 0)


def test_a_store_without_room_ends_the_run_and_keeps_what_it_has(
    settle: Any, spy: Any, home: Path, whole: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite_file.connect

    def small(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("pragma max_page_count = 12")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "connect", small)
        with pytest.raises(MachineError, match="full") as caught:
            go(settle())
    assert "PROBES_HOME" in caught.value.fix
    stored = len(rows_in_store(home / "store"))
    assert stored
    Spy.begin()
    assert lasting(go(settle()).records) == lasting(whole.records)
    assert asked() == prompts(whole) - stored


def test_a_store_that_cannot_be_written_is_reported_before_a_model_is_loaded(
    settle: Any, spy: Any, home: Path
) -> None:
    home.mkdir()
    (home / "store").touch()
    with pytest.raises(MachineError, match="PROBES_HOME"):
        go(settle())
    assert not spy.loaded


def in_namespace(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount file systems of its own; skip where that is forbidden."""
    unshare = shutil.which("unshare")
    probe = [str(unshare), "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if unshare is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of his own (unshare -rm)")
    return subprocess.run(
        [unshare, "-rm", "bash", "-euc", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DISK": str(tmp_path), "PY": sys.executable},
        timeout=600,
    )


@pytest.mark.slow
def test_a_small_disk_that_grows(tmp_path: Path) -> None:
    """A real file system, full at whatever comes first: clips, frames, store, tables or plots."""
    done = in_namespace(
        f"""
        mount -t tmpfs -o size=40k tmpfs $DISK; cd $DISK
        export PROBES_HOME=$DISK/home PROBES_RUNS=$DISK/runs
        for size in 40k 120k 300k 500k 700k 900k 1100k 1300k 1500k 2m 64m; do
            mount -o remount,size=$size $DISK
            code=0; $PY -m probes run {shlex.join(SCRIPTED)} >out 2>err || code=$?
            cat err 2>/dev/null >&2 || true; echo "$size $code"
        done
        """,
        tmp_path,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines and lines[-1] == ["64m", "0"], done.stderr
    assert {code for _, code in lines[:3]} == {"2"}
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    done = in_namespace(
        f"""
        mount -t tmpfs tmpfs $DISK; cd $DISK; mkdir home runs
        mount --bind home home; mount -o remount,bind,ro home
        export PROBES_HOME=$DISK/home PROBES_RUNS=$DISK/runs
        code=0; $PY -m probes run {shlex.join(SCRIPTED)} || code=$?
        echo "code $code"; find runs -type f
        """,
        tmp_path,
    )
    assert done.stdout.split() == ["code", "2"]
    assert "Read-only file system" in done.stderr
    assert str(tmp_path / "home") in done.stderr
    assert "Traceback" not in done.stderr


# As after a crash: the last answers are in SQLite's log alone.
CRASH = """
import os, sqlite3, sys
(path,) = sys.argv[1:]
connection = sqlite3.connect(path)
connection.executescript("pragma journal_mode = wal; pragma wal_autocheckpoint = 0")
with connection:
    rows = connection.execute("select * from outputs").fetchall()
    connection.execute("delete from outputs")
with connection:
    connection.executemany("insert into outputs values (?, ?, ?)", rows)
os._exit(0)
"""


CHECK = """
import json, probes
one, two = probes.load("one"), probes.load("two")
columns = "item_id arm role key choice origin status".split()
assert one[columns].equals(two[columns]) and set(one.status) == {"ok"}
prompts = json.load(open("two/manifest.json"))["counts"]["prompts"]
assert all(one["computed"] == 0 < one["cached"] for one in prompts.values()), prompts
"""


@pytest.mark.parametrize(
    "state",
    [
        "wal",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("delete", "wal crash", "wal cut")),
    ],
)
def test_what_is_complete_is_served_from_a_home_that_can_only_be_read(
    state: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tables and plan too; nothing is written beside the store's files, also after a crash."""
    words = shlex.join([*SCRIPTED, "arms=[baseline,vcot]", "frames=2"])
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "crash.py").write_text(CRASH)
    (scripts / "check.py").write_text(CHECK)
    journal, _, more = state.partition(" ")
    done = in_namespace(
        f"""
        mount -t tmpfs tmpfs $DISK; cd $DISK; mkdir home runs
        export PROBES_HOME=$DISK/home PROBES_RUNS=$DISK/runs PROBES_STORE_JOURNAL={journal}
        $PY -m probes run {words} hydra.run.dir=one >table 2>log || (cat log; exit 1)
        {f"$PY {scripts}/crash.py home/store/*.sqlite" if more else "true"}
        {"rm home/store/*-shm" if more == "cut" else "true"}
        find home | sort >before
        mount --bind home home; mount -o remount,bind,ro home
        $PY -m probes run {words} hydra.run.dir=two >again
        diff <(grep -v '\\btwo$' again) <(grep -v '\\bone$' table) >&2
        $PY -m probes plan {words} >plan
        find home | sort | diff before - >&2
        $PY {scripts}/check.py
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr


# --- media ----------------------------------------------------------------------------------------


def hit_by(whole: RunResult, item: str) -> set[tuple[str, str, str, int]]:
    """Places of the records that an item's frames or infills stand in."""
    return {
        (r.item_id, r.arm, r.role, r.frames)
        for r in whole.records
        if item in (r.item_id, r.donor_id)
    }


def failed(result: RunResult) -> set[tuple[str, str, str, int]]:
    return {(r.item_id, r.arm, r.role, r.frames) for r in result.records if r.status == "error"}


def test_a_video_that_vanishes_costs_its_item_until_it_is_back(
    settle: Any,
    spy: Any,
    world: Path,
    tmp_path: Path,
    whole: RunResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    load = registry.load

    def load_and_lose(*arguments: Any) -> Any:
        items = load(*arguments)
        (copy / "videos" / "clip3.mp4").rename(copy / "lost")
        return items

    with monkeypatch.context() as patch:
        patch.setattr(registry, "load", load_and_lose)
        result = go(settle(f"task.root={copy}"))
    assert failed(result) == hit_by(whole, "clip3")
    there = {r.key for r in result.records}
    with pytest.raises(ProbesError, match=r"videos are missing: 'clip3\.mp4'"):
        go(settle(f"task.root={copy}"))
    (copy / "lost").rename(copy / "videos" / "clip3.mp4")
    Spy.begin()
    assert lasting(go(settle(f"task.root={copy}")).records) == lasting(whole.records)
    asked_again = {r.key for r in whole.records} - there
    assert spy.asked["cloze"] == len(asked_again)


def test_a_video_that_is_cut_off_is_refused_by_name(
    settle: Any, world: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    video = copy / "videos" / "clip3.mp4"
    video.write_bytes(video.read_bytes()[:-300])
    with pytest.raises(ProbesError, match=r"clip3\.mp4 (is cut off|has no index)"):
        go(settle(f"task.root={copy}"))


def test_a_video_that_no_decoder_ends_on_costs_its_item(
    settle: Any, spy: Any, tmp_path: Path, whole: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    (hanging / "decord.py").write_text("raise ImportError('none here')")
    body = """
        import sys, time
        sys.path.remove({here!r}); del sys.modules["av"]
        import av
        real = av.open
        def open_slowly(path, *arguments, **names):
            if "clip3" in path:
                while True: time.sleep(1)
            return real(path, *arguments, **names)
        av.open = open_slowly
    """
    (hanging / "av.py").write_text(textwrap.dedent(body).format(here=str(hanging)))
    monkeypatch.syspath_prepend(str(hanging))
    monkeypatch.setenv("PROBES_DECODE_TIMEOUT", "1")
    result = go(settle())
    assert failed(result) == hit_by(whole, "clip3")
    assert "did not decode within 1 s" in next(r.error for r in result.records if r.error)


@pytest.mark.parametrize("given", ["soon", "0", "nan"])
def test_a_time_limit_is_a_number(given: str, settle: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PROBES_DECODE_TIMEOUT", given)
    with pytest.raises(ProbesError, match="PROBES_DECODE_TIMEOUT"):
        go(settle())


@pytest.mark.parametrize("given", ["none", "0", "-2", "1.5", "99999"])
def test_a_number_of_decoding_processes_that_is_none_is_refused(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_DECODE_PROCESSES", given)
    with pytest.raises(ProbesError, match="PROBES_DECODE_PROCESSES"):
        FrameStore(tmp_path)


def test_several_decoding_processes_give_the_same_run(
    settle: Any, spy: Any, whole: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_DECODE_PROCESSES", "3")
    assert lasting(go(settle()).records) == lasting(whole.records)


def test_a_decoding_process_that_does_not_start_is_no_items_fault(
    settle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_pool.sys, "executable", shutil.which("false"))
    with pytest.raises(MachineError, match="does not start"):
        go(settle())


# --- models ---------------------------------------------------------------------------------------


def test_an_infill_that_fails_makes_errors_of_what_shows_it_and_is_written_again(
    settle: Any, spy: Any, whole: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row, *_) = [
        row
        for row in pq.read_table(whole.out / "infills.parquet").to_pylist()
        if (row["item_id"], row["frames"], row["gap"]) == ("clip3", 4, 1)
    ]
    wanted = (FrameRef(row["frame_a"]), FrameRef(row["frame_b"]))
    score = Spy.score

    def failing(self: Any, prompts: Any, frames: Any, scoring: Any) -> Any:
        for at, output in score(self, prompts, frames, scoring):
            shown = tuple(p for p in prompts[at].parts if isinstance(p, FrameRef))
            hit = scoring.kind == "generate" and shown == wanted
            yield at, Output(status="error", error="out of memory") if hit else output

    monkeypatch.setattr(Spy, "score", failing)
    result = go(settle())
    arms = {"vcot": "item_id", "visual_perturbation": "item_id", "text_perturbation": "donor_id"}
    assert failed(result) == {
        (r.item_id, r.arm, r.role, r.frames)
        for r in whole.records
        if r.frames == 4 and r.arm in arms and getattr(r, arms[r.arm]) == "clip3"
    }
    assert (result.failed_infills, result.empty_infills) == (1, 0)
    assert {r.error for r in result.records if r.error} == {
        "the infill of clip3 in gap 1 failed: common: out of memory"
    }
    missing = {r.key for r in whole.records} - {r.key for r in result.records}
    monkeypatch.setattr(Spy, "score", score)
    Spy.begin()
    healed = go(settle())
    assert lasting(healed.records) == lasting(whole.records)
    assert spy.asked == {"generate": 2, "cloze": len(missing)}


def test_a_writer_that_has_nothing_to_say_leaves_the_gap_bare(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Spy.score

    def silent(self: Any, prompts: Any, frames: Any, scoring: Any) -> Any:
        for at, output in score(self, prompts, frames, scoring):
            yield at, Output(text=" \n") if scoring.kind == "generate" else output

    monkeypatch.setattr(Spy, "score", silent)
    result = go(settle("frames=2", *TWO_ARMS))
    assert (result.errors, result.failed_infills, result.empty_infills) == (0, 0, ITEMS)
    keys = {(r.item_id, r.role, r.arm): r.key for r in result.records}
    assert all(key == keys[item, role, "baseline"] for (item, role, _), key in keys.items())
    manifest = json.loads((result.out / "manifest.json").read_text())
    assert (manifest["failed_infills"], manifest["empty_infills"]) == (0, ITEMS)


def test_an_error_whose_words_sound_like_an_empty_reply_is_an_error(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Spy.score

    def broken(self: Any, prompts: Any, frames: Any, scoring: Any) -> Any:
        error = Output(status="error", error="the server says: the reply is empty")
        for at, output in score(self, prompts, frames, scoring):
            yield at, error if scoring.kind == "generate" else output

    monkeypatch.setattr(Spy, "score", broken)
    result = go(settle("frames=2", *TWO_ARMS))
    assert (result.failed_infills, result.empty_infills) == (ITEMS, 0)
    assert result.errors == len([r for r in result.records if r.arm == "vcot"])


# --- processes ------------------------------------------------------------------------------------


def test_a_signal_leaves_a_run_that_the_named_command_goes_on_with(tmp_path: Path) -> None:
    """Terminated while one member answers, then interrupted while the other does."""
    # Slow enough that a phase outlasts the signal by a second even where the machine is busy.
    place = Place(tmp_path, [*SCRIPTED, "backend.options.seconds=0.02"])
    stored = set()
    for by, phase, code, said in (
        # The phase that is stopped, 0.1 s after it began.
        (signal.SIGTERM, "answers 1", 143, "terminated"),
        (signal.SIGINT, "answers 2", 130, "interrupted"),
    ):
        found, output = place.run_and_kill(0.1, phase, by)
        assert found == code, output
        assert f"{said}; every answer so far is stored. To go on:\n" in output
        assert "Traceback" not in output
        assert stored < (stored := set(rows_in_store(place.store)))
        words = shlex.split(output.splitlines()[-1])
        assert words == ["probes", "run", *place.overrides]
        assert not list((tmp_path / "runs").rglob("*.parquet"))
        place.overrides = words[2:]
    place.overrides.append("backend.options.seconds=0")  # no part of a key
    place.run()
    counts = json.loads((place.finished() / "manifest.json").read_text())["counts"]["prompts"]
    assert sum(one["cached"] for one in counts.values()) == len(stored)


def test_two_runs_at_the_same_time_end_alike(tmp_path: Path) -> None:
    place = Place(tmp_path, [*SCRIPTED, "backend.options.seconds=0.003"])
    both = [place.start() for _ in range(2)]
    for process, output in both:
        assert process.wait(120) == 0, output.read_text()
    one, two = sorted((tmp_path / "runs").rglob("manifest.json"))
    for name in ("records", "items", "infills"):
        assert table(one.parent, name).equals(table(two.parent, name))
    assert set(table(one.parent, "records")["status"].to_pylist()) == {"ok"}
    # Both may have computed an answer at the same moment; then each has stored it, once.
    assert max(rows_in_store(place.store).values()) <= 2


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "probes", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_half_a_character_in_a_reply_does_not_spoil_the_table(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Spy.score

    def odd(self: Any, prompts: Any, frames: Any, scoring: Any) -> Any:
        for at, output in score(self, prompts, frames, scoring):
            yield at, Output(text="then \ud83d") if scoring.kind == "generate" else output

    monkeypatch.setattr(Spy, "score", odd)
    result = go(settle("frames=2", *TWO_ARMS))
    texts = pq.read_table(result.out / "infills.parquet")["text"].to_pylist()
    assert set(texts) == {"then ?"}
