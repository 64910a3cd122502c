"""Clips of many items, decoded ahead of whoever asks for them.

The first model of a run need not wait until the last video is decoded: decoding goes on beside it,
in the items' order, a bounded number of items ahead of the furthest one that was asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from probes.core.errors import MachineError, ProbesError
from probes.core.spool import SpilledDict
from probes.core.types import Clip, ClipKey, Item

AHEAD = 128
"""Items that are decoded at most beyond the furthest that was asked for."""


class ClipPrefetcher(Mapping[ClipKey, Clip]):
    """Clip of every (item id, number of frames); looking one up waits until it is decoded.

    An item whose media cannot be shown has no clip, and a reason in `broken`; it does not end the
    others.

    Args:
        items: whose media is sampled, in the order of decoding.
        counts: numbers of frames.
        clips_of: clips of an item by number of frames; called from several threads.
        threads: how many items are sampled at the same time.
        ahead: bound of reading ahead, in items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        counts: Sequence[int],
        clips_of: Callable[[Item], Mapping[int, Clip]],
        *,
        threads: int = 1,
        ahead: int = AHEAD,
    ) -> None:
        self.counts = counts
        """Numbers of frames of every item's clips."""
        self._items, self._clips_of = items, clips_of
        self._places = {item.id: at for at, item in enumerate(items)}
        self._problems: list[str | None] = [None] * len(items)  # "": there are clips
        self._clips: SpilledDict[int, Clip] = SpilledDict(Clip)
        self._ahead, self._next, self._limit = ahead, 0, 0
        self._error: BaseException | None = None
        self._stopped = False
        self._news = threading.Condition()  # guards everything above
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

    def problem(self, item_id: str) -> str:
        """Say why an item's media cannot be shown; empty where it can."""
        at = self._places[item_id]
        self._wait(at)
        return self._problems[at] or ""

    def broken(self) -> dict[str, str]:
        """Return why an item's media cannot be shown, by item id, once all are decoded."""
        told = {item.id: self.problem(item.id) for item in self._items}
        return {item_id: problem for item_id, problem in told.items() if problem}

    def __getitem__(self, place: ClipKey) -> Clip:
        """Return a clip.

        Raises:
            KeyError: there is none.
            MachineError: what fails is no item's fault, e.g. a full disk.
        """
        item_id, count = place
        if self.problem(item_id) or count not in self.counts:
            raise KeyError(place)
        with self._news:
            return self._clips[self._places[item_id]][self.counts.index(count)]

    def __iter__(self) -> Iterator[ClipKey]:
        """Iterate over the clips that there are, in the order of items."""
        for item in self._items:
            if not self.problem(item.id):
                for count in self.counts:
                    yield item.id, count

    def __len__(self) -> int:
        """Count the clips that there are."""
        return sum(1 for _ in self)

    def stop(self) -> None:
        """Begin no further item; whoever waits for one gets a RuntimeError."""
        with self._news:
            self._stopped = True
            self._news.notify_all()

    def join(self, seconds: float = 60.0) -> None:
        """Wait until no thread works any more, but no longer than that; after `stop`."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _wait(self, at: int) -> None:
        with self._news:
            if self._limit < at + 1 + self._ahead:
                self._limit = at + 1 + self._ahead
                self._news.notify_all()
            while self._problems[at] is None:
                if self._error is not None:
                    raise self._error
                if self._stopped:
                    raise RuntimeError("the reel was stopped")
                self._news.wait()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(
                    lambda: self._stopped or self._next < min(self._limit, len(self._items))
                    or self._next == len(self._items)
                )  # fmt: skip
                at = self._next
                if self._stopped or self._error is not None or at == len(self._items):
                    return
                self._next += 1
            problem: str | None = None
            error: BaseException | None = None
            try:
                clips = self._clips_of(self._items[at])
                chosen = tuple(clips[count] for count in self.counts)
                with self._news:
                    self._clips[at] = chosen
                problem = ""
            except MachineError as found:
                error = found
            except ProbesError as found:
                problem = " ".join(f"{found.what} ({found.where})".split())
            except LookupError as found:  # a bug, which must not read as "there is no such clip"
                error = RuntimeError(f"{type(found).__name__}: {found}")
            except BaseException as found:  # told to whoever waits
                error = found
            with self._news:
                self._problems[at], self._error = problem, self._error or error
                self._news.notify_all()
