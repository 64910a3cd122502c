"""What a doc shows, as media: one video file, or pictures in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.types import Media, Video
from probes.tasks.lmms_eval import pictures
from probes.tasks.lmms_eval.adapter import Doc, RefusedError, Stage

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tiff", ".webp")
SOUNDS = (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus")


def of(task: Any, doc: Doc) -> list[Any]:
    """Return what a task's `doc_to_visual` shows of a doc, else what its messages show.

    Raises:
        RefusedError: it shows nothing.
    """
    shown = task.doc_to_visual(doc)
    if shown is None and callable(task.config.doc_to_messages):
        content = [part for message in task.doc_to_messages(doc) for part in message["content"]]
        shown = [part["url"] for part in content if part["type"] in ("image", "video")]
    if shown is None or (isinstance(shown, Sequence) and not len(shown)):
        raise RefusedError("it shows nothing: no picture and no video", Stage.UNKNOWN)
    return list(shown) if isinstance(shown, list | tuple) else [shown]


def kind(shown: Sequence[Any]) -> str:
    """Return what a doc shows: `video`, `image`, `images` (more than one) or `frames`.

    Raises:
        RefusedError: it shows something else, or several videos, or a part of one.
    """
    kinds = [_kind(one) for one in shown]
    if set(kinds) == {"image"}:
        return "image" if len(kinds) == 1 else "images"
    if len(kinds) > 1:
        raise RefusedError(f"it shows {len(kinds)} things at once: {', '.join(sorted(set(kinds)))}")
    return kinds[0]


def _kind(one: Any) -> str:
    if isinstance(one, Mapping):
        # Frames are sampled over the whole file: they would be of other times than asked about.
        if any(one.get(end) is not None for end in ("video_start", "video_end")):
            raise RefusedError("it shows a part of a video, from one time to another")
        if not isinstance(_path(one), str | Path) or one.get("type", "video") == "audio":
            raise RefusedError("it shows neither pictures nor a video file")
        one = _path(one)
    if isinstance(one, str | Path):
        if str(one).lower().startswith(("http://", "https://")):
            raise RefusedError("it shows something from the web")
        suffix = Path(one).suffix.lower()
        if suffix in SOUNDS:
            raise RefusedError("it plays sound")
        return "image" if suffix in IMAGES else "video"
    if hasattr(one, "convert"):
        return "image"
    if _is_frames(one):
        return "image" if one.ndim == 3 else "frames"
    raise RefusedError(f"it shows a {type(one).__name__}, neither pictures nor a video file")


def _path(one: Any) -> Any:
    """Return the path that a part of a message names; what is no part is returned as it is."""
    return one.get("url") or one.get("path") if isinstance(one, Mapping) else one


def _is_frames(one: Any) -> bool:
    is_array = isinstance(one, np.ndarray) and one.dtype == np.uint8
    return is_array and one.ndim in (3, 4) and one.shape[-1] == 3


def media(shown: Sequence[Any]) -> Media:
    """Return what a doc shows as media; pictures are kept as a file.

    Raises:
        RefusedError: as `kind` does.
        OSError: a file is missing or not a picture.
    """
    if kind(shown) == "video":
        (one,) = shown
        # Caches hold links: by two paths, one video would be two clusters.
        return Video(Path(_path(one)).resolve(strict=True))
    flat = [frame for one in shown for frame in _frames(one)]
    return pictures.write(flat)


def _frames(one: Any) -> list[NDArray[np.uint8]]:
    from PIL import Image

    if isinstance(one, np.ndarray):
        return [one] if one.ndim == 3 else list(one)
    one = _path(one)
    if isinstance(one, str | Path):
        with Image.open(one) as picture:
            return [np.asarray(picture.convert("RGB"))]
    return [np.asarray(one.convert("RGB"))]
