"""What is known of the members of a pair together before any is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes.core.errors import ProbesError
from probes.core.types import FrameAs, ModelSpec
from probes.models.base import BackendSettings
from probes.models.checkpoint import find

_BOTH: tuple[FrameAs, ...] = ("video", "image")
_IMAGES: tuple[FrameAs, ...] = ("image",)
_SENT_AS_IMAGES = ("server", "lmms")
"""Backends that show frames as images only."""


def ways(cfg: BackendSettings, spec: ModelSpec) -> tuple[FrameAs, ...]:
    """Return how a member can receive a frame, by its files; no weights are loaded.

    A member that cannot be opened takes part in no choice: opening it says what is wrong with it.
    """
    if cfg.name in _SENT_AS_IMAGES:
        return _IMAGES
    if cfg.name != "hf":
        return _BOTH
    from probes.models.hf.families import ways_of

    try:
        return ways_of(spec)
    except ProbesError:
        return _BOTH


def settled(cfg: BackendSettings, members: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """Return members with `frame_as: auto` replaced: `video` where all take it, else `image`.

    Args:
        cfg: the backend that they are opened by.
        members: of a pair.
    """
    if all(spec.frame_as != "auto" for spec in members):
        return tuple(members)
    together: FrameAs = "video"
    if any("video" not in ways(cfg, spec) for spec in members):
        together = "image"
    return tuple(
        replace(spec, frame_as=together) if spec.frame_as == "auto" else spec for spec in members
    )


def remarks(
    cfg: BackendSettings, members: Sequence[ModelSpec], given: Sequence[ModelSpec]
) -> list[str]:
    """Return what a user is told of the members of a pair, one line each.

    Args:
        cfg: the backend that they are opened by.
        members: of the pair, from `settled`.
        given: as they are configured.
    """
    lines = []
    # Of what cannot be opened nothing is said: that is about to be refused.
    if any(spec.frame_as == "auto" for spec in given) and _are_there(cfg, members):
        way = members[0].frame_as
        why = "all members take it" if way == "video" else "not all members take videos"
        lines.append(f"frames are shown as {way}: {why} (pair.frame_as=auto)")
    weights = [(spec.repo, spec.revision, spec.adapter) for spec in members]
    if len(set(weights)) < len(weights):
        lines.append("members have the same weights: they can differ by chance only")
    if cfg.name == "hf" and len(classes := _classes(members)) > 1:
        lines.append(f"members are of different classes ({', '.join(classes)})")
    return lines


def _are_there(cfg: BackendSettings, members: Sequence[ModelSpec]) -> bool:
    try:
        return cfg.name != "hf" or bool([find(spec) for spec in members])
    except ProbesError:
        return False


def _classes(members: Sequence[ModelSpec]) -> list[str]:
    """Return the classes of checkpoints; those that are missing have none."""
    found: dict[str, None] = {}
    for spec in members:
        try:
            found |= dict.fromkeys(find(spec).architectures[:1])
        except ProbesError:
            continue
    return list(found)
