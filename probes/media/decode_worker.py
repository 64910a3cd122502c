"""Run the decoders in a child process that can be killed.

decord has open reports of native loops that only SIGKILL ends, and a broken file can crash any
decoder. Long-lived children (0.3 s to start), one unless there are processors to spare, decode for
all clips; one is killed and replaced when a file takes too long. They are plain subprocesses, not
`multiprocessing`, which would import the caller's main module, torch and all, into the child. A
child sees its input close, and ends, when its parent is gone; should it hang just then, its own
alarm ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import MachineError, ProbesError
from probes.media.video_decoders import NOT_MP4, REPLACE, Decoded, mp4_fault, read_decord, read_pyav

_READY = b"ready"
_PIPE = 2**20  # bytes that a pipe of frames may hold: with 64 kB they cost a third more to pass
_END_S = 5.0  # for a thread to notice that its child is gone
_START_S = 300.0  # to load the libraries, even from a slow network disk on a busy machine


def serve() -> None:
    """Answer requests on standard input until it closes: the child's whole life.

    It says when it is ready. A request is a line of JSON; an answer is eight bytes of length, JSON,
    then the frames' bytes.
    """
    answers = os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)  # native code prints where it likes; answers must stay clean
        os.dup2(log.fileno(), 2)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with contextlib.suppress(Exception):  # so that no file's time limit pays for it
            import av  # noqa: F401
            import decord  # noqa: F401
        answers.write(_READY)
        answers.flush()
        for line in sys.stdin.buffer:
            head, body = _answer(json.loads(line), log.fileno())
            text = json.dumps(head).encode()
            answers.write(len(text).to_bytes(8, "big") + text)
            answers.write(body.data)
            answers.flush()


def _answer(ask: dict[str, Any], log: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    nothing = np.empty(0, np.uint8)
    path, counts, numbers = ask["path"], ask["counts"], ask["numbers"]
    # A child that hangs in native code must end even if its parent is gone: the kernel sees to it.
    signal.setitimer(signal.ITIMER_REAL, ask["limit_s"])
    try:
        fault = mp4_fault(Path(path))
        if fault not in ("", NOT_MP4):
            raise ProbesError(f"the video {fault}", path, REPLACE)
        read = read_decord if ask["decoder"] == "decord" else read_pyav
        got = read(path, counts, numbers, log)
    except ProbesError as error:
        return {"error": [error.what, error.where, error.fix]}, nothing
    except OSError as error:
        return {"error": [f"the video cannot be read: {error.strerror}", path, REPLACE]}, nothing
    except Exception as error:
        return {"error": [f"{type(error).__name__}: {error}", path, REPLACE]}, nothing
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    head = {"count": got.count, "numbers": got.numbers, "times_s": got.times_s}
    return head | {"shape": got.frames.shape, "decoder": got.decoder}, got.frames.reshape(-1)


class DecoderPool:
    """Several workers that threads share: who asks is served by one that is idle.

    Args:
        timeout_s: seconds that one attempt on one file may take before a child is killed.
        size: how many files may be decoded at the same time; a child starts when it is needed.
    """

    def __init__(self, timeout_s: float, size: int = 1) -> None:
        self.size = size
        self._workers = [DecoderProcess(timeout_s) for _ in range(size)]
        # Last in, first out: as long as one child is fast enough, no other starts.
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def decode(
        self,
        path: Path,
        decoder: str,
        *,
        counts: Collection[int] = (),
        numbers: Collection[int] = (),
    ) -> Decoded:
        """Decode as `Worker.decode` does, once one is idle."""
        worker = self._idle.get()
        try:
            return worker.decode(path, decoder, counts=counts, numbers=numbers)
        finally:
            self._idle.put(worker)

    def end(self) -> None:
        """Kill every child, whatever it is doing; nothing decodes any more."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.end()


class DecoderProcess:
    """The parent's end of the child process; made on first use, shared by threads.

    Args:
        timeout_s: seconds that one attempt on one file may take before the child is killed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[Any, Any] | None = None
        self._ended = False

    def decode(
        self,
        path: Path,
        decoder: str,
        *,
        counts: Collection[int] = (),
        numbers: Collection[int] = (),
    ) -> Decoded:
        """Decode the frames of evenly spread clips of `counts` frames, and those of `numbers`.

        `auto` tries decord, then PyAV.

        Raises:
            ProbesError: the last decoder tried refused, failed, crashed or took too long.
            MachineError: the child cannot be started.
        """
        ask = {"path": str(path), "counts": sorted(counts), "numbers": sorted(numbers)}
        names = ("decord", "pyav") if decoder == "auto" else (decoder,)
        with self._lock:
            for name in names:
                try:
                    return self._ask(ask | {"decoder": name})
                except MachineError:
                    raise
                except ProbesError:
                    if name == names[-1]:
                        raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the child; the next `decode` would start another."""
        if self._end is not None:
            self._end()
        self._child = self._end = None

    def kill(self) -> None:
        """Kill the child, whatever it is doing for another thread; nothing decodes any more."""
        self._ended = True
        if (child := self._child) is not None:
            child.kill()  # who waits for it meets the end of its answers

    def end(self) -> None:
        """Kill the child and close its pipes."""
        self.kill()
        if self._lock.acquire(timeout=_END_S):
            self.close()
            self._lock.release()

    def _ask(self, ask: dict[str, Any]) -> Decoded:
        try:
            child = self._start()
            assert child.stdin is not None
            deadline = time.monotonic() + self._timeout_s
            line = json.dumps(ask | {"limit_s": self._timeout_s + 1}).encode() + b"\n"
            child.stdin.write(line)
            text = self._take(child, int.from_bytes(self._take(child, 8, deadline)), deadline)
            head = json.loads(bytes(text))
            if "error" in head:
                raise ProbesError(*head["error"])
            body = self._take(child, int(np.prod(head["shape"])), deadline)
        except MachineError:
            self.close()
            raise
        except ProbesError:
            raise
        except BaseException as error:  # Ctrl-C too: half an answer must never meet the next one
            self.close()
            if isinstance(error, TimeoutError):
                what = f"the video did not decode within {self._timeout_s:g} s"
                fix = f"{REPLACE}; if it is only long, set $PROBES_DECODE_TIMEOUT (seconds)"
                raise ProbesError(what, ask["path"], fix) from None
            if isinstance(error, EOFError | BrokenPipeError):
                if self._ended:  # the file is not to blame
                    raise _ended() from None
                raise ProbesError("the decoder crashed", ask["path"], REPLACE) from None
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
            code = (
                "import sys; sys.path[:] = sys.argv[1:]; "
                "from probes.media.decode_worker import serve; serve()"
            )
            self._child = subprocess.Popen(
                [sys.executable, "-c", code, *(str(Path(p).absolute()) for p in sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # It does no algebra: NumPy need not start a thread for every processor.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )
            self._end = weakref.finalize(self, _stop, self._child)
            assert self._child.stdout is not None
            with contextlib.suppress(AttributeError, OSError):  # not Linux, or beyond its bounds
                fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
            if self._ended:  # `end` came too early to see this child
                raise _ended()
            try:
                self._take(self._child, len(_READY), time.monotonic() + _START_S)
            except (EOFError, TimeoutError) as error:
                raise MachineError(
                    "the decoding process does not start", sys.executable,
                    "see what it printed above; it needs room in the folder for temporary files "
                    "($TMPDIR) and a working installation",
                ) from error  # fmt: skip
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
                step = os.readv(child.stdout.fileno(), [view[at:]])
                if not step:
                    raise EOFError
                at += step
        return taken


def _ended() -> MachineError:
    return MachineError("decoding has ended", "", "the same command goes on")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
