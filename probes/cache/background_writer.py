"""Store outputs from a thread of its own, so that a model never waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from probes.core.errors import MachineError
from probes.core.types import Output

MOST_BYTES = 256 * 2**20
"""Bytes of arrays that may wait for the disk at the same time."""
MOST_S = 600.0
"""How long a disk may take for one transaction; SQLite itself waits a minute for a lock."""
_Waiting = tuple[str, Output, str]


class BackgroundWriter:
    """A thread that stores outputs: all that arrive during one transaction in the next.

    Args:
        put: stores a batch of (key, output, base).
    """

    def __init__(self, put: Callable[[Sequence[_Waiting]], None]) -> None:
        self._put = put
        self._pending: list[_Waiting] = []
        self._bytes = 0
        """Of arrays that are pending or being stored."""
        self._changed = threading.Condition()
        self._open = True
        self._working = True
        self._stored = 0
        """Batches."""
        self._error: BaseException | None = None
        self.hangs = False
        """Whether a transaction does not come to an end."""
        # A daemon: a disk that hangs keeps no process that is to end.
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    def add(self, key: str, output: Output, base: str = "") -> None:
        """Store an output soon, or raise what an earlier one met."""
        size = _bytes(output)
        with self._changed:
            # Numbers never wait. Arrays may come faster than a disk takes them, and would fill the
            # memory; one that is larger than the bound by itself waits until it is alone.
            self._wait(lambda: not size or self._bytes + size <= max(MOST_BYTES, size))
            self.check()
            self._pending.append((key, output, base))
            self._bytes += size
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until all outputs are stored, or one could not be.

        A disk that hangs is waited for as long as `MOST_S`; `check` then says so.
        """
        with self._changed:
            self._open = False
            self._changed.notify_all()
            self._wait(lambda: not self._working)

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._error is not None:
            raise self._error

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait for something, or for an error; no longer than a disk may take for a batch."""
        while not (done() or self._error):
            before = self._stored
            # Every batch that is stored begins the time anew: a slow disk is no hanging one.
            if not self._changed.wait(MOST_S) and self._stored == before:
                self.hangs = True
                self._error = MachineError(
                    f"the disk of the store has taken no answers for {MOST_S:.0f} s",
                    "$PROBES_HOME",
                    "see whether it hangs; the same command goes on from what is stored",
                )

    def _work(self) -> None:
        try:
            self._store()
        finally:
            with self._changed:
                self._working = False
                self._changed.notify_all()

    def _store(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or not self._open)
                # Copied under the lock, stored without it: `add` must not wait for the disk.
                batch = self._pending[:]
                self._pending.clear()
            if not batch:
                return
            error = None
            try:
                self._put(batch)
            except BaseException as caught:  # raised again in the caller, which stops
                error = caught
            with self._changed:
                self._error = self._error or error
                self._stored += 1
                # Only now: what is being stored is still in memory, and counts against the bound.
                self._bytes -= sum(_bytes(output) for _, output, _ in batch)
                self._changed.notify_all()
            if error is not None:
                return


def _bytes(output: Output) -> int:
    # Texts and numbers do not count: an output of these alone has size 0, and never waits.
    return sum(array.nbytes for array in output.arrays.values())
