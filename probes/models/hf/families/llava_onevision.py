"""LLaVA-OneVision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.core.types import FrameArray, FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import (
    ProcessorBundle,
    counted,
    frame_token,
    video_pixels,
)
from probes.models.hf.families.loading import OneClass, load_processor

if TYPE_CHECKING:
    import torch


class LlavaOnevision(OneClass):
    """LLaVA-OneVision, whose single-image and final stages are a pair in one class.

    As a video a frame is pooled 2x2 and ends with the newline token, as one-frame videos do. As an
    image it is shown as the class shows one of several: the whole picture, padded to a square, and
    no tiles, which only a single picture gets. A single frame is shown the same way, so that a
    frame's tokens do not depend on the other frames of the prompt.
    """

    name = "llava_onevision"
    model_types: tuple[str, ...] = ("llava_onevision",)
    architectures: tuple[str, ...] = ("LlavaOnevisionForConditionalGeneration",)
    paths: tuple[FrameAs, ...] = ("video", "image")
    _class = "LlavaOnevisionForConditionalGeneration"

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the facts; what the file leaves out has the class's default."""
        config = checkpoint.config
        vision = config.get("vision_config") or {}
        side, patch = vision.get("image_size", 384), vision.get("patch_size", 14)
        grid, pooled = side // patch, math.ceil(side // patch / 2)
        as_video = frame_as == "video"
        return {
            "class": self._class,
            "image_size": side,
            "patch_size": patch,
            "vision_feature_layer": config.get("vision_feature_layer", -1),
            "vision_feature_select_strategy": config.get("vision_feature_select_strategy", "full"),
            "pooling": "bilinear 2x2" if as_video else "none",
            "tokens_per_frame": (pooled * pooled if as_video else grid * grid) + 1,
            "image_grid_pinpoints": None,
            "patches_per_token": 4 if as_video else 1,
            "tiles": "none: a frame is shown as one of several images",
            "context": (config.get("text_config") or {}).get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> ProcessorBundle:
        """Load the processor."""
        processor = load_processor(checkpoint, spec)
        token, token_id = frame_token(processor, spec.frame_as, str(checkpoint.folder))
        if spec.frame_as == "video":
            grid = counted(
                token_id,
                lambda frame: processor(text=[token], videos=[frame[None]], do_sample_frames=False),
            )
        else:
            # Two frames, since a single one would be cut into tiles.
            grid = counted(
                token_id, lambda frame: processor(text=[token * 2], images=[[frame, frame]]), 2
            )
        return ProcessorBundle(processor, token, spec.frame_as, grid)

    def encode_frames(
        self, model: Any, bundle: ProcessorBundle, frames: Sequence[FrameArray]
    ) -> list[torch.Tensor]:
        """Run the checkpoint's own preprocessing, vision tower and projector."""
        place = {"device": model.device, "dtype": model.dtype}
        processor = bundle.processor
        if bundle.frame_as == "video":
            pixels = video_pixels(processor.video_processor, frames)
            features = model.get_video_features(pixels.to(**place)).pooler_output
        else:
            # A list within the list: images of one prompt. A single frame is given twice.
            shown = list(frames) if len(frames) > 1 else [*frames, *frames]
            inputs = processor.image_processor(images=[shown], return_tensors="pt")
            features = model.get_image_features(
                inputs["pixel_values"].to(**place),
                inputs["image_sizes"],
                batch_num_images=inputs["batch_num_images"],
            ).pooler_output
        # Not strict: of a single frame, which was given twice, the second is dropped.
        return [one.clone() for one, _ in zip(features, frames, strict=False)]
