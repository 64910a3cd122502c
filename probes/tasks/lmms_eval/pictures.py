"""Pictures of a doc as a file: lossless, named by the hash of its content."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.files import atomic_write, home
from probes.core.hashing import array_sha256, sha256_json
from probes.core.types import Panels

SUFFIX = ".pictures"
"""Ending of the files; inside they are npz."""
_FIX = "delete the file and run again: it is made again"


def write(pictures: Sequence[NDArray[np.uint8]]) -> Panels:
    """Keep pictures under `home()/data/lmms`; equal pictures are kept once.

    Args:
        pictures: uint8 RGB [height, width, 3], of any sizes.
    """
    # By pixels, not by the file's bytes: zlib compresses differently from version to version.
    name = sha256_json([array_sha256(one) for one in pictures])
    path = home() / "data" / "lmms" / name[:2] / f"{name}{SUFFIX}"
    if not path.is_file():
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
    try:
        with np.load(path, allow_pickle=False) as archive:
            pictures = [archive[name] for name in sorted(archive.files)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ProbesError(f"the pictures cannot be read: {error}", str(path), _FIX) from error
    if not pictures or any(one.dtype != np.uint8 or one.ndim != 3 for one in pictures):
        raise ProbesError("the file holds no pictures", str(path), _FIX)
    return pictures
