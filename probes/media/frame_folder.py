"""The frame cache on disk, which all processes share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from probes.core import files, hashing
from probes.core.errors import MachineError
from probes.core.types import FrameArray
from probes.media.media_index import MediaIndex


class FrameFolder:
    """Frames by sha256, and what is known of every media file.

    - `index/<aa>/<sha256 of the media>.json`: how many frames it has, and time and hash of each
      frame read so far.
    - `<aa>/<sha256 of the frame>.png`: the pixels, lossless.

    Args:
        root: the folder; created on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Return the path of a frame's PNG."""
        return self.root / sha256[:2] / f"{sha256}.png"

    def __contains__(self, sha256: str) -> bool:
        """Return whether a frame has a file; its content is not checked."""
        return self.path(sha256).is_file()

    def read(self, sha256: str) -> FrameArray | None:
        """Read a frame; None where it has no file, or one whose pixels have another hash."""
        from PIL import Image

        try:
            with Image.open(self.path(sha256)) as picture:
                frame = np.asarray(picture, dtype=np.uint8)
        except Exception:  # PIL raises nearly anything on a damaged file
            return None
        # PNG's own checksums miss a sound file under another frame's name.
        return frame if hashing.array_sha256(frame) == sha256 else None

    def shape(self, sha256: str) -> tuple[int, ...] | None:
        """Return (height, width, 3) from the first bytes of a frame's file; None without them."""
        from PIL import Image

        try:
            with Image.open(self.path(sha256)) as picture:  # reads the header alone
                return (picture.height, picture.width, 3)
        except Exception:  # PIL raises nearly anything on a damaged file
            return None

    def write(self, sha256: str, frame: FrameArray) -> None:
        """Store a frame.

        Raises:
            MachineError: the disk is full or cannot be written.
        """
        _write(self.path(sha256), encode_png(frame))

    def index_path(self, media_sha: str) -> Path:
        """Return the path of the index of a media file."""
        return self.root / "index" / media_sha[:2] / f"{media_sha}.json"

    def index(self, media_sha: str) -> MediaIndex:
        """Return what is known of a media file; nothing where its index is absent or damaged."""
        try:
            return MediaIndex.from_json(self.index_path(media_sha).read_bytes())
        except OSError:
            return MediaIndex()

    def write_index(self, media_sha: str, index: MediaIndex) -> None:
        """Store what is known of a media file.

        Raises:
            MachineError: the disk is full or cannot be written.
        """
        _write(self.index_path(media_sha), index.to_json())


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


def _write(path: Path, data: bytes) -> None:
    try:
        files.atomic_write(path, data)
    except MachineError as error:
        raise MachineError(
            f"the frame cache cannot be written: {error.what.rpartition(': ')[2]}",
            str(path),
            "make room there, or point $PROBES_HOME elsewhere",
        ) from error
