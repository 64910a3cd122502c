"""The frames that were used last, in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from probes.core.types import FrameArray


class FrameMemory:
    """Frames by sha256, as many of the last used as fit; safe to share between threads.

    Args:
        limit: bytes of pixels at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes of pixels now."""
        self._lock = threading.Lock()
        self._frames: OrderedDict[str, FrameArray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, sha256: str) -> FrameArray | None:
        """Return a frame, read-only; None where it is not in memory."""
        with self._lock:
            if (frame := self._frames.get(sha256)) is not None:
                self._frames.move_to_end(sha256)
            return frame

    def shape(self, sha256: str) -> tuple[int, ...] | None:
        """Return a frame's shape, which does not count as a use; None where it is not in memory."""
        with self._lock:
            frame = self._frames.get(sha256)
        return None if frame is None else frame.shape

    def put(self, sha256: str, frame: FrameArray) -> FrameArray:
        """Keep a frame and return it, read-only."""
        frame = np.array(frame)  # a frame of a batch would keep the whole batch in memory
        frame.flags.writeable = False
        with self._lock:
            # Two threads may have read the same frame: it counts once.
            if sha256 not in self._frames:
                self.size += frame.nbytes
            self._frames[sha256] = frame
            self._frames.move_to_end(sha256)
            # A frame above the whole bound is not kept either; its caller has it all the same.
            while self.size > self.limit:
                self.size -= self._frames.popitem(last=False)[1].nbytes
        return frame

    def clear(self) -> None:
        """Forget all frames."""
        with self._lock:
            self._frames.clear()
            self.size = 0
