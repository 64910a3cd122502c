"""Where numbers come from: hashes, folders, versions, atomic files."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import subprocess
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from probes.types import MachineError, ProbesError

# What a result can depend on; everything else is noise in a manifest.
PACKAGES = (
    "interframe-probes", "torch", "torchvision", "transformers", "tokenizers", "lmms-eval",
    "decord", "av", "numpy", "pandas", "scipy", "hydra-core", "opencv-python-headless",
)  # fmt: skip

REWRITE = "have it written again: the same `probes run` answers from the store"
"""How to mend a file of a run folder."""


def home() -> Path:
    """Return the folder of made data, store and caches: `$PROBES_HOME` or the user's cache."""
    if given := os.environ.get("PROBES_HOME"):
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "interframe-probes"


def sha256_bytes(data: bytes) -> str:
    """Return the hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hex sha256 of `value` in canonical JSON (sorted keys, no spaces, UTF-8)."""
    return sha256_bytes(_canonical(value))


def sha256_json_rows(rows: Iterable[Any]) -> str:
    """Return `sha256_json` of the list of `rows`, which need not be in memory together."""
    digest = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        digest.update(b"," * (number > 0) + _canonical(row))
    digest.update(b"]")
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, which is read once while it stays as it is.

    Within a process it is remembered by path, size, times of change and inode; that of a large file
    also in `home()/hashes.jsonl`, so that a finished run does not read a data set to name it.
    """
    stat = path.stat()
    return _sha256_file(
        str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    )


@functools.lru_cache(maxsize=1_024)  # of more, a small one is hashed again, a large one is noted
def _sha256_file(path: str, *state: int) -> str:
    """Hash a file of that state (size, mtime and ctime in nanoseconds, inode)."""
    large = state[0] >= _LARGE
    if large and (known := _remembered(home() / "hashes.jsonl").get((path, *state))):
        return known
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        stat = os.fstat(file.fileno())
    same = state == (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    if large and same and max(state[1:3]) < time.time_ns() - _SETTLED_NS:
        _remember(home() / "hashes.jsonl", (path, *state), digest)
    return digest


# Files below this size are hashed (1 ms) about as fast as they are looked up.
_LARGE = 2**20
# A file changed so recently may change again within the same tick of its disk's clock.
_SETTLED_NS = 3 * 10**9


@functools.lru_cache(maxsize=8)
def _remembered(file: Path) -> dict[tuple[str | int, ...], str]:
    """Read the hashes that earlier processes noted; a line that was cut off is left out."""
    found: dict[tuple[str | int, ...], str] = {}
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError:
        return found
    for line in lines:
        text, _, check = line.rpartition(b" ")
        if check == b"%08x" % zlib.crc32(text):
            *state, digest = json.loads(text)
            found[tuple(state)] = digest
    return found


def _remember(file: Path, state: tuple[str | int, ...], digest: str) -> None:
    """Note a hash: one line in one write, so that processes may note theirs at the same time."""
    _remembered(file)[state] = digest
    text = json.dumps([*state, digest]).encode()
    with contextlib.suppress(OSError):  # without the note, the file is hashed again
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            # The line feed comes first: whatever a killed process left cannot spoil this line.
            os.write(handle, b"\n%s %08x" % (text, zlib.crc32(text)))
        finally:
            os.close(handle)


def array_sha256(array: NDArray[np.uint8]) -> str:
    """Return the hex sha256 of an array's shape and bytes; the name of a frame everywhere."""
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()


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


def whole_text(text: str) -> str:
    """Return a text with a question mark for every lone surrogate.

    JSON may hold half a character, which no file, table or tokenizer takes.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a run's manifest says; empty where there is none.

    Raises:
        ProbesError: it cannot be read, or is no JSON object.
    """
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProbesError(f"the manifest cannot be read: {reason}", str(path), REWRITE) from error
    if not isinstance(content, dict):
        raise ProbesError("the manifest cannot be read: it is no JSON object", str(path), REWRITE)
    return content


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


def packages() -> dict[str, str]:
    """Return the versions of the packages that results can depend on."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_state(folder: Path) -> tuple[str, bool]:
    """Return (commit, dirty) of the checkout that holds `folder`; ("", False) outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "", False


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, for diffs and manifests."""
    out: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out
