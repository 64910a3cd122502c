"""The arrays of stored outputs: a safetensors file for each output that has some.

A row of the store has the sha256 of its file, and the file's name follows from that and the row's
key. So what two processes compute for one key at the same time are two files or the same one, and
never one that changes under the other's row.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.core import tensors
from probes.core.files import atomic_file
from probes.core.hashing import sha256_bytes
from probes.core.types import ArrayName

FOLDER = "arrays"
_SHA256 = re.compile("[0-9a-f]{64}")

Arrays = Mapping[ArrayName, NDArray[np.generic]]


class StoredArrays(Arrays):
    """The arrays of one output; each is read from its file when it is asked for.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @functools.cached_property
    def _file(self) -> tensors.TensorFile:
        return tensors.TensorFile(self._path)

    def __getitem__(self, name: ArrayName) -> NDArray[np.generic]:
        label = tensors.label(name)
        if label not in self._file.names():
            raise KeyError(name)
        return self._file.read(label)

    def __iter__(self) -> Iterator[ArrayName]:
        """Iterate over the names, in the order of name, layer and span."""
        names = map(tensors.name_of, self._file.names())
        return iter(
            sorted(names, key=lambda n: (n.name, -1 if n.layer is None else n.layer, n.span))
        )

    def __len__(self) -> int:
        return len(self._file.names())


def path_of(store: Path, key: str, sha256: str) -> Path:
    """Return the file of a key's arrays.

    Raises:
        ValueError: key or hash is no sha256, so that no path could leave the store's folder.
    """
    if not _SHA256.fullmatch(key) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{key!r} or {sha256!r} is no sha256")
    # Only hex reaches the path: a row of a foreign store names no file outside of this folder.
    # Sixteen digits of the content's hash keep two writers of one key apart, the row has them all.
    return store / FOLDER / key[:2] / f"{key}-{sha256[:16]}.safetensors"


def write(store: Path, arrays: Mapping[str, Arrays]) -> dict[str, str]:
    """Write the arrays of outputs, by key; they are safe on the disk when this returns.

    Returns:
        sha256 of the file of every key.

    Raises:
        MachineError: the disk is full or cannot be written.
        ProbesError: an array cannot be written as it is; see `tensors`.
    """
    hashes: dict[str, str] = {}
    folders: set[Path] = set()
    for key, named in arrays.items():
        content = tensors.packed({tensors.label(name): array for name, array in named.items()})
        hashes[key] = sha256_bytes(content)
        path = path_of(store, key, hashes[key])
        # A file of that name is replaced: it may be the damaged one that this is to heal.
        with atomic_file(path) as file:
            file.write(content)
            file.flush()
            # Content first: else a power cut may leave the name, and a row that names it, without.
            os.fsync(file.fileno())
        folders |= {path.parent, store / FOLDER}
    for folder in folders:
        _sync(folder)
    return hashes


def _sync(folder: Path) -> None:
    """Make the names in a folder safe; then a row may name them."""
    # Without this, a power cut could keep a row and lose the name of the file that it needs.
    with contextlib.suppress(OSError):  # not every network disk can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def find(store: Path, key: str, sha256: str) -> StoredArrays | None:
    """Return a key's arrays; None where their file is missing or is not what was written."""
    try:
        path = path_of(store, key, sha256)
        # The bytes, and not `sha256_file`, which trusts a file that has not been written since:
        # disks lose bits without a new time of change.
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except (OSError, ValueError):
        return None
    return StoredArrays(path) if whole else None
