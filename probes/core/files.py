"""Files: the folder of caches, paths named in settings, and writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
import weakref
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
    temporary = _beside(path)
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


def _beside(path: Path) -> Path:
    """Return a name for a file that will replace `path`."""
    # Not mkstemp: its files are closed to all other users, and results are shared.
    # A name may have 255 bytes on most disks, and this one gets a process and a draw as well: two
    # processes, or two threads of one, may write the same file at the same time.
    return path.with_name(f".{path.name[:64]}.{os.getpid()}.{uuid.uuid4().hex[:8]}")


def link_or_copy(source: Path, target: Path) -> None:
    """Put the content of a file at another path too: a hard link where that works, else a copy.

    What is at the target is replaced, at once and as a whole.

    Raises:
        FileNotFoundError: there is no such file.
        MachineError: the one cannot be read, or the other not be written; it names which.
    """
    with contextlib.suppress(OSError):  # no hard links here, or none to another disk
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            _replace_by_link(source, target)
        return
    try:
        content = source.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(source, error) from error
    with content, atomic_file(target) as file:
        while piece := _read(content, source):
            file.write(piece)


def _replace_by_link(source: Path, target: Path) -> None:
    temporary = _beside(target)
    try:
        os.link(source, temporary)
        temporary.replace(target)
    finally:
        # Two names of one file are not replaced by one another: both would stay.
        temporary.unlink(missing_ok=True)


def _read(content: BinaryIO, source: Path) -> bytes:
    try:
        return content.read(2**20)
    except OSError as error:  # here, as where it is written it would seem to be the target's
        raise _unreadable(source, error) from error


def _unreadable(path: Path, error: OSError) -> MachineError:
    return MachineError(
        f"the file cannot be read: {error.strerror or error}",
        str(path),
        "correct the access rights or restore the file there",
    )


class StandingFolder:
    """A folder that has to stay what it is while a process uses it, if it was there before.

    Without this, files that are written after somebody deleted it would make a new one, and
    everything before them would be missing in it.

    Args:
        path: the folder; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._take()

    def check(self) -> None:
        """Make the folder before its first use, and see to it that it is the same from then on.

        Raises:
            MachineError: it is gone, another has taken its place, or it cannot be made.
        """
        if self._identity is None:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MachineError(
                    f"the folder cannot be made: {error.strerror or error}",
                    str(self.path),
                    "make room there, or choose a folder that can be written",
                ) from error
            self._take()
        self.check_unmoved()

    def check_unmoved(self) -> None:
        """See to it that the folder, if it was ever there, still is.

        Raises:
            MachineError: it is gone, or another has taken its place.
        """
        if self._identity is not None and self._look() != self._identity:
            raise MachineError(
                "the folder was deleted or replaced while it was in use",
                str(self.path),
                "leave it in place until the command has ended; restore it if you can, then type "
                "the same command again: it goes on from what is stored there",
            )

    def _take(self) -> None:
        self._identity = self._look()
        with contextlib.suppress(OSError):
            # Held open, as a disk would give the number of a folder that is gone to the next one.
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            weakref.finalize(self, os.close, handle)

    def _look(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino


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
