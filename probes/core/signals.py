"""Being stopped: by Ctrl-C, or by a scheduler's SIGTERM before it takes the machine away."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as shells give them: 128 and the signal's number."""
_WATCH_S = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: everything is put in order as after Ctrl-C."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the `with` block by `Terminated`, once; a second one changes nothing.

    Does nothing outside the main thread, and where somebody else handles SIGTERM already, as
    submitit does.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def said(stop: KeyboardInterrupt) -> str:
    """Return what happened, in a word."""
    return "terminated" if isinstance(stop, Terminated) else "interrupted"


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def serve_parent() -> None:
    """Make this process one that works for its parent: the initializer of a pool's processes.

    Ctrl-C is the parent's to handle, SIGTERM ends it at once, and when the parent is gone, killed
    even, it ends too: a pool's own processes would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
