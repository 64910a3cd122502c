"""Pictures of a doc as a file: lossless, named by the hash of its content."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.files import atomic_write, home
from probes.core.hashing import array_sha256, sha256_json
from probes.core.types import Panels

_log = logging.getLogger(__name__)
SUFFIX = ".pictures"
"""Ending of the files; inside they are npz."""
_FIX = "delete the file and run again: it is made again"


def write(pictures: Sequence[NDArray[np.uint8]]) -> Panels:
    """Keep pictures under `home()/data/lmms`; equal pictures are kept once.

    A file of that name that is damaged, or holds other pictures, is replaced.

    Args:
        pictures: uint8 RGB [height, width, 3], of any sizes.
    """
    # By pixels, not by the file's bytes: zlib compresses differently from version to version.
    name = _name(pictures)
    path = home() / "data" / "lmms" / name[:2] / f"{name}{SUFFIX}"
    if not _is_sound(path):
        data = io.BytesIO()
        # Padded: names are read back in their order as text.
        named: dict[str, Any] = {f"{at:04}": one for at, one in enumerate(pictures)}
        np.savez_compressed(data, **named)
        atomic_write(path, data.getvalue())
    return Panels(path, len(pictures))


def read(path: Path) -> list[NDArray[np.uint8]]:
    """Return the pictures of a file, uint8 RGB [height, width, 3], in order.

    Raises:
        ProbesError: the file is missing or damaged.
    """
    pictures = _read(path)
    if _name(pictures) != path.stem:
        raise ProbesError("the file holds other pictures than its name says", str(path), _FIX)
    return pictures


def _name(pictures: Sequence[NDArray[np.uint8]]) -> str:
    return sha256_json([array_sha256(one) for one in pictures])


def _is_sound(path: Path) -> bool:
    # All of it is read: these items are made of what is asked now, and the file can be made again
    # only now, while the docs are at hand.
    try:
        read(path)
    except ProbesError:
        if path.exists():
            _log.warning("%s is damaged: it is made again", path)
        return False
    return True


def _read(path: Path) -> list[NDArray[np.uint8]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            pictures = [archive[name] for name in sorted(archive.files)]
    except Exception as error:  # NumPy and zipfile raise nearly any on damaged bytes
        raise ProbesError(f"the pictures cannot be read: {error}", str(path), _FIX) from error
    if not pictures or any(one.dtype != np.uint8 or one.ndim != 3 for one in pictures):
        raise ProbesError("the file holds no pictures", str(path), _FIX)
    return pictures
