"""sha256 of bytes, values, files and frames."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.files import home


def sha256_bytes(data: bytes) -> str:
    """Return the hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hex sha256 of `value` in canonical JSON (sorted keys, no spaces, UTF-8)."""
    return sha256_bytes(_canonical(value))


def sha256_json_rows(rows: Iterable[Any]) -> str:
    """Return `sha256_json` of the list of `rows`, without holding all of them in memory."""
    digest = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        digest.update(b"," * (number > 0) + _canonical(row))
    digest.update(b"]")
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    # Text of others may hold half a character (a lone surrogate), which plain UTF-8 refuses.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, which is read as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, which is read again only when it has changed.

    A process remembers it by path, size, times of change and inode. The hash of a large file is
    also kept in `home()/hashes.jsonl`, so that a finished run need not read its data set again.
    """
    stat = path.stat()
    return _remembered_sha256(
        str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    )


@functools.lru_cache(maxsize=1_024)  # beyond, a small file is hashed again, a large one looked up
def _remembered_sha256(path: str, *state: int) -> str:
    """Hash a file in a given state (size, mtime and ctime in nanoseconds, inode)."""
    large = state[0] >= _LARGE
    if large and (known := _remembered(home() / "hashes.jsonl").get((path, *state))):
        return known
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        # Of the open file: the path may lead to another one by now.
        stat = os.fstat(file.fileno())
    same = state == (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    if large and same and max(state[1:3]) < time.time_ns() - _SETTLED_NS:
        _remember(home() / "hashes.jsonl", (path, *state), digest)
    return digest


def forget(path: Path) -> None:
    """Make the next `remembered_sha256` of a file read it again, in later processes too."""
    _remembered_sha256.cache_clear()
    file, name = home() / "hashes.jsonl", str(path.absolute())
    for state in [one for one in _remembered(file) if one[0] == name]:
        _remember(file, state, "")


# Files below this size are hashed (1 ms) about as fast as they are looked up.
_LARGE = 2**20
# A file changed so recently may change again within the same tick of its disk's clock.
_SETTLED_NS = 3 * 10**9


@functools.lru_cache(maxsize=8)
def _remembered(file: Path) -> dict[tuple[str | int, ...], str]:
    """Read the hashes that earlier processes stored; a line that was cut off is left out."""
    found: dict[tuple[str | int, ...], str] = {}
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError:
        return found
    for line in lines:
        text, _, check = line.rpartition(b" ")
        # A line without a right checksum may be half of one, from a process that was killed.
        if check == b"%08x" % zlib.crc32(text):
            *state, digest = json.loads(text)
            found[tuple(state)] = digest
    return found


def _remember(file: Path, state: tuple[str | int, ...], digest: str) -> None:
    """Store a hash: one line in one write, so that several processes may do so at once."""
    _remembered(file)[state] = digest
    text = json.dumps([*state, digest]).encode()
    with contextlib.suppress(OSError):  # without the line, the file is hashed again
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            # The line feed comes first, so that what a killed process left cannot spoil this line.
            os.write(handle, b"\n%s %08x" % (text, zlib.crc32(text)))
        finally:
            os.close(handle)


def array_sha256(array: NDArray[np.generic]) -> str:
    """Return the hex sha256 of an array's shape and bytes, which identifies a frame everywhere."""
    # The shape first: equal bytes as 2 x 3 and 3 x 2 pixels are two pictures.
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()
