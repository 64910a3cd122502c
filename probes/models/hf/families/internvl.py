"""InternVL, in the layout that transformers has a class for (repositories that end in `-hf`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.core.types import FrameArray, FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import ProcessorBundle, counted, frame_token
from probes.models.hf.families.loading import OneClass, load_processor

if TYPE_CHECKING:
    import torch


class InternVL(OneClass):
    """InternVL.

    As a video a frame is one tile behind the words "Frame1: ", which the processor writes for the
    first frame of every video, here the only one. As an image it is cut into tiles, and a small
    copy of the whole is added; the processor's `max_patches` bounds their number.
    """

    name = "internvl"
    model_types: tuple[str, ...] = ("internvl",)
    architectures: tuple[str, ...] = ("InternVLForConditionalGeneration",)
    paths: tuple[FrameAs, ...] = ("video", "image")
    _class = "InternVLForConditionalGeneration"

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the facts; what the file leaves out has the class's default."""
        config = checkpoint.config
        vision = config.get("vision_config") or {}
        as_video = frame_as == "video"
        images = checkpoint.processor_settings("image_processor")
        tiles = f"{images.get('min_patches', 1)} to {images.get('max_patches', 12)}, and the whole"
        return {
            "class": self._class,
            "image_size": vision.get("image_size", 448),
            "patch_size": vision.get("patch_size", 14),
            "vision_feature_layer": config.get("vision_feature_layer", -1),
            "pooling": f"pixel shuffle {config.get('downsample_ratio', 0.5)}",
            "tokens_per_frame": config.get("image_seq_length", 256) if as_video else None,
            "patches_per_token": round(config.get("downsample_ratio", 0.5) ** -2),
            "tiles": "none" if as_video else tiles,
            "frame_text": "Frame1: <img>...</img>" if as_video else "<img>...</img>",
            "context": (config.get("text_config") or {}).get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> ProcessorBundle:
        """Load the processor."""
        processor = load_processor(checkpoint, spec)
        # Videos have a token of their own in a text, and become the image token's features.
        token, token_id = frame_token(processor, "image", str(checkpoint.folder))
        start, end = processor.start_image_token, processor.end_image_token
        if spec.frame_as == "video":
            start = f"Frame1: {start}"
        return ProcessorBundle(
            processor,
            token,
            spec.frame_as,
            counted(token_id, lambda frame: _inputs(processor, spec.frame_as, [frame])),
            before=start,
            after=end,
        )

    def encode_frames(
        self, model: Any, bundle: ProcessorBundle, frames: Sequence[FrameArray]
    ) -> list[torch.Tensor]:
        """Run the checkpoint's own preprocessing, vision tower and projector."""
        pixels = _inputs(bundle.processor, bundle.frame_as, frames, return_tensors="pt")[
            "pixel_values"
        ]
        place = {"device": model.device, "dtype": model.dtype}
        tiles = model.get_image_features(pixels.to(**place)).pooler_output
        # Frames of one size have equally many tiles.
        # A copy each: a view would keep the whole batch alive in the cache.
        return [one.clone() for one in tiles.reshape(len(frames), -1, tiles.shape[-1])]


def _inputs(processor: Any, frame_as: FrameAs, frames: Sequence[FrameArray], **more: Any) -> Any:
    """Call the whole processor: only such a call applies its settings for tiles."""
    if frame_as == "image":
        text = processor.image_token * len(frames)
        return processor(text=[text], images=list(frames), **more)
    videos = [frame[None] for frame in frames]
    text = processor.video_token * len(frames)
    return processor(text=[text], videos=videos, do_sample_frames=False, **more)
