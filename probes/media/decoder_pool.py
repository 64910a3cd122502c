"""Decode in child processes that can be killed.

decord has open reports of native loops that only SIGKILL ends, and a broken file can crash any
decoder. Long-lived children (0.3 s to start), one unless there are processors to spare, decode for
all clips; one is killed and replaced when a file takes too long.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from probes.core.errors import MachineError, ProbesError
from probes.media.decode_worker import READY
from probes.media.video_decoders import DECODERS, REPLACE, Decoded

Number = TypeVar("Number", int, float)
TIMEOUT_S = 180.0
"""Seconds that one attempt at one video may take; $PROBES_DECODE_TIMEOUT overrides it. A video is
decoded on one thread while a model works: 64 frames of a long one take their time."""
PROCESSES_MOST = 8
"""Videos that are decoded at the same time at most; $PROBES_DECODE_PROCESSES overrides it."""
_PIPE = 2**20  # bytes that a pipe of frames may hold: with 64 kB they cost a third more to pass
_END_S = 5.0  # for a thread to notice that its child is gone
_START_S = 300.0  # to load the libraries, even from a slow network disk on a busy machine


class DecoderPool:
    """Decoding processes that threads share: an idle one serves the next request.

    Args:
        timeout_s: seconds that one attempt at one file may take before a child is killed.
        size: how many files may be decoded at the same time; a child starts when it is needed.
    """

    def __init__(self, timeout_s: float, size: int = 1) -> None:
        self.size = size
        self._processes = [DecoderProcess(timeout_s) for _ in range(size)]
        # Last in, first out: as long as one child is fast enough, no other starts.
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        for process in self._processes:
            self._idle.put(process)

    def decode(
        self,
        path: Path,
        decoders: Sequence[str] = DECODERS,
        *,
        counts: Collection[int] = (),
        numbers: Collection[int] = (),
    ) -> Decoded:
        """Decode the frames of evenly spread clips of `counts` frames, and those of `numbers`.

        The decoders are tried in their order, once a process is idle.

        Raises:
            ProbesError: the last decoder tried refused, failed, crashed or took too long.
            MachineError: the child cannot be started, or decoding has ended.
        """
        request = {"path": str(path), "counts": sorted(counts), "numbers": sorted(numbers)}
        process = self._idle.get()
        try:
            for name in decoders:
                try:
                    return process.ask(request | {"decoder": name})
                except ProbesError as error:
                    # A failure of the machine would be the next decoder's too.
                    if isinstance(error, MachineError) or name == decoders[-1]:
                        raise
        finally:
            self._idle.put(process)
        raise AssertionError("unreachable")

    def end(self) -> None:
        """Kill every child, whatever it is doing; nothing decodes any more."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.end()


class DecoderProcess:
    """The parent's end of a child process, which starts on first use.

    Args:
        timeout_s: seconds that one attempt at one file may take before the child is killed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # held by the thread that asks: `end` comes from another
        self._child: subprocess.Popen[bytes] | None = None
        self._stop_child: weakref.finalize[Any, Any] | None = None
        self._ended = False

    def ask(self, request: dict[str, Any]) -> Decoded:
        """Have the child decode; see `decode_worker` for what a request holds.

        Raises:
            ProbesError: the decoder refused, failed, crashed or took too long.
            MachineError: the child cannot be started, or decoding has ended.
        """
        with self._lock:
            return self._ask(request)

    def close(self) -> None:
        """End the child; the next `decode` would start another."""
        if self._stop_child is not None:
            self._stop_child()
        self._child = self._stop_child = None

    def kill(self) -> None:
        """Kill the child, whatever it is doing for another thread; nothing decodes any more."""
        # Before the child is killed: its thread must see why its answers ended.
        self._ended = True
        if (child := self._child) is not None:
            child.kill()  # a thread that waits for it reads the end of its answers

    def end(self) -> None:
        """Kill the child and close its pipes."""
        self.kill()
        # The thread that asks may still read from the pipes: they are closed when it has let go, or
        # left to the end of this process.
        if self._lock.acquire(timeout=_END_S):
            self.close()
            self._lock.release()

    def _ask(self, request: dict[str, Any]) -> Decoded:
        try:
            child = self._start()
            assert child.stdin is not None
            deadline = time.monotonic() + self._timeout_s
            # The child's own alarm comes a second later: it is for when this process is gone.
            line = json.dumps(request | {"limit_s": self._timeout_s + 1}).encode() + b"\n"
            child.stdin.write(line)
            text = self._take(child, int.from_bytes(self._take(child, 8, deadline)), deadline)
            head = json.loads(bytes(text))
            if "error" in head:
                # A refusal is a whole answer: the child waits for the next line, and is kept.
                raise ProbesError(*head["error"])
            # As plain bytes: JSON would be several times as long, and a pickle could run code.
            body = self._take(child, int(np.prod(head["shape"])), deadline)
        except MachineError:
            self.close()
            raise
        except ProbesError:
            raise
        except BaseException as error:  # Ctrl-C too: the rest of an answer must not become the next
            self.close()
            if isinstance(error, TimeoutError):
                what = f"the video did not decode within {self._timeout_s:g} s"
                fix = f"{REPLACE}; if it is only long, set $PROBES_DECODE_TIMEOUT (seconds)"
                raise ProbesError(what, request["path"], fix) from None
            if isinstance(error, EOFError | BrokenPipeError):
                if self._ended:  # the file is not to blame
                    raise _ended() from None
                raise ProbesError("the decoder crashed", request["path"], REPLACE) from None
            raise
        return Decoded(
            head["count"],
            tuple(head["numbers"]),
            tuple(head["times_s"]),
            np.frombuffer(body, np.uint8).reshape(head["shape"]),
            head["decoder"],
        )

    def _start(self) -> subprocess.Popen[bytes]:
        if self._ended:
            raise _ended()
        if self._child is None or self._child.poll() is not None:
            self.close()
            # Not `-m`: it would look for modules in the present folder, where anything may lie.
            code = (
                "import sys; sys.path[:] = sys.argv[1:]; "
                "from probes.media.decode_worker import serve; serve()"
            )
            self._child = subprocess.Popen(
                [sys.executable, "-c", code, *(str(Path(p).absolute()) for p in sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # It does no linear algebra: NumPy need not start a thread per processor.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )
            # Also at exit, and when nobody holds this object any more. `_stop` gets the child and
            # not `self`, which would then never be freed.
            self._stop_child = weakref.finalize(self, _stop, self._child)
            assert self._child.stdout is not None
            with contextlib.suppress(AttributeError, OSError):  # not Linux, or above its limit
                fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
            if self._ended:  # `end` came too early to see this child
                raise _ended()
            try:
                self._take(self._child, len(READY), time.monotonic() + _START_S)
            except (EOFError, TimeoutError) as error:
                raise MachineError(
                    "the decoding process does not start",
                    sys.executable,
                    "see what it printed above; it needs room in the folder for temporary files "
                    "($TMPDIR) and a working installation",
                ) from error
        return self._child

    @staticmethod
    def _take(child: subprocess.Popen[bytes], size: int, deadline: float) -> bytearray:
        assert child.stdout is not None
        taken = bytearray(size)
        view, at = memoryview(taken), 0
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while at < size:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                # Straight into the frames' own memory: they are tens of megabytes.
                step = os.readv(child.stdout.fileno(), [view[at:]])
                if not step:
                    raise EOFError
                at += step
        return taken


def _ended() -> MachineError:
    return MachineError("decoding has ended", "", "run the same command again to continue")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    # Else it stays in the process table as a zombie.
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def timeout_setting() -> float:
    """Return the seconds that one attempt at one video may take.

    Raises:
        ProbesError: $PROBES_DECODE_TIMEOUT is not a number of seconds.
    """
    return _setting("PROBES_DECODE_TIMEOUT", float, TIMEOUT_S, 1e6, "seconds")


def processes_setting() -> int:
    """Return how many videos to decode at once: half the processors, as the model needs some too.

    Raises:
        ProbesError: $PROBES_DECODE_PROCESSES is not a number of processes.
    """
    # A scheduler may have given this process fewer processors than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    half = max(1, min(PROCESSES_MOST, (usable or 1) // 2))
    return _setting("PROBES_DECODE_PROCESSES", int, half, 1_000, "processes")


def _setting(name: str, kind: type[Number], usual: Number, below: float, unit: str) -> Number:
    """Read a positive number from a variable of the environment."""
    given = os.environ.get(name)
    try:
        value = kind(given or usual)
    except ValueError:
        value = kind(0)
    # NaN fails both comparisons, and is refused too.
    if not 0 < value < below:
        raise ProbesError(f"{given!r} is not a number of {unit}", f"${name}", f"give e.g. {usual}")
    return value
