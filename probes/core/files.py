"""Files: the folder of caches, paths named in settings, and writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from probes.core.errors import MachineError, ProbesError


def home() -> Path:
    """Return the folder of generated data, store and caches: `$PROBES_HOME` or the user's cache."""
    if given := os.environ.get("PROBES_HOME"):
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "interframe-probes"


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Raises:
        MachineError: the disk is full or cannot be written; nothing of `data` is left behind.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` once the `with` block ends without an error.

    Raises:
        MachineError: the disk is full or cannot be written; nothing is left behind.
    """
    # Not mkstemp: its files are closed to all other users, and results are shared.
    # A name may have 255 bytes on most disks, and this one gets a process and a draw as well: two
    # processes, or two threads of one, may write the same file at the same time.
    temporary = path.with_name(f".{path.name[:64]}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without fsync: a power cut may leave less than the whole, which checksums of the readers
        # notice. Every frame would have to wait for it.
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)  # within one folder, hence one disk: atomic
    # Ctrl-C too: what is half written goes.
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise MachineError(
                f"the file cannot be written: {error.strerror or error}",
                str(path),
                "make room there, or choose a folder that can be written",
            ) from error
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Put the content of a file at another path too: a hard link where that works, else a copy.

    Raises:
        FileNotFoundError: there is no such file.
        MachineError: the disk is full or cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # no hard links here, none to another disk, or `target` is there
        with source.open("rb") as content, atomic_file(target) as file:
            shutil.copyfileobj(content, file)


def named_path(text: str, where: str) -> Path:
    """Return the path that a setting names, with `~` expanded; it need not exist.

    Raises:
        ProbesError: it cannot be a path: it is too long, say, or in an unknown user's home.
    """
    try:
        path = Path(text).expanduser()
        # Only the system knows what is too long; null characters are its ValueError.
        path.resolve().exists()
    except (OSError, RuntimeError, ValueError) as error:
        shown = f"{text[:60]}..." if len(text) > 60 else text
        reason = getattr(error, "strerror", None) or error
        raise ProbesError(
            f"{shown!r} is not a usable path: {reason}", where, "correct it"
        ) from error
    return path
