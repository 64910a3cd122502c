"""Models that hear and speak, of which the part that reads and writes is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from hub_layouts import files, published
from hub_layouts.files import CLIP_MEAN, CLIP_STD, dump
from hub_layouts.newer import QWEN_AUDIO
from hub_layouts.others import QWEN3_TOWER, text_config

_OMNI_SOUND = {
    "chunk_length": 300,
    "dither": 0.0,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 4800000,
    "nb_max_frames": 30000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}
_OMNI_RULES = [
    (r"^model\.(visual|audio_tower)\.", r"thinker.\1."),
    (r"^model\.language_model\.", "thinker.model."),
    (r"^lm_head\.", "thinker.lm_head."),
]


def _omni(folder: Path, kind: str, config: dict[str, Any], seed: int) -> None:
    """Write a model that hears and speaks: what reads and writes is its thinker."""
    dump(folder, "config.json", config)
    thinker = transformers.AutoConfig.from_pretrained(folder).thinker_config
    model = getattr(transformers, f"{kind}ThinkerForConditionalGeneration")(thinker)
    files.randomize(model, seed)
    # A part that speaks is in the repository as well, and is not read.
    model.talker = torch.nn.Linear(8, 8)
    files.save_weights(folder, model, _OMNI_RULES, torch.bfloat16)


def _omni_files(folder: Path, kind: str, names: dict[str, str], patch: int, **image: Any) -> None:
    settings = {
        **image,
        **_OMNI_SOUND,
        "image_processor_type": "Qwen2VLImageProcessor",
        "max_pixels": 12845056,
        "merge_size": 2,
        "min_pixels": 3136,
        "patch_size": patch,
        "processor_class": f"{kind}Processor",
        "temporal_patch_size": 2,
    }
    dump(folder, "preprocessor_config.json", settings)
    named = {"extra_special_tokens": names, "processor_class": f"{kind}Processor"}
    files.change(folder, "tokenizer_config.json", **named, **names)


def qwen2_5_omni(folder: Path, template: str = "") -> None:
    """Qwen/Qwen2.5-Omni-7B, whose configuration is that of the whole model.

    Args:
        folder: that is filled.
        template: of chats; by default the published one.
    """
    rope = {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"}
    text = text_config(
        model_type="qwen2_5_omni_text",
        vocab_size=152064,
        rope_theta=1000000.0,
        rope_scaling=rope,
        sliding_window=32768,
        use_sliding_window=False,
        max_window_layers=28,
    )
    vision = {
        "model_type": "qwen2_5_omni_vision_encoder",
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
    }
    audio = {"model_type": "qwen2_5_omni_audio_encoder", "d_model": 32, "encoder_layers": 1}
    audio |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 64, "output_dim": 64}
    thinker = {
        "architectures": ["Qwen2OmniNaViTThinkerForConditionalGeneration"],
        "model_type": "qwen2_5_omni_thinker",
        "audio_config": audio,
        "text_config": text,
        "vision_config": vision,
        "audio_token_index": 151646,
        "audio_start_token_id": 151647,
        "audio_end_token_id": 151648,
        "bos_token_id": 151644,
        "eos_token_id": 151645,
        "pad_token_id": 151643,
        "image_token_index": 151655,
        "video_token_index": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "position_id_per_seconds": 25,
        "seconds_per_chunk": 2,
        "user_token_id": 872,
    }
    config = {
        "architectures": ["Qwen2_5OmniModel"],
        "model_type": "qwen2_5_omni",
        "enable_audio_output": True,
        "thinker_config": thinker,
    }
    _omni(folder, "Qwen2_5Omni", config, 56)
    names = "<|AUDIO|> <|audio_bos|> <|audio_eos|> <|box_end|> <|quad_start|> <|quad_end|>"
    vision_names = "<|vision_bos|> <|vision_eos|> <|vision_pad|> <|IMAGE|> <|VIDEO|>"
    special = files.QWEN_BASE + names.split() + vision_names.split()
    files.qwen_tokenizer(folder, files.numbered(special, files.QWEN_PLAIN), special[1:])
    template = template or published.template("xinference", "qwen2.5-omni")
    dump(folder, "chat_template.json", {"chat_template": template})
    tokens = {
        "image_token": "<|IMAGE|>",
        "audio_token": "<|AUDIO|>",
        "video_token": "<|VIDEO|>",
        "vision_bos_token": "<|vision_bos|>",
        "vision_eos_token": "<|vision_eos|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
    }
    _omni_files(folder, "Qwen2_5Omni", tokens, 14, image_mean=CLIP_MEAN, image_std=CLIP_STD)


def qwen3_omni(folder: Path) -> None:
    """Qwen/Qwen3-Omni-30B-A3B-Instruct, whose configuration is that of the whole model."""
    text = text_config(
        model_type="qwen3_omni_moe_text",
        vocab_size=152064,
        max_position_embeddings=65536,
        num_hidden_layers=4,
        rope_theta=1000000,
        rope_scaling={
            "interleaved": True,
            "mrope_interleaved": True,
            "mrope_section": [4, 2, 2],
            "rope_type": "default",
            "type": "default",
        },
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
        decoder_sparse_step=1,
    )
    vision = {
        "model_type": "qwen3_omni_moe_vision_encoder",
        "depth": 4,
        **QWEN3_TOWER,
        "deepstack_visual_indexes": [0, 1, 2],
    }
    audio = {"model_type": "qwen3_omni_moe_audio_encoder", "d_model": 32, "encoder_layers": 1}
    audio |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 64, "output_dim": 64}
    audio |= {"downsample_hidden_size": 16}
    thinker = {
        "model_type": "qwen3_omni_moe_thinker",
        "audio_config": audio,
        "text_config": text,
        "vision_config": vision,
        "audio_token_id": 151675,
        "audio_start_token_id": 151669,
        "audio_end_token_id": 151670,
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "position_id_per_seconds": 13,
        "seconds_per_chunk": 2,
        "user_token_id": 872,
        "tie_word_embeddings": False,
    }
    config = {
        "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
        "model_type": "qwen3_omni_moe",
        "enable_audio_output": True,
        "im_start_token_id": 151644,
        "im_end_token_id": 151645,
        "thinker_config": thinker,
    }
    _omni(folder, "Qwen3OmniMoe", config, 57)
    plain = [*files.QWEN_PLAIN, "<tool_response>", "</tool_response>", "<think>", "</think>"]
    special = files.QWEN_BASE + files.QWEN_VISION
    added = files.numbered(special, plain, QWEN_AUDIO)
    files.qwen_tokenizer(folder, added, special[1:])
    template = published.template("xinference", "Qwen3-Omni-Instruct")
    dump(folder, "chat_template.json", {"chat_template": template})
    tokens = {
        "image_token": "<|image_pad|>",
        "audio_token": "<|audio_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
    }
    _omni_files(folder, "Qwen3OmniMoe", tokens, 16, image_mean=[0.5] * 3, image_std=[0.5] * 3)


OMNI: dict[str, tuple[str, Callable[[Path], None]]] = {
    "qwen2_5_omni": ("Qwen2.5-Omni-7B", qwen2_5_omni),
    "qwen3_omni": ("Qwen3-Omni-30B-A3B-Instruct", qwen3_omni),
}
