"""How a command is stopped: by Ctrl-C, or by the SIGTERM of a scheduler that needs the machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as shells give them: 128 and the signal's number."""
_WATCH_S = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: the program cleans up as after Ctrl-C."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the `with` block by `Terminated`, once; a second one changes nothing.

    Does nothing outside the main thread, and where SIGTERM has a handler already, as under
    submitit.
    """
    main = threading.current_thread() is threading.main_thread()
    # Python lets only the main thread set handlers; another's handler is not ours to replace.
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        # Schedulers send it again: the second must not interrupt the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stop_reason(stop: KeyboardInterrupt) -> str:
    """Return how a command was stopped: `terminated` or `interrupted`."""
    return "terminated" if isinstance(stop, Terminated) else "interrupted"


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def serve_parent() -> None:
    """Make this process end with its parent: the initializer of a pool's processes.

    The parent handles Ctrl-C; SIGTERM ends this process at once. It also ends when the parent is
    gone, even killed: a pool's processes would otherwise wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes at once
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's handler, which a fork inherits
    # Of a pool's own books: a parent that died before this line is not there to be asked for.
    known, parent = multiprocessing.parent_process(), os.getppid()

    def watch() -> None:
        # Both: under a fork server the system's parent is another process than the one in the
        # books, and a fork's books say nothing while a sibling hangs that has inherited them.
        while (known is None or known.is_alive()) and os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)  # `sys.exit` would end this thread alone

    threading.Thread(target=watch, name="parent", daemon=True).start()
