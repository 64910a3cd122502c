"""The frame cache on disk, which all processes share.

Every file in it can be checked by itself, and is whenever it is used; one that does not hold counts
as absent and is made again.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from probes.core import files
from probes.core.errors import MachineError
from probes.core.files import StandingFolder
from probes.core.types import FrameArray
from probes.media import png_file
from probes.media.media_index import MediaIndex

_log = logging.getLogger(__name__)


class FrameFolder:
    """Frames by sha256, and what is known of every media file.

    - `index/<aa>/<sha256 of the media>.json`: how many frames it has, and time and hash of each
      frame read so far.
    - `<aa>/<sha256 of the frame>.png`: the pixels, lossless.

    Args:
        root: the folder; created on the first write. The folder that it lies in has to stay the
            same from then on.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._home = StandingFolder(root.parent)
        self._faults: Counter[str] = Counter()
        self._faulty: set[Path] = set()

    def path(self, sha256: str) -> Path:
        """Return the path of a frame's PNG."""
        return self.root / sha256[:2] / f"{sha256}.png"

    def __contains__(self, sha256: str) -> bool:
        """Return whether a frame has a file that shows it."""
        return self.shape(sha256) is not None

    def read(self, sha256: str) -> FrameArray | None:
        """Read a frame; None where it has no file, or one whose pixels have another hash."""
        path = self.path(sha256)
        if (frame := png_file.read(path, sha256)) is None and path.exists():
            self._note("stored frame", path)
        return frame

    def shape(self, sha256: str) -> tuple[int, ...] | None:
        """Return (height, width, 3) of a frame; None where `read` would give none.

        The pixels are not decoded but where another program wrote the file.
        """
        path = self.path(sha256)
        if (shape := png_file.shape(path, sha256)) is None and path.exists():
            self._note("stored frame", path)
        return shape

    def write(self, sha256: str, frame: FrameArray) -> None:
        """Store a frame.

        Raises:
            MachineError: the disk is full or cannot be written, or the folder around the cache was
                deleted meanwhile.
        """
        self._write(self.path(sha256), png_file.encode(sha256, frame))

    def index_path(self, media_sha: str) -> Path:
        """Return the path of the index of a media file."""
        return self.root / "index" / media_sha[:2] / f"{media_sha}.json"

    def index(self, media_sha: str) -> MediaIndex:
        """Return what is known of a media file; nothing where its index is absent or damaged."""
        path = self.index_path(media_sha)
        try:
            index = MediaIndex.from_json(path.read_bytes(), media_sha)
        except OSError:
            return MediaIndex()
        if index is None:
            self._note("frame index", path)
        elif not index.count:
            self._note("frame index of another version", path)
        return index or MediaIndex()

    def write_index(self, media_sha: str, index: MediaIndex) -> None:
        """Store what is known of a media file.

        Raises:
            MachineError: as for a frame.
        """
        self._write(self.index_path(media_sha), index.to_json(media_sha))

    def check_home(self) -> None:
        """See to it that what is missing here is missing alone.

        Raises:
            MachineError: the folder around the cache was deleted or replaced.
        """
        self._home.check_unmoved()

    def end(self) -> None:
        """Say how many files did not hold, where that was more than one of a kind."""
        for kind, count in self._faults.items():
            if count > 1:
                _log.warning("in all, %d files did not hold (%s) and were made again", count, kind)
        self._faults.clear()

    def _note(self, kind: str, path: Path) -> None:
        """Say that a file does not hold, the first of its kind."""
        if path in self._faulty:
            return
        self._faulty.add(path)
        self._faults[kind] += 1
        if self._faults[kind] == 1:
            _log.warning("a %s does not hold and is made again: %s", kind, path)

    def _write(self, path: Path, data: bytes) -> None:
        self._home.check()
        try:
            files.atomic_write(path, data)
        except MachineError as error:
            self.check_home()  # that it is gone would be the reason
            raise MachineError(
                f"the frame cache cannot be written: {error.what.rpartition(': ')[2]}",
                str(path),
                "make room there, or point $PROBES_HOME elsewhere",
            ) from error
