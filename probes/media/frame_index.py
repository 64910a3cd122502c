"""Which media file a frame comes from, found out when a frame's picture is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from probes.core.types import Media


class FrameIndex:
    """The media files that were asked for, and on demand the frames in them, for several threads.

    In a run nothing but the files is kept in memory. Only when a picture is damaged or gone are the
    frames of all files looked up, from their indices on disk.

    Args:
        frames_of: sha256 of a media file -> sha256 of its known frames, by number.
    """

    def __init__(self, frames_of: Callable[[str], Mapping[int, str]]) -> None:
        self._frames_of = frames_of
        self._lock = threading.Lock()  # guards all of what follows
        self._media: dict[str, Media] = {}
        self._changed: set[str] = set()  # files whose frames are not in `_found` yet
        self._found: dict[bytes, tuple[str, int]] = {}

    def add(self, media_sha: str, media: Media) -> None:
        """Note a media file some of whose frames were asked for."""
        with self._lock:
            self._media.setdefault(media_sha, media)
            self._changed.add(media_sha)

    def find(self, sha256: str) -> tuple[Media, int, str] | None:
        """Return what holds the frame of that sha256 (hex): media, number there, media's sha256."""
        try:
            wanted = bytes.fromhex(sha256)
        except ValueError:
            return None
        with self._lock:
            found = self._look_up().get(wanted)
            return None if found is None else (self._media[found[0]], found[1], found[0])

    def __contains__(self, sha256: str) -> bool:
        return self.find(sha256) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the frames that are known, each once, file by file."""
        with self._lock:
            # A copy: another thread may add files while the frames are gone through.
            names = tuple(self._look_up())
        return (name.hex() for name in names)

    def __len__(self) -> int:
        with self._lock:
            return len(self._look_up())

    def _look_up(self) -> dict[bytes, tuple[str, int]]:
        for media_sha in [sha for sha in self._media if sha in self._changed]:
            for number, name in self._frames_of(media_sha).items():
                # As bytes, which take less memory; a frame of two files is that of the first.
                self._found.setdefault(bytes.fromhex(name), (media_sha, number))
        self._changed.clear()
        return self._found
