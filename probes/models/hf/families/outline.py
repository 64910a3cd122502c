"""Whether weights fit a class, by the headers of their files: a model on torch's meta device.

transformers itself compares names and shapes, by its own rules for names of older versions, so that
what passes here is what loads later. No weight is read: a model of 7B takes a second or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models.checkpoint import Checkpoint

META = "meta"
"""The device on which a model has shapes and no numbers."""
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""safetensors' names of types, and torch's."""
_NUMBERS = ("F64", "F32", "F16", "BF16")


def outline(model_class: Any, config: Any, checkpoint: Checkpoint, spec: ModelSpec) -> Any:
    """Return a checkpoint's model on the meta device, once the weights in its files fit it.

    Args:
        model_class: a transformers class, or one of its Auto classes.
        config: None for the checkpoint's own.
        checkpoint: with safetensors.
        spec: dtype and attention kernel.

    Raises:
        ProbesError: parameters are missing from the weights, or have another shape or type.
    """
    import torch
    import transformers

    if config is None:
        config = transformers.AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    options = {"attn_implementation": kernel_of(spec), "dtype": getattr(torch, spec.dtype)}
    kind = _concrete(model_class, config, checkpoint)
    if kind is None or checkpoint.config.get("quantization_config"):
        # Code of its own, or weights that are packed: only loading them shows whether they fit.
        trusted = {} if kind is not None else {"trust_remote_code": spec.trust_remote_code}
        with torch.device(META):
            return model_class.from_config(config, **trusted) if trusted else kind(config)
    model, report = kind.from_pretrained(
        None,
        config=config,
        state_dict={name: _empty(*one) for name, one in _checked(checkpoint).items()},
        device_map=META,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused here, by name
        **options,
    )
    check_report(report, kind.__name__, checkpoint.folder)
    return model


def kernel_of(spec: ModelSpec) -> str | None:
    """Return the attention kernel that transformers is asked for.

    Asked for `sdpa`, it refuses classes of which one part has no such kernel, e.g. a tower for
    sound that is never run; left to choose, it takes `sdpa` and, for such a part alone, `eager`.
    """
    return None if spec.attention == "sdpa" else spec.attention


def check_report(report: Mapping[str, Any], class_name: str, folder: Path) -> None:
    """Refuse weights that leave parameters of a class as they were drawn.

    Args:
        report: the loading info of transformers' `from_pretrained`.
        class_name: for the message.
        folder: of the checkpoint.
    """
    missing, other = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if missing:
        what = f"{len(missing)} parameters of {class_name} are missing from the weights, e.g. "
        what += missing[0]
    elif other:
        name, found, wanted = other[0]
        what = (
            f"{len(other)} weights have another shape than {class_name} has by config.json, e.g."
            f" {name}: {list(found)} in place of {list(wanted)}"
        )
    else:
        return
    raise ProbesError(what, str(folder), "name a checkpoint whose files belong together")


def check_vocabulary(model: Any, tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer that has more ordinary tokens than the model has embeddings.

    Added tokens do not count: some stand for pictures, whose embeddings are never looked up.
    """
    rows, tokens = len(model.get_input_embeddings().weight), int(tokenizer.vocab_size)
    if tokens > rows:
        raise ProbesError(
            f"the tokenizer has {tokens:,} tokens, and the model embeds {rows:,}",
            str(folder),
            "complete the folder with the tokenizer of this model: this one is another's",
        )


def _concrete(model_class: Any, config: Any, checkpoint: Checkpoint) -> Any:
    """Return the class itself behind an Auto class; None where only remote code knows it."""
    classes = getattr(model_class, "_model_mapping", None)
    if classes is None:
        return model_class
    if type(config) not in classes:
        return None
    found = classes[type(config)]
    if not isinstance(found, tuple):
        return found
    named = [one for one in found if one.__name__ in checkpoint.architectures]
    return (named or found)[0]


def _checked(checkpoint: Checkpoint) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of every weight, all of them types that hold numbers."""
    found = checkpoint.headers()
    for name, (shape, dtype) in found.items():
        known = dtype in _NUMBERS or (dtype in _DTYPES and not name.endswith("weight"))
        if not known:
            raise ProbesError(
                f"the weights are packed ({name} {list(shape)} as {dtype}), and config.json does"
                " not say how (quantization_config)",
                str(checkpoint.folder),
                "name a checkpoint in float32, float16 or bfloat16, or complete config.json",
            )
    return found


def _empty(shape: tuple[int, ...], dtype: str) -> Any:
    import torch

    return torch.empty(shape, dtype=getattr(torch, _DTYPES[dtype]), device=META)
