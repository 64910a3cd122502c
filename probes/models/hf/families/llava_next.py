"""LLaVA-NeXT and LLaVA-NeXT-Video: one set of parameters, two classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from probes.core.types import FrameArray, FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import (
    PIXEL_SETTINGS,
    ProcessorBundle,
    counted,
    frame_token,
    is_token,
    video_pixels,
)
from probes.models.hf.families.loading import OneClass, load_processor
from probes.models.hf.token_layout import TokenGrid

if TYPE_CHECKING:
    import torch

_VIDEO_SETTINGS = """video_token_index video_seq_length spatial_pool_mode spatial_pool_stride
spatial_pool_out_channels""".split()


class LlavaNextVideo(OneClass):
    """LLaVA-NeXT-Video, and LLaVA-NeXT loaded into it: the same parameters by name and shape.

    Both members of a pair thus run through one class and differ in their weights only.
    """

    name = "llava_next_video"
    model_types: tuple[str, ...] = ("llava_next_video", "llava_next")
    architectures: tuple[str, ...] = (
        "LlavaNextVideoForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
    )
    paths: tuple[FrameAs, ...] = ("video", "image")
    _class = "LlavaNextVideoForConditionalGeneration"

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the facts; what the file leaves out has the class's default."""
        config = checkpoint.config
        vision = config.get("vision_config") or {}
        side, patch = vision.get("image_size", 336), vision.get("patch_size", 14)
        stride = config.get("spatial_pool_stride", 2)
        pooled = frame_as == "video"
        return {
            "class": self._class,
            "image_size": side,
            "patch_size": patch,
            "vision_feature_layer": config.get("vision_feature_layer", -2),
            "vision_feature_select_strategy": config.get(
                "vision_feature_select_strategy", "default"
            ),
            "pooling": f"{config.get('spatial_pool_mode', 'average')} {stride}x{stride}"
            if pooled
            else "none",
            # Tiles depend on a picture's size: None says that the number is not fixed.
            "tokens_per_frame": _pooled(config) if pooled else None,
            "image_grid_pinpoints": None
            if pooled
            else config.get("image_grid_pinpoints", "default"),
            "patches_per_token": stride * stride if pooled else 1,
            "context": (config.get("text_config") or {}).get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> ProcessorBundle:
        """Load the processor and find the placeholder of a frame."""
        processor = load_processor(checkpoint, spec)
        tokenizer = processor.tokenizer
        if spec.frame_as == "video" and is_token(
            tokenizer, video := getattr(processor, "video_token", "<video>")
        ):
            token = str(video)
        else:
            # A LLaVA-NeXT tokenizer has no <video>. The placeholder only marks where features are
            # put (its own embedding is never read), so <image> serves.
            token, _ = frame_token(processor, "image", str(checkpoint.folder))
        if spec.frame_as == "image":
            grid = counted(
                tokenizer.convert_tokens_to_ids(token),
                lambda frame: processor(text=[token], images=[frame]),
            )
        else:
            # A video's frames are all brought to one size: no need to ask the processor.
            grid = _fixed(_pooled(checkpoint.config))
        return ProcessorBundle(processor, token, spec.frame_as, grid)

    def encode_frames(
        self, model: Any, bundle: ProcessorBundle, frames: Sequence[FrameArray]
    ) -> list[torch.Tensor]:
        """Run the checkpoint's own preprocessing, vision tower, pooling and projector."""
        processor = bundle.processor
        place = {"device": model.device, "dtype": model.dtype}
        if bundle.frame_as == "video":
            pixels = video_pixels(_video_processor(processor), frames)
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

        config = transformers.AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
        if config.model_type == "llava_next_video":
            return config
        content = _without(config.to_dict())
        video = "<video>" if is_token(tokenizer, "<video>") else None
        # The class's default, 32000, is this checkpoint's <image>: both ids are set.
        content["video_token_index"] = (
            tokenizer.convert_tokens_to_ids(video) if video else config.image_token_index
        )
        return transformers.LlavaNextVideoConfig(**content)


class LlavaNext(LlavaNextVideo):
    """LLaVA-NeXT in its own class, where a pair asks for it by `pair.family=llava_next`.

    It has no video path. From a LLaVA-NeXT-Video checkpoint it reads what both classes share.
    """

    name = "llava_next"
    model_types: tuple[str, ...] = ()  # by default LLaVA-NeXT runs through the video class
    architectures: tuple[str, ...] = ()
    also = ("llava_next", "llava_next_video")
    paths: tuple[FrameAs, ...] = ("image",)
    _class = "LlavaNextForConditionalGeneration"

    def _config(self, checkpoint: Checkpoint, tokenizer: Any) -> Any:
        import transformers

        config = transformers.AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
        if config.model_type == "llava_next":
            return config
        return transformers.LlavaNextConfig(**_without(config.to_dict(), *_VIDEO_SETTINGS))


def _without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a config's content without the settings that depend on its class."""
    gone = {"model_type", "architectures", "transformers_version", "video_token_index", *names}
    return {name: value for name, value in content.items() if name not in gone}


def _pooled(config: dict[str, Any]) -> int:
    """Return how many tokens a frame has after spatial pooling."""
    vision = config.get("vision_config") or {}
    side, patch = vision.get("image_size", 336), vision.get("patch_size", 14)
    grid = int(side) // int(patch) // int(config.get("spatial_pool_stride", 2))
    return grid * grid


def _fixed(tokens: int) -> Callable[[int, int], TokenGrid]:
    return lambda height, width: (tokens,)


def _video_processor(processor: Any) -> Any:
    """Return its video processor; of an image checkpoint, one with the same settings."""
    if (own := getattr(processor, "video_processor", None)) is not None:
        return own
    import transformers

    image = processor.image_processor
    settings = {name: getattr(image, name) for name in PIXEL_SETTINGS if hasattr(image, name)}
    processor.video_processor = transformers.LlavaNextVideoVideoProcessor(**settings)
    return processor.video_processor
