"""sha256 of bytes, values, files and frames."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core import hash_memory
from probes.core.files import home
from probes.core.hash_memory import HashMemory


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


LARGE = 64 * 2**20
"""Files below this size are read in a blink, and hence always."""


def remembered_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, for planning: a large one may be remembered.

    The hash of a file of `LARGE` bytes or more may come from `home()/hashes.jsonl`, where its
    state is one that can be trusted (see `hash_memory`). It serves to find what is stored about
    the file; what is loaded or decoded is hashed in full.
    """
    with path.open("rb") as file:
        large = os.fstat(file.fileno()).st_size >= LARGE
        state = hash_memory.state_of(path, file.fileno()) if large else None
        if state is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        memory = HashMemory(home() / "hashes.jsonl")
        if (known := memory.get(state)) is not None:
            return known
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        # Of the open file, which may have changed while it was read.
        if hash_memory.state_of(path, file.fileno()) == state:
            memory.put(state, digest)
        return digest


def forget(path: Path) -> None:
    """Remember no hash of a file any more: its content turned out to be another."""
    HashMemory(home() / "hashes.jsonl").forget(path)


def array_sha256(array: NDArray[np.generic]) -> str:
    """Return the hex sha256 of an array's shape and bytes, which identifies a frame everywhere."""
    # The shape first: equal bytes as 2 x 3 and 3 x 2 pixels are two pictures.
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()
