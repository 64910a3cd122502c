"""Pictures as PNG files that carry a checksum over their whole content and the frame's name.

It stands in a chunk of its own, which other programs skip and which no program may keep when it
changes the picture. Checking it costs reading the file; without it, as in another writer's file,
the pixels have to be decoded and hashed, which takes twenty times as long.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np

from probes.core import hashing
from probes.core.types import FrameArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_KIND = b"seAL"
"""By the case of its letters: not needed to show the picture, private, and not to be kept when the
picture changes."""
_SEAL = 12 + hashlib.sha256().digest_size  # bytes of such a chunk: length, kind, checksum, CRC


def encode(sha256: str, frame: FrameArray) -> bytes:
    """Return a frame as a PNG file with its checksum.

    Args:
        sha256: of its pixels (`array_sha256`), which the caller knows.
        frame: uint8 RGB [height, width, 3], neither side 0.

    Raises:
        TypeError: it is of another type or shape, which would be written as another picture.
    """
    body = encode_png(frame).removesuffix(_END)
    return body + _seal(sha256, body) + _END


def encode_png(frame: FrameArray) -> bytes:
    """Return a picture as a PNG file, without loss.

    Args:
        frame: uint8 RGB [height, width, 3], neither side 0.

    Raises:
        TypeError: it is of another type or shape, which would be written as another picture.
    """
    import cv2

    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise TypeError(f"not uint8 [h, w, 3] but {frame.dtype} {frame.shape}")
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    # OpenCV's own choice, run lengths, makes files a fifth to a third larger.
    options += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):
        # Every row as its difference from the row above: trying all five filters of the format on
        # each takes twice the time, for files of about the same size. Older versions do that.
        options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    # OpenCV takes pictures as blue, green, red.
    _, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def read(path: Path, sha256: str) -> FrameArray | None:
    """Read a frame; None where there is no such file, or its pixels have another hash."""
    try:
        return _decoded(path.read_bytes(), sha256)
    except OSError:
        return None


def shape(path: Path, sha256: str) -> tuple[int, ...] | None:
    """Return (height, width, 3) of a frame's file; None where `read` would give none."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if _is_sealed(data, sha256):
        # The header is the first chunk, by the format: width and height are its first words.
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        return height, width, 3
    frame = _decoded(data, sha256)
    return None if frame is None else frame.shape


def holds(path: Path, sha256: str) -> bool:
    """Return whether a file shows the frame of that hash."""
    return shape(path, sha256) is not None


def _seal(sha256: str, body: bytes) -> bytes:
    content = _KIND + hashlib.sha256(sha256.encode() + body).digest()
    length = len(content) - len(_KIND)
    return length.to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def _is_sealed(data: bytes, sha256: str) -> bool:
    body, tail = data[: -_SEAL - len(_END)], data[-_SEAL - len(_END) :]
    # The kind first: files without one are hashed for something else anyway.
    if tail[4:8] != _KIND or not body.startswith(_SIGNATURE):
        return False
    return tail == _seal(sha256, body) + _END


def _decoded(data: bytes, sha256: str) -> FrameArray | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            frame = np.asarray(picture, dtype=np.uint8)
        # PNG's own checksums miss a sound file under another frame's name.
        return frame if hashing.array_sha256(frame) == sha256 else None
    except Exception:  # PIL raises nearly anything on a damaged file
        return None
