"""Bounds of a picture's size that a member sets for its processor: `min_pixels`, `max_pixels`.

Classes that keep a picture's shape (Qwen-VL, GLM-V, VideoLLaMA 3, ...) shrink or enlarge it until
its number of pixels lies within two bounds. Newer versions of transformers call them
`size.shortest_edge` and `size.longest_edge`, by which other classes mean lengths of edges.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec

_IN_SIZE = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
_PARTS = ("image_processor", "video_processor")


def set_bounds(processor: Any, spec: ModelSpec, where: str) -> None:
    """Give a processor's parts the bounds that a member sets; without any, nothing is changed.

    Args:
        processor: of transformers, or of a checkpoint's own code.
        spec: the member.
        where: folder of the checkpoint, for messages.

    Raises:
        ProbesError: the part that prepares its frames has no such bounds, or the one that is set
            does not go together with the other.
    """
    given = spec.pixel_bounds
    if not given:
        return
    for name in _PARTS:
        part, used = getattr(processor, name, None), name == f"{spec.frame_as}_processor"
        own = None if part is None else bounds_of(part)
        if own is None and used:
            raise _refusal(processor if part is None else part, given, spec, where)
        both = (own or {}) | given
        if own is None or both["min_pixels"] > both["max_pixels"]:
            if used:
                raise _clash(both, given, part, spec)
            continue  # no frame goes through this part
        _set(part, given)


def bounds_of(part: Any) -> dict[str, int] | None:
    """Return the bounds of an image or video processor by name; None where it has no such ones."""
    size = getattr(part, "size", None)
    plain = {key: value for key, value in dict(size or {}).items() if value is not None}
    if _counts_pixels(type(part)) and set(_IN_SIZE.values()) <= plain.keys():
        return {name: int(plain[key]) for name, key in _IN_SIZE.items()}
    own = {name: getattr(part, name, None) for name in _IN_SIZE}
    return {k: v for k, v in own.items() if isinstance(v, int)} if all(own.values()) else None


def _counts_pixels(kind: type) -> bool:
    """Return whether a class resizes by the function that bounds numbers of pixels."""
    # By what it is resized with: the names in `size` alone may mean edges.
    for one in kind.__mro__:
        resize = getattr(sys.modules.get(one.__module__), "smart_resize", None)
        if resize is not None:
            return _IN_SIZE.keys() <= inspect.signature(resize).parameters.keys()
    return False


def _set(part: Any, given: dict[str, int]) -> None:
    size = dict(part.size or {})
    keys = _IN_SIZE if _IN_SIZE["min_pixels"] in size else {name: name for name in _IN_SIZE}
    named = {keys[name]: value for name, value in given.items()}
    if keys is _IN_SIZE or keys.keys() & size.keys():
        part.size = type(part.size)(**size | named)
    for name, value in given.items():
        if getattr(part, name, None) is not None:  # classes that go by attributes of their own
            setattr(part, name, value)


def _clash(both: dict[str, int], given: dict[str, int], part: Any, spec: ModelSpec) -> ProbesError:
    name = next(iter(given))  # two that are set were compared as the configuration was read
    other = next(one for one in _IN_SIZE if one != name)
    return ProbesError(
        f"{name}={given[name]} does not go together with {other}={both[other]}, which is the"
        f" checkpoint's own ({type(part).__name__})",
        f"pair.{spec.role}.{name}",
        f"set pair.{spec.role}.{other} too",
    )


def _refusal(part: Any, given: dict[str, int], spec: ModelSpec, where: str) -> ProbesError:
    kind = type(part).__name__
    return ProbesError(
        f"{kind} has no bounds of a picture's pixels: {' and '.join(given)} would change nothing",
        f"pair.{spec.role}.{next(iter(given))}, {where}",
        "leave the setting out: this class brings every frame to sizes of its own",
    )
