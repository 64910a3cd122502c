"""Clips: which frames an item's media is sampled at, and their pixels by hash.

Every video is decoded once for all arms, members and frame counts. What comes out is kept under
`home/frames`, for later processes too:

- `index/<aa>/<sha256 of the media>.json`: how many frames it has, and time and hash of each frame
  read so far. A plan whose clips are in it decodes nothing.
- `<aa>/<sha256 of the frame>.png`: the pixels, lossless. The name is checked against the content
  whenever a file is read; a damaged or missing one is decoded again.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.core import files, hashing
from probes.core.errors import MachineError, ProbesError
from probes.core.types import Clip, Media, Panels
from probes.media import composites, png
from probes.media.composites import Composite
from probes.media.decode_worker import DecoderPool
from probes.media.frame_index import FrameIndex
from probes.media.video_decoders import DECODERS, Decoded, indices

__all__ = ["FrameStore", "indices"]

TIMEOUT_S = 180.0
"""Seconds that one attempt at one video may take; $PROBES_DECODE_TIMEOUT overrides it. A video is
decoded on one thread, beside a model: 64 frames of a long one take their time."""
SHEETS_MOST = 4_096
"""Sheets that are remembered: those of the cells that are asked together."""
PROCESSES_MOST = 8
"""Videos that are decoded at the same time at most; $PROBES_DECODE_PROCESSES overrides it."""
_SHA256 = re.compile("[0-9a-f]{64}")
# Of the index's format and of how a frame becomes RGB: old entries are ignored, not trusted.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class _MediaIndex:
    """What is known of one media file."""

    count: int = 0
    """Frames it has in all; 0 where unknown."""
    decoder: str = ""
    """Which decoder read it last."""
    frames: dict[int, tuple[float, str]] = field(default_factory=dict)
    """Time in seconds and sha256 of the frames read so far, by number."""

    def clip(self, k: int, where: str) -> Clip | None:
        """Return the clip of `k` frames; None where one of them was not read yet."""
        if not self.count:
            return None
        numbers = indices(self.count, k, where)
        if any(i not in self.frames for i in numbers):
            return None
        found = [self.frames[i] for i in numbers]
        return Clip(numbers, tuple(t for t, _ in found), tuple(sha for _, sha in found))


@dataclass(frozen=True, slots=True)
class DecodedImages:
    """What `Decoded` is to a video, of a file of pictures: these may differ in size."""

    count: int
    """Context pictures."""
    numbers: tuple[int, ...]
    """All pictures, the options' included."""
    times_s: tuple[float, ...]
    """Zeros: pictures have no time."""
    frames: Sequence[NDArray[np.uint8]]
    """RGB, uint8 [height, width, 3] each."""
    decoder: str = "pictures"


ReadPanels = Callable[[Panels], Sequence[NDArray[np.uint8]]]
"""Reads all pictures of a file: the context, then the options."""


class FrameStore(Mapping[str, NDArray[np.uint8]]):
    """Frames by sha256, behind the clips that were asked for; safe to share between threads.

    Iteration covers the frames of those clips; looking up also finds what other processes stored.

    Args:
        home: folder of caches; `home/frames` is used.
        decoder: `auto` (decord where it is exact, else PyAV), `decord` or `pyav`. All give the same
            bytes, so a frame once read is served whatever read it.
        timeout_s: seconds after which an attempt to decode a video is given up; None: what
            $PROBES_DECODE_TIMEOUT says, else `TIMEOUT_S`.
        memory_mb: how many megabytes of frames are kept in memory.
        read_panels: reads a file of pictures; the formats are the tasks' own.
    """

    def __init__(
        self,
        home: Path,
        decoder: str = "auto",
        timeout_s: float | None = None,
        memory_mb: int = 512,
        read_panels: ReadPanels | None = None,
    ) -> None:
        if decoder not in DECODERS:
            raise ProbesError(f"no decoder {decoder!r}", "decoder", f"one of {', '.join(DECODERS)}")
        self.decoded = 0
        """Decode passes so far."""
        self.decoders: Counter[str] = Counter()
        """How many media were read by which decoder, those read by earlier processes included."""
        self._root = home / "frames"
        self._decoder = decoder
        self._read_panels = read_panels
        self._worker = DecoderPool(_timeout_s() if timeout_s is None else timeout_s, _processes())
        self._lock = threading.Lock()  # guards everything below
        self._room = memory_mb * 2**20
        self._held = 0
        self._memory: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._origins = FrameIndex(self._frames_of)
        self._sheets: OrderedDict[str, tuple[str, Composite]] = OrderedDict()  # by what is drawn
        self._seen: set[str] = set()
        self._failed: dict[tuple[str, tuple[int, ...]], ProbesError] = {}
        # One thread per media file, so that two that want the same clip decode it once.
        self._busy = [threading.Lock() for _ in range(64)]

    def clips(self, media: Media, counts: Sequence[int]) -> dict[int, Clip]:
        """Return the clips of `counts` frames of a media file, by count, decoding once at most.

        Raises:
            ProbesError: the file is missing or broken, does not decode in time, or is too short.
        """
        counts = tuple(sorted(set(counts)))
        sha, where = _media_sha(media), str(media.path)
        with self._busy_with(sha):
            index = self._load(sha)
            clips = {k: index.clip(k, where) for k in counts}
            if None in clips.values():
                index = self._read(media, sha, index, counts)
                clips = {k: index.clip(k, where) for k in counts}
        found = {k: clip for k, clip in clips.items() if clip is not None}
        if isinstance(media, Panels):
            found = {k: _panels_clip(clip, media, index) for k, clip in found.items()}
        with self._lock:
            self._origins.add(sha, media)
            if found and sha not in self._seen:
                self._seen.add(sha)
                self.decoders[index.decoder] += 1
        return found

    def compose(self, sheet: Composite) -> str:
        """Return the sha256 of a sheet, which is drawn if it never was."""
        key = sheet.key()
        with self._lock:
            if (known := self._sheets.get(key)) is not None:
                self._sheets.move_to_end(key)
                return known[0]
        _, name = self._load(key).frames.get(0, (0.0, ""))
        if not name or not self._is_file(name):
            name = hashing.array_sha256(self._draw(sheet))
            content = {"version": _VERSION} | asdict(_MediaIndex(1, "sheet", {0: (0.0, name)}))
            _write(self._index_path(key), json.dumps(content).encode())
        with self._lock:
            self._sheets[key] = (name, sheet)
            if len(self._sheets) > SHEETS_MOST:
                self._sheets.popitem(last=False)
        return name

    def path(self, sha256: str) -> Path:
        """Return where a frame's PNG lies, for export."""
        return self._root / sha256[:2] / f"{sha256}.png"

    def __getitem__(self, sha256: str) -> NDArray[np.uint8]:
        """Return a frame, uint8 RGB [height, width, 3], read-only.

        Raises:
            KeyError: no such frame was ever stored or asked for.
            ProbesError: its file is damaged and cannot be made again.
        """
        with self._lock:
            if (held := self._memory.get(sha256)) is not None:
                self._memory.move_to_end(sha256)
                return held
        frame = self._stored(sha256)
        if frame is None:
            frame = self._again(sha256)
        if frame is None:
            if not self.path(sha256).exists():
                raise KeyError(sha256)
            raise ProbesError(
                "a stored frame is damaged", str(self.path(sha256)), "delete it and run again"
            )
        return self._keep(sha256, frame)

    def shape(self, sha256: str) -> tuple[int, ...]:
        """Return (height, width, 3) of a frame: from its file's first bytes, where it has one.

        Raises:
            KeyError, ProbesError: as for the frame itself.
        """
        from PIL import Image

        with self._lock:
            held = self._memory.get(sha256)
        if held is not None:
            return held.shape
        try:
            with Image.open(self.path(sha256)) as picture:
                return (picture.height, picture.width, 3)
        except Exception:  # PIL raises nearly anything on a damaged file
            return self[sha256].shape

    def __contains__(self, sha256: object) -> bool:
        """Whether the frame was asked for here or stored by anyone."""
        return isinstance(sha256, str) and (self._is_file(sha256) or sha256 in self._origins)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the frames of the clips that were asked for."""
        with self._lock:
            return iter(tuple(self._origins))

    def __len__(self) -> int:
        """Count the frames of the clips that were asked for."""
        return len(self._origins)

    @property
    def processes(self) -> int:
        """How many videos are decoded at the same time at most."""
        return self._worker.size

    def close(self) -> None:
        """End the decoding processes, for good, and forget the frames in memory."""
        self._worker.end()
        with self._lock:
            self._memory.clear()
            self._held = 0

    def _decode(
        self, media: Media, counts: Collection[int], numbers: Collection[int]
    ) -> Decoded | DecodedImages:
        """The one place where a kind of media meets what reads its pixels."""
        with self._lock:
            self.decoded += 1
        if isinstance(media, Panels):  # a few pictures: all of them at once
            if self._read_panels is None:
                raise TypeError("this frame store was given no reader of pictures")
            found = self._read_panels(media)
            return DecodedImages(media.count, tuple(range(len(found))), (0.0,) * len(found), found)
        return self._worker.decode(media.path, self._decoder, counts=counts, numbers=numbers)

    def _read(
        self, media: Media, sha: str, index: _MediaIndex, counts: tuple[int, ...]
    ) -> _MediaIndex:
        """Decode what `index` lacks for clips of `counts` frames, and store it."""
        if (failed := self._failed.get((sha, counts))) is not None:
            # A file that hangs is met again as other items' donor; it need not hang again.
            raise ProbesError(failed.what, failed.where, failed.fix)
        numbers: set[int] = set()
        if index.count:
            numbers = {i for k in counts for i in indices(index.count, k)} - index.frames.keys()
        try:
            got = self._decode(media, () if index.count else counts, numbers)
        except MachineError:  # not the file's fault: it may decode the next time
            raise
        except ProbesError as error:
            self._failed[sha, counts] = error
            raise
        if index.count not in (0, got.count):
            what = f"{got.decoder} counts {got.count} frames, {index.decoder} counted {index.count}"
            raise ProbesError(what, str(media.path), "encode the video anew")
        new = {}
        for number, time_s, frame in zip(got.numbers, got.times_s, got.frames, strict=True):
            name = hashing.array_sha256(frame)
            self._store(name, frame)
            new[number] = (time_s, name)
        # Read once more: another process may have added frames of its own meanwhile.
        frames = dict(sorted((self._load(sha).frames | index.frames | new).items()))
        index = _MediaIndex(got.count, got.decoder, frames)
        content = json.dumps({"version": _VERSION} | asdict(index))
        _write(self._index_path(sha), content.encode())
        return index

    def _draw(self, sheet: Composite) -> NDArray[np.uint8]:
        drawn = composites.draw(sheet, self)
        self._store(hashing.array_sha256(drawn), drawn)
        return drawn

    def _again(self, sha256: str) -> NDArray[np.uint8] | None:
        """Make a frame whose file is damaged or gone, with all others of its media that are."""
        with self._lock:
            drawn = (sheet for name, sheet in self._sheets.values() if name == sha256)
            sheet, origin = next(drawn, None), self._origins.find(sha256)
        if sheet is not None:
            return self._draw(sheet)
        if origin is None:
            return None
        media, number = origin
        media_sha = _media_sha(media)
        with self._busy_with(media_sha):
            if (frame := self._stored(sha256)) is not None:
                return frame  # another thread was faster
            lost = {i for i, (_, s) in self._load(media_sha).frames.items() if not self._is_file(s)}
            got = self._decode(media, (), lost | {number})
            for found in got.frames:
                self._store(hashing.array_sha256(found), found)
        again: NDArray[np.uint8] = got.frames[got.numbers.index(number)]
        if hashing.array_sha256(again) != sha256:
            raise ProbesError(
                "a frame decodes to other pixels than before: the video was changed meanwhile",
                str(media.path),
                "run again",
            )
        return again

    def _is_file(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def _stored(self, sha256: str) -> NDArray[np.uint8] | None:
        """Read a frame's PNG; None where there is none or where it is not what its name says."""
        from PIL import Image

        try:
            with Image.open(self.path(sha256)) as picture:
                frame = np.asarray(picture, dtype=np.uint8)
        except Exception:  # PIL raises nearly anything on a damaged file
            return None
        if hashing.array_sha256(frame) != sha256:
            return None
        return frame

    def _store(self, sha256: str, frame: NDArray[np.uint8]) -> None:
        _write(self.path(sha256), png.encode(frame))
        self._keep(sha256, frame)

    def _keep(self, sha256: str, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        frame = np.array(frame)  # a frame of a batch would keep the whole batch in memory
        frame.flags.writeable = False
        with self._lock:
            if sha256 not in self._memory:
                self._held += frame.nbytes
            self._memory[sha256] = frame
            self._memory.move_to_end(sha256)
            while self._held > self._room:
                self._held -= self._memory.popitem(last=False)[1].nbytes
        return frame

    def _frames_of(self, media_sha: str) -> dict[int, str]:
        return {number: name for number, (_, name) in self._load(media_sha).frames.items()}

    def _load(self, media_sha: str) -> _MediaIndex:
        try:
            found = json.loads(self._index_path(media_sha).read_bytes())
            if found["version"] != _VERSION:
                return _MediaIndex()
            frames = {int(i): (float(t), str(sha)) for i, (t, sha) in found["frames"].items()}
            if not all(_SHA256.fullmatch(sha) for _, sha in frames.values()):
                return _MediaIndex()  # a hash becomes a file name: nothing else may
            return _MediaIndex(int(found["count"]), str(found["decoder"]), frames)
        except (OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
                ValueError):  # fmt: skip
            return _MediaIndex()  # absent or damaged: decoding makes it anew

    def _index_path(self, media_sha: str) -> Path:
        return self._root / "index" / media_sha[:2] / f"{media_sha}.json"

    def _busy_with(self, media_sha: str) -> threading.Lock:
        return self._busy[int(media_sha[:8], 16) % len(self._busy)]


def _panels_clip(clip: Clip, media: Panels, index: _MediaIndex) -> Clip:
    """Add what panels have beside frames: pictorial options, and the ends of rows."""
    options = tuple(index.frames[index.count + i][1] for i in range(media.options))
    row = media.row or media.count
    # A gap is a break where a row ends between its two frames.
    breaks = (t for t, (a, b) in enumerate(pairwise(clip.indices)) if a // row != b // row)
    return replace(clip, options=options, breaks=tuple(breaks))


def _media_sha(media: Media) -> str:
    try:
        return hashing.sha256_file(media.path)
    except OSError as error:
        raise ProbesError(
            f"the file cannot be read: {error.strerror}", str(media.path), "restore the data set"
        ) from error


def _timeout_s() -> float:
    name = "PROBES_DECODE_TIMEOUT"
    given = os.environ.get(name, "")
    try:
        seconds = float(given or TIMEOUT_S)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ProbesError(f"{given!r} is no number of seconds", f"${name}", "give e.g. 300")
    return seconds


def _processes() -> int:
    """Return how many videos to decode at once: half the processors, which the model needs too."""
    name = "PROBES_DECODE_PROCESSES"
    given = os.environ.get(name, "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        number = int(given) if given else max(1, min(PROCESSES_MOST, (usable or 1) // 2))
    except ValueError:
        number = 0
    if not 0 < number < 1_000:
        raise ProbesError(f"{given!r} is no number of processes", f"${name}", "give e.g. 4")
    return number


def _write(path: Path, data: bytes) -> None:
    try:
        files.atomic_write(path, data)
    except MachineError as error:
        raise MachineError(
            f"the frame cache cannot be written: {error.what.rpartition(': ')[2]}",
            str(path),
            "make room there, or point $PROBES_HOME elsewhere",
        ) from error
