"""Which transformers class a checkpoint is, and how that class perceives a frame.

A family is chosen by the checkpoint's `config.json` (`model_type`, then `architectures`), never by
its name. To add one: a class with the members of `Family`, and a row in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probes.backends.checkpoint import Checkpoint
from probes.types import FrameAs, ModelSpec, ProbesError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory with what belongs to it."""

    model: Any
    """The transformers model, in eval mode on `device`."""
    processor: Any
    tokenizer: Any
    placeholder: str
    """The special token that stands for one frame in a text."""
    device: torch.device
    frame_as: FrameAs


class Family(Protocol):
    """What the backend needs to know of a model class."""

    name: str
    model_types: tuple[str, ...]
    """Values of `config.json`'s `model_type` that this class loads."""
    architectures: tuple[str, ...]
    """Values of `architectures`, for a config without a known `model_type`."""

    def facts(self, config: Mapping[str, Any], frame_as: FrameAs) -> dict[str, Any]:
        """Return what `config.json` says about how frames become tokens."""

    def load(self, checkpoint: Checkpoint, spec: ModelSpec, device: str) -> Loaded:
        """Load model and processor."""

    def perceive(self, loaded: Loaded, frames: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
        """Return one tensor [tokens, hidden] per frame, ready to stand among text embeddings.

        Args:
            loaded: from `load`.
            frames: uint8 [height, width, 3] RGB, all of one size.
        """


class LlavaNextVideo:
    """LLaVA-NeXT-Video, and LLaVA-NeXT loaded into it: the same parameters by name and shape.

    Both members of a pair thus run through one class and differ in nothing but their weights.
    """

    name = "llava_next_video"
    model_types: tuple[str, ...] = ("llava_next_video", "llava_next")
    architectures: tuple[str, ...] = (
        "LlavaNextVideoForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
    )

    def facts(self, config: Mapping[str, Any], frame_as: FrameAs) -> dict[str, Any]:
        """Return the facts; what the file leaves out has the class's default."""
        vision = config.get("vision_config") or {}
        side, patch = vision.get("image_size", 336), vision.get("patch_size", 14)
        stride = config.get("spatial_pool_stride", 2)
        grid = side // patch // stride
        return {
            "class": "LlavaNextVideoForConditionalGeneration",
            "image_size": side,
            "patch_size": patch,
            "vision_feature_layer": config.get("vision_feature_layer", -2),
            "vision_feature_select_strategy": config.get(
                "vision_feature_select_strategy", "default"
            ),
            "pooling": f"{config.get('spatial_pool_mode', 'average')} {stride}x{stride}"
            if frame_as == "video"
            else "none",
            # Tiles depend on a picture's size: None says that the number is not fixed.
            "tokens_per_frame": grid * grid if frame_as == "video" else None,
            "image_grid_pinpoints": None
            if frame_as == "video"
            else config.get("image_grid_pinpoints", "default"),
            "context": (config.get("text_config") or {}).get("max_position_embeddings"),
        }

    def load(self, checkpoint: Checkpoint, spec: ModelSpec, device: str) -> Loaded:
        """Load a checkpoint of either model type into the video class."""
        import transformers

        with _loading(checkpoint):
            processor = transformers.AutoProcessor.from_pretrained(
                checkpoint.folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
            )
        tokenizer = processor.tokenizer
        with _loading(checkpoint):
            model = _load_weights(
                transformers.LlavaNextVideoForConditionalGeneration,
                self._config(checkpoint, tokenizer),
                checkpoint,
                spec,
                device,
            )
        native = "<image>" if spec.frame_as == "image" else "<video>"
        known = getattr(processor, f"{native[1:-1]}_token", None) or native
        if not _is_token(tokenizer, known):
            # A LLaVA-NeXT tokenizer has no <video>. The placeholder is only a place in the text
            # (features are put there, its own embedding is never read), so <image> serves.
            known = getattr(processor, "image_token", "<image>")
        if not _is_token(tokenizer, known):
            raise ProbesError(
                f"the tokenizer has no token for a frame ({known})",
                str(checkpoint.folder),
                "use the checkpoint's own tokenizer and processor files",
            )
        return Loaded(model, processor, tokenizer, known, model.device, spec.frame_as)

    def perceive(self, loaded: Loaded, frames: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
        """Run the checkpoint's own preprocessing, vision tower, pooling and projector."""
        model, processor = loaded.model, loaded.processor
        place = {"device": loaded.device, "dtype": model.dtype}
        if loaded.frame_as == "video":
            pixels = _video_processor(processor)(
                videos=[frame[None] for frame in frames],
                do_sample_frames=False,
                return_tensors="pt",
            )["pixel_values_videos"]
            features = model.get_video_features(pixels.to(**place)).pooler_output
        else:
            inputs = processor.image_processor(images=list(frames), return_tensors="pt")
            features = model.get_image_features(
                inputs["pixel_values"].to(**place), inputs["image_sizes"]
            ).pooler_output
        # A copy each: a slice would keep the whole batch alive in the cache.
        return [one.reshape(-1, one.shape[-1]).clone() for one in features]

    def _config(self, checkpoint: Checkpoint, tokenizer: Any) -> Any:
        import transformers

        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
        if config.model_type == "llava_next_video":
            return config
        content = config.to_dict()
        for name in ("model_type", "architectures", "video_token_index", "transformers_version"):
            content.pop(name, None)
        video = "<video>" if _is_token(tokenizer, "<video>") else None
        # The class's default, 32000, is this checkpoint's <image>: both ids are set.
        content["video_token_index"] = (
            tokenizer.convert_tokens_to_ids(video) if video else config.image_token_index
        )
        return transformers.LlavaNextVideoConfig(**content)


FAMILIES: tuple[Family, ...] = (LlavaNextVideo(),)


def family_of(checkpoint: Checkpoint, spec: ModelSpec) -> Family:
    """Return the family that a spec names or, for `auto`, that the checkpoint's config says.

    Raises:
        ProbesError: no family for it.
    """
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
    model_type = checkpoint.config.get("model_type")
    architectures = checkpoint.config.get("architectures") or ()
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    for family in FAMILIES:
        if set(architectures) & set(family.architectures):
            return family
    raise ProbesError(
        f"no family for model_type {model_type!r} (architectures {list(architectures)})",
        str(checkpoint.folder / "config.json"),
        f"supported families: {names}",
    )


@contextmanager
def _loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what goes wrong while loading into a ProbesError, and hide loading bars."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except ProbesError:
        raise
    except Exception as error:
        raise ProbesError(
            f"the checkpoint does not load: {type(error).__name__}: {error}",
            str(checkpoint.folder),
            "see the message; complete the folder, or change the member's dtype, attention or"
            " device",
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()


def _load_weights(
    model_class: Any, config: Any, checkpoint: Checkpoint, spec: ModelSpec, device: str
) -> Any:
    """Load weights strictly: a parameter left at random would look like a poor model."""
    import torch
    import transformers

    if spec.dtype not in DTYPES:
        raise ProbesError(
            f"unknown dtype {spec.dtype!r}",
            f"member {spec.name}",
            f"use one of {', '.join(DTYPES)}",
        )
    place = torch.device(device if device != "auto" else _best_device())
    transformers.utils.logging.disable_progress_bar()  # the run has a display of its own
    model, report = model_class.from_pretrained(
        checkpoint.folder,
        config=config,
        dtype=getattr(torch, spec.dtype),
        attn_implementation=spec.attention,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"]) + [str(m) for m in report["mismatched_keys"]]
    if missing:
        raise ProbesError(
            f"the weights lack {len(missing)} parameters of {model_class.__name__}, e.g."
            f" {missing[0]}",
            str(checkpoint.folder),
            "name a checkpoint of this class",
        )
    if spec.dtype == "float32" and place.type == "cuda":
        # TF32 keeps 10 bits of mantissa; "the same" across batch sizes needs all 23.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return model.to(place).eval()


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _is_token(tokenizer: Any, text: str) -> bool:
    return text in tokenizer.get_vocab()


def _video_processor(processor: Any) -> Any:
    """Return the processor's video processor; for an image checkpoint, one with its settings."""
    own = getattr(processor, "video_processor", None)
    if own is not None:
        return own
    import transformers

    image = processor.image_processor
    names = (
        "size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_resize",
        "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb",
    )  # fmt: skip
    settings = {name: getattr(image, name) for name in names if hasattr(image, name)}
    made = transformers.LlavaNextVideoVideoProcessor(**settings)
    processor.video_processor = made
    return made
