"""Loading: strict about weights, without progress bars, with errors that say what went wrong."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from probes.core.errors import ProbesError
from probes.core.machine import device_kind
from probes.core.origins import sorted_libraries
from probes.core.text import flat
from probes.core.types import Dtype, ModelSpec, Origin
from probes.models.adapters import Adapter
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families import load_errors, processors
from probes.models.hf.families.base import DevicePlacement, ProcessorBundle
from probes.models.hf.families.outline import META, check_report, kernel_of, outline

DTYPES: tuple[str, ...] = get_args(Dtype)
GREEDY = {
    "do_sample": False,
    "num_beams": 1,
    # Else a checkpoint's own settings for sampling are warned of.
    "temperature": None,
    "top_p": None,
    "top_k": None,
}
"""Arguments of transformers' `generate`."""
NO_ADAPTER = {"subfolder": "no-adapter-of-its-own"}
"""Makes `from_pretrained` overlook an adapter in the folder of the weights. By itself it would load
one if peft happens to be installed, and then report what that lacks in place of the weights."""
LIBRARIES = ("tokenizers", "torch", "transformers")
"""Packages whose versions an answer depends on."""
QUANTIZED = {"4bit": "load_in_4bit", "8bit": "load_in_8bit"}


def check_quantize(quantize: str) -> None:
    """Raise unless weights can be quantised as `backend.options.quantize` says."""
    if not quantize:
        return
    if quantize not in QUANTIZED:
        raise ProbesError(
            f"there is no quantisation {quantize!r}",
            "backend.options.quantize",
            f"use one of {', '.join(QUANTIZED)}, or leave it out",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ProbesError(
            f"weights of {quantize} need the package bitsandbytes, which is not installed",
            "backend.options.quantize",
            "`pip install bitsandbytes`, or leave the option out",
        )


def check_device(device: str) -> None:
    """Raise unless this machine has a device."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ProbesError(
            f"there is no device {device} here", "backend.device", "set backend.device=cpu, or auto"
        )


def file_facts(
    checkpoint: Checkpoint, spec: ModelSpec, libraries: Mapping[str, str]
) -> dict[str, Any]:
    """Return what a check of a checkpoint's files depends on; see `probes.models.checked`.

    Args:
        checkpoint: of its weights only the headers count, which are quick to read.
        spec: dtype, attention, `frame_as` and trust.
        libraries: that load it.
    """
    adapter = checkpoint.adapter
    return {
        "folder": str(checkpoint.folder),
        "files": checkpoint.small_files(),
        "weights": {} if checkpoint.gguf else checkpoint.headers(),
        "adapter": {"files": adapter.files} if adapter else None,
        "spec": [spec.dtype, spec.attention, spec.frame_as, spec.trust_remote_code],
        "template": dict(spec.chat_template_kwargs),
        "libraries": {name: metadata.version(name) for name in libraries},
    }


@contextmanager
def loading(folder: Path, otherwise: str = "") -> Iterator[None]:
    """Turn what goes wrong while loading into a ProbesError, and hide progress bars.

    Args:
        folder: of the checkpoint.
        otherwise: how to correct what has no known cause; see `load_errors.refusal`.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a run has a display of its own
    try:
        yield
    except ProbesError:
        raise
    except Exception as error:
        raise load_errors.refusal(error, folder, otherwise) from error
    finally:
        if shown:
            logging.enable_progress_bar()


def load_processor(checkpoint: Checkpoint, spec: ModelSpec) -> Any:
    """Return the checkpoint's own processor.

    Raises:
        ProbesError: it does not load, or is a tokenizer only.
    """
    with loading(checkpoint.folder):
        return processors.load(checkpoint.folder, trust_remote_code=spec.trust_remote_code)


def context_of(checkpoint: Checkpoint, spec: ModelSpec) -> int:
    """Return how many positions the language model has, by its file or by its class's default.

    Raises:
        ProbesError: the configuration does not load, or has no such bound.
    """
    with loading(checkpoint.folder):
        return int(own_config(checkpoint, spec).get_text_config().max_position_embeddings)


def full_config(checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, Any]:
    """Return the configuration with its class's defaults, flat.

    Raises:
        ProbesError: it does not load.
    """
    with loading(checkpoint.folder):
        return flat(own_config(checkpoint, spec).to_dict())


def own_config(checkpoint: Checkpoint, spec: ModelSpec) -> Any:
    """Return the checkpoint's configuration, as an object of its class."""
    import transformers

    return transformers.AutoConfig.from_pretrained(
        checkpoint.folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
    )


def load_weights(
    model_class: Any,
    config: Any,
    checkpoint: Checkpoint,
    spec: ModelSpec,
    placement: DevicePlacement,
) -> Any:
    """Load weights strictly: a parameter that stays random would look like a poor model.

    Args:
        model_class: a transformers class, or one of its Auto classes.
        config: None for the checkpoint's own.
        checkpoint: with safetensors, and perhaps an adapter.
        spec: dtype and attention kernel.
        placement: on which device, and whether quantised; on `META`, files are checked and no
            weight is read.

    Raises:
        ProbesError: something is missing or does not load.
    """
    import torch

    more = _options(config, checkpoint, spec, placement)
    with loading(checkpoint.folder):
        if placement.device == META:
            return _without_weights(outline(model_class, config, checkpoint, spec), checkpoint)
        model, report = model_class.from_pretrained(
            checkpoint.folder,
            attn_implementation=kernel_of(spec),
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
            output_loading_info=True,
            adapter_kwargs=dict(NO_ADAPTER),
            ignore_mismatched_sizes=True,  # they are refused here, by name
            **more,
        )
        assert not getattr(model, "_hf_peft_config_loaded", False), "transformers took an adapter"
        check_report(report, type(model).__name__, checkpoint.folder)
        if spec.dtype == "float32" and torch.cuda.is_available():
            # TF32 keeps 10 bits of mantissa; "the same" across batch sizes needs all 23.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        model = model if "device_map" in more else model.to(_place(placement))
        if checkpoint.adapter is not None:
            load_adapter(model, checkpoint.adapter)
        return model.eval()


def _without_weights(model: Any, checkpoint: Checkpoint) -> Any:
    if checkpoint.adapter is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numbers that a model on this device does not take
            load_adapter(model, checkpoint.adapter)
    return model.eval()


def _options(
    config: Any, checkpoint: Checkpoint, spec: ModelSpec, placement: DevicePlacement
) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that depend on dtype, format and placement."""
    import torch

    if spec.dtype not in DTYPES:
        raise ProbesError(
            f"unknown dtype {spec.dtype!r}",
            f"member {spec.name}",
            f"use one of {', '.join(DTYPES)}",
        )
    dtype, gguf = getattr(torch, spec.dtype), checkpoint.gguf
    found: dict[str, Any] = {"dtype": dtype}
    found |= {"gguf_file": gguf} if gguf else {"use_safetensors": True}
    if config is not None:
        # A config of another class may have lost it.
        config.transformers_weights = checkpoint.named_weights
        found["config"] = config
    if placement.device_map is not None:
        found["device_map"] = placement.device_map
    elif placement.quantize:
        found["device_map"] = {"": str(_place(placement))}
    if placement.quantize:
        found["quantization_config"] = _quantization(placement.quantize, dtype)
    return found


def _place(placement: DevicePlacement) -> Any:
    import torch

    return torch.device(placement.device if placement.device != "auto" else best_device())


def load_adapter(model: Any, adapter: Adapter) -> None:
    """Put an adapter's layers into a model, whose class and names of modules stay.

    They are not merged: that rounds to the weights' dtype, and gives other numbers than peft does.

    Raises:
        ProbesError: it was trained on another model, or its files hold more or less than it.
    """
    import peft

    config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    config.inference_mode = True
    # Not transformers' `load_adapter`, which computes DoRA and 16-bit adapters otherwise.
    wrapped = peft.PeftModel(model, config)
    found = wrapped.load_adapter(str(adapter.folder), "default")
    strange = sorted(found.unexpected_keys)
    lacking = sorted(name for name in found.missing_keys if "default" in name)
    if strange or lacking:
        raise ProbesError(
            f"the adapter does not fit {type(model).__name__}: "
            + (f"it has no place for {strange[0]}" if strange else f"{lacking[0]} is missing"),
            str(adapter.folder),
            "name the weights that it was trained on as the member's repo",
        )


class OneClass:
    """How families whose checkpoints are of one class of transformers load a model."""

    _class = ""

    def load(
        self,
        checkpoint: Checkpoint,
        spec: ModelSpec,
        bundle: ProcessorBundle,
        placement: DevicePlacement,
    ) -> Any:
        """Load the model."""
        import transformers

        with loading(checkpoint.folder):
            config = self._config(checkpoint, bundle.tokenizer)
        return load_weights(getattr(transformers, self._class), config, checkpoint, spec, placement)

    def _config(self, checkpoint: Checkpoint, tokenizer: Any) -> Any:
        """Return a configuration other than the checkpoint's own, or None."""


def _quantization(quantize: str, compute: Any) -> Any:
    """Return the settings for bitsandbytes: normal floats of 4 bits, or integers of 8."""
    from transformers import BitsAndBytesConfig

    of_4bit = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}
    more = of_4bit if quantize == "4bit" else {}
    return BitsAndBytesConfig(**{QUANTIZED[quantize]: True}, **more)


def origin_of(libraries: Mapping[str, str], model: Any, quantize: str = "") -> Origin:
    """Return what computes a model's answers; only the libraries where it is None."""
    if model is None:
        return Origin(sorted_libraries(libraries))
    import torch

    # A model may be spread over devices.
    kinds = sorted({device_kind(str(one.device)) for one in model.parameters()})
    kernels = [str(getattr(model.config, "_attn_implementation", None) or "unknown")]
    if any(kind.startswith("cuda") for kind in kinds):
        kernels.append("TF32" if torch.backends.cuda.matmul.allow_tf32 else "no TF32")
    dtype = str(model.dtype).removeprefix("torch.")
    return Origin(
        sorted_libraries(libraries),
        " + ".join(kinds),
        dtype,
        ", ".join([*kernels, *filter(None, [quantize])]),
    )


def best_device() -> str:
    """Return `cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
