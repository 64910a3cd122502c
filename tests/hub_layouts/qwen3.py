"""Qwen3-VL, Instruct and Thinking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from hub_layouts import files
from hub_layouts.files import dump
from hub_layouts.published import template as template_of

_TEXT = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "dtype": "bfloat16",
    "eos_token_id": 151645,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_vl_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "mrope_interleaved": True,
        "mrope_section": [6, 5, 5],
        "rope_type": "default",
    },
    "rope_theta": 5000000,
    "use_cache": True,
    "vocab_size": 151936,
}
_VISION = {
    "deepstack_visual_indexes": [1, 2, 3],
    "depth": 4,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 64,
    "in_channels": 3,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "model_type": "qwen3_vl",
    "num_heads": 4,
    "num_position_embeddings": 2304,
    "out_hidden_size": 64,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_PART = (
    "{%- if content.type == 'image' or 'image' in content or 'image_url' in content %}"
    "{%- set image_count.value = image_count.value + 1 %}"
    "{%- if add_vision_id %}Picture {{ image_count.value }}: {% endif -%}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif content.type == 'video' or 'video' in content %}"
    "{%- set video_count.value = video_count.value + 1 %}"
    "{%- if add_vision_id %}Video {{ video_count.value }}: {% endif -%}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif 'text' in content %}{{- content.text }}{%- endif %}"
)
_TEMPLATE = (
    "{%- set image_count = namespace(value=0) %}{%- set video_count = namespace(value=0) %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for content in message.content %}" + _PART + "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\nTHOUGHT' }}{%- endif %}"
)
_MORE = ["<tool_response>", "</tool_response>", "<think>", "</think>"]


def qwen3_vl(
    folder: Path, seed: int = 31, thinking: bool = False, published: tuple[str, str] | None = None
) -> None:
    """Qwen/Qwen3-VL-8B-Instruct, or -Thinking, whose template opens a thought.

    Args:
        folder: that is filled.
        seed: of the weights.
        thinking: whether it is the one that thinks.
        published: where `published.template` finds its template; without, one like it is written,
            for which nothing is fetched.
    """
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": 151655,
        "model_type": "qwen3_vl",
        "text_config": _TEXT,
        "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": 151656,
        "vision_config": _VISION,
        "vision_end_token_id": 151653,
        "vision_start_token_id": 151652,
    }
    dump(folder, "config.json", config)
    model = transformers.Qwen3VLForConditionalGeneration(
        transformers.Qwen3VLConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, [], torch.bfloat16)
    sampling = {"do_sample": True, "eos_token_id": [151645, 151643], "pad_token_id": 151643}
    sampling |= {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "transformers_version": "4.56.0"}
    dump(folder, "generation_config.json", sampling)
    special = files.QWEN_BASE + files.QWEN_VISION
    template = _TEMPLATE.replace("THOUGHT", "<think>\n" if thinking else "")
    if published:
        template = template_of(*published)
    added = files.numbered(special, files.QWEN_PLAIN + _MORE)
    files.qwen_tokenizer(
        folder, added, special[1:], chat_template=template, model_max_length=262144
    )
    dump(folder, "chat_template.json", {"chat_template": template})
    pixels: dict[str, Any] = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
    }
    image = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}}
    image |= {"image_processor_type": "Qwen2VLImageProcessorFast"}
    dump(folder, "preprocessor_config.json", image | pixels)
    video = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
    video |= {"video_processor_type": "Qwen3VLVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video | pixels)
