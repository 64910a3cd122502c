"""One run at a time writes a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from probes.core.errors import MachineError, ProbesError

FILE = ".probes.lock"
"""Name of the lock; it is there while a folder is written, and after a process was killed."""
_FREED_S = 3.0  # for what a killed process has started, which may hold its files a little longer


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if need be, while the block runs.

    The system frees it with the process. Where the disk has no locks (some network disks), a
    folder is refused only if its holder is seen to be running: on this machine. Of another
    machine's process nothing is known there, and a warning says so.

    Raises:
        ProbesError: another run is writing this folder.
        MachineError: the folder cannot be made or written to.
    """
    file = _taken(folder)
    try:
        yield
    finally:
        # While it is held: afterwards the name could be that of another run's lock.
        with contextlib.suppress(OSError):
            (folder / FILE).unlink()
        file.close()


def holder(folder: Path) -> str:
    """Return who is writing a folder: `process 7 on host, since TIME`; empty where nobody is."""
    try:
        # Opened for reading alone: whoever looks need not be allowed to write here.
        with (folder / FILE).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _named(_facts(file))
            except OSError:
                facts = _facts(file)
                return _named(facts) if _runs(facts) else ""
    except OSError:
        pass
    return ""


def _taken(folder: Path) -> IO[str]:
    """Lock a folder and write into the lock's file who holds it."""
    deadline = time.monotonic() + _FREED_S
    while True:
        file = _opened(folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            facts = _facts(file)
            file.close()
            if _ended(facts) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise _refusal(folder, facts) from None
        except OSError:  # no locks here
            facts = _facts(file)
            if _runs(facts):
                file.close()
                raise _refusal(folder, facts) from None
            warnings.warn(
                f"the disk of {folder} has no locks: see to it that no other run writes there",
                stacklevel=4,
            )
        if not _is_at(file, folder / FILE):  # it was removed by the run that held it
            file.close()
            continue
        _sign(file)
        return file


def _opened(folder: Path) -> IO[str]:
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise MachineError(
            f"the folder cannot be written to: {error.strerror or error}",
            str(path),
            "make room there, or choose a folder that can be written",
        ) from error


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _sign(file: IO[str]) -> None:
    pid = os.getpid()
    facts = {"pid": pid, "host": socket.gethostname(), "started": _started(pid)}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a full disk: it is held all the same
        file.truncate(0)
        file.write(json.dumps(facts | {"since": now}))
        file.flush()


def _facts(file: IO[str]) -> dict[str, Any]:
    """Return what a lock's file says of its holder; empty while it is being written."""
    file.seek(0)
    try:
        found = json.loads(file.read())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _named(facts: dict[str, Any]) -> str:
    if not facts:
        return "a process that has just begun"
    return f"process {facts.get('pid')} on {facts.get('host')}, since {facts.get('since')}"


def _refusal(folder: Path, facts: dict[str, Any]) -> ProbesError:
    return ProbesError(
        f"another run is writing this folder: {_named(facts)}",
        str(folder),
        "wait until it has ended, or choose another folder: hydra.run.dir=DIR",
    )


def _runs(facts: dict[str, Any]) -> bool:
    """Return whether the process is on this machine and seen to be running."""
    pid = facts.get("pid")
    if facts.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        pass
    except OSError:
        return False
    # A number is given out again: the same process also began at the same time.
    return facts.get("started") == _started(pid)


def _ended(facts: dict[str, Any]) -> bool:
    return facts.get("host") == socket.gethostname() and not _runs(facts)


def _started(pid: int) -> str:
    """Return when a process began, in the system's ticks; empty where that is not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    # Its name is in parentheses and may hold blanks.
    return stat.rpartition(")")[2].split()[19]
