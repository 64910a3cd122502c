"""Where numbers come from: hashes, folders, versions, atomic files."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from probes.core.errors import MachineError, ProbesError


def home() -> Path:
    """Return the folder of made data, store and caches: `$PROBES_HOME` or the user's cache."""
    if given := os.environ.get("PROBES_HOME"):
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "interframe-probes"


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Raises:
        MachineError: the disk is full or cannot be written; nothing of `data` is left there.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once the `with` block ends well.

    Raises:
        MachineError: the disk is full or cannot be written; nothing is left there.
    """
    # Not mkstemp: its files are closed to all other users, and results are shared.
    temporary = path.with_name(f".{path.name[:64]}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise MachineError(
                f"the file cannot be written: {error.strerror or error}", str(path),
                "make room there, or name a folder that can be written",
            ) from error  # fmt: skip
        raise


def named_path(text: str, where: str) -> Path:
    """Return the path that a setting names, with `~` expanded; it need not be there.

    Raises:
        ProbesError: it cannot be one: too long, say, or of an unknown user's home.
    """
    try:
        path = Path(text).expanduser()
        path.resolve().exists()
    except (OSError, RuntimeError, ValueError) as error:
        shown = f"{text[:60]}..." if len(text) > 60 else text
        reason = getattr(error, "strerror", None) or error
        raise ProbesError(f"{shown!r} is no usable path: {reason}", where, "correct it") from error
    return path


_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
}  # fmt: skip


def machine_error(error: BaseException) -> MachineError | None:
    """Put an error of disk or system into words; None where a program may be to blame.

    For the doors, where what libraries raised arrives: Hydra and matplotlib write files too.
    """
    if not isinstance(error, OSError) or error.errno not in _MACHINE:
        return None
    where = " ".join(str(name) for name in (error.filename, error.filename2) if name)
    return MachineError(
        f"the machine refuses: {error.strerror}", where,
        "make room or mend the access there; the same command goes on from what is stored",
    )  # fmt: skip
