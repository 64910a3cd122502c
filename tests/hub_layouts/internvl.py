"""InternVL in the layout of transformers, and the authors' own, which has to be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from hub_layouts import files
from hub_layouts.files import dump
from hub_layouts.qwen import QWEN_TEXT

TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
_OLD_NAMES = [
    (r"^lm_head", "language_model.lm_head"),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.", ""),
]
_MORE = "<img> </img> <IMG_CONTEXT> <quad> </quad> <ref> </ref> <box> </box> <video>".split()
_VISION = {
    "architectures": ["InternVisionModel"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 64,
    "image_size": [448, 448],
    "initializer_factor": 0.1,
    "initializer_range": 1e-10,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-06,
    "layer_scale_init_value": 0.1,
    "model_type": "internvl_vision",
    "norm_type": "layer_norm",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": [14, 14],
    "projection_dropout": 0.0,
    "torch_dtype": "bfloat16",
    "use_absolute_position_embeddings": True,
    "use_mask_token": False,
    "use_mean_pooling": True,
    "use_qk_norm": False,
}


def _text(qwen3: bool) -> dict[str, Any]:
    text = {k: v for k, v in QWEN_TEXT.items() if k != "rope_scaling"} | {
        "architectures": ["Qwen2ForCausalLM"],
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "max_position_embeddings": 32768,
        "model_type": "qwen2",
        "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
        "sliding_window": None,
        "vocab_size": 151680,
        "torch_dtype": "bfloat16",
    }
    if qwen3:
        text |= {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16}
        text |= {"rope_scaling": None, "max_position_embeddings": 40960}
    return text


def internvl(folder: Path, seed: int = 6, qwen3: bool = False) -> None:
    """OpenGVLab/InternVL3-8B-hf, or with Qwen 3 InternVL3_5-8B-HF.

    Its template writes a line break behind every picture.
    """
    config = {
        "architectures": ["InternVLForConditionalGeneration"],
        "downsample_ratio": 0.5,
        "image_seq_length": 256,
        "image_token_id": 151667,
        "model_type": "internvl",
        "projector_hidden_act": "gelu",
        "text_config": _text(qwen3),
        "torch_dtype": "bfloat16",
        "transformers_version": "4.52.0.dev0",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
        "vision_config": _VISION,
    }
    dump(folder, "config.json", config)
    model = transformers.InternVLForConditionalGeneration(
        transformers.InternVLConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, _OLD_NAMES, torch.bfloat16)
    generation = {"_from_model_config": True, "bos_token_id": 151643, "eos_token_id": 151645}
    dump(folder, "generation_config.json", generation)
    special = files.QWEN_BASE + files.QWEN_VISION
    added = files.numbered(special, files.QWEN_PLAIN, _MORE)
    assert (151667, "<IMG_CONTEXT>", True) in added
    named = {"context_image_token": "<IMG_CONTEXT>", "end_image_token": "</img>"}
    named |= {"start_image_token": "<img>", "video_token": "<video>"}
    files.qwen_tokenizer(
        folder,
        added,
        special[1:] + _MORE[:9],
        **named,
        extra_special_tokens=named,
        model_max_length=8192,
        processor_class="InternVLProcessor",
        return_token_type_ids=False,
    )
    image = {
        "crop_size": None,
        "crop_to_patches": False,
        "data_format": "channels_first",
        "default_to_square": True,
        "do_center_crop": None,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "processor_class": "InternVLProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 448, "width": 448},
    }
    patches = {"max_patches": 12, "min_patches": 1}
    patches |= {"image_processor_type": "GotOcr2ImageProcessorFast"}
    dump(folder, "preprocessor_config.json", image | patches)
    video = {k: v for k, v in image.items() if "patch" not in k} | {"do_sample_frames": False}
    video |= {"video_processor_type": "InternVLVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video)
    settings = {"image_seq_length": 256, "processor_class": "InternVLProcessor"}
    dump(folder, "processor_config.json", settings)
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def internvl_chat(folder: Path) -> None:
    """OpenGVLab/Mini-InternVL-Chat-4B-V1-5: the authors' layout, with remote code."""
    config = {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "model_type": "internvl_chat",
        "llm_config": {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"},
        "template": "phi3-chat",
        "downsample_ratio": 0.5,
    }
    dump(folder, "config.json", config)
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
