"""Which transformers class a checkpoint is, and how that class encodes a frame.

A family is chosen by the checkpoint's `config.json` (`model_type`, then `architectures`), never by
its name: built-in families first, then those of installed packages, then the fallback. A package
adds one by an entry point of the group `probes.families` that names a class as `Family` describes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import cast, get_args

from probes.core.errors import ProbesError
from probes.core.plugins import Registry
from probes.core.types import FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import DevicePlacement, Family, ProcessorBundle
from probes.models.hf.families.generic import GenericFamily

__all__ = ["FAMILIES", "DevicePlacement", "Family", "ProcessorBundle", "family_of"]


def _checked(name: str, loaded: object) -> Family | GenericFamily:
    if not callable(loaded):
        raise TypeError("a family is a class that is made without arguments")
    family = loaded()
    if getattr(family, "name", None) != name:
        raise ValueError(f"its attribute `name` is not {name!r}")
    for kind in ("model_types", "architectures", "paths"):
        found = getattr(family, kind, None)
        if not isinstance(found, tuple) or not all(isinstance(one, str) for one in found):
            raise TypeError(f"its attribute `{kind}` is not a tuple of texts")
    if not family.paths or set(family.paths) - set(get_args(FrameAs)):
        raise ValueError(f"its attribute `paths` is {family.paths}, not some of video and image")
    for method in ("facts", "prepare", "load", "encode_frames"):
        if not callable(getattr(family, method, None)) and not isinstance(family, GenericFamily):
            raise TypeError(f"it has no method {method}")
    return cast(Family | GenericFamily, family)


_FALLBACK = "fallback"
_BUILT_IN = {
    "llava_next_video": "probes.models.hf.families.llava_next:LlavaNextVideo",
    "llava_next": "probes.models.hf.families.llava_next:LlavaNext",
    "pllava": "probes.models.hf.families.pllava:Pllava",
    "llava_onevision": "probes.models.hf.families.llava_onevision:LlavaOnevision",
    "internvl": "probes.models.hf.families.internvl:InternVL",
    "qwen2_vl": "probes.models.hf.families.qwen_vl:Qwen2VL",
    "qwen2_5_vl": "probes.models.hf.families.qwen_vl:Qwen25VL",
    _FALLBACK: "probes.models.hf.families.generic:GenericFamily",
}
FAMILIES: Registry[Family | GenericFamily] = Registry(
    "probes.families", "family", _BUILT_IN, _checked
)
# Layouts of the models' authors, whose weights transformers' classes do not read.
_FOREIGN = {
    "internvl_chat": "name the repository whose name ends in -hf",
    "llava": "name the repository of the organisation llava-hf",
    "llava_llama": "name the repository of the organisation llava-hf",
    "llava_mistral": "name the repository of the organisation llava-hf",
    "llava_qwen": "name the repository of the organisation llava-hf",
}


def family_of(checkpoint: Checkpoint, spec: ModelSpec) -> Family | GenericFamily:
    """Return the family that a spec names or, for `auto`, that of the checkpoint's config.

    Raises:
        ProbesError: it has no family, or the family cannot receive a frame as the spec says.
    """
    where = f"member {spec.name}"
    family = _detected(checkpoint) if spec.family == "auto" else FAMILIES.get(spec.family, where)
    if spec.frame_as not in family.paths:
        raise ProbesError(
            f"family {family.name} has no way to receive a frame as {spec.frame_as}",
            where,
            f"set pair.frame_as={family.paths[0]}",
        )
    return family


def _detected(checkpoint: Checkpoint) -> Family | GenericFamily:
    model_type = str(checkpoint.config.get("model_type") or "")
    architectures = checkpoint.architectures
    # An installed package cannot take over checkpoints of built-in families.
    for installed in (False, True):
        families = list(_loadable(installed=installed))
        for family in families:
            if model_type in family.model_types:
                return family
        for family in families:
            if set(architectures) & set(family.architectures):
                return family
    generic = FAMILIES.get(_FALLBACK, "")
    if isinstance(generic, GenericFamily) and generic.knows(model_type, architectures):
        return generic
    fix = f"supported families: {', '.join(FAMILIES.names())}"
    if model_type in _FOREIGN:
        fix = f"{_FOREIGN[model_type]}, or convert the weights with transformers' own script"
    raise ProbesError(
        f"no family for model_type {model_type!r} (architectures {list(architectures)})",
        str(checkpoint.folder / "config.json"),
        fix,
    )


def _loadable(*, installed: bool) -> Iterator[Family | GenericFamily]:
    """Yield the families that are built in, or those of installed packages that can be loaded."""
    # Installed packages are looked through only for a checkpoint of no built-in family.
    names = set(FAMILIES.names()) - set(_BUILT_IN) if installed else set(_BUILT_IN)
    for name in sorted(names):
        try:
            yield FAMILIES.get(name, f"family {name}")
        except ProbesError as error:
            # A broken package must not keep the checkpoints of others from being run.
            if not installed:
                raise
            warnings.warn(str(error), stacklevel=2)
