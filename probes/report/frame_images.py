"""Small pictures of a run's frames, few enough bytes to be embedded in one HTML file.

Every picture is a WebP in a data URL. A report has a budget for all of them together; the first
of `QUALITIES` whose pictures fit is taken, and where not even the last one does, the last frames
are left out, which the page says. Frames of 128 by 128 pixels take about 970 bytes at the best
qualities (4,500 of them 5.8 MB in base64), against 1,395 bytes as a JPEG of quality 50, 3,259 as
lossless WebP and 5,481 as PNG; sprites of ten would save a tenth, but need more than a plain
`<img>`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from probes.core.hashing import array_sha256

if TYPE_CHECKING:
    from PIL.Image import Image

_HEIGHTS = (512, 384, 256, 192, 144, 112, 96, 80, 64, 48)
QUALITIES = tuple(zip(_HEIGHTS, (80, 80, 80, 75, 70, 60, 50, 40, 35, 30), strict=True))
"""(greatest height in pixels, WebP quality), from best to smallest; nothing is ever enlarged."""
_SAMPLE = 32  # frames that a quality is estimated from before all are made
_CHUNK = 64  # frames that are encoded at a time

FrameFile = tuple[str, Path]
"""(sha256, path of its PNG)."""


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """The pictures of a list of frames."""

    webp: tuple[str, ...]
    """WebP in base64 for each frame, in their order; empty where there is none."""
    missing: dict[int, str]
    """Why a frame has no picture, by its index in the list."""
    height: int
    """Greatest height in pixels."""
    quality: int
    """WebP quality, 0 to 100."""

    @property
    def size(self) -> int:
        """Characters of base64 in all."""
        return sum(map(len, self.webp))


def make(frames: Sequence[FrameFile], budget: int) -> EncodedImages:
    """Make small pictures of frames, all of one quality.

    Args:
        frames: which, the most important ones first.
        budget: characters of base64 that all pictures may take together.

    Returns:
        The pictures. Frames beyond the budget, frames whose file is missing and frames whose file
        holds other pixels than its name says have none, with the reason.
    """
    # Evenly over the list: neighbouring frames are of one item, and alike in size.
    step = max(1, len(frames) // _SAMPLE)
    sample = frames[::step][:_SAMPLE]
    for height, quality in QUALITIES:
        last = (height, quality) == QUALITIES[-1]
        sizes = [len(image) for image, _ in _encode(sample, height, quality) if image]
        if not last and sum(sizes) / max(1, len(sizes)) * len(frames) > budget:
            continue
        images = _encode_all(frames, height, quality, budget, partly=last)
        if images is not None:
            return images
    raise AssertionError("unreachable: the last quality always gives pictures")


def _encode_all(
    frames: Sequence[FrameFile], height: int, quality: int, budget: int, *, partly: bool = False
) -> EncodedImages | None:
    """Make all pictures of one quality; None where they do not fit and `partly` is not set."""
    webp: list[str] = []
    missing: dict[int, str] = {}
    left = budget
    for index, (image, problem) in enumerate(_encode(frames, height, quality)):
        if image and len(image) > left:
            if not partly:
                return None
            rest = range(index, len(frames))
            webp += [""] * len(rest)
            missing |= dict.fromkeys(rest, "left out to keep this page small")
            break
        webp.append(image)
        left -= len(image)
        if problem:
            missing[index] = problem
    return EncodedImages(tuple(webp), missing, height, quality)


def _encode(frames: Iterable[FrameFile], height: int, quality: int) -> Iterator[tuple[str, str]]:
    """Yield (picture, problem) for each frame; a few at a time, since most may be unused."""
    pending = iter(frames)
    # Pillow lets other threads run while it decodes and encodes.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # In chunks: once a quality proves too large, the rest is not encoded.
        while chunk := list(islice(pending, _CHUNK)):
            yield from pool.map(lambda frame: _encode_one(frame, height, quality), chunk)


def _encode_one(frame: FrameFile, height: int, quality: int) -> tuple[str, str]:
    import io

    import numpy as np
    from PIL import Image

    sha, path = frame
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except FileNotFoundError:
        return "", "its file is not there"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Pillow raises SyntaxError for a damaged PNG, and refuses sizes that could fill the memory.
        return "", "its file cannot be read"
    # The hash is of pixels, so that another compression of the file is no difference.
    if array_sha256(np.asarray(image)) != sha:
        return "", "its file holds other pixels than were shown"
    data = io.BytesIO()
    _smaller(image, height).save(data, "WEBP", quality=quality, method=4)
    return base64.b64encode(data.getvalue()).decode("ascii"), ""


def _smaller(image: Image, height: int) -> Image:
    from PIL.Image import Resampling

    if image.height <= height:
        return image
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Resampling.LANCZOS)
