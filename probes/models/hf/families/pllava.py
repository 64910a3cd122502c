"""PLLaVA's arithmetic: LLaVA's projector, then average pooling (Map the Flow, arXiv 2510.13251)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.core.types import FrameArray, FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import PIXEL_SETTINGS, ProcessorBundle, frame_token
from probes.models.hf.families.loading import OneClass, load_processor

if TYPE_CHECKING:
    import torch

SIDE = 12
"""Rows and columns of a frame's tokens where `config.json` names none in `pooling_shape`."""


class Pllava(OneClass):
    """LLaVA-NeXT as Map the Flow tuned it on video, and LLaVA-NeXT itself in the same arithmetic.

    Every patch goes through the projector, and neighbouring tokens are averaged behind it;
    `llava_next_video` averages before, which is not the same, as the projector is not linear.
    Nothing is averaged over time: every frame has tokens of its own.
    """

    name = "pllava"
    model_types: tuple[str, ...] = ()  # theirs, llava, is that of models without pooling too
    architectures: tuple[str, ...] = ("PllavaForConditionalGeneration",)
    also = ("llava_next",)
    paths: tuple[FrameAs, ...] = ("video",)
    _class = "LlavaForConditionalGeneration"

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the facts; what the file leaves out has the class's default."""
        config = checkpoint.config
        vision = config.get("vision_config") or {}
        side, patch = int(vision.get("image_size", 336)), int(vision.get("patch_size", 14))
        rows, columns = pooled(config)
        return {
            "class": self._class,
            "image_size": side,
            "patch_size": patch,
            "vision_feature_layer": config.get("vision_feature_layer", -2),
            "vision_feature_select_strategy": config.get(
                "vision_feature_select_strategy", "default"
            ),
            "pooling": f"average to {rows}x{columns}, behind the projector",
            "tokens_per_frame": rows * columns,
            "image_grid_pinpoints": None,
            "patches_per_token": (side // patch) ** 2 // (rows * columns),
            "context": (config.get("text_config") or {}).get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> ProcessorBundle:
        """Load the processor.

        Raises:
            ProbesError: the folder is in PLLaVA's own layout, which has no chat template.
        """
        own = set(self.architectures) & set(checkpoint.architectures)
        if own and not any(checkpoint.folder.glob("chat_template*")):
            raise ProbesError(
                "the checkpoint is in PLLaVA's own layout, without processor and chat template",
                str(checkpoint.folder),
                f"convert it, then name the new folder: probes convert {checkpoint.folder} FOLDER;"
                f" pair.{spec.role}.repo=FOLDER",
            )
        processor = load_processor(checkpoint, spec)
        token, _ = frame_token(processor, "image", str(checkpoint.folder))
        rows, columns = pooled(checkpoint.config)
        return ProcessorBundle(processor, token, spec.frame_as, lambda *_: (rows * columns,))

    def encode_frames(
        self, model: Any, bundle: ProcessorBundle, frames: Sequence[FrameArray]
    ) -> list[torch.Tensor]:
        """Run preprocessing, vision tower, projector and pooling.

        Shape suffixes: N frames, P patches in R rows and C columns, D features, r x c tokens.
        """
        import torch

        pixels = _image_processor(bundle.processor)(images=list(frames), return_tensors="pt")
        found = model.get_image_features(
            pixels["pixel_values"].to(device=model.device, dtype=model.dtype)
        ).pooler_output
        features_NPD = torch.stack(list(found))
        count, patches, width = features_NPD.shape
        side = math.isqrt(patches)
        features_NDRC = features_NPD.transpose(1, 2).reshape(count, width, side, side)
        tokens_NDrc = torch.nn.functional.adaptive_avg_pool2d(
            features_NDRC, pooled(vars(model.config))
        )
        # A copy each: a view would keep the whole batch alive in the cache.
        return [one.clone() for one in tokens_NDrc.flatten(2).transpose(1, 2)]

    def _config(self, checkpoint: Checkpoint, tokenizer: Any) -> Any:
        import transformers

        config = transformers.AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
        if config.model_type == "llava":
            return config
        # LLaVA-NeXT: what both classes have; its tiles and their line breaks have no use here.
        return transformers.LlavaConfig(
            vision_config=config.vision_config,
            text_config=config.text_config,
            image_token_index=config.image_token_index,
            projector_hidden_act=config.projector_hidden_act,
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            tie_word_embeddings=config.tie_word_embeddings,
        )


def pooled(config: dict[str, Any]) -> tuple[int, int]:
    """Return rows and columns of a frame's tokens."""
    shape = config.get("pooling_shape") or (0, SIDE, SIDE)
    return int(shape[-2]), int(shape[-1])


def _image_processor(processor: Any) -> Any:
    """Return CLIP's image processor with a checkpoint's settings: one picture, without tiles."""
    import transformers

    own = processor.image_processor
    if type(own).__name__.startswith("CLIP"):
        return own
    settings = {name: getattr(own, name) for name in PIXEL_SETTINGS if hasattr(own, name)}
    processor.image_processor = transformers.CLIPImageProcessor(**settings)
    return processor.image_processor
