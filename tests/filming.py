"""Short videos for tests, in which every frame shows its own number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

N, H, W, BLOCK = 48, 64, 128, 16
TICK = Fraction(1, 90_000)
# Frame intervals of 11 to 100 ms, from half a second on: variable rate with a start offset.
UNEVEN = [45_000 + int(t) for t in np.cumsum(np.random.default_rng(0).integers(1000, 9000, N))]


def picture(number: int) -> np.ndarray:
    """Return a moving colour field whose top row of blocks is the frame's number in binary."""
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
    numbers: Sequence[int] = range(N),
) -> Path:
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = W, H, pix_fmt
        stream.codec_context.time_base = TICK
        stream.options = {"x264-params": f"log-level=none:{x264}", "crf": "16"}
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        for at, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = pts[at] if pts else at * 3000
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


def packets(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def film_all(folder: Path) -> dict[str, Path]:
    """Film two ordinary clips, and others that are difficult to decode."""
    clips = {
        "constant": film(folder / "constant.mp4", faststart=True),
        "variable": film(folder / "variable.mp4", UNEVEN),
        "bt709": film(folder / "bt709.mp4", colorspace=1),
        "full_range": film(folder / "full.mp4", pix_fmt="yuvj420p"),
        "open_gop": film(folder / "open.mp4", x264="open-gop=1:keyint=12:min-keyint=12:bframes=4"),
    }
    # Rotated by a quarter turn, as phones do: the display matrix in the track header.
    clips["rotated"] = patched(
        clips["constant"],
        folder / "rotated.mp4",
        b"tkhd",
        44,
        struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    )
    # An edit list that begins 20 frames in, as cutting without re-encoding writes it.
    content = clips["constant"].read_bytes()
    at = content.index(b"elst") + 16
    (first,) = struct.unpack(">i", content[at : at + 4])
    clips["edited"] = patched(
        clips["constant"], folder / "edited.mp4", b"elst", 16, struct.pack(">i", first + 20 * 3000)
    )
    return clips
