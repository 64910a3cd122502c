"""What is stored about one media file: its number of frames, and time and hash of those read."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field

from probes.core.errors import UNSOUND
from probes.core.types import Clip
from probes.media.video_decoders import indices

VERSION = 1
"""Version of the format and of how a frame becomes RGB: an index of another version is not used."""
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

    def to_json(self) -> bytes:
        """Return the content of the index's file."""
        return json.dumps({"version": VERSION} | asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> MediaIndex:
        """Read the content of a file; an empty index where it is damaged or of another version."""
        try:
            found = json.loads(data)
            if found["version"] != VERSION:
                return cls()
            # JSON turns the numbers of frames into texts.
            frames = {int(i): (float(t), str(sha)) for i, (t, sha) in found["frames"].items()}
            if not all(_SHA256.fullmatch(sha) for _, sha in frames.values()):
                return cls()  # a hash becomes a file name: nothing else may
            return cls(int(found["count"]), str(found["decoder"]), frames)
        except UNSOUND:
            return cls()
