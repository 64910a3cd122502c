"""Clips: which frames an item's media is sampled at, and their pixels by hash.

Every video is decoded once for all arms, members and frame counts. Frames and what is known of
every video are stored under `home/frames` (see `frame_folder`), for later processes too: a plan
whose clips are known decodes nothing. Whenever a frame is read, its hash is checked; a damaged or
missing one is decoded again. A file is hashed in full whenever it is decoded: one that changes
meanwhile, or whose hash was remembered wrongly, gives no frames under the hash of another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from probes.core import files, hashing
from probes.core.errors import MachineError, ProbesError
from probes.core.types import Clip, FrameArray, Media, Panels
from probes.media import composites, media_file, png_file
from probes.media.composites import Composite
from probes.media.decoder_pool import DecoderPool, processes_setting, timeout_setting
from probes.media.frame_folder import FrameFolder
from probes.media.frame_index import FrameIndex
from probes.media.frame_memory import FrameMemory
from probes.media.media_file import FileTimes, MediaChangedError, check_same
from probes.media.media_index import COMPOSITE, PICTURES, MediaIndex
from probes.media.video_decoders import Decoded, indices

COMPOSITES_MOST = 4_096
"""Composites that are remembered: those of the trials that are asked together."""


ReadPanels = Callable[[Panels], Sequence[FrameArray]]
"""Reads all pictures of a file: the context, then the options."""


class FrameStore(Mapping[str, FrameArray]):
    """Frames by sha256, and the clips that they belong to; safe to share between threads.

    Iteration covers the frames of the clips that were asked for; looking up also finds frames that
    other processes stored.

    Args:
        home: folder of caches; `home/frames` is used.
        memory_mb: how many megabytes of frames are kept in memory.
        read_panels: reads a file of pictures; the tasks know the formats.
    """

    def __init__(
        self, home: Path, memory_mb: int = 512, read_panels: ReadPanels | None = None
    ) -> None:
        self.decoded = 0
        """Decode passes so far."""
        self._folder = FrameFolder(home / "frames")
        self._memory = FrameMemory(memory_mb * 2**20)
        self._read_panels = read_panels
        self._decoder_pool = DecoderPool(timeout_setting(), processes_setting())
        self._origins = FrameIndex(self._frames_of)  # has a lock of its own
        self._lock = threading.Lock()  # guards what is below but `_failed`
        self._media_shas: dict[Path, str] = {}
        """Of the content that clips were given of."""
        self._composites: OrderedDict[str, tuple[str, Composite]] = OrderedDict()
        """sha256 of the drawn picture, and what it shows, by the composite's digest."""
        # Guarded by the lock of its media file.
        self._failed: dict[tuple[str, tuple[int, ...]], ProbesError] = {}
        # One thread per media file, so that two that want the same clip decode it once.
        self._media_locks = [threading.Lock() for _ in range(64)]

    def clips(self, media: Media, counts: Sequence[int]) -> dict[int, Clip]:
        """Return the clips of `counts` frames of a media file, by count, decoding once at most.

        Raises:
            ProbesError: the file is missing or broken, does not decode in time, or is too short.
        """
        counts = tuple(sorted(set(counts)))
        try:
            return self._clips(media, counts, hashing.remembered_sha256)
        except MediaChangedError:
            # Once more, by all of its content: what was remembered of it was wrong, or someone has
            # just put another in its place.
            hashing.forget(media.path)
            return self._clips(media, counts, hashing.sha256_file)

    def _clips(
        self, media: Media, counts: tuple[int, ...], hashed: Callable[[Path], str]
    ) -> dict[int, Clip]:
        before = media_file.times_of(media.path)
        sha, where = media_file.sha256_of(media.path, hashed), str(media.path)
        # The index is read under the lock: the thread before may just have decoded these frames.
        with self._media_lock(sha):
            index = self._index(media, sha)
            clips = {k: index.clip(k, where) for k in counts}
            if None in clips.values():
                try:
                    index = self._read(media, sha, index, counts, before)
                # Not the file's fault: it may decode the next time.
                except (MachineError, MediaChangedError):
                    raise
                except ProbesError as error:
                    check_same(media.path, sha, before)  # a file that is being written fails too
                    self._failed[sha, counts] = error
                    raise
                clips = {k: index.clip(k, where) for k in counts}
        found = {k: clip for k, clip in clips.items() if clip is not None}
        if isinstance(media, Panels):
            found = {k: _panels_clip(clip, media, index) for k, clip in found.items()}
        self._origins.add(sha, media)
        with self._lock:
            self._media_shas[media.path] = sha
        return found

    def media_sha256(self, media: Media) -> str | None:
        """Return the sha256 of a media file as it was when its clips were given, or is now.

        None where it cannot be read.
        """
        with self._lock:
            known = self._media_shas.get(media.path)
        try:
            return known or media_file.sha256_of(media.path)
        except ProbesError:
            return None

    def compose(self, composite: Composite) -> str:
        """Return the sha256 of a composite, which is drawn if it never was."""
        digest = composite.digest()
        with self._lock:
            if (known := self._composites.get(digest)) is not None:
                self._composites.move_to_end(digest)
                return known[0]
        _, sha256 = self._folder.index(digest).frames.get(0, (0.0, ""))
        # The index alone is not enough: someone may have deleted or damaged the picture.
        if not sha256 or sha256 not in self._folder:
            sha256 = hashing.array_sha256(self._draw(composite))
            # Behind the picture, which `_draw` has stored: else a crash would leave its name alone.
            self._folder.write_index(digest, MediaIndex(1, COMPOSITE, {0: (0.0, sha256)}))
        with self._lock:
            self._composites[digest] = (sha256, composite)
            if len(self._composites) > COMPOSITES_MOST:
                self._composites.popitem(last=False)
        return sha256

    def path(self, sha256: str) -> Path:
        """Return the path of a frame's PNG."""
        return self._folder.path(sha256)

    def save(self, sha256: str, target: Path) -> None:
        """Put the PNG of a frame at a path: a hard link where that works.

        A file there that shows the frame stays; any other is replaced. Both this file and the one
        it is linked to are looked at: whoever changes one changes the other.

        Raises:
            KeyError, ProbesError: as for the frame itself; then there is no file at the path.
        """
        path = self.path(sha256)
        stored = sha256 in self._folder
        if target.exists() and (
            (stored and target.samefile(path)) or png_file.holds(target, sha256)
        ):
            return
        if not stored:
            target.unlink(missing_ok=True)  # not left to be seen, should the frame be gone
            frame = self[sha256]  # makes the file again, unless the frame was still in memory
            if not path.exists() or not png_file.holds(path, sha256):
                files.atomic_write(target, png_file.encode(sha256, frame))
                return
        files.link_or_copy(path, target)

    def __getitem__(self, sha256: str) -> FrameArray:
        """Return a frame, uint8 RGB [height, width, 3], read-only.

        Raises:
            KeyError: no such frame was ever stored or asked for.
            ProbesError: its file is damaged and cannot be made again.
        """
        if (known := self._memory.get(sha256)) is not None:
            return known
        frame = self._folder.read(sha256)
        if frame is None:
            frame = self._again(sha256)
        if frame is None:
            # Never stored, or there and damaged: only the second is for the user to correct.
            if not self.path(sha256).exists():
                raise KeyError(sha256)
            raise ProbesError(
                "a stored frame is damaged", str(self.path(sha256)), "delete it and run again"
            )
        return self._memory.put(sha256, frame)

    def shape(self, sha256: str) -> tuple[int, ...]:
        """Return (height, width, 3) of a frame, without decoding it where it has a file.

        Raises:
            KeyError, ProbesError: as for the frame itself.
        """
        shape = self._memory.shape(sha256) or self._folder.shape(sha256)
        return shape or self[sha256].shape

    def __contains__(self, sha256: object) -> bool:
        """Return whether the frame is stored, and sound, or can be made again."""
        return isinstance(sha256, str) and (sha256 in self._folder or sha256 in self._origins)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the frames of the clips that were asked for."""
        return iter(self._origins)

    def __len__(self) -> int:
        """Count the frames of the clips that were asked for."""
        return len(self._origins)

    @property
    def processes(self) -> int:
        """How many videos are decoded at the same time at most."""
        return self._decoder_pool.size

    def close(self) -> None:
        """End the decoding processes for good, and forget the frames in memory."""
        self._decoder_pool.end()
        self._memory.clear()
        self._folder.end()

    def _decode(self, media: Media, counts: Collection[int], numbers: Collection[int]) -> Decoded:
        """Read the pixels of a media file, by its kind; pictures have no times."""
        with self._lock:
            self.decoded += 1
        if isinstance(media, Panels):  # a few pictures: all of them at once
            if self._read_panels is None:
                raise TypeError("this frame store was given no reader of pictures")
            found = self._read_panels(media)
            every, times_s = tuple(range(len(found))), (0.0,) * len(found)
            return Decoded(media.count, every, times_s, found, PICTURES)
        return self._decoder_pool.decode(media.path, counts=counts, numbers=numbers)

    def _index(self, media: Media, sha: str) -> MediaIndex:
        """Return what is known of a media file; nothing where that is of another kind of media."""
        index = self._folder.index(sha)
        panels = isinstance(media, Panels)
        if (index.decoder == PICTURES) != panels:
            return MediaIndex()
        # Two tasks may take the same file for different numbers of context pictures.
        if isinstance(media, Panels) and (
            index.count != media.count or len(index.frames) != media.count + media.options
        ):
            return MediaIndex()
        return index

    def _read(
        self,
        media: Media,
        sha: str,
        index: MediaIndex,
        counts: tuple[int, ...],
        before: FileTimes,
    ) -> MediaIndex:
        """Decode and store the frames that `index` is missing for clips of `counts` frames."""
        if (failed := self._failed.get((sha, counts))) is not None:
            # A file that hangs comes again as other items' donor; it need not hang again.
            raise ProbesError(failed.what, failed.where, failed.fix)
        numbers: set[int] = set()
        if index.count:
            # Only frames that are not stored yet: a larger clip shares some with a smaller one.
            numbers = {i for k in counts for i in indices(index.count, k)} - index.frames.keys()
        got = self._decode(media, () if index.count else counts, numbers)
        # In full, whatever was remembered: frames must not be stored under another file's hash.
        check_same(media.path, sha, before)
        # Frames of two numberings must not stand in one clip.
        if index.count not in (0, got.count):
            what = f"{got.decoder} counts {got.count} frames, {index.decoder} counted {index.count}"
            raise ProbesError(what, str(media.path), "encode the video again")
        new = {}
        # Frames first, then the index: it never names one that a killed process did not write.
        for number, time_s, frame in zip(got.numbers, got.times_s, got.frames, strict=True):
            sha256 = hashing.array_sha256(frame)
            self._store(sha256, frame)
            new[number] = (float(time_s), sha256)
        # Read once more: another process may have added frames of its own meanwhile.
        frames = dict(sorted((self._index(media, sha).frames | index.frames | new).items()))
        index = MediaIndex(got.count, got.decoder, frames)
        self._folder.write_index(sha, index)
        return index

    def _draw(self, composite: Composite) -> FrameArray:
        drawn = composites.draw(composite, self)
        self._store(hashing.array_sha256(drawn), drawn)
        return drawn

    def _again(self, sha256: str) -> FrameArray | None:
        """Make a frame again whose file is damaged or gone, and all others of its media like it."""
        with self._lock:
            drawn = (drawing for name, drawing in self._composites.values() if name == sha256)
            composite = next(drawn, None)
        if composite is not None:
            return _checked(sha256, self._draw(composite), "composite")
        if (origin := self._origins.find(sha256)) is None:
            self._folder.check_home()  # without it nothing is known, and that is no item's fault
            return None
        media, number, media_sha = origin
        with self._media_lock(media_sha):  # taken without `_lock`, which others hold only briefly
            if (frame := self._folder.read(sha256)) is not None:
                return frame  # another thread was faster
            known = self._folder.index(media_sha).frames.items()
            # Together: each lost frame would else cost a pass of its own.
            lost = {i for i, (_, stored) in known if stored not in self._folder}
            got = self._decode(media, (), lost | {number})
            for found in got.frames:
                self._store(hashing.array_sha256(found), found)
        return _checked(sha256, got.frames[got.numbers.index(number)], str(media.path))

    def _store(self, sha256: str, frame: FrameArray) -> None:
        self._folder.write(sha256, frame)
        self._memory.put(sha256, frame)

    def _frames_of(self, media_sha: str) -> dict[int, str]:
        index = self._folder.index(media_sha)
        return {number: name for number, (_, name) in index.frames.items()}

    def _media_lock(self, media_sha: str) -> threading.Lock:
        # A fixed number: one per file would grow with the data set. Two files that share a lock
        # wait for each other, and nothing worse.
        return self._media_locks[int(media_sha[:8], 16) % len(self._media_locks)]


def _panels_clip(clip: Clip, media: Panels, index: MediaIndex) -> Clip:
    """Add what panels have in addition to frames: pictorial options, and the ends of rows."""
    options = tuple(index.frames[index.count + i][1] for i in range(media.options))
    row = media.row or media.count
    # A gap is a break where a row ends between its two frames.
    breaks = (t for t, (a, b) in enumerate(pairwise(clip.indices)) if a // row != b // row)
    return replace(clip, options=options, breaks=tuple(breaks))


def _checked(sha256: str, again: FrameArray, where: str) -> FrameArray:
    # The request's key names the old pixels: others must not be answered under it.
    if hashing.array_sha256(again) != sha256:
        what = "a frame has other pixels than before: its video or a library was changed meanwhile"
        raise ProbesError(what, where, "run again")
    return again
