"""A decoder that hangs, crashes or is missing costs one attempt; the child ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filming import N

from probes.core.errors import MachineError, ProbesError
from probes.core.hashing import array_sha256, sha256_file
from probes.core.types import Video
from probes.media.decoder_pool import DecoderPool
from probes.media.frame_store import FrameStore

ROOT = Path(__file__).resolve().parents[2]


def fake_decord(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a decord of our own before the real one; the child sees the parent's sys.path."""
    head = "class logging:\n    INFO = 32\n    set_level = print\n"
    (folder / "decord.py").write_text(head + textwrap.dedent(body))
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    "body",
    [
        "raise ImportError('not here')",
        "def VideoReader(path): raise RuntimeError('broken')",
        "def VideoReader(path):\n    while True: pass",
        "def VideoReader(path):\n    import os; os.abort()",
    ],
    ids=["missing", "fails", "hangs", "crashes"],
)
def test_pyav_replaces_decord_where_it_fails(
    clips: dict[str, Path],
    pool: DecoderPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
) -> None:
    expected = pool.decode(clips["constant"], ["decord"], counts=(5,))
    fake_decord(tmp_path, monkeypatch, body)
    monkeypatch.setenv("PROBES_DECODE_TIMEOUT", "3")
    frames = FrameStore(tmp_path)
    clip = frames.clips(Video(clips["constant"]), (5,))[5]
    frames.close()
    assert clip.hashes == tuple(array_sha256(frame) for frame in expected.frames)
    assert frames._folder.index(sha256_file(clips["constant"])).decoder == "pyav"


def test_a_hang_ends_and_the_next_video_decodes(clips: dict[str, Path]) -> None:
    pool = DecoderPool(timeout_s=3)
    pool.decode(clips["constant"], ["pyav"], counts=(2,))
    (process,) = pool._processes
    os.kill(process._child.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ProbesError, match="within 3 s"):
        pool.decode(clips["constant"], ["pyav"], counts=(2,))
    assert 3 <= time.monotonic() - start < 10
    assert pool.decode(clips["variable"], ["pyav"], counts=(2,)).count == N
    os.kill(process._child.pid, signal.SIGKILL)
    process._child.wait()
    assert pool.decode(clips["variable"], ["pyav"], counts=(2,)).count == N
    pool.end()


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():  # an orphan may stay behind as a zombie: that has ended
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "hanging"])
def test_the_child_ends_with_its_parent(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    if busy:
        fake_decord(tmp_path, monkeypatch, "def VideoReader(path):\n    while True: pass")
    script = f"""
        import os, signal, sys, threading, time
        sys.path[:] = {sys.path!r}
        from pathlib import Path
        from probes.media.decoder_pool import DecoderPool
        pool = DecoderPool(timeout_s=1)
        print(pool._processes[0]._start().pid, flush=True)
        request = dict(path=Path({str(clips["constant"])!r}), decoders=["decord"], counts=(2,))
        threading.Thread(target=pool.decode, kwargs=request, daemon=True).start()
        time.sleep(0.7)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys, probes.media.frame_store; "
        "print({'torch', 'av', 'decord', 'PIL', 'pandas'} & {m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_pool_decodes_in_parallel_and_ends_during_a_video(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = DecoderPool(timeout_s=60, size=2)
    with ThreadPoolExecutor(4) as threads:
        jobs = [
            threads.submit(pool.decode, clips["constant"], "pyav", counts=(2,)) for _ in range(8)
        ]
        assert {job.result().count for job in jobs} == {N}
    assert 1 <= sum(process._child is not None for process in pool._processes) <= 2
    pool.end()
    with pytest.raises(MachineError, match="ended"):
        pool.decode(clips["constant"], ["pyav"], counts=(2,))
    fake_decord(tmp_path, monkeypatch, "def VideoReader(path):\n    while True: pass")
    hanging = DecoderPool(timeout_s=60)
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(hanging.decode, clips["constant"], counts=(2,))
        while hanging._processes[0]._child is None:
            time.sleep(0.01)
        child = hanging._processes[0]._child
        start = time.monotonic()
        hanging.end()
        with pytest.raises(MachineError):  # and PyAV is not tried
            job.result(30)
        assert time.monotonic() - start < 30
    assert child.returncode is not None
