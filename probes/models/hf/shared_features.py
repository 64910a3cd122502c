"""Frames encoded once inside any class: its own forward pass, fed with features kept by frame.

A class's forward turns pixels into features by its method `get_image_features` or
`get_video_features`. Those methods are wrapped in a loaded model: the features of a frame are what
they return for a prompt of that frame alone, and a later prompt gets them put together in the
structure that the method itself returned for several frames. All else (positions, timestamps,
masks, features for deeper layers) stays the class's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

METHODS = ("get_image_features", "get_video_features")
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 4e-2}
"""By dtype: the largest difference that counts as the same, relative to the largest value."""
Composition = tuple[str, Any]
"""How the features of several frames are made of those of each; see `learn`."""


class _CapturedError(Exception):
    """Ends a forward pass once the features are known."""


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """What a class computes for one frame alone."""

    value: Any
    """As the method returns it."""
    pixels: tuple[float, float]
    """Sum of the frame's pixel values, and of their squares; see `pixel_sums`."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(one.nbytes for one in _tensors(self.value))


@dataclass(slots=True)
class FeatureMethods:
    """The wrapped methods of a loaded model.

    Args:
        model: whose methods are wrapped, as those of its base model.

    Raises:
        ValueError: it has none.
    """

    model: Any
    _capture: bool = field(default=False, init=False)
    _served: list[Any] = field(default_factory=list, init=False)
    """Features that the next calls return instead of computing any; empty: they compute."""

    def __post_init__(self) -> None:
        owners = {id(one): one for one in (self.model, getattr(self.model, "model", None))}
        found = 0
        for owner in owners.values():
            for name in METHODS:
                if callable(method := getattr(owner, name, None)):
                    setattr(owner, name, self._wrapped(method))
                    found += 1
        if not found:
            raise ValueError(f"{type(self.model).__name__} has no {' or '.join(METHODS)}")

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)  # `generate` goes by its signature
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._served:
                return self._served[0]
            capture, self._capture = self._capture, False  # one method may call the other
            value = method(*args, **kwargs)
            if capture:
                raise _CapturedError(value)
            return value

        return call

    def computed(self, inputs: Mapping[str, Any]) -> Any:
        """Return what the class computes for a prompt's pixels; its forward pass ends there.

        Raises:
            ValueError: its forward pass calls none of the methods.
        """
        self._capture = True
        try:
            self.model(**inputs)
        except _CapturedError as found:
            value: Any = found.args[0]
            return value
        finally:
            self._capture = False
        raise ValueError(f"{type(self.model).__name__} calls none of its {' and '.join(METHODS)}")

    @contextmanager
    def serving(self, value: Any) -> Iterator[None]:
        """Make the methods return a value; None lets them compute."""
        self._served = [] if value is None else [value]
        try:
            yield
        finally:
            self._served = []


def learn(joint: Any, parts: Sequence[Any], tolerance: float) -> Composition:
    """Find out how what a method returns for several frames is made of what it returns for each.

    Args:
        joint: returned for several frames.
        parts: returned for each of them alone.
        tolerance: see `TOLERANCE`.

    Returns:
        `cat` and an axis (tensors one after the other), `keep` (all are the same), `chain` (a list
        that goes on), `zip` and recipes (a list of as many parts, each made by its own), `fields`
        and the class with recipes by name, or `same`.

    Raises:
        ValueError: it is not made of them: a frame's features depend on the others.
    """
    if joint is None:
        return "same", None
    if hasattr(joint, "shape"):
        return _learn_tensor(joint, parts, tolerance)
    if hasattr(joint, "keys"):
        return _learn_fields(joint, parts, tolerance)
    if isinstance(joint, list | tuple):
        counts = [len(part) for part in parts]
        if len(joint) == sum(counts):
            flat = [one for part in parts for one in part]
            for whole, one in zip(joint, flat, strict=True):
                learn(whole, [one], tolerance)
            return "chain", type(joint)
        if set(counts) == {len(joint)}:
            several = zip(joint, *parts, strict=True)
            return "zip", [learn(whole, each, tolerance) for whole, *each in several]
    raise ValueError(f"a {type(joint).__name__} is not made of those of single frames")


def _learn_tensor(joint: Any, parts: Sequence[Any], tolerance: float) -> Composition:
    import torch

    if not all(hasattr(part, "shape") and part.ndim == joint.ndim for part in parts):
        raise ValueError("features of single frames have other dimensions")
    if all(part.shape == joint.shape and same(part, joint, tolerance) for part in parts):
        return "keep", None  # no feature of a frame, but of the class, e.g. of a border
    for axis in range(min(joint.ndim, 2)):
        try:
            made = torch.cat(list(parts), axis)
        except RuntimeError:  # sizes that do not fit along this axis
            continue
        if made.shape == joint.shape and same(made, joint, tolerance):
            return "cat", axis
    raise ValueError("features of a frame depend on the other frames of its prompt")


def _learn_fields(joint: Any, parts: Sequence[Any], tolerance: float) -> Composition:
    recipes: dict[str, Composition] = {}
    for name in joint:
        try:
            recipes[name] = learn(joint[name], [part[name] for part in parts], tolerance)
        except ValueError:
            # A tower's inner states may be laid out otherwise: whether the class's forward needs
            # them is seen when its pass is compared.
            if name in ("pooler_output", "deepstack_features"):
                raise
    return "fields", (type(joint), recipes)


def compose(recipe: Composition, parts: Sequence[Any]) -> Any:
    """Return the features of several frames, made of those of each by a recipe of `learn`."""
    import torch

    kind, detail = recipe
    if kind == "cat":
        return torch.cat(list(parts), detail)
    if kind == "keep":
        return parts[0]
    if kind == "chain":
        return detail(one for part in parts for one in part)
    if kind == "zip":
        return [
            compose(one, each) for one, each in zip(detail, zip(*parts, strict=True), strict=True)
        ]
    if kind == "fields":
        made, recipes = detail
        return made(**{n: compose(one, [part[n] for part in parts]) for n, one in recipes.items()})
    return None


def same(left: Any, right: Any, tolerance: float) -> bool:
    """Return whether two tensors differ by at most `tolerance` times their largest value."""
    if not left.numel():
        return True
    scale = float(right.float().abs().max())
    return float((left.float() - right.float()).abs().max()) <= tolerance * max(scale, 1e-6)


def pixel_sums(inputs: Mapping[str, Any]) -> tuple[float, float]:
    """Return the sum of all pixel values of a processor's inputs, and of their squares.

    A prompt's sums are those of its frames only where each is prepared as it would be alone; where
    sizes or tiles depend on the number of pictures, they differ.
    """
    pixels = [
        value.double()
        for name, value in inputs.items()
        if name.startswith("pixel_values") and hasattr(value, "double")
    ]
    return sum(float(p.sum()) for p in pixels), sum(float(p.square().sum()) for p in pixels)


def made_of(joint: tuple[float, float], parts: Sequence[tuple[float, float]]) -> bool:
    """Return whether a prompt's `pixel_sums` are those of its frames."""
    scale = 1e-6 * (1.0 + sum(part[1] for part in parts))
    return all(
        abs(joint[at] - sum(part[at] for part in parts)) <= scale for at in range(len(joint))
    )


def _tensors(value: Any) -> Iterator[Any]:
    """Yield the tensors in nested lists and outputs."""
    if hasattr(value, "nbytes"):
        yield value
    elif hasattr(value, "values"):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def kept(value: Any, recipe: Composition | None) -> Any:
    """Return copies of what a recipe uses, so that nothing else of a pass stays in memory."""
    if hasattr(value, "clone"):
        return value.clone()
    if hasattr(value, "keys"):
        names = list(value) if recipe is None else list(recipe[1][1])
        return {name: kept(value[name], None) for name in names}
    if isinstance(value, list | tuple):
        return [kept(one, None) for one in value]
    return value
