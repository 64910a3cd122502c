"""Qwen2-VL and Qwen2.5-VL: frames of any size, positions in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.core.types import FrameArray, FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import ProcessorBundle, frame_token
from probes.models.hf.families.loading import OneClass, load_processor
from probes.models.hf.token_layout import TokenGrid

if TYPE_CHECKING:
    import torch


class Qwen2VL(OneClass):
    """Qwen2-VL.

    The tower sees two frames at a time; a single frame, whether an image or a one-frame video, is
    shown twice, so that every frame has tokens of its own. The two ways differ in the placeholder
    and in the bounds of a frame's size.
    """

    name = "qwen2_vl"
    model_types: tuple[str, ...] = ("qwen2_vl",)
    architectures: tuple[str, ...] = ("Qwen2VLForConditionalGeneration",)
    paths: tuple[FrameAs, ...] = ("video", "image")
    _class = "Qwen2VLForConditionalGeneration"

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the facts; what the file leaves out has the class's default."""
        config = checkpoint.config
        vision = config.get("vision_config") or {}
        text = config.get("text_config") or config  # older files have one level only
        merge = vision.get("spatial_merge_size", 2)
        settings = checkpoint.processor_settings(f"{frame_as}_processor")
        size = settings.get("size") or {}
        return {
            "class": self._class,
            "patch_size": vision.get("patch_size", 14),
            "pooling": f"merge {merge}x{merge}",
            "patches_per_token": merge * merge,
            "tokens_per_frame": None,  # a frame keeps its shape within the bounds
            "min_pixels": settings.get("min_pixels", size.get("shortest_edge")),
            "max_pixels": settings.get("max_pixels", size.get("longest_edge")),
            "temporal": "the frame is repeated to fill a temporal patch of"
            f" {vision.get('temporal_patch_size', 2)}",
            "context": text.get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> ProcessorBundle:
        """Load the processor."""
        processor = load_processor(checkpoint, spec)
        token, _ = frame_token(processor, spec.frame_as, str(checkpoint.folder))

        def grid(height: int, width: int) -> TokenGrid:
            blank = np.zeros((height, width, 3), np.uint8)
            return _grid(processor, spec.frame_as, _inputs(processor, spec.frame_as, [blank]))

        return ProcessorBundle(
            processor,
            token,
            spec.frame_as,
            grid,
            before="<|vision_start|>",
            after="<|vision_end|>",
        )

    def encode_frames(
        self, model: Any, bundle: ProcessorBundle, frames: Sequence[FrameArray]
    ) -> list[torch.Tensor]:
        """Run the checkpoint's own preprocessing, vision tower and merger."""
        inputs = _inputs(bundle.processor, bundle.frame_as, frames)
        place = {"device": model.device, "dtype": model.dtype}
        if bundle.frame_as == "video":
            features = model.get_video_features(
                inputs["pixel_values_videos"].to(**place),
                inputs["video_grid_thw"].to(model.device),
            ).pooler_output
        else:
            features = model.get_image_features(
                inputs["pixel_values"].to(**place), inputs["image_grid_thw"].to(model.device)
            ).pooler_output
        # A copy each: a view would keep the whole batch alive in the cache.
        return [one.clone() for one in features]


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL; see `Qwen2VL`."""

    name = "qwen2_5_vl"
    model_types: tuple[str, ...] = ("qwen2_5_vl",)
    architectures: tuple[str, ...] = ("Qwen2_5_VLForConditionalGeneration",)
    _class = "Qwen2_5_VLForConditionalGeneration"


def _inputs(processor: Any, frame_as: FrameAs, frames: Sequence[FrameArray]) -> Any:
    """Call the processor on frames of one size."""
    if frame_as == "image":
        return processor.image_processor(images=list(frames), return_tensors="pt")
    videos = [frame[None] for frame in frames]
    return processor.video_processor(videos=videos, do_sample_frames=False, return_tensors="pt")


def _grid(processor: Any, frame_as: FrameAs, inputs: Any) -> TokenGrid:
    """Return rows and columns of the first frame's tokens."""
    # The grid counts patches; merge_size of them along each side make one token.
    _, rows, columns = inputs[f"{frame_as}_grid_thw"][0].tolist()
    part = processor.image_processor if frame_as == "image" else processor.video_processor
    return rows // part.merge_size, columns // part.merge_size
