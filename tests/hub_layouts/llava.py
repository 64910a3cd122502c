"""LLaVA-NeXT, LLaVA-NeXT-Video, LLaVA-OneVision, and PLLaVA's layout of Map the Flow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from hub_layouts import files, published
from hub_layouts.files import CLIP_MEAN, CLIP_STD, dump
from hub_layouts.mistral import mistral_7b

_PINS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
OLD_NAMES = [
    (r"^lm_head", "language_model.lm_head"),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.vision_tower\.(?!vision_model)", "vision_tower.vision_model."),
    (r"^model\.", ""),
]
_HEAD = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}"
)
_IMAGES = (
    "{# Render all images first #}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
)
_VIDEOS = (
    "{# Render all videos next #}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}"
)
_TEXTS = (
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}"
)
_OWN_TEXTS = (
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}"
)
_ASK = "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
NEXT_TEMPLATE = (
    _HEAD
    + _IMAGES
    + "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    + _TEXTS
    + "{% else %}"
    + _OWN_TEXTS
    + "{% endif %}{% endfor %}"
    + _ASK
)
VIDEO_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ message['content'][0]['text'] }}{% else %}{{ message['role'].upper() + ': '}}{% endif %}"
    + _IMAGES
    + _VIDEOS
    + "{# Render all text finally #}"
    + _TEXTS
    + "{% endfor %}"
    + _ASK
)
_VISION = {
    "hidden_size": 64,
    "image_size": 336,
    "intermediate_size": 128,
    "model_type": "clip_vision_model",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}
_TEXT = {
    "_name_or_path": "lmsys/vicuna-7b-v1.5",
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "rms_norm_eps": 1e-05,
    "torch_dtype": "float16",
    "vocab_size": 32064,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
# 13B: wider and deeper; here one layer more, as depth is what its readers could get wrong.
_TEXT_13B = _TEXT | {"_name_or_path": "lmsys/vicuna-13b-v1.5", "num_hidden_layers": 4}
_COMMON = {
    "ignore_index": -100,
    "image_grid_pinpoints": _PINS,
    "image_seq_length": 576,
    "projector_hidden_act": "gelu",
    "tie_word_embeddings": False,
    "use_image_newline_parameter": True,
    "vision_config": _VISION,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}


def _image_processor(kind: str, processor: str) -> dict[str, Any]:
    return {
        "aspect_ratio_setting": "anyres",
        "crop_size": {"height": 336, "width": 336},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_grid_pinpoints": _PINS,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "image_processor_type": kind,
        "processor_class": processor,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 336},
    }


def llava_next(folder: Path, seed: int = 1, large: bool = False) -> None:
    """llava-hf/llava-v1.6-vicuna-7b-hf, or -13b-hf."""
    config = {
        **_COMMON,
        "architectures": ["LlavaNextForConditionalGeneration"],
        "image_token_index": 32000,
        "model_type": "llava_next",
        "pad_token_id": 32001,
        "text_config": _TEXT_13B if large else _TEXT,
        "torch_dtype": "float16",
        "transformers_version": "4.39.0.dev0",
        "vocab_size": 32064,
    }
    dump(folder, "config.json", config)
    model = transformers.LlavaNextForConditionalGeneration(
        transformers.LlavaNextConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, OLD_NAMES, torch.float16)
    generation = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2}
    generation |= {"pad_token_id": 32001, "transformers_version": "4.39.0.dev0"}
    dump(folder, "generation_config.json", generation)
    processor = "LlavaNextProcessor"
    added = [(32000, "<image>", True), (32001, "<pad>", True)]
    files.llama_tokenizer(folder, added, processor_class=processor)
    image = _image_processor("LlavaNextImageProcessor", processor)
    dump(folder, "preprocessor_config.json", image)
    settings = {"image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14}
    settings |= {"processor_class": processor, "vision_feature_select_strategy": "default"}
    dump(folder, "processor_config.json", settings)
    dump(folder, "chat_template.json", {"chat_template": NEXT_TEMPLATE})


def llava_next_mistral(folder: Path) -> None:
    """llava-hf/llava-v1.6-mistral-7b-hf: as on Vicuna, with the language model of Mistral 7B."""
    llava_next(folder, seed=22)
    text = {**_TEXT, "_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2", "model_type": "mistral"}
    text |= {"architectures": ["MistralForCausalLM"], "max_position_embeddings": 32768}
    text |= {"rope_theta": 1000000.0, "sliding_window": None, "rms_norm_eps": 1e-05}
    files.change(folder, "config.json", text_config=text)
    added = [(32000, "<image>", True), (32001, "<pad>", True)]
    processor = "LlavaNextProcessor"
    files.llama_tokenizer(folder, added, mistral_7b(), processor_class=processor)
    template = published.template("trl", "llava_next")
    dump(folder, "chat_template.json", {"chat_template": template})


def llava_next_video(folder: Path, seed: int = 2) -> None:
    """llava-hf/LLaVA-NeXT-Video-7B-hf, or -DPO-hf: without `video_preprocessor_config.json`."""
    text = _TEXT | {"pad_token_id": 0, "rope_scaling": {"factor": 2.5, "type": "linear"}}
    config = {
        **_COMMON,
        "architectures": ["LlavaNextVideoForConditionalGeneration"],
        "image_token_index": 32001,
        "model_type": "llava_next_video",
        "spatial_pool_mode": "average",
        "spatial_pool_out_channels": 1024,
        "spatial_pool_stride": 2,
        "text_config": text | {"type": "linear", "head_dim": 16},
        "torch_dtype": "bfloat16",
        "transformers_version": "4.42.0",
        "video_seq_length": 288,
        "video_token_index": 32000,
    }
    dump(folder, "config.json", config)
    model = transformers.LlavaNextVideoForConditionalGeneration(
        transformers.LlavaNextVideoConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, OLD_NAMES, torch.bfloat16)
    generation = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2}
    generation |= {"pad_token_id": 0, "transformers_version": "4.42.0"}
    dump(folder, "generation_config.json", generation)
    processor = "LlavaNextVideoProcessor"
    added = [(32000, "<video>", True), (32001, "<image>", True)]
    files.llama_tokenizer(folder, added, processor_class=processor)
    image = _image_processor("LlavaNextImageProcessor", processor)
    dump(folder, "preprocessor_config.json", image)
    settings = {"image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14}
    settings |= {"processor_class": processor, "video_token": "<video>"}
    settings |= {"vision_feature_select_strategy": "default"}
    dump(folder, "processor_config.json", settings)
    dump(folder, "chat_template.json", {"chat_template": VIDEO_TEMPLATE})


def pllava(folder: Path, large: bool = False) -> None:
    """byminji/LLaVA-NeXT-7B-Video-FT, or -13B-: saved by PLLaVA's class.

    Its `model_type` is llava, there is no `image_newline`, frames are projected and then pooled.
    """
    source = folder.with_name(f"{folder.name}-source")
    source.mkdir()
    llava_next(source, large=large)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    shutil.rmtree(source)
    weights: dict[str, torch.Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        weights |= load_file(shard)
        shard.unlink()
    weights.pop("image_newline")
    draw = torch.Generator().manual_seed(77)
    tuned = {
        name: (value.float() + 0.02 * torch.randn(value.shape, generator=draw)).to(value.dtype)
        for name, value in weights.items()
    }
    save_file(tuned, folder / "model.safetensors", {"format": "pt"})
    files.change(
        folder,
        "config.json",
        ("image_grid_pinpoints", "use_image_newline_parameter"),
        model_type="llava",
        architectures=["PllavaForConditionalGeneration"],
        pooling_method="avg",
        pooling_shape=[8, 12, 12],
        use_pooling=True,
        num_frames=8,
    )
    for name in ("model.safetensors.index.json", "processor_config.json", "chat_template.json"):
        (folder / name).unlink()
    files.change(
        folder,
        "preprocessor_config.json",
        ("image_grid_pinpoints",),
        image_processor_type="CLIPImageProcessor",
        processor_class="PllavaProcessor",
    )


_ONE_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    + _IMAGES.replace("\n", "")
    + _VIDEOS.replace("videos next", "video then").replace("\n", "")
    + "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}"
    "{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_ONE_PINS = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]


def llava_onevision_converted(folder: Path) -> None:
    """llava-hf/llava-onevision-qwen2-0.5b-ov-hf with the template of the conversion script."""
    llava_onevision(folder, seed=23)
    script = "transformers/models/llava_onevision/convert_llava_onevision_weights_to_hf.py"
    template = published.template("transformers 4.47", f"{script}:chat_template")
    dump(folder, "chat_template.json", {"chat_template": template})


def llava_onevision(folder: Path, seed: int = 5) -> None:
    """llava-hf/llava-onevision-qwen2-7b-ov-hf, or -si-hf."""
    from hub_layouts.qwen import QWEN_TEXT

    text = {k: v for k, v in QWEN_TEXT.items() if k != "rope_scaling"} | {
        "_name_or_path": "Qwen/Qwen2-7B-Instruct",
        "architectures": ["Qwen2ForCausalLM"],
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "max_position_embeddings": 32768,
        "model_type": "qwen2",
        "sliding_window": 131072,
        "vocab_size": 152128,
        "torch_dtype": "bfloat16",
    }
    vision = {"hidden_size": 64, "image_size": 384, "intermediate_size": 128}
    vision |= {"model_type": "siglip_vision_model", "num_attention_heads": 4}
    config = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "ignore_index": -100,
        "image_grid_pinpoints": _ONE_PINS,
        "image_token_index": 151646,
        "model_type": "llava_onevision",
        "projector_hidden_act": "gelu",
        "text_config": text,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.45.0.dev0",
        "use_image_newline_parameter": True,
        "video_token_index": 151647,
        "vision_aspect_ratio": "anyres_max_9",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "vision_config": {
            **vision,
            "num_hidden_layers": 3,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }
    dump(folder, "config.json", config)
    model = transformers.LlavaOnevisionForConditionalGeneration(
        transformers.LlavaOnevisionConfig.from_pretrained(folder)
    )
    files.randomize(model, seed)
    files.save_weights(folder, model, OLD_NAMES, torch.float16)
    generation: dict[str, Any] = {"bos_token_id": 151643, "do_sample": True}
    generation |= {"eos_token_id": [151645, 151643], "pad_token_id": 151643}
    generation |= {"repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
    dump(folder, "generation_config.json", generation)
    special = [*files.QWEN_BASE, "<image>", "<video>"]
    processor = "LlavaOnevisionProcessor"
    files.qwen_tokenizer(folder, files.numbered(special), special[1:], processor_class=processor)
    base = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": processor,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 384, "width": 384},
    }
    image = {"do_pad": True, "image_grid_pinpoints": _ONE_PINS}
    image |= {"image_processor_type": "LlavaOnevisionImageProcessor"}
    dump(folder, "preprocessor_config.json", base | image)
    video = {"video_processor_type": "LlavaOnevisionVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", base | video)
    settings = {"image_token": "<image>", "num_image_tokens": 729, "processor_class": processor}
    settings |= {"video_token": "<video>", "vision_aspect_ratio": "anyres_max_9"}
    settings |= {"vision_feature_select_strategy": "full"}
    dump(folder, "processor_config.json", settings)
    dump(folder, "chat_template.json", {"chat_template": _ONE_TEMPLATE})


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())
