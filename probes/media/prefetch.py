"""Clips of many items, decoded ahead of the models.

The first model of a run need not wait until the last video is decoded: decoding goes on in threads
of its own, in the items' order, a bounded number of items ahead of the furthest one asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from probes.core.errors import MachineError, ProbesError
from probes.core.scratch import Scratch, SpilledDict
from probes.core.types import Clip, ClipKey, Item

AHEAD = 128
"""Items that are decoded at most beyond the furthest that was asked for."""


class ClipPrefetcher(Mapping[ClipKey, Clip]):
    """Clip of every (item id, number of frames); looking one up waits until it is decoded.

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
        self._items, self._clips_of = items, clips_of
        self._places = {item.id: at for at, item in enumerate(items)}
        self._finished = bytearray(len(items))  # 1 where an item is decoded, or has a problem
        self._problems: dict[int, str] = {}
        self._clips: SpilledDict[int, Clip] = SpilledDict(scratch, "clips", Clip)
        self._ahead, self._next, self._limit = ahead, 0, 0
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()  # guards everything above
        self._threads = [
            threading.Thread(target=self._work, name="decoding", daemon=True)
            for _ in range(min(threads, len(items)))
        ]
        for thread in self._threads:
            thread.start()

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

    def problem(self, item_id: str) -> str | None:
        """Return why an item's media cannot be shown; None where it can."""
        at = self._places[item_id]
        self._wait(at)
        return self._problems.get(at)

    def broken(self) -> dict[str, str]:
        """Return why an item's media cannot be shown, by item id, once all are decoded."""
        problems = {item.id: self.problem(item.id) for item in self._items}
        return {item_id: problem for item_id, problem in problems.items() if problem}

    def __getitem__(self, clip_key: ClipKey) -> Clip:
        """Return a clip.

        Raises:
            KeyError: there is none.
            MachineError: what fails is no item's fault, e.g. a full disk.
        """
        item_id, count = clip_key
        if self.problem(item_id) is not None or count not in self.counts:
            raise KeyError(clip_key)
        with self._changed:
            return self._clips[self._places[item_id]][self.counts.index(count)]

    def __iter__(self) -> Iterator[ClipKey]:
        """Iterate over the clips that there are, in the order of items."""
        for item in self._items:
            if self.problem(item.id) is None:
                for count in self.counts:
                    yield item.id, count

    def __len__(self) -> int:
        """Count the clips that there are."""
        return sum(1 for _ in self)

    def stop(self) -> None:
        """Begin no further item; a thread that waits for one gets a RuntimeError."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def join(self, seconds: float = 60.0) -> None:
        """Wait until no thread works any more, but no longer than that; after `stop`."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _wait(self, at: int) -> None:
        with self._changed:
            if self._limit < at + 1 + self._ahead:
                self._limit = at + 1 + self._ahead
                self._changed.notify_all()
            while not self._finished[at]:
                if self._error is not None:
                    raise self._error
                if self._stopped:
                    raise RuntimeError("decoding was stopped")
                self._changed.wait()

    def _claim(self) -> int | None:
        """Wait for the next item that may be decoded; None where no more are."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped
                    or self._next < min(self._limit, len(self._items))
                    or self._next == len(self._items)
                )
            )
            if self._stopped or self._error is not None or self._next == len(self._items):
                return None
            self._next += 1
            return self._next - 1

    def _work(self) -> None:
        while (at := self._claim()) is not None:
            problem: str | None = None
            error: BaseException | None = None
            clips: tuple[Clip, ...] = ()
            try:
                found = self._clips_of(self._items[at])
                clips = tuple(found[count] for count in self.counts)
            except MachineError as reason:
                error = reason
            except ProbesError as reason:
                problem = " ".join(f"{reason.what} ({reason.where})".split())
            except LookupError as reason:  # a bug, which must not read as "there is no such clip"
                error = RuntimeError(f"{type(reason).__name__}: {reason}")
            except BaseException as reason:  # raised again in the thread that waits
                error = reason
            self._finish(at, clips, problem, error)

    def _finish(
        self, at: int, clips: tuple[Clip, ...], problem: str | None, error: BaseException | None
    ) -> None:
        with self._changed:
            try:
                if problem is not None:
                    self._problems[at] = problem
                elif error is None:
                    self._clips[at] = clips
            except MachineError as full:
                error = full
            self._finished[at] = error is None
            self._error = self._error or error
            self._changed.notify_all()
