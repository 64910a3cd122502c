"""The media file that frames are from: its hash, and whether it still is the one of that hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from probes.core import hashing
from probes.core.errors import ProbesError

FileTimes = tuple[int, ...]
"""Size, times of change in nanoseconds, inode and device of a file."""


class MediaChangedError(ProbesError):
    """A media file is not the one whose hash was taken."""


def sha256_of(path: Path, hashed: Callable[[Path], str] = hashing.remembered_sha256) -> str:
    """Return the sha256 of a media file.

    Args:
        path: of the file.
        hashed: how: what is remembered will do to find what is stored; else `sha256_file`.

    Raises:
        ProbesError: it cannot be read.
    """
    try:
        return hashed(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def times_of(path: Path) -> FileTimes:
    """Return what the system says of a file that somebody may change.

    Raises:
        ProbesError: it cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev


def check_same(path: Path, sha256: str, before: FileTimes) -> None:
    """Refuse a media file that is not, or no longer, the one that was hashed.

    Args:
        path: of the file, which is read in full.
        sha256: of what it should be.
        before: its times before it was hashed.

    Raises:
        MediaChangedError: it is another.
        ProbesError: it cannot be read any more.
    """
    # A file that was changed and changed back has the same hash, and another time of change.
    if sha256_of(path, hashing.sha256_file) != sha256 or times_of(path) != before:
        raise MediaChangedError(
            "the file was changed while it was decoded",
            str(path),
            "run again when nothing writes to it any more",
        )


def _unreadable(path: Path, error: OSError) -> ProbesError:
    return ProbesError(
        f"the file cannot be read: {error.strerror}", str(path), "restore the data set"
    )
