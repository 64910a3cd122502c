"""Clips of many items, decoded ahead of the models.

The first model of a run need not wait until the last video is decoded: decoding goes on in threads
of its own, in the items' order, a bounded number of items ahead of the furthest one asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures

from probes.core.errors import MachineError, ProbesError
from probes.core.scratch import Scratch, SpilledDict
from probes.core.types import Clip, ClipKey, Item, ItemKey

AHEAD = 128
"""Items that are decoded at most beyond the furthest that was asked for."""


class ClipPrefetcher(Mapping[ClipKey, Clip]):
    """Clip of every item and number of frames; looking one up waits until it is decoded.

    An item whose media cannot be shown has no clip, and a `problem`; it does not end the others.

    Args:
        items: whose media is sampled, in the order of decoding.
        counts: numbers of frames.
        clips_of: clips of an item by number of frames; called from several threads.
        scratch: where clips are kept.
        threads: how many items are sampled at the same time.
        ahead: bound of reading ahead, in items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        counts: Sequence[int],
        clips_of: Callable[[Item], Mapping[int, Clip]],
        scratch: Scratch,
        *,
        threads: int = 1,
        ahead: int = AHEAD,
    ) -> None:
        self.counts = counts
        """Numbers of frames of every item's clips."""
        self._items, self._clips_of, self._ahead = items, clips_of, ahead
        self._places = {item.key: at for at, item in enumerate(items)}
        self._lock = threading.Lock()  # guards `_begun`, `_clips` and what is added to `_jobs`
        self._pool = futures.ThreadPoolExecutor(threads, "decoding")
        self._jobs: dict[int, futures.Future[None]] = {}
        """Items that are being decoded, or were and nobody has asked for them yet."""
        self._begun = 0
        # Written without the lock: `problem` reads it only when the item's job has ended.
        self._problems: dict[int, str] = {}
        self._clips: SpilledDict[int, Clip] = SpilledDict(scratch, "clips", Clip)
        self._error: BaseException | None = None

    def wait(self, items: int, report: Callable[[int, int], None]) -> None:
        """Wait until the first items are decoded.

        Args:
            items: how many.
            report: called with (number of those that are, of how many) whenever it grows.

        Raises:
            MachineError: what fails is no item's fault, e.g. a full disk.
        """
        first = min(items, len(self._items))
        for at in range(first):
            self._wait(at)
            report(at + 1, first)

    def problem(self, item: ItemKey) -> str | None:
        """Return why an item's media cannot be shown; None where it can."""
        at = self._places[item]
        self._wait(at)
        return self._problems.get(at)

    def broken(self) -> dict[ItemKey, str]:
        """Return why an item's media cannot be shown, by item, once all are decoded."""
        problems = {item.key: self.problem(item.key) for item in self._items}
        return {item: problem for item, problem in problems.items() if problem}

    def __getitem__(self, clip_key: ClipKey) -> Clip:
        """Return a clip.

        Raises:
            KeyError: there is none.
            MachineError: what fails is no item's fault, e.g. a full disk.
        """
        task, item_id, count = clip_key
        item = ItemKey(task, item_id)
        if self.problem(item) is not None or count not in self.counts:
            raise KeyError(clip_key)
        with self._lock:
            return self._clips[self._places[item]][self.counts.index(count)]

    def __iter__(self) -> Iterator[ClipKey]:
        """Iterate over the clips that there are, in the order of items."""
        for item in self._items:
            if self.problem(item.key) is None:
                for count in self.counts:
                    yield item.key.clip(count)

    def __len__(self) -> int:
        """Count the clips that there are."""
        return sum(1 for _ in self)

    def stop(self) -> None:
        """Begin no further item; a thread that waits for one gets a RuntimeError."""
        # Not waited for: a thread may be in a video for minutes, until its child is killed.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def join(self, seconds: float = 60.0) -> None:
        """Wait until no thread works any more, but no longer than that; after `stop`."""
        with self._lock:
            # One that was cancelled is never reported as done: no thread takes it up any more.
            begun = [job for job in self._jobs.values() if not job.cancelled()]
        futures.wait(begun, seconds)

    def _wait(self, at: int) -> None:
        with self._lock:
            until = min(at + 1 + self._ahead, len(self._items))
            for place in range(self._begun, until):
                self._jobs[place] = self._pool.submit(self._decode, place)
            # Each item is begun once, even where an earlier one is asked for again.
            self._begun = max(self._begun, until)
            job = self._jobs.get(at)
        if job is None:
            return
        try:
            # A machine's error is raised again for everyone who asks: its job is not forgotten.
            job.result()
        except futures.CancelledError:
            raise RuntimeError("decoding was stopped") from None
        self._jobs.pop(at, None)  # thousands of finished ones would be as large as their clips

    def _decode(self, at: int) -> None:
        if self._error is not None:
            raise self._error
        try:
            found = self._clips_of(self._items[at])
            # Stored before the job ends: who waits for the job finds the clips, or a problem.
            clips = tuple(found[count] for count in self.counts)
            with self._lock:
                self._clips[at] = clips
        except BaseException as reason:
            if isinstance(reason, ProbesError) and not isinstance(reason, MachineError):
                self._problems[at] = " ".join(f"{reason.what} ({reason.where})".split())
                return
            self._error = self._error or reason  # no item's fault: no other is begun
            if isinstance(reason, LookupError):  # must not read as "there is no such clip"
                self._error = RuntimeError(f"{type(reason).__name__}: {reason}")
                raise self._error from reason
            raise
