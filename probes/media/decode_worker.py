"""The child process that decodes: the requests it answers on its standard input.

It is a plain subprocess that `decoder_pool` starts: `multiprocessing` would import the caller's
main module, torch and all. Its input closes, and it ends, when its parent is gone; should it hang
just then, its own alarm ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.media.video_decoders import NOT_MP4, REPLACE, mp4_fault, read_decord, read_pyav

READY = b"ready"
"""What the child writes first, once its libraries are loaded."""


def serve() -> None:
    """Answer requests on standard input until it closes.

    A request is a line of JSON; an answer is eight bytes of length, JSON, then the frames' bytes.
    """
    # The pipe gets another number before descriptor 1 is turned to the log.
    answers = os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)  # native code prints anywhere; answers must stay clean
        os.dup2(log.fileno(), 2)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
        # Never a handler in Python: it would run only once native code returns.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with contextlib.suppress(Exception):  # now, so that it costs no file's time limit
            import av  # noqa: F401
            import decord  # noqa: F401
        answers.write(READY)
        answers.flush()
        for line in sys.stdin.buffer:
            head, body = _answer(json.loads(line), log.fileno())
            text = json.dumps(head).encode()
            answers.write(len(text).to_bytes(8, "big") + text)
            answers.write(body.data)
            answers.flush()


def _answer(request: dict[str, Any], log: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Return the head of an answer and the bytes of its frames."""
    nothing = np.empty(0, np.uint8)
    path, counts, numbers = request["path"], request["counts"], request["numbers"]
    # A child that hangs in native code ends by the kernel's alarm, even if its parent is gone.
    signal.setitimer(signal.ITIMER_REAL, request["limit_s"])
    try:
        fault = mp4_fault(Path(path))
        # First: a file that was cut between two packets would decode without an error. Other
        # containers are left to the decoders.
        if fault not in (None, NOT_MP4):
            raise ProbesError(f"the video {fault}", path, REPLACE)
        read = read_decord if request["decoder"] == "decord" else read_pyav
        got = read(path, counts, numbers, log)
    except ProbesError as error:
        return {"error": [error.what, error.where, error.fix]}, nothing
    except OSError as error:
        return {"error": [f"the video cannot be read: {error.strerror}", path, REPLACE]}, nothing
    # An error that ended the child would reach the parent as a crash, without its reason.
    except Exception as error:
        return {"error": [f"{type(error).__name__}: {error}", path, REPLACE]}, nothing
    finally:
        # The child lives on: an alarm that was left would end it during another file.
        signal.setitimer(signal.ITIMER_REAL, 0)
    frames = np.asarray(got.frames)
    head = {"count": got.count, "numbers": got.numbers, "times_s": got.times_s}
    return head | {"shape": frames.shape, "decoder": got.decoder}, frames.reshape(-1)
