"""Which number of which media file every frame is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from probes.core.spool import _SHA, Spool
from probes.core.types import Media

_ORIGIN = _SHA + 4 + 4  # a frame, its media, its number there


class FrameIndex:
    """Which number of which media every frame is: 40 bytes a frame, on disk.

    Args:
        folder: whose disk they lie on.
    """

    def __init__(self, folder: Path) -> None:
        self._media: list[Media] = []
        self._rows = Spool(folder)

    def add(self, media: Media, numbers: Mapping[str, int]) -> None:
        """Note the frames of a media file: their numbers by sha256 (hex)."""
        place = len(self._media).to_bytes(4)
        self._media.append(media)
        rows = (bytes.fromhex(name) + place + at.to_bytes(4) for name, at in numbers.items())
        self._rows.add(b"".join(rows))

    def find(self, name: str) -> tuple[Media, int] | None:
        """Return a media file that holds the frame of that sha256 (hex), and its number there."""
        try:
            wanted = bytes.fromhex(name)
        except ValueError:
            return None
        if len(wanted) != _SHA:
            return None
        rows = self._all()
        at = rows.find(wanted)
        while at % _ORIGIN and at >= 0:  # across two rows
            at = rows.find(wanted, at + 1)
        if at < 0:
            return None
        where = rows[at + _SHA : at + _ORIGIN]
        return self._media[int.from_bytes(where[:4])], int.from_bytes(where[4:])

    def _all(self) -> bytes:
        return self._rows.read(0, len(self._rows))

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the frames, each once, as they were first noted."""
        rows = self._all()
        starts = range(0, len(rows), _ORIGIN)
        return iter(dict.fromkeys(rows[at : at + _SHA].hex() for at in starts))

    def __len__(self) -> int:
        return sum(1 for _ in self)
