"""What is stored about one media file: its number of frames, and time and hash of those read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from probes.core.errors import UNSOUND
from probes.core.hashing import sha256_json
from probes.core.types import Clip
from probes.media.video_decoders import indices

VERSION = 2
"""Version of the format and of how a frame becomes RGB: an index of another version is not used. Up
to 1 nothing in it could be checked."""
PICTURES, COMPOSITE = "pictures", "sheet"
"""In the place of a decoder: where the frames of a media file were not decoded from a video."""
_FRAMES_MOST = 10**8  # a month of video; more comes from damage
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class MediaIndex:
    """What is known of one media file."""

    count: int = 0
    """Frames it has in all; 0 where unknown."""
    decoder: str = ""
    """Which decoder read it last."""
    frames: dict[int, tuple[float, str]] = field(default_factory=dict)
    """Time in seconds and sha256 of the frames read so far, by number."""

    def clip(self, k: int, where: str) -> Clip | None:
        """Return the clip of `k` frames; None where one of them was not read yet.

        Raises:
            ProbesError: there are fewer frames; `where` names the file.
        """
        if not self.count:
            return None
        numbers = indices(self.count, k, where)
        # All or none: a clip with a frame less would be another stimulus.
        if any(i not in self.frames for i in numbers):
            return None
        found = [self.frames[i] for i in numbers]
        return Clip(numbers, tuple(t for t, _ in found), tuple(sha for _, sha in found))

    def to_json(self, key: str) -> bytes:
        """Return the content of the index's file.

        Args:
            key: sha256 of the media file, or a composite's digest.
        """
        frames = [[number, *frame] for number, frame in sorted(self.frames.items())]
        content = {"version": VERSION, "key": key, "count": self.count, "decoder": self.decoder}
        content |= {"frames": frames}
        return json.dumps(content | {"sha256": sha256_json(content)}).encode()

    @classmethod
    def from_json(cls, data: bytes, key: str) -> MediaIndex | None:
        """Read the content of the file of `key`.

        Returns:
            An empty index where the file is of another version; None where it is damaged, or that
            of another key.
        """
        try:
            found = json.loads(data)
            if type(found["version"]) is not int:
                return None
            if found["version"] != VERSION:
                return cls()
            check = found.pop("sha256")
            if found["key"] != key or check != sha256_json(found):
                return None
            frames = {number: (time_s, sha) for number, time_s, sha in found["frames"]}
            if len(frames) < len(found["frames"]) or not all(map(_is_frame, frames.items())):
                return None
            index = cls(found["count"], found["decoder"], frames)
        except UNSOUND:
            return None
        return index if index._is_possible() else None

    def _is_possible(self) -> bool:
        """Return whether a media file can have such an index."""
        if type(self.count) is not int or not 0 < self.count < _FRAMES_MOST:
            return False
        if type(self.decoder) is not str:
            return False
        if self.decoder == PICTURES:  # all are read at once; options follow the context
            return len(self.frames) >= self.count and set(self.frames) == {*range(len(self.frames))}
        return all(number < self.count for number in self.frames)


def _is_frame(entry: tuple[Any, tuple[Any, Any]]) -> bool:
    """Return whether (number, (time, sha256)) has these types, and values that can be."""
    number, (time_s, sha) = entry
    # Exactly these: True is an int too, and NaN a float.
    if type(number) is not int or type(time_s) is not float or type(sha) is not str:
        return False
    # A hash becomes a file name: nothing else may.
    return number >= 0 and math.isfinite(time_s) and bool(_SHA256.fullmatch(sha))
