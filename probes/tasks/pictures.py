"""From a file of pictures to their pixels: all formats of the files of `Panels`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import Panels
from probes.tasks.iraven import reader as iraven
from probes.tasks.lmms_eval import pictures as lmms

PictureArrays = Sequence[NDArray[np.uint8]]
"""RGB, uint8 [height, width, 3] each."""


def _iraven(path: Path) -> PictureArrays:
    return [np.repeat(grey[:, :, None], 3, axis=2) for grey in iraven.images(path)]


FORMATS: dict[str, Callable[[Path], PictureArrays]] = {".npz": _iraven, lmms.SUFFIX: lmms.read}
"""By ending of the file's name."""


def read(media: Panels) -> PictureArrays:
    """Read all pictures of a file: the context, then the options.

    Raises:
        ProbesError: an unknown format, a damaged file, or another number of pictures.
    """
    form = FORMATS.get(media.path.suffix)
    if form is None:
        known = nearest(media.path.suffix, FORMATS)
        raise ProbesError("no reader for such pictures", str(media.path), known)
    pictures = form(media.path)
    # Context and options are distinguished by their places alone.
    if len(pictures) != media.count + media.options:
        raise ProbesError(
            f"{len(pictures)} pictures, not {media.count + media.options}",
            str(media.path),
            "restore the data set",
        )
    return pictures
