"""Every video is decoded once, and what is served is what was decoded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filming import H, N, W, number_in
from PIL import Image

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256, sha256_file
from probes.core.types import Panels, Video
from probes.media.decoder_pool import DecoderPool
from probes.media.frame_store import FrameStore
from probes.media.video_decoders import indices
from probes.tasks import pictures


@pytest.fixture
def frames(tmp_path: Path, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> FrameStore:
    monkeypatch.setattr(pool, "end", lambda: None)  # stores close, and share this one
    frames = FrameStore(tmp_path, read_panels=pictures.read)
    frames._decoder_pool = pool
    return frames


def reopened(frames: FrameStore, **settings: Any) -> FrameStore:
    """Return the store that another process would see."""
    later = FrameStore(frames._folder.root.parent, **settings)
    later._decoder_pool = frames._decoder_pool
    return later


def read_by(frames: FrameStore, path: Path) -> str:
    """Return which decoder read a video."""
    return frames._folder.index(sha256_file(path)).decoder


def test_more_frames_than_there_are(frames: FrameStore, clips: dict[str, Path]) -> None:
    with pytest.raises(ProbesError, match=f"{N + 1} frames .* has {N}"):
        frames.clips(Video(clips["constant"]), (N + 1,))
    frames.clips(Video(clips["constant"]), (5,))
    with pytest.raises(ProbesError, match=f"{N + 1} frames .* has {N}") as caught:
        frames.clips(Video(clips["constant"]), (5, N + 1))
    assert caught.value.where == str(clips["constant"])


def test_one_decode_for_all_counts_and_processes(
    frames: FrameStore, clips: dict[str, Path]
) -> None:
    media = Video(clips["constant"])
    found = frames.clips(media, (10, 5))
    assert frames.decoded == 1
    assert read_by(frames, clips["constant"]) == "decord"
    assert found[5].indices == indices(N, 5)
    assert found[10].indices == indices(N, 10)
    assert found[10].times_s == pytest.approx([i / 30 for i in indices(N, 10)])
    assert found[5].hashes[0] == found[10].hashes[0]
    assert found == frames.clips(media, (5, 10))
    assert set(frames) == {*found[5].hashes, *found[10].hashes}
    later = reopened(frames)
    assert later.clips(media, (5, 10)) == found
    for sha256, number in zip(found[10].hashes, found[10].indices, strict=True):
        frame = later[sha256]
        assert number_in(frame) == number
        assert array_sha256(frame) == sha256
        assert np.array_equal(np.asarray(Image.open(later.path(sha256))), frame)
    assert (frames.decoded, later.decoded) == (1, 0)
    assert read_by(later, clips["constant"]) == "decord"


def test_a_further_count_decodes_only_what_is_new(
    frames: FrameStore, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Video(clips["constant"])
    five = frames.clips(media, (5,))[5]
    read: list[Any] = []
    decode = frames._decoder_pool.decode
    monkeypatch.setattr(
        frames._decoder_pool, "decode", lambda *a, **k: read.append(k["numbers"]) or decode(*a, **k)
    )
    both = frames.clips(media, (5, 9))
    assert set(read[0]) == {*indices(N, 9)} - {*indices(N, 5)}
    assert both[5] == five
    assert [number_in(frames[sha256]) for sha256 in both[9].hashes] == list(indices(N, 9))


def test_the_same_content_is_the_same_media(
    frames: FrameStore, clips: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips["constant"].read_bytes())
    assert frames.clips(Video(copy), (5,)) == frames.clips(Video(clips["constant"]), (5,))
    assert frames.decoded == 1


@pytest.mark.parametrize("harm", ["changed", "cut", "deleted", "other picture"])
def test_a_damaged_png_is_decoded_again(
    frames: FrameStore, clips: dict[str, Path], harm: str
) -> None:
    sha256 = frames.clips(Video(clips["constant"]), (5,))[5].hashes[2]
    file = frames.path(sha256)
    good = file.read_bytes()
    if harm == "deleted":
        file.unlink()
    elif harm == "other picture":
        Image.fromarray(255 - frames[sha256]).save(file)
    else:
        middle = len(good) // 2
        file.write_bytes(good[:middle] + (b"" if harm == "cut" else b"\0\0" + good[middle + 2 :]))
    later = reopened(frames)
    later.clips(Video(clips["constant"]), (5,))
    assert later.decoded == 0
    assert array_sha256(later[sha256]) == sha256
    assert later.decoded == 1
    assert file.read_bytes() == good


def test_a_size_is_known_without_reading_pixels_and_right_even_where_the_file_is_damaged(
    frames: FrameStore, clips: dict[str, Path]
) -> None:
    clip = frames.clips(Video(clips["constant"]), [2])[2]
    sha = clip.hashes[0]
    frame = frames[sha]
    assert frames.shape(sha) == frame.shape
    frames.close()  # forgets what is in memory
    assert frames.shape(sha) == frame.shape
    assert not frames._memory
    frames.path(sha).write_bytes(frames.path(sha).read_bytes()[:20])
    assert frames.shape(sha) == frame.shape
    assert (frames[sha] == frame).all()
    with pytest.raises(KeyError):
        frames.shape("0" * 64)


def test_damage_without_its_video_is_an_error(frames: FrameStore, clips: dict[str, Path]) -> None:
    sha256 = frames.clips(Video(clips["constant"]), (5,))[5].hashes[2]
    later = reopened(frames)
    assert sha256 in later
    assert number_in(later[sha256]) == indices(N, 5)[2]
    later.path(sha256).write_bytes(b"not a picture")
    with pytest.raises(ProbesError, match="damaged"):
        reopened(frames)[sha256]
    with pytest.raises(KeyError):
        later["0" * 64]
    assert "0" * 64 not in later


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"version": 0, "count": 9}', b"\xff"])
def test_a_damaged_index_is_made_anew(
    frames: FrameStore, clips: dict[str, Path], tmp_path: Path, content: bytes
) -> None:
    media = Video(clips["constant"])
    found = frames.clips(media, (5,))
    (index,) = (tmp_path / "frames" / "index").rglob("*.json")
    index.write_bytes(content)
    assert frames.clips(media, (5,)) == found
    assert frames.decoded == 2
    assert frames.clips(media, (5,)) == found
    assert frames.decoded == 2


def test_memory_is_bounded_and_frames_are_read_only(
    frames: FrameStore, clips: dict[str, Path]
) -> None:
    frames = reopened(frames, memory_mb=1)
    hashes = frames.clips(Video(clips["constant"]), (N,))[N].hashes
    size = H * W * 3
    for sha256 in hashes:
        frame = frames[sha256]
        assert frame.shape == (H, W, 3) and not frame.flags.writeable
        assert frame.base is None  # a view would keep its whole batch
    assert (
        sum(one.nbytes for one in frames._memory._frames.values())
        == frames._memory.size
        == 2**20 // size * size
    )
    assert frames[hashes[-1]] is frames[hashes[-1]]


def test_threads_share_one_decode(frames: FrameStore, clips: dict[str, Path]) -> None:
    medias = [Video(clips["constant"]), Video(clips["variable"])]
    found: list[Any] = []

    def work(n: int) -> None:
        clip = frames.clips(medias[n % 2], (5, 7))[7]
        found.append((n % 2, clip, [number_in(frames[s]) for s in clip.hashes]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert frames.decoded == 2
    assert len(found) == 8
    assert all(numbers == list(indices(N, 7)) for _, _, numbers in found)


def test_a_failure_is_raised_again_without_another_try(frames: FrameStore, tmp_path: Path) -> None:
    path = tmp_path / "garbage.mp4"
    path.write_bytes(b"not a video at all " * 300)
    for _ in range(2):
        with pytest.raises(ProbesError, match="cannot be opened"):
            frames.clips(Video(path), (5,))
    assert frames.decoded == 1


def test_what_cannot_be_read_is_an_error(frames: FrameStore, tmp_path: Path) -> None:
    with pytest.raises(ProbesError, match="cannot be read"):
        frames.clips(Video(tmp_path / "missing.mp4"), (5,))
    panels = tmp_path / "panels.npz"
    panels.write_bytes(b"panels")
    with pytest.raises(ProbesError, match="truncated or damaged"):
        frames.clips(Panels(panels, 8), (8,))
    other = tmp_path / "panels.odt"
    other.write_bytes(b"other")
    with pytest.raises(ProbesError, match="no reader for such pictures"):
        frames.clips(Panels(other, 8), (8,))
