"""Qwen2-VL, Qwen2.5-VL and Video-R1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from hub_layouts import files
from hub_layouts.files import CLIP_MEAN, CLIP_STD, dump

QWEN_TEXT: dict[str, Any] = {
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "max_position_embeddings": 128000,
    "max_window_layers": 28,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "use_cache": True,
}
OLD_NAMES = [(r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual.")]
_PICTURE = (
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
)
TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    + _PICTURE
    + "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TOKENS = {
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "image_token_id": 151655,
    "video_token_id": 151656,
}
_SAMPLING = {
    "bos_token_id": 151643,
    "pad_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "repetition_penalty": 1.05,
}


def _pixels(processor: str, kind: str) -> dict[str, Any]:
    return {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "image_processor_type": kind,
        "processor_class": processor,
    }


def qwen2_5_vl(folder: Path, seed: int = 3, image_processor: str = "Qwen2VLImageProcessor") -> None:
    """Qwen/Qwen2.5-VL-7B-Instruct, or Video-R1/Video-R1-7B, which comes from it.

    Args:
        folder: that is filled.
        seed: of the weights.
        image_processor: Video-R1 names Qwen2_5_VLImageProcessor, which transformers 5 has no more.
    """
    vision = {
        "depth": 4,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "in_chans": 3,
        "out_hidden_size": 64,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    }
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        **_TOKENS,
        "model_type": "qwen2_5_vl",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "vision_config": vision,
        **QWEN_TEXT,
    }
    dump(folder, "config.json", config)
    model = transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, OLD_NAMES, torch.bfloat16)
    sampling = _SAMPLING | {"temperature": 0.000001, "transformers_version": "4.49.0"}
    dump(folder, "generation_config.json", sampling)
    special = files.QWEN_BASE + files.QWEN_VISION
    added = files.numbered(special, files.QWEN_PLAIN)
    files.qwen_tokenizer(folder, added, special[1:], chat_template=TEMPLATE)
    pixels = _pixels("Qwen2_5_VLProcessor", image_processor)
    dump(folder, "preprocessor_config.json", pixels)
    dump(folder, "chat_template.json", {"chat_template": TEMPLATE})


def qwen2_vl(folder: Path, seed: int = 4) -> None:
    """Qwen/Qwen2-VL-7B-Instruct."""
    vision = {"depth": 3, "embed_dim": 64, "mlp_ratio": 4, "num_heads": 4, "in_chans": 3}
    vision |= {"hidden_size": 64, "patch_size": 14, "spatial_merge_size": 2}
    config = {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        **_TOKENS,
        "model_type": "qwen2_vl",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "vision_config": {**vision, "spatial_patch_size": 14, "temporal_patch_size": 2},
        **QWEN_TEXT,
        "max_position_embeddings": 32768,
    }
    dump(folder, "config.json", config)
    model = transformers.Qwen2VLForConditionalGeneration(
        transformers.Qwen2VLConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, OLD_NAMES, torch.bfloat16)
    sampling = _SAMPLING | {"temperature": 0.01, "top_p": 0.001, "top_k": 1}
    dump(folder, "generation_config.json", sampling | {"transformers_version": "4.37.0"})
    special = files.QWEN_BASE + files.QWEN_VISION
    files.qwen_tokenizer(folder, files.numbered(special), special[1:], chat_template=TEMPLATE)
    pixels = _pixels("Qwen2VLProcessor", "Qwen2VLImageProcessor")
    dump(folder, "preprocessor_config.json", pixels)
    dump(folder, "chat_template.json", {"chat_template": TEMPLATE})
