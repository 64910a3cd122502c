"""Every video is decoded once, and what is served is what was decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filming import (
    H,
    N,
    W,
    film_all,
    number_in,
)
from PIL import Image

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import Panels, Video
from probes.media.decode_worker import DecoderProcess
from probes.media.frame_store import FrameStore
from probes.media.video_decoders import indices


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return film_all(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def worker() -> Iterator[DecoderProcess]:
    worker = DecoderProcess(timeout_s=30)
    worker.end = worker.close  # type: ignore[method-assign]  # pools close, and share this one
    yield worker
    worker.close()


@pytest.fixture
def pool(tmp_path: Path, worker: DecoderProcess) -> FrameStore:
    pool = FrameStore(tmp_path)
    pool._worker = worker  # a child of its own would take each test a third of a second
    return pool


def reopened(pool: FrameStore, **settings: Any) -> FrameStore:
    """What another process would see."""
    later = FrameStore(pool._root.parent, **settings)
    later._worker = pool._worker
    return later


def test_more_frames_than_there_are(pool: FrameStore, clips: dict[str, Path]) -> None:
    with pytest.raises(ProbesError, match=f"{N + 1} frames .* has {N}"):
        pool.clips(Video(clips["constant"]), (N + 1,))
    pool.clips(Video(clips["constant"]), (5,))
    with pytest.raises(ProbesError, match=f"{N + 1} frames .* has {N}") as caught:
        pool.clips(Video(clips["constant"]), (5, N + 1))
    assert caught.value.where == str(clips["constant"])


def test_one_decode_for_all_counts_and_processes(pool: FrameStore, clips: dict[str, Path]) -> None:
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
    pool: FrameStore, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
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
    pool: FrameStore, clips: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips["constant"].read_bytes())
    assert pool.clips(Video(copy), (5,)) == pool.clips(Video(clips["constant"]), (5,))
    assert pool.decoded == 1


@pytest.mark.parametrize("harm", ["changed", "cut", "deleted", "other picture"])
def test_a_damaged_png_is_decoded_again(
    pool: FrameStore, clips: dict[str, Path], harm: str
) -> None:
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


def test_a_size_is_known_without_reading_pixels_and_right_even_where_the_file_is_damaged(
    pool: FrameStore, clips: dict[str, Path]
) -> None:
    clip = pool.clips(Video(clips["constant"]), [2])[2]
    sha = clip.hashes[0]
    frame = pool[sha]
    assert pool.shape(sha) == frame.shape
    pool.close()  # forgets what is in memory
    assert pool.shape(sha) == frame.shape
    assert not pool._memory
    pool.path(sha).write_bytes(pool.path(sha).read_bytes()[:20])
    assert pool.shape(sha) == frame.shape
    assert (pool[sha] == frame).all()
    with pytest.raises(KeyError):
        pool.shape("0" * 64)


def test_damage_without_its_video_is_an_error(pool: FrameStore, clips: dict[str, Path]) -> None:
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
    pool: FrameStore, clips: dict[str, Path], content: bytes
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
    pool: FrameStore, clips: dict[str, Path]
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


def test_threads_share_one_decode(pool: FrameStore, clips: dict[str, Path]) -> None:
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


def test_a_failure_is_told_again_without_another_try(pool: FrameStore, tmp_path: Path) -> None:
    path = tmp_path / "garbage.mp4"
    path.write_bytes(b"no video at all " * 300)
    for _ in range(2):
        with pytest.raises(ProbesError, match="cannot be opened"):
            pool.clips(Video(path), (5,))
    assert pool.decoded == 1


def test_what_cannot_be_read_is_an_error(pool: FrameStore, tmp_path: Path) -> None:
    with pytest.raises(ProbesError, match="cannot be read"):
        pool.clips(Video(tmp_path / "missing.mp4"), (5,))
    panels = tmp_path / "panels.npz"
    panels.write_bytes(b"panels")
    with pytest.raises(ProbesError, match="truncated or damaged"):
        pool.clips(Panels(panels, 8), (8,))
    other = tmp_path / "panels.odt"
    other.write_bytes(b"other")
    with pytest.raises(ProbesError, match="no reader for such pictures"):
        pool.clips(Panels(other, 8), (8,))
    with pytest.raises(ProbesError, match="no decoder"):
        FrameStore(tmp_path, decoder="opencv")
