"""Frames are the right ones, the same from both decoders, decoded once, never silently wrong."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from probes.decoders import NOT_MP4, mp4_fault
from probes.frames import FramePool, indices
from probes.provenance import array_sha256
from probes.types import Panels, ProbesError, Video
from probes.worker import Worker

ROOT = Path(__file__).resolve().parent.parent
N, H, W, BLOCK = 48, 64, 128, 16
TICK = Fraction(1, 90_000)
# Frame intervals of 11 to 100 ms, from half a second on: variable rate with a start offset.
UNEVEN = [45_000 + int(t) for t in np.cumsum(np.random.default_rng(0).integers(1000, 9000, N))]


def picture(number: int) -> np.ndarray:
    """A moving colour field whose top row of blocks spells the frame's number in binary."""
    y, x = np.mgrid[:H, :W]
    image = np.stack([x * 2 + number * 5, y * 4 + number * 3, x + y + number * 7], -1) % 256
    for bit in range(W // BLOCK):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return image.astype(np.uint8)


def number_in(frame: np.ndarray) -> int:
    blocks = frame[4 : BLOCK - 4].reshape(BLOCK - 8, W // BLOCK, BLOCK, 3)[:, :, 4:-4]
    return sum(1 << bit for bit, light in enumerate(blocks.mean((0, 2, 3)) > 128) if light)


def film(
    path: Path,
    pts: Sequence[int] | None = None,
    x264: str = "bframes=3:b-adapt=0:keyint=12:min-keyint=12",
    colorspace: int | None = None,
    pix_fmt: str = "yuv420p",
    faststart: bool = False,
) -> Path:
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = W, H, pix_fmt
        stream.codec_context.time_base = TICK
        stream.options = {"x264-params": f"log-level=none:{x264}", "crf": "16"}
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        for number in range(N):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = pts[number] if pts else number * 3000
            frame.time_base = TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def patched(source: Path, target: Path, box: bytes, offset: int, data: bytes) -> Path:
    content = bytearray(source.read_bytes())
    at = content.index(box) + offset
    content[at : at + len(data)] = data
    target.write_bytes(content)
    return target


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    made = {
        "constant": film(folder / "constant.mp4", faststart=True),
        "variable": film(folder / "variable.mp4", UNEVEN),
        "bt709": film(folder / "bt709.mp4", colorspace=1),
        "full_range": film(folder / "full.mp4", pix_fmt="yuvj420p"),
        "open_gop": film(folder / "open.mp4", x264="open-gop=1:keyint=12:min-keyint=12:bframes=4"),
    }
    # Rotated by a quarter turn, as phones do: the display matrix in the track header.
    made["rotated"] = patched(
        made["constant"], folder / "rotated.mp4", b"tkhd", 44,
        struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    )  # fmt: skip
    # An edit list that begins 20 frames in, as cutting without re-encoding writes it.
    content = made["constant"].read_bytes()
    at = content.index(b"elst") + 16
    (first,) = struct.unpack(">i", content[at : at + 4])
    made["edited"] = patched(
        made["constant"], folder / "edited.mp4", b"elst", 16, struct.pack(">i", first + 20 * 3000)
    )
    return made


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(timeout_s=30)
    yield worker
    worker.close()


@pytest.fixture
def pool(tmp_path: Path, worker: Worker) -> FramePool:
    pool = FramePool(tmp_path)
    pool._worker = worker  # a child of its own would take each test a third of a second
    return pool


def reopened(pool: FramePool, **settings: Any) -> FramePool:
    """What another process would see."""
    later = FramePool(pool._root.parent, **settings)
    later._worker = pool._worker
    return later


# --- which frames ---------------------------------------------------------------------------------


def test_indices_are_exact() -> None:
    assert indices(100, 5) == (0, 24, 49, 74, 99)
    assert indices(10, 10) == tuple(range(10))
    assert indices(7, 1) == (0,)
    assert indices(1, 1) == (0,)
    for n in range(2, 60):
        for k in range(2, n + 1):
            assert indices(n, k) == tuple(int(Fraction(i * (n - 1), k - 1)) for i in range(k))


@pytest.mark.parametrize(("n", "k"), [(4, 5), (4, 0), (4, -1), (0, 1)])
def test_indices_refuse(n: int, k: int) -> None:
    with pytest.raises(ProbesError):
        indices(n, k)


# --- both decoders --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["constant", "variable", "bt709", "full_range", "rotated"])
def test_decoders_give_identical_frames(worker: Worker, clips: dict[str, Path], name: str) -> None:
    one = worker.decode(clips[name], "decord", counts=(5, 10))
    two = worker.decode(clips[name], "pyav", counts=(5, 10))
    assert (one.decoder, two.decoder) == ("decord", "pyav")
    assert one.count == two.count == N
    assert one.numbers == two.numbers == tuple(sorted({*indices(N, 5), *indices(N, 10)}))
    assert one.times_s == two.times_s
    assert one.frames.dtype == np.uint8
    assert np.array_equal(one.frames, two.frames)
    frames = np.rot90(one.frames, 1, (1, 2)) if name == "rotated" else one.frames
    assert [number_in(frame) for frame in frames] == list(one.numbers)


def test_every_single_frame_is_identical(worker: Worker, clips: dict[str, Path]) -> None:
    for name in ("constant", "variable"):
        one = worker.decode(clips[name], "decord", counts=(N,))
        two = worker.decode(clips[name], "pyav", counts=(N,))
        assert np.array_equal(one.frames, two.frames)


def test_times_are_presentation_times(worker: Worker, clips: dict[str, Path]) -> None:
    got = worker.decode(clips["variable"], "auto", counts=(N,))
    expected = [(t - UNEVEN[0]) / 90_000 for t in UNEVEN]
    assert got.times_s == pytest.approx(expected, abs=1e-3)


def test_the_colour_trap_is_real(worker: Worker, clips: dict[str, Path]) -> None:
    with av.open(str(clips["bt709"])) as container:
        naive = next(container.decode(video=0)).to_ndarray(format="rgb24")
    ours = worker.decode(clips["bt709"], "pyav", numbers=(0,)).frames[0]
    assert np.abs(naive.astype(int) - ours).max() > 5


@pytest.mark.parametrize(("name", "first"), [("open_gop", 0), ("edited", 20)])
def test_decord_is_not_trusted_where_it_errs(
    worker: Worker, clips: dict[str, Path], name: str, first: int
) -> None:
    with pytest.raises(ProbesError, match="trusted"):
        worker.decode(clips[name], "decord", counts=(10,))
    got = worker.decode(clips[name], "auto", counts=(10,))
    assert (got.decoder, got.count) == ("pyav", N - first)
    assert [number_in(frame) - first for frame in got.frames] == list(got.numbers)


# --- broken files ---------------------------------------------------------------------------------


def packets(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def broken(kind: str, clip: Path, path: Path) -> Path:
    content = clip.read_bytes()
    cut, size = packets(clip)[30]
    if kind == "sound only":
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.rate = 8000
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
    elif kind != "missing":
        path.write_bytes({
            "empty": b"",
            "garbage": b"no video at all " * 300,
            "cut between packets": content[:cut],
            "cut within a packet": content[: cut + size // 2],
            "without index": content[:32] + struct.pack(">I4s", len(content), b"mdat"),
            "bytes changed": content[: cut + 9] + bytes(size - 9) + content[cut + size :],
        }[kind])  # fmt: skip
    return path


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize(
    "kind",
    ["missing", "empty", "garbage", "cut between packets", "cut within a packet", "without index",
     "bytes changed", "sound only"],
)  # fmt: skip
def test_broken_videos_are_errors(
    worker: Worker, clips: dict[str, Path], tmp_path: Path, kind: str, decoder: str
) -> None:
    path = broken(kind, clips["constant"], tmp_path / "broken.mp4")
    with pytest.raises(ProbesError) as caught:
        worker.decode(path, decoder, counts=(10,))
    assert caught.value.where == str(path)
    assert caught.value.what and caught.value.fix


def test_slight_damage_is_never_served_as_a_picture(
    worker: Worker, clips: dict[str, Path], tmp_path: Path
) -> None:
    # Five bytes in the middle of a packet: decord returns a patched-up picture and no error.
    content = bytearray(clips["constant"].read_bytes())
    at, size = max(packets(clips["constant"])[1:], key=lambda packet: packet[1])
    content[at + size // 3 : at + size // 3 + 5] = b"\x00\xff\x13\x37\x00"
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    for decoder in ("decord", "pyav"):
        with pytest.raises(ProbesError):
            worker.decode(path, decoder, counts=(N,))


def test_mp4_structure(clips: dict[str, Path], tmp_path: Path) -> None:
    assert mp4_fault(clips["constant"]) == mp4_fault(clips["variable"]) == ""
    stray = tmp_path / "stray.mp4"
    stray.write_bytes(clips["constant"].read_bytes() + b"\xffstray bytes behind the last box")
    assert mp4_fault(stray) == ""
    content = clips["constant"].read_bytes()
    stray.write_bytes(content[:-7])
    assert "7 bytes are missing" in mp4_fault(stray)
    stray.write_bytes(b"no video at all")
    assert mp4_fault(stray) == NOT_MP4


def test_more_frames_than_there_are(pool: FramePool, clips: dict[str, Path]) -> None:
    with pytest.raises(ProbesError, match=f"{N + 1} frames .* has {N}"):
        pool.clips(Video(clips["constant"]), (N + 1,))
    pool.clips(Video(clips["constant"]), (5,))
    with pytest.raises(ProbesError, match=f"{N + 1} frames .* has {N}") as caught:
        pool.clips(Video(clips["constant"]), (5, N + 1))
    assert caught.value.where == str(clips["constant"])


# --- the child process ----------------------------------------------------------------------------


def fake_decord(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a decord of our own before the real one; the child sees the parent's sys.path."""
    head = "class logging:\n    INFO = 32\n    set_level = print\n"
    (folder / "decord.py").write_text(head + textwrap.dedent(body))
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    "body",
    [
        "raise ImportError('none here')",
        "def VideoReader(path): raise RuntimeError('broken')",
        "def VideoReader(path):\n    while True: pass",
        "def VideoReader(path):\n    import os; os.abort()",
    ],
    ids=["missing", "fails", "hangs", "crashes"],
)
def test_pyav_stands_in_for_decord(
    clips: dict[str, Path],
    worker: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
) -> None:
    expected = worker.decode(clips["constant"], "decord", counts=(5,))
    fake_decord(tmp_path, monkeypatch, body)
    pool = FramePool(tmp_path, timeout_s=3)
    clip = pool.clips(Video(clips["constant"]), (5,))[5]
    pool.close()
    assert clip.hashes == tuple(array_sha256(frame) for frame in expected.frames)
    assert pool.decoders == {"pyav": 1}


def test_a_hang_ends_and_the_next_video_decodes(clips: dict[str, Path]) -> None:
    worker = Worker(timeout_s=3)
    worker.decode(clips["constant"], "pyav", counts=(2,))
    os.kill(worker._child.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ProbesError, match="within 3 s"):
        worker.decode(clips["constant"], "pyav", counts=(2,))
    assert 3 <= time.monotonic() - start < 10
    assert worker.decode(clips["variable"], "pyav", counts=(2,)).count == N
    os.kill(worker._child.pid, signal.SIGKILL)
    worker._child.wait()
    assert worker.decode(clips["variable"], "pyav", counts=(2,)).count == N
    worker.close()


def runs(pid: int) -> bool:
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
        from probes.worker import Worker
        worker = Worker(timeout_s=1)
        print(worker._start().pid, flush=True)
        ask = dict(path=Path({str(clips["constant"])!r}), decoder="decord", counts=(2,))
        threading.Thread(target=worker.decode, kwargs=ask, daemon=True).start()
        time.sleep(0.7)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(pid)


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys, probes.frames; "
        "print({'torch', 'av', 'decord', 'PIL', 'pandas'} & {m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


# --- the pool -------------------------------------------------------------------------------------


def test_one_decode_for_all_counts_and_processes(pool: FramePool, clips: dict[str, Path]) -> None:
    media = Video(clips["constant"])
    found = pool.clips(media, (10, 5))
    assert pool.decoded == 1
    assert pool.decoders == {"decord": 1}
    assert found[5].indices == indices(N, 5)
    assert found[10].indices == indices(N, 10)
    assert found[10].times_s == pytest.approx([i / 30 for i in indices(N, 10)])
    assert found[5].hashes[0] == found[10].hashes[0]
    assert found == pool.clips(media, (5, 10))
    assert set(pool) == {*found[5].hashes, *found[10].hashes}
    later = reopened(pool, decoder="pyav")
    assert later.clips(media, (5, 10)) == found
    for sha256, number in zip(found[10].hashes, found[10].indices, strict=True):
        frame = later[sha256]
        assert number_in(frame) == number
        assert array_sha256(frame) == sha256
        assert np.array_equal(np.asarray(Image.open(later.path(sha256))), frame)
    assert (pool.decoded, later.decoded, later.decoders) == (1, 0, {"decord": 1})


def test_a_further_count_decodes_only_what_is_new(
    pool: FramePool, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Video(clips["constant"])
    five = pool.clips(media, (5,))[5]
    read: list[Any] = []
    decode = pool._worker.decode
    monkeypatch.setattr(
        pool._worker, "decode", lambda *a, **k: read.append(k["numbers"]) or decode(*a, **k)
    )
    both = pool.clips(media, (5, 9))
    assert set(read[0]) == {*indices(N, 9)} - {*indices(N, 5)}
    assert both[5] == five
    assert [number_in(pool[sha256]) for sha256 in both[9].hashes] == list(indices(N, 9))


def test_the_same_content_is_the_same_media(
    pool: FramePool, clips: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips["constant"].read_bytes())
    assert pool.clips(Video(copy), (5,)) == pool.clips(Video(clips["constant"]), (5,))
    assert pool.decoded == 1


@pytest.mark.parametrize("harm", ["changed", "cut", "deleted", "other picture"])
def test_a_damaged_png_is_decoded_again(pool: FramePool, clips: dict[str, Path], harm: str) -> None:
    sha256 = pool.clips(Video(clips["constant"]), (5,))[5].hashes[2]
    file = pool.path(sha256)
    good = file.read_bytes()
    if harm == "deleted":
        file.unlink()
    elif harm == "other picture":
        Image.fromarray(255 - pool[sha256]).save(file)
    else:
        middle = len(good) // 2
        file.write_bytes(good[:middle] + (b"" if harm == "cut" else b"\0\0" + good[middle + 2 :]))
    later = reopened(pool)
    later.clips(Video(clips["constant"]), (5,))
    assert later.decoded == 0
    assert array_sha256(later[sha256]) == sha256
    assert later.decoded == 1
    assert file.read_bytes() == good


def test_damage_without_its_video_is_an_error(pool: FramePool, clips: dict[str, Path]) -> None:
    sha256 = pool.clips(Video(clips["constant"]), (5,))[5].hashes[2]
    later = reopened(pool)
    assert sha256 in later
    assert number_in(later[sha256]) == indices(N, 5)[2]
    later.path(sha256).write_bytes(b"no picture")
    with pytest.raises(ProbesError, match="damaged"):
        reopened(pool)[sha256]
    with pytest.raises(KeyError):
        later["0" * 64]
    assert "0" * 64 not in later


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"version": 0, "count": 9}', b"\xff"])
def test_a_damaged_index_is_made_anew(
    pool: FramePool, clips: dict[str, Path], content: bytes
) -> None:
    media = Video(clips["constant"])
    found = pool.clips(media, (5,))
    (index,) = (pool._root / "index").rglob("*.json")
    index.write_bytes(content)
    assert pool.clips(media, (5,)) == found
    assert pool.decoded == 2
    assert pool.clips(media, (5,)) == found
    assert pool.decoded == 2


def test_memory_is_bounded_and_frames_are_read_only(
    pool: FramePool, clips: dict[str, Path]
) -> None:
    pool = reopened(pool, memory_mb=1)
    hashes = pool.clips(Video(clips["constant"]), (N,))[N].hashes
    size = H * W * 3
    for sha256 in hashes:
        frame = pool[sha256]
        assert frame.shape == (H, W, 3) and not frame.flags.writeable
        assert frame.base is None  # a view would keep its whole batch
    assert sum(f.nbytes for f in pool._memory.values()) == pool._held == 2**20 // size * size
    assert pool[hashes[-1]] is pool[hashes[-1]]


def test_threads_share_one_decode(pool: FramePool, clips: dict[str, Path]) -> None:
    medias = [Video(clips["constant"]), Video(clips["variable"])]
    found: list[Any] = []

    def work(n: int) -> None:
        clip = pool.clips(medias[n % 2], (5, 7))[7]
        found.append((n % 2, clip, [number_in(pool[s]) for s in clip.hashes]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.decoded == 2
    assert len(found) == 8
    assert all(numbers == list(indices(N, 7)) for _, _, numbers in found)


def test_a_failure_is_told_again_without_another_try(pool: FramePool, tmp_path: Path) -> None:
    path = tmp_path / "garbage.mp4"
    path.write_bytes(b"no video at all " * 300)
    for _ in range(2):
        with pytest.raises(ProbesError, match="cannot be opened"):
            pool.clips(Video(path), (5,))
    assert pool.decoded == 1


def test_what_cannot_be_read_is_an_error(pool: FramePool, tmp_path: Path) -> None:
    with pytest.raises(ProbesError, match="cannot be read"):
        pool.clips(Video(tmp_path / "missing.mp4"), (5,))
    panels = tmp_path / "panels.npz"
    panels.write_bytes(b"panels")
    with pytest.raises(ProbesError, match="Panels"):
        pool.clips(Panels(panels, 8), (8,))
    with pytest.raises(ProbesError, match="no decoder"):
        FramePool(tmp_path, decoder="opencv")
