"""Which transformers class a checkpoint is, and how that class encodes a frame.

A family is chosen by the checkpoint's `config.json` (`model_type`, then `architectures`), never by
its name: built-in families first, then those of installed packages, then the fallback. A package
adds one by an entry point of the group `probes.families` that names a class as `Family` describes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from probes.core.errors import ProbesError
from probes.core.plugins import Registry
from probes.core.text import listed
from probes.core.types import FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint, find, trust_of
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
    if not family.paths or set(family.paths) - {"video", "image"}:
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
_LLAVA = "name the repository of the organisation llava-hf"
UNREADABLE = {
    # Layouts of the models' authors, whose weights transformers' classes do not read.
    "internvl_chat": "name the repository whose name ends in -hf, e.g. OpenGVLab/InternVL3-8B-hf",
    "llava_llama": _LLAVA,
    "llava_mistral": _LLAVA,
    "llava_qwen": _LLAVA,
    "videollama3_qwen2": "name lkhl/VideoLLaMA3-7B-HF or lkhl/VideoLLaMA3-7B-Image-HF",
}


def family_of(checkpoint: Checkpoint, spec: ModelSpec) -> Family | GenericFamily:
    """Return the family that a spec names or, for `auto`, that of the checkpoint's config.

    Raises:
        ProbesError: it has no family, or the family cannot receive a frame as the spec says.
    """
    where = f"member {spec.name}"
    _check_readable(checkpoint)
    if spec.family == "auto":
        family = _detected(checkpoint, spec)
    else:
        family = FAMILIES.get(spec.family, where)
        _check_reads(family, checkpoint)
    paths = _paths(family, checkpoint, spec)
    if spec.frame_as not in paths:
        raise ProbesError(
            f"{_named(family, checkpoint)} has no way to receive a frame as {spec.frame_as}",
            where,
            f"set pair.frame_as={paths[0]}",
        )
    return family


def _named(family: Family | GenericFamily, checkpoint: Checkpoint) -> str:
    if isinstance(family, GenericFamily):
        return f"class {next(iter(checkpoint.architectures), 'without a name')}"
    return f"family {family.name}"


def ways_of(spec: ModelSpec) -> tuple[FrameAs, ...]:
    """Return how a checkpoint can receive a frame, by its config and, without a family, processor.

    Raises:
        ProbesError: it is missing, or has no family.
    """
    checkpoint = find(spec)
    _check_readable(checkpoint)
    named = spec.family != "auto"
    family = FAMILIES.get(spec.family, "pair.family") if named else _detected(checkpoint, spec)
    paths = _paths(family, checkpoint, spec)
    if isinstance(family, GenericFamily) and "video" in paths:
        try:
            family.prepare(checkpoint, replace(spec, frame_as="video"))
        except ProbesError:  # its template or its processor does not come through with videos
            family.prepare(checkpoint, replace(spec, frame_as="image"))  # or with nothing at all
            return ("image",)
    return paths


def _paths(
    family: Family | GenericFamily, checkpoint: Checkpoint, spec: ModelSpec
) -> tuple[FrameAs, ...]:
    if not isinstance(family, GenericFamily):
        return family.paths
    if spec.trust_remote_code and family.runs_own_code(checkpoint):
        return family.paths_with_code(checkpoint)
    return family.paths_of(str(checkpoint.config.get("model_type") or ""))


def _check_readable(checkpoint: Checkpoint) -> None:
    """Refuse what no class of transformers reads, or none that can be asked as families are."""
    model_type = str(checkpoint.config.get("model_type") or "")
    where = str(checkpoint.folder / "config.json")
    if (fix := UNREADABLE.get(model_type)) is not None:
        what = f"no class of transformers for such models reads the layout {model_type!r}"
        raise ProbesError(
            what, where, f"{fix}, or convert the weights with transformers' own script"
        )
    text = checkpoint.config.get("text_config") or {}
    kinds = {
        "an encoder-decoder model": checkpoint.config.get("is_encoder_decoder")
        or text.get("is_encoder_decoder"),
        "a diffusion model": "diffusion"
        in " ".join([model_type, *checkpoint.architectures]).lower(),
    }
    for kind, applies in kinds.items():
        if applies:
            raise ProbesError(
                f"this is {kind}: no next token stands behind a prompt, to score options by",
                where,
                "name a model with one decoder, which reads pictures and text in one sequence",
            )


def _check_reads(family: Family | GenericFamily, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of another class than the family that was asked for by its name."""
    if isinstance(family, GenericFamily):
        return  # what it does not know is refused as it is loaded
    model_type = str(checkpoint.config.get("model_type") or "")
    types = (*family.model_types, *getattr(family, "also", ()))
    # A family of others that names no model types takes what it is given.
    known = model_type in types or set(checkpoint.architectures) & set(family.architectures)
    if known or not (types or family.architectures):
        return
    raise ProbesError(
        f"family {family.name} reads no checkpoint of model_type {model_type!r}"
        f" (architectures {list(checkpoint.architectures)})",
        str(checkpoint.folder / "config.json"),
        "set pair.family=auto, which goes by config.json",
    )


def _detected(checkpoint: Checkpoint, spec: ModelSpec) -> Family | GenericFamily:
    model_type = str(checkpoint.config.get("model_type") or "")
    architectures = checkpoint.architectures
    generic = FAMILIES.get(_FALLBACK, "")
    own_code = isinstance(generic, GenericFamily) and generic.runs_own_code(checkpoint)
    if own_code and spec.trust_remote_code:  # a family would run its own class in its place
        return generic
    # An installed package cannot take over checkpoints of built-in families.
    for installed in (False, True):
        families = list(_loadable(installed=installed))
        for family in families:
            if model_type in family.model_types:
                return family
        for family in families:
            if set(architectures) & set(family.architectures):
                return family
    if isinstance(generic, GenericFamily) and generic.knows(model_type, architectures):
        return generic
    if own_code:
        code = sorted(path.name for path in checkpoint.folder.glob("*.py"))
        raise ProbesError(
            f"model_type {model_type!r} is a class of the checkpoint's own code"
            f" ({listed(code, 3)}), which is not trusted",
            str(checkpoint.folder / "config.json"),
            f"read that code, and set {trust_of(spec, checkpoint.commit)}",
        )
    raise ProbesError(
        f"no family for model_type {model_type!r} (architectures {list(architectures)})",
        str(checkpoint.folder / "config.json"),
        f"supported families: {', '.join(FAMILIES.names())}",
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
