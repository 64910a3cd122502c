"""The tiny pair's architecture: the genuine LLaVA-NeXT-Video class with tiny sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    PreTrainedTokenizerFast,
)

PairModel: TypeAlias = LlavaNextVideoForConditionalGeneration
MEAN, STD = CLIPImageProcessor.image_mean, CLIPImageProcessor.image_std
"""Normalisation of pixels in [0, 1], per channel; the processors' own."""


def build_model(sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> PairModel:
    """Build a model with random weights.

    Args:
        sizes: `model` of conf/train/tiny.yaml.
        tokenizer: the pair's; its special tokens set the config's ids.
    """
    vision, text = sizes["vision"], sizes["text"]
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=vision["width"],
            intermediate_size=vision["mlp"],
            num_hidden_layers=vision["layers"],
            num_attention_heads=vision["heads"],
            projection_dim=vision["width"],
            image_size=sizes["image_size"],
            patch_size=sizes["patch_size"],
            hidden_act="gelu",  # one kernel; CLIP's quick_gelu is three
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=text["width"],
            intermediate_size=text["mlp"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            num_key_value_heads=text["heads"],
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=text["initializer_range"],
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        # One tile of a frame's own size: a larger grid shows the same pixels in more tokens.
        image_grid_pinpoints=[[sizes["image_size"]] * 2],
        spatial_pool_mode="average",
        spatial_pool_stride=2,
        # The last one: LLaVA skips CLIP's last layer, but this tower is trained with the pair.
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(sizes["image_size"] // sizes["patch_size"]) ** 2,
        video_seq_length=(sizes["image_size"] // sizes["patch_size"] // 2) ** 2,
        tie_word_embeddings=True,
    )
    return PairModel(config)


def build_processor(
    sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast
) -> LlavaNextVideoProcessor:
    """Build the processor, the same one for every member."""
    side = sizes["image_size"]
    crop = {"height": side, "width": side}
    return LlavaNextVideoProcessor(
        tokenizer=tokenizer,
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": side}, crop_size=crop, image_grid_pinpoints=[[side, side]]
        ),
        video_processor=LlavaNextVideoVideoProcessor(size={"shortest_edge": side}, crop_size=crop),
        patch_size=sizes["patch_size"],
        vision_feature_select_strategy="default",
        # The class token: counted here, as "default" subtracts one before placeholders are made.
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def tokens_per_frame(image_size: int, patch_size: int) -> tuple[int, int]:
    """Return the tokens of one frame as a one-frame video and by the native image path.

    The video path pools 2 x 2 patches; the native one shows the base picture and one tile, with a
    newline token for each of the tile's rows.
    """
    grid = image_size // patch_size
    return grid * grid // 4, 2 * grid * grid + grid


def save_member(model: PairModel, processor: LlavaNextVideoProcessor, folder: Path) -> None:
    """Write a member as a checkpoint folder that `AutoProcessor` and `AutoModel...` load; bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    # What is written is rounded, so that the stages that follow start from what users load.
    state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    processor.save_pretrained(folder)


def normalise(frames: torch.Tensor) -> torch.Tensor:
    """Turn uint8 [n, height, width, 3] into what the vision tower takes: [n, 3, height, width]."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (frames.permute(0, 3, 1, 2).float() / 255 - mean) / std
