"""Decode exactly the wanted frames of a video, with decord or PyAV.

Frames are numbered in the order of presentation, from 0. Both decoders give the same bytes:

- Colour. decord converts with swscale's bilinear path, the frame's own matrix and its own range.
  PyAV's plain `to_ndarray("rgb24")` ignores the matrix: up to 35 levels of 255 off on a clip
  tagged BT.709. `_rgb` sets both; without scaling the two FFmpeg builds (4.1 in decord 0.6, 7.1
  in PyAV 15) then agree to the last bit. It also applies display rotation, as decord does.
- Numbers. decord counts packets and seeks to packets flagged as keyframes. It silently serves
  wrong frames where an edit list hides packets, where groups of pictures are open, or where
  keyframes are only recovery points. So decord reads a file where a scan of the packets shows none
  of that and libav reports nothing; PyAV reads all others, from the first frame to the last.
- Damage. Both serve frames in which libav concealed damage. With several threads PyAV's flag
  `is_corrupt` misses some, so libav's log is read too: of 150 clips with a few bytes changed it
  reported all 135 that a decoder can notice; the other 15 were valid streams.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.types import FrameArray

DECODERS = ("decord", "pyav")
"""In the order in which they are tried: decord seeks, PyAV reads every file from its beginning."""
NOT_MP4 = "is not an MP4 file"

# Formats that tests show to be byte-identical in both decoders; only PyAV reads others.
_PROVEN = {("h264", "yuv420p"), ("h264", "yuvj420p")}
_USE_PYAV = "let PyAV read it"
REPLACE = "play the file to check it, then copy or download it again"
_BOXES = b"ftyp styp moov moof mdat mfra sidx free skip wide udta uuid meta pdin".split()


@dataclass(frozen=True, slots=True)
class Decoded:
    """Frames of one decode pass, or the pictures of one file."""

    count: int
    """Number of frames that the video shows; of pictures, those that are the context."""
    numbers: tuple[int, ...]
    """Numbers of the decoded frames, ascending; options follow the context pictures."""
    times_s: tuple[float, ...]
    """Their presentation times in seconds, the video's first frame being 0."""
    frames: NDArray[np.uint8] | Sequence[FrameArray]
    """RGB, uint8 [number of frames, height, width, 3]; pictures may differ in size."""
    decoder: str
    """`decord`, `pyav` or `pictures`."""


def indices(n: int, k: int, where: str = "") -> tuple[int, ...]:
    """Return the numbers of `k` frames spread evenly over `n`, first and last included.

    This is floor(linspace(0, n - 1, k)), in integers so that rounding cannot shift a frame. `k` = 1
    gives the first frame.

    Raises:
        ProbesError: `k` is below 1 or above `n`; `where` names the clip.
    """
    if k < 1:
        raise ProbesError(f"a clip cannot have {k} frames", where, "ask for 1 or more frames")
    if k > n:
        raise ProbesError(
            f"{k} frames were asked for, but the clip has {n}", where, "ask for fewer frames"
        )
    return tuple(i * (n - 1) // (k - 1) for i in range(k)) if k > 1 else (0,)


def mp4_fault(path: Path) -> str | None:
    """Return what is wrong with the outer structure of an MP4 file; None where nothing is.

    Reads a few bytes per top-level box, so that checking a whole data set takes little time. A file
    that was cut between two packets decodes to fewer frames without an error; only its boxes show
    it.
    """
    size, at, seen = path.stat().st_size, 0, set()
    if not size:
        return "is empty"
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind not in _BOXES:
                break  # not an MP4, or stray bytes behind it, which players skip too
            seen.add(kind)
            # The format's way of saying that 64 bits follow; 0 means up to the end of the file.
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            if length == 0:
                length = size - at
            if at + length > size and kind in (b"mdat", b"moov", b"moof"):
                return f"is cut off: {at + length - size} bytes are missing at its end"
            # A damaged length below a head's eight bytes would keep the loop in its place for ever.
            at += max(length, 8)
    if not seen & {b"ftyp", b"moov", b"mdat"}:
        return NOT_MP4
    return None if b"moov" in seen else "has no index (moov box): it was not written to its end"


@dataclass(frozen=True, slots=True)
class _Scan:
    count: int
    times_s: tuple[float, ...]
    doubt: str | None
    """Why decord might serve wrong frames; None where it will not."""


def _open(path: str) -> tuple[Any, Any]:
    import av

    try:
        container = av.open(path)
        stream = container.streams.best("video")
    except Exception as error:
        raise ProbesError(f"the video cannot be opened: {error}", path, REPLACE) from error
    if stream is None:
        container.close()
        raise ProbesError("the file has no video stream", path, REPLACE)
    return container, stream


def _seconds(pts: Sequence[int], stream: Any) -> tuple[float, ...]:
    return tuple(float((p - pts[0]) * stream.time_base) for p in pts)


def _scan(path: str) -> _Scan:
    container, stream = _open(path)
    with container:
        codec = stream.codec_context
        pts: list[int] = []
        doubt, first = None, True
        if (codec.name, codec.pix_fmt) not in _PROVEN:
            doubt = f"{codec.name} in {codec.pix_fmt} is not proven identical"
        # Of MP4's description of the stream: how many bytes the length of a unit takes. Streams
        # without one separate their units otherwise, and count as doubtful.
        extra = bytes(codec.extradata or b"")
        prefix = (extra[4] & 3) + 1 if len(extra) > 4 and extra[0] == 1 else 0
        for packet in container.demux(stream):
            # The demuxer ends with an empty packet, which is no frame.
            if not packet.size:
                continue
            if packet.is_discard:
                doubt = doubt or "an edit list hides frames"
                continue
            if packet.is_corrupt or packet.pts is None:
                doubt = doubt or "a packet is damaged or has no time"
            # libav flags recovery points as keyframes too, where decoding begins with wrong pixels.
            if (first or packet.is_keyframe) and not (prefix and _has_idr(bytes(packet), prefix)):
                doubt = doubt or "a keyframe is not a clean entry point"
            pts.append(packet.pts or 0)
            first = False
        if len(set(pts)) < len(pts):
            doubt = doubt or "several packets share one time"
        return _Scan(len(pts), _seconds(sorted(pts), stream), doubt)


def _has_idr(packet: bytes, prefix: int) -> bool:
    """Return whether an H.264 packet of length-prefixed units has an IDR slice, an entry point."""
    at = 0
    while at + prefix < len(packet):
        if packet[at + prefix] & 31 == 5:  # the kind of a slice that needs no earlier frame
            return True
        at += prefix + int.from_bytes(packet[at : at + prefix], "big")
    return False


def _wanted(n: int, counts: Collection[int], numbers: Collection[int], path: str) -> list[int]:
    if n == 0:
        raise ProbesError("the video shows no frame", path, REPLACE)
    if numbers and max(numbers) >= n:
        raise ProbesError(f"frame {max(numbers)} does not exist: the video has {n}", path, REPLACE)
    return sorted(set(numbers).union(*(indices(n, k, path) for k in counts)))


def _rgb(frame: Any) -> NDArray[np.uint8]:
    """Convert as decord does: the frame's own matrix and range, then its display rotation."""
    # libav's numbers: range 2 is full and 1 limited, matrix 5 and 6 are two names of BT.601.
    full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    picture = frame.reformat(
        format="rgb24",
        interpolation="BILINEAR",
        src_colorspace=frame.colorspace,
        # PyAV sets the source's matrix only where the target's differs; RGB has none of its own.
        dst_colorspace=6 if frame.colorspace == 5 else 5,
        src_color_range=2 if full else 1,
        dst_color_range=0,
    ).to_ndarray()
    # Other angles are shown as stored; only quarter turns leave pixels unchanged.
    turns = frame.rotation // 90 if frame.rotation % 90 == 0 else 0
    return np.ascontiguousarray(np.rot90(picture, turns))


def _clear_log(log: int) -> None:
    # What a file before this one left in the log must not be held against it.
    os.ftruncate(log, 0)
    os.lseek(log, 0, os.SEEK_SET)


def _logged(log: int) -> list[str]:
    text = os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")
    # The scaler only remarks on formats and speed; nothing of it means damage.
    return [line for line in text.splitlines() if "[swscaler" not in line]


def read_pyav(path: str, counts: Collection[int], numbers: Collection[int], log: int) -> Decoded:
    """Decode from the first frame to the last: slower than seeking, and right for every file.

    Args:
        path: the video.
        counts: sizes of evenly spread clips.
        numbers: further frames.
        log: the open file behind descriptors 1 and 2, to which libav writes its messages.

    Raises:
        ProbesError: it does not open, a frame is damaged anywhere, or it has too few frames.
    """
    import av

    av.logging.restore_default_callback()  # to descriptor 2, not to Python's logging
    count = _scan(path).count
    while True:
        wanted = _wanted(count, counts, numbers, path)
        pts: list[int] = []
        kept: dict[int, NDArray[np.uint8]] = {}
        damaged = False
        _clear_log(log)
        container, stream = _open(path)
        with container:
            stream.thread_type = "AUTO"  # the same frames, but not all damage is flagged: see above
            try:
                for number, frame in enumerate(container.decode(stream)):
                    damaged = damaged or frame.is_corrupt
                    pts.append(number if frame.pts is None else frame.pts)
                    if number in wanted:
                        kept[number] = _rgb(frame)
            except av.error.FFmpegError as error:
                what = f"the video does not decode beyond frame {len(pts) - 1}: {error}"
                raise ProbesError(what, path, REPLACE) from error
            times_s = _seconds(pts, stream)
        if damaged or any("concealing" in line for line in _logged(log)):
            raise ProbesError("the video is damaged: frames do not decode", path, REPLACE)
        # A resolution may change in mid-stream: frames of two sizes are no array.
        if len({frame.shape for frame in kept.values()}) > 1:
            raise ProbesError("the size of the picture changes", path, "encode the video again")
        if len(pts) == count:
            frames = np.stack([kept[i] for i in wanted])
            return Decoded(count, tuple(wanted), tuple(times_s[i] for i in wanted), frames, "pyav")
        count = len(pts)  # some packets show no frame of their own: only decoding gives the count


def read_decord(path: str, counts: Collection[int], numbers: Collection[int], log: int) -> Decoded:
    """Decode by seeking, as `read_pyav`, but only files that decord is sure to decode correctly.

    Raises:
        ProbesError: decord is missing, cannot be trusted with this file, fails or reports a fault.
    """
    try:
        import decord
    except Exception as error:
        raise ProbesError(f"decord cannot be loaded: {error}", path, _USE_PYAV) from error
    scan = _scan(path)
    if scan.doubt:
        raise ProbesError(f"decord cannot be trusted here: {scan.doubt}", path, _USE_PYAV)
    wanted = _wanted(scan.count, counts, numbers, path)
    _clear_log(log)
    decord.logging.set_level(decord.logging.INFO)  # only this level reports concealed damage
    try:
        # One thread: videos are decoded in several processes at once, and as every thread decodes
        # beyond the wanted frame, several cost a quarter to a third more for the same frames.
        reader = decord.VideoReader(path, num_threads=1)
        frames = reader.get_batch(wanted).asnumpy()
        count = len(reader)
        del reader  # this too has been seen to hang: it happens within the time limit
    except Exception as error:
        what = f"decord failed: {str(error).partition(chr(10))[0]}"
        raise ProbesError(what, path, _USE_PYAV) from error
    logged = _logged(log)
    if logged or count != scan.count:
        fault = logged[0] if logged else f"{count} frames instead of {scan.count}"
        raise ProbesError(f"decord reported a fault: {fault}", path, _USE_PYAV)
    times_s = tuple(scan.times_s[i] for i in wanted)
    return Decoded(count, tuple(wanted), times_s, frames, "decord")
