"""Which transformers class a checkpoint is, and how that class encodes a frame.

A family is chosen by the checkpoint's `config.json` (`model_type`, then `architectures`), never by
its name. To add one: a class with the members of `Family`, and a row in `FAMILIES`.
"""

from __future__ import annotations

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import DevicePlacement, Family, ProcessorBundle
from probes.models.hf.families.generic import GenericFamily
from probes.models.hf.families.internvl import InternVL
from probes.models.hf.families.llava_next import LlavaNext, LlavaNextVideo
from probes.models.hf.families.llava_onevision import LlavaOnevision
from probes.models.hf.families.qwen_vl import Qwen2VL, Qwen25VL

__all__ = ["FAMILIES", "DevicePlacement", "Family", "ProcessorBundle", "family_of"]

FAMILIES: tuple[Family | GenericFamily, ...] = (
    LlavaNextVideo(),
    LlavaNext(),
    LlavaOnevision(),
    InternVL(),
    Qwen2VL(),
    Qwen25VL(),
    GenericFamily(),
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
    family = _family(checkpoint, spec)
    if spec.frame_as not in family.paths:
        raise ProbesError(
            f"family {family.name} has no way to receive a frame as {spec.frame_as}",
            f"member {spec.name}",
            f"set pair.frame_as={family.paths[0]}",
        )
    return family


def _family(checkpoint: Checkpoint, spec: ModelSpec) -> Family | GenericFamily:
    names = ", ".join(family.name for family in FAMILIES)
    if spec.family != "auto":
        for family in FAMILIES:
            if family.name == spec.family:
                return family
        raise ProbesError(
            f"there is no family named {spec.family!r}",
            f"member {spec.name}",
            f"use `auto` or one of {names}",
        )
    model_type = str(checkpoint.config.get("model_type") or "")
    architectures = checkpoint.architectures
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    for family in FAMILIES:
        if set(architectures) & set(family.architectures):
            return family
    generic = FAMILIES[-1]
    if isinstance(generic, GenericFamily) and generic.knows(model_type, architectures):
        return generic
    fix = f"supported families: {names}"
    if model_type in _FOREIGN:
        fix = f"{_FOREIGN[model_type]}, or convert the weights with transformers' own script"
    raise ProbesError(
        f"no family for model_type {model_type!r} (architectures {list(architectures)})",
        str(checkpoint.folder / "config.json"),
        fix,
    )
