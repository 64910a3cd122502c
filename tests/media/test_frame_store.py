"""Every video is decoded once, and what is served is what was decoded."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filming import H, N, W, number_in
from PIL import Image

from probes.core import files
from probes.core.errors import MachineError, ProbesError
from probes.core.files import StandingFolder
from probes.core.hashing import array_sha256, sha256_file
from probes.core.types import Panels, Video
from probes.media import png_file
from probes.media.composites import Composite, CompositeGrid
from probes.media.decoder_pool import DecoderPool
from probes.media.frame_index import FrameIndex
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


@pytest.mark.parametrize("times", [1, 2])
def test_a_video_that_changes_while_it_is_decoded(
    frames: FrameStore,
    clips: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(clips["constant"].read_bytes())
    others = [clips["variable"].read_bytes(), clips["constant"].read_bytes()][:times]
    decode = frames._decoder_pool.decode

    def change(*given: Any, **named: Any) -> Any:
        got = decode(*given, **named)
        if others:
            path.write_bytes(others.pop(0))
        return got

    with monkeypatch.context() as patch:
        patch.setattr(frames._decoder_pool, "decode", change)
        if times == 2:  # not for ever
            with pytest.raises(ProbesError, match="changed while it was decoded") as caught:
                frames.clips(Video(path), (5,))
            assert caught.value.where == str(path)
            assert not (tmp_path / "frames").exists()  # nothing is known of either
        found = frames.clips(Video(path), (5,))
    right = "variable" if times == 1 else "constant"
    fresh = FrameStore(tmp_path / "other home")
    fresh._decoder_pool = frames._decoder_pool
    assert found == fresh.clips(Video(clips[right]), (5,))
    assert frames.media_sha256(Video(path)) == sha256_file(clips[right])


def test_a_change_that_was_taken_back_while_a_video_was_decoded_is_noticed(
    frames: FrameStore, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / "film.mp4", clips["constant"].read_bytes()
    path.write_bytes(content)
    decode = frames._decoder_pool.decode

    def change(*given: Any, **named: Any) -> Any:
        time.sleep(0.02)  # longer than a tick of any disk's clock
        path.write_bytes(clips["variable"].read_bytes())
        got = decode(*given, **named)
        path.write_bytes(content)
        return got

    monkeypatch.setattr(frames._decoder_pool, "decode", change)
    with pytest.raises(ProbesError, match="changed while it was decoded"):
        frames.clips(Video(path), (5,))


def test_the_hash_of_a_media_file_is_that_of_the_clips(
    frames: FrameStore, clips: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    assert frames.media_sha256(Video(path)) is None
    path.write_bytes(clips["constant"].read_bytes())
    assert frames.media_sha256(Video(path)) == sha256_file(path)
    frames.clips(Video(path), (5,))
    path.write_bytes(clips["variable"].read_bytes())
    # What was shown is what counts, until other frames are shown.
    assert frames.media_sha256(Video(path)) == sha256_file(clips["constant"])
    frames.clips(Video(path), (5,))
    assert frames.media_sha256(Video(path)) == sha256_file(path)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_home_that_is_deleted_ends_the_run(
    tmp_path: Path, pool: DecoderPool, clips: dict[str, Path], how: str
) -> None:
    home = tmp_path / "home"
    frames = FrameStore(home)
    frames._decoder_pool = pool
    clip = frames.clips(Video(clips["constant"]), (5,))[5]
    frames._memory.clear()
    shutil.rmtree(home)
    if how == "replaced":
        (tmp_path / "other").mkdir()
        (tmp_path / "other").rename(home)
    with pytest.raises(MachineError, match="deleted or replaced") as caught:
        frames.clips(Video(clips["variable"]), (5,))
    assert caught.value.where == str(home)
    for read in (frames.__getitem__, frames.shape):
        with pytest.raises(MachineError, match="deleted or replaced"):
            read(clip.hashes[0])
    assert home.exists() == (how == "replaced") and not (home / "frames").exists()


def test_a_home_whose_frames_alone_were_deleted_is_filled_again(
    frames: FrameStore, clips: dict[str, Path]
) -> None:
    found = frames.clips(Video(clips["constant"]), (5,))
    shutil.rmtree(frames._folder.root)
    assert frames.clips(Video(clips["constant"]), (5,)) == found
    assert all(sha in frames._folder for sha in found[5].hashes)


def test_what_is_known_needs_no_writing(
    frames: FrameStore, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Video(clips["constant"])
    found = frames.clips(media, (5,))
    composite = Composite((CompositeGrid(found[5].hashes, 3),))
    drawn = frames.compose(composite)
    later = reopened(frames)
    monkeypatch.setattr(files, "atomic_write", lambda *_: pytest.fail("written"))
    monkeypatch.setattr(StandingFolder, "check", lambda _: pytest.fail("written"))
    assert later.clips(media, (5,)) == found
    assert later.compose(composite) == drawn
    for sha in (*found[5].hashes, drawn):
        later.save(sha, tmp_path / "out" / f"{sha}.png")
        assert array_sha256(later[sha]) == sha
    assert later.decoded == 0


def test_a_damaged_composite_is_drawn_again(
    frames: FrameStore, clips: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    hashes = frames.clips(Video(clips["constant"]), (5,))[5].hashes
    one, two = (Composite((CompositeGrid(some, 2),)) for some in (hashes[:2], hashes[2:]))
    drawn, other = frames.compose(one), frames.compose(two)
    indices_of = [frames._folder.index_path(composite.digest()) for composite in (one, two)]
    for harm in ("picture", "indices swapped", "both"):
        if harm != "picture":
            contents = [path.read_bytes() for path in indices_of]
            for path, content in zip(indices_of, reversed(contents), strict=True):
                path.write_bytes(content)
        if harm != "indices swapped":
            frames.path(drawn).write_bytes(png_file.encode(other, frames[other]))
        caplog.clear()
        later = reopened(frames)
        assert (later.compose(one), later.compose(two)) == (drawn, other)
        assert array_sha256(later[drawn]) == drawn
        assert "is made again" in caplog.text


def test_a_picture_of_another_size_changes_no_shape(
    frames: FrameStore, clips: dict[str, Path]
) -> None:
    media = Video(clips["constant"])
    sha = frames.clips(media, (2,))[2].hashes[0]
    frames.path(sha).write_bytes(png_file.encode_png(np.zeros((8, 8, 3), np.uint8)))
    later = reopened(frames)
    assert sha not in later  # planning treats it as absent: nobody knows how to make it
    later.clips(media, (2,))
    assert later.shape(sha) == (H, W, 3)
    assert sha in later and later.decoded == 1


def test_threads_may_count_and_look_while_others_add(
    frames: FrameStore, clips: dict[str, Path], tmp_path: Path
) -> None:
    copies = []
    for number in range(30):
        copies.append(tmp_path / f"{number}.mp4")
        copies[-1].write_bytes(clips["constant"].read_bytes() + bytes([number]))
    index = frames._folder.index
    sha = frames.clips(Video(clips["constant"]), (5,))[5].hashes
    media_sha = sha256_file(clips["constant"])
    errors: list[BaseException] = []
    frames._origins = FrameIndex(lambda _: dict(enumerate(sha)) if index(media_sha) else {})

    def add() -> None:
        for number, copy in enumerate(copies * 20):
            frames._origins.add(f"{number:064x}", Video(copy))

    def look() -> None:
        try:
            for _ in range(200):
                assert len(frames) <= 5
                assert sha[0] in frames._origins or len(frames) == 0
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for work in (add, look, look, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_damage_is_told_once_and_counted(
    frames: FrameStore, clips: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    media = Video(clips["constant"])
    hashes = frames.clips(media, (5,))[5].hashes
    for sha in hashes[1:4]:
        frames.path(sha).write_bytes(b"damaged")
    later = reopened(frames)
    later.clips(media, (5,))
    for sha in hashes:
        assert array_sha256(later[sha]) == sha
    assert later.decoded == 1  # all of them in one pass
    later.close()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"a stored frame does not hold and is made again: {frames.path(hashes[1])}",
        "in all, 3 files did not hold (stored frame) and were made again",
    ]
