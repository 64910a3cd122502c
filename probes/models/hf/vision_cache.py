"""Encode frames once: sizes and vision features of frames, by the frames' sha256."""

from __future__ import annotations

import contextlib
import math
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from probes.core.errors import MachineError
from probes.core.types import FrameArray, FramesByHash
from probes.models.hf.batching import Batcher, Failed
from probes.models.hf.token_layout import TokenGrid

_REMEMBERED = 8_192  # frames whose size is known without reading their file again
R = TypeVar("R")


class Storable(Protocol):
    """What a cache bounded in bytes can keep, e.g. a tensor."""

    @property
    def nbytes(self) -> int:
        """Its size."""


F = TypeVar("F", bound=Storable)


@dataclass(frozen=True, slots=True)
class FrameResults(Generic[R]):
    """What was found for some frames, and why nothing was found for the others, by sha256."""

    found: dict[str, R] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, find: Callable[[], R]) -> None:
        """Note what is found for a frame; one that cannot be read costs its own prompts only."""
        try:
            self.found[name] = find()
        except MachineError:
            raise
        except Exception as error:
            self.errors[name] = f"frame {name[:12]}: {type(error).__name__}: {error}"


class TokenGrids:
    """How many tokens frames take: known from their size, before any of them is encoded.

    Args:
        grid: (height, width) in pixels -> tokens.
    """

    def __init__(self, grid: Callable[[int, int], TokenGrid]) -> None:
        self._grid = cache(grid)
        self._by_name: dict[str, TokenGrid] = {}

    def of(self, names: Iterable[str], frames: FramesByHash) -> FrameResults[TokenGrid]:
        """Return the token grids of frames."""
        results: FrameResults[TokenGrid] = FrameResults()
        for name in names:
            results.add(name, partial(self._of, name, frames))
        return results

    def _of(self, name: str, frames: FramesByHash) -> TokenGrid:
        if name not in self._by_name:
            if len(self._by_name) >= _REMEMBERED:
                self._by_name.clear()
            height, width, _ = _shape(frames, name)
            self._by_name[name] = self._grid(height, width)
        return self._by_name[name]

    def tokens(self, names: Iterable[str], frames: FramesByHash) -> int:
        """Return how many tokens frames take together; unreadable ones count for nothing."""
        return sum(map(math.prod, self.of(names, frames).found.values()))


def _shape(frames: FramesByHash, name: str) -> tuple[int, ...]:
    """Return a frame's shape; a mapping with a method `shape` reads no pixels for it."""
    known: Callable[[str], tuple[int, ...]] | None = getattr(frames, "shape", None)
    return known(name) if known else read_frame(frames, name).shape


class FramePrefetcher:
    """Reads the frames that are needed next while the model is busy with those before.

    A mapping that keeps what was read last, as the frame store does, then has them. An error here
    is dropped: it occurs again, and is recorded, when the frame is needed.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "frames")
        self._reading: Future[None] | None = None

    def read(self, names: Sequence[str], frames: FramesByHash) -> None:
        """Begin to read frames; frames of an earlier call that were not begun are dropped."""
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self._thread.submit(_touch, tuple(names), frames)

    def close(self) -> None:
        """End the thread, once it has read what it is reading."""
        self._thread.shutdown(cancel_futures=True)


def _touch(names: Iterable[str], frames: FramesByHash) -> None:
    with contextlib.suppress(Exception):
        for name in names:
            frames[name]


def read_frame(frames: FramesByHash, name: str) -> FrameArray:
    """Return a frame.

    Raises:
        ValueError: it is not a picture; the mapping's own errors are passed on.
    """
    frame = frames[name]
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"not uint8 [h, w, 3] but {frame.dtype} {frame.shape}")
    return frame


class FeatureCache(Generic[F]):
    """Features of one member by frame, e.g. [tokens, hidden]; the least recently used go first.

    Args:
        encode_frames: features of frames of one size.
        capacity: bound of what is kept, in bytes.
        batch_size: frames per pass of the vision tower.
    """

    def __init__(
        self,
        encode_frames: Callable[[Sequence[FrameArray]], list[F]],
        capacity: int,
        batch_size: int,
    ) -> None:
        self.capacity = capacity
        self.batch_size = batch_size
        self.encoded = 0
        """Frames that went through the vision tower."""
        self._encode_frames = encode_frames
        self._batcher = Batcher(batch_size, batch_size)
        self._kept: OrderedDict[str, F] = OrderedDict()
        self._bytes = 0
        self._seen = array("q")  # hash of every name that was encoded: 8 bytes, not 100, a frame

    @property
    def recomputed(self) -> int:
        """Frames among them that had been encoded before and had left the cache."""
        return self.encoded - len(np.unique(self._seen))

    def get(self, names: Iterable[str], frames: FramesByHash) -> FrameResults[F]:
        """Return features of frames: all of them, even where the cache holds fewer."""
        results: FrameResults[F] = FrameResults()
        pixels: FrameResults[FrameArray] = FrameResults(errors=results.errors)
        for name in dict.fromkeys(names):
            if name in self._kept:
                self._kept.move_to_end(name)
                results.found[name] = self._kept[name]
            else:
                pixels.add(name, partial(read_frame, frames, name))
        by_size: dict[tuple[int, ...], list[tuple[str, FrameArray]]] = {}
        for name, frame in pixels.found.items():
            by_size.setdefault(frame.shape, []).append((name, frame))
        for group in by_size.values():
            self._encode(group, results)
        return results

    def __contains__(self, name: object) -> bool:
        """Return whether a frame's features are kept now."""
        return name in self._kept

    def _encode(self, group: Sequence[tuple[str, FrameArray]], results: FrameResults[F]) -> None:
        """Encode frames of one size; their features and errors go into `results`."""
        # Frames of one size cost the same, so that a batch is bounded by their number.
        done = self._batcher.run(
            [1] * len(group), lambda batch: self._encode_frames([group[at][1] for at in batch])
        )
        for batch, features in done:
            names = [group[at][0] for at in batch]
            if isinstance(features, Failed):
                results.errors[names[0]] = f"frame {names[0][:12]}: {features.error}"
                continue
            self.encoded += len(names)
            self._seen.extend(map(hash, names))
            for name, feature in zip(names, features, strict=True):
                # Before it is kept: what exceeds the capacity is returned all the same.
                results.found[name] = feature
                self._keep(name, feature)

    def _keep(self, name: str, feature: F) -> None:
        self._kept[name] = feature
        self._bytes += feature.nbytes
        while self._bytes > self.capacity and self._kept:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes
