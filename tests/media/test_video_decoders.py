"""Frames are the right ones, the same from both decoders, and never silently wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from filming import UNEVEN, N, number_in, packets

from probes.core.errors import ProbesError
from probes.media.decoder_pool import DecoderPool
from probes.media.video_decoders import DECODERS, NOT_MP4, indices, mp4_fault


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


@pytest.mark.parametrize("name", ["constant", "variable", "bt709", "full_range", "rotated"])
def test_decoders_give_identical_frames(
    pool: DecoderPool, clips: dict[str, Path], name: str
) -> None:
    one = pool.decode(clips[name], ["decord"], counts=(5, 10))
    two = pool.decode(clips[name], ["pyav"], counts=(5, 10))
    assert (one.decoder, two.decoder) == ("decord", "pyav")
    assert one.count == two.count == N
    assert one.numbers == two.numbers == tuple(sorted({*indices(N, 5), *indices(N, 10)}))
    assert one.times_s == two.times_s
    assert one.frames.dtype == np.uint8
    assert np.array_equal(one.frames, two.frames)
    frames = np.rot90(one.frames, 1, (1, 2)) if name == "rotated" else one.frames
    assert [number_in(frame) for frame in frames] == list(one.numbers)


def test_every_single_frame_is_identical(pool: DecoderPool, clips: dict[str, Path]) -> None:
    for name in ("constant", "variable"):
        one = pool.decode(clips[name], ["decord"], counts=(N,))
        two = pool.decode(clips[name], ["pyav"], counts=(N,))
        assert np.array_equal(one.frames, two.frames)


def test_times_are_presentation_times(pool: DecoderPool, clips: dict[str, Path]) -> None:
    got = pool.decode(clips["variable"], counts=(N,))
    expected = [(t - UNEVEN[0]) / 90_000 for t in UNEVEN]
    assert got.times_s == pytest.approx(expected, abs=1e-3)


def test_plain_conversion_gives_other_colours(pool: DecoderPool, clips: dict[str, Path]) -> None:
    with av.open(str(clips["bt709"])) as container:
        naive = next(container.decode(video=0)).to_ndarray(format="rgb24")
    ours = pool.decode(clips["bt709"], ["pyav"], numbers=(0,)).frames[0]
    assert np.abs(naive.astype(int) - ours).max() > 5


@pytest.mark.parametrize(("name", "first"), [("open_gop", 0), ("edited", 20)])
def test_decord_is_not_trusted_where_it_is_wrong(
    pool: DecoderPool, clips: dict[str, Path], name: str, first: int
) -> None:
    with pytest.raises(ProbesError, match="trusted"):
        pool.decode(clips[name], ["decord"], counts=(10,))
    got = pool.decode(clips[name], counts=(10,))
    assert (got.decoder, got.count) == ("pyav", N - first)
    assert [number_in(frame) - first for frame in got.frames] == list(got.numbers)


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
        path.write_bytes(
            {
                "empty": b"",
                "garbage": b"not a video at all " * 300,
                "cut between packets": content[:cut],
                "cut within a packet": content[: cut + size // 2],
                "without index": content[:32] + struct.pack(">I4s", len(content), b"mdat"),
                "bytes changed": content[: cut + 9] + bytes(size - 9) + content[cut + size :],
            }[kind]
        )
    return path


@pytest.mark.parametrize("decoders", [DECODERS, ["pyav"]], ids=["both", "pyav"])
@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "garbage",
        "cut between packets",
        "cut within a packet",
        "without index",
        "bytes changed",
        "sound only",
    ],
)
def test_broken_videos_are_errors(
    pool: DecoderPool, clips: dict[str, Path], tmp_path: Path, kind: str, decoders: Sequence[str]
) -> None:
    path = broken(kind, clips["constant"], tmp_path / "broken.mp4")
    with pytest.raises(ProbesError) as caught:
        pool.decode(path, decoders, counts=(10,))
    assert caught.value.where == str(path)
    assert caught.value.what and caught.value.fix


def test_slight_damage_is_never_served_as_a_picture(
    pool: DecoderPool, clips: dict[str, Path], tmp_path: Path
) -> None:
    # Five bytes in the middle of a packet: decord returns a patched-up picture and no error.
    content = bytearray(clips["constant"].read_bytes())
    at, size = max(packets(clips["constant"])[1:], key=lambda packet: packet[1])
    content[at + size // 3 : at + size // 3 + 5] = b"\x00\xff\x13\x37\x00"
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    for decoder in DECODERS:
        with pytest.raises(ProbesError):
            pool.decode(path, [decoder], counts=(N,))


def test_mp4_structure(clips: dict[str, Path], tmp_path: Path) -> None:
    assert mp4_fault(clips["constant"]) is mp4_fault(clips["variable"]) is None
    stray = tmp_path / "stray.mp4"
    stray.write_bytes(clips["constant"].read_bytes() + b"\xffstray bytes behind the last box")
    assert mp4_fault(stray) is None
    content = clips["constant"].read_bytes()
    stray.write_bytes(content[:-7])
    assert "7 bytes are missing" in mp4_fault(stray)
    stray.write_bytes(b"not a video at all")
    assert mp4_fault(stray) == NOT_MP4
