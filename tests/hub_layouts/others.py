"""Classes without a family, in the layout of their repositories on the hub.

Facts of a layout (special tokens, sizes of pictures, the messages that a template makes of a user's
turn) are those of transformers' conversion scripts, integration tests and class defaults; weights
are random and shrunk. Vocabularies and templates: those in `vocabularies`, and those that
`published` fetches.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from hub_layouts import files, published
from hub_layouts.files import CLIP_MEAN, CLIP_STD, dump

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
CLIP = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "rescale_factor": 1 / 255}


QWEN3_TOWER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 4,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 2304,
}
"""What the towers of Qwen3-VL, Qwen3.5 and Qwen3-Omni share, shrunk."""


def text_config(**values: Any) -> dict[str, Any]:
    """Return the settings that language models share, shrunk."""
    return {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "head_dim": 16,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        **values,
    }


def write_model(folder: Path, kind: str, config: dict[str, Any], seed: int) -> None:
    """Write config and weights of a class.

    Args:
        folder: that is filled.
        kind: the class.
        config: of the repository, shrunk.
        seed: of the weights.
    """
    dump(folder, "config.json", {"architectures": [kind], **config})
    model_class = getattr(transformers, kind)
    settings = transformers.AutoConfig.from_pretrained(folder)
    model = model_class(settings)
    files.randomize(model, seed)
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    files.change(folder, "config.json", architectures=[kind])


def turns(picture: str, video: str = "", text: str = "content['text']", start: str = "") -> str:
    """Return a template of the ChatML kind.

    Args:
        picture: what it writes for an image.
        video: what it writes for a video; empty: it knows none.
        text: the expression that it writes for a text.
        start: what it writes first.
    """
    of_video = "{% elif content['type'] == 'video' %}" + video if video else ""
    return (
        start + "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for content in message['content'] %}"
        "{% if content['type'] == 'image' %}"
        + picture
        + of_video
        + "{% elif content['type'] == 'text' %}{{ "
        + text
        + " }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


_QWEN3_PLAIN = [*files.QWEN_PLAIN, "<tool_response>", "</tool_response>", "<think>", "</think>"]
_QWEN_IDS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "tie_word_embeddings": False,
}


def qwen3_vl_moe(folder: Path) -> None:
    """Qwen/Qwen3-VL-30B-A3B-Instruct."""
    text = text_config(
        vocab_size=151936,
        max_position_embeddings=262144,
        num_hidden_layers=4,
        rope_theta=5000000,
        rope_scaling={
            "mrope_interleaved": True,
            "mrope_section": [4, 2, 2],
            "rope_type": "default",
        },
    )
    vision = {
        "depth": 4,
        **QWEN3_TOWER,
        "deepstack_visual_indexes": [0, 1, 2],
    }
    name = "qwen3_vl_moe"
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = {
        "model_type": name,
        "text_config": text | {"model_type": f"{name}_text"},
        "vision_config": vision | {"model_type": name},
        **_QWEN_IDS,
    }
    write_model(folder, "Qwen3VLMoeForConditionalGeneration", config, 33)
    template = published.template("xinference", "Qwen3-VL-Instruct")
    special = files.QWEN_BASE + files.QWEN_VISION
    added = files.numbered(special, _QWEN3_PLAIN)
    files.qwen_tokenizer(folder, added, special[1:], chat_template=template)
    dump(folder, "chat_template.json", {"chat_template": template})
    image = {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **HALF,
        "processor_class": "Qwen3VLProcessor",
    }
    kind = "Qwen2VLImageProcessorFast"
    dump(folder, "preprocessor_config.json", image | {"image_processor_type": kind})
    video = image | {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
    video |= {"video_processor_type": "Qwen3VLVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video)


def video_llama_3(folder: Path) -> None:
    """lkhl/VideoLLaMA3-7B-HF."""
    text = text_config(model_type="qwen2", vocab_size=152064, rope_theta=1000000.0)
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    vision |= {"num_hidden_layers": 3, "patch_size": 14, "model_type": "video_llama_3_vision"}
    config = {
        "model_type": "video_llama_3",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": 151655,
        "video_token_id": 151656,
    }
    write_model(folder, "VideoLlama3ForConditionalGeneration", config, 34)
    template = turns("<|image_pad|>\n", "<|video_pad|>\n")
    special = files.QWEN_BASE + files.QWEN_VISION
    added = files.numbered(special, files.QWEN_PLAIN)
    files.qwen_tokenizer(folder, added, special[1:], chat_template=template)
    (folder / "chat_template.jinja").write_text(template)
    image = {**HALF, "patch_size": 14, "merge_size": 1, "min_pixels": 3136, "max_pixels": 3211264}
    image |= {"processor_class": "VideoLlama3Processor"}
    kind = {"image_processor_type": "VideoLlama3ImageProcessorFast"}
    dump(folder, "preprocessor_config.json", image | kind)
    video = image | {"merge_size": 2, "video_processor_type": "VideoLlama3VideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video)


def ovis2(folder: Path) -> None:
    """thisisiron/Ovis2-2B-hf."""
    names = ["<IMG_ATOM>", *(f"<IMG_{n}>" for n in "START GRID COL ROW END".split())]
    special = files.QWEN_BASE + files.QWEN_VISION
    added = files.numbered(special, files.QWEN_PLAIN, names)
    ids = {text: at for at, text, _ in added}
    text = text_config(model_type="qwen2", vocab_size=151936, rope_theta=1000000.0)
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    vision |= {"num_hidden_layers": 3, "image_size": 448, "patch_size": 14, "vocab_size": 512}
    vision |= {"hidden_stride": 2, "model_type": "ovis2_vision"}
    config = {
        "model_type": "ovis2",
        "text_config": text,
        "vision_config": vision,
        "hidden_size": 64,
        "vocab_size": 151936,
        "image_token_id": ids["<IMG_ATOM>"],
        "visual_indicator_token_ids": [ids[name] for name in names[1:]],
        "tie_word_embeddings": False,
    }
    write_model(folder, "Ovis2ForConditionalGeneration", config, 35)
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    template = turns("<image>\n", start=system)
    named = {"image_token": "<IMG_ATOM>", "extra_special_tokens": {"image_token": "<IMG_ATOM>"}}
    files.qwen_tokenizer(folder, added, special[1:] + names, chat_template=template, **named)
    (folder / "chat_template.jinja").write_text(template)
    image = {**CLIP, "crop_to_patches": True, "size": {"height": 448, "width": 448}}
    image |= {"image_processor_type": "Ovis2ImageProcessor", "processor_class": "Ovis2Processor"}
    image |= {"do_convert_rgb": True, "resample": 3, "min_patches": 1, "max_patches": 12}
    dump(folder, "preprocessor_config.json", image)
    dump(
        folder,
        "processor_config.json",
        {"image_seq_length": 256, "processor_class": "Ovis2Processor"},
    )


_VICUNA = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}<image>\n"
    "{% endfor %}VIDEOS{% for content in message['content'] | selectattr('type', 'equalto', 'text')"
    " %}{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_VIDEOS = (
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}<video>\n"
    "{% endfor %}"
)
_CLIP_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
_CLIP_TOWER |= {"num_hidden_layers": 12, "patch_size": 14, "projection_dim": 64}
_CLIP_TOWER |= {"model_type": "clip_vision_model"}


def _vicuna(folder: Path, kind: str, name: str, side: int, seed: int, **more: Any) -> None:
    text = text_config(model_type="llama", vocab_size=32064, max_position_embeddings=4096)
    text |= {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}
    config = {
        "model_type": name,
        "text_config": text,
        "vision_config": {**_CLIP_TOWER, "image_size": side},
        "image_token_index": 32000,
        "pad_token_id": 32001,
        "tie_word_embeddings": False,
        **more,
    }
    write_model(folder, kind, config, seed)
    image = {
        **CLIP,
        "crop_size": {"height": side, "width": side},
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "resample": 3,
        "image_processor_type": "CLIPImageProcessor",
    }
    dump(folder, "preprocessor_config.json", image)


def _llava_like(folder: Path, kind: str, name: str, seed: int, **more: Any) -> None:
    _vicuna(folder, kind, name, 336, seed, image_seq_length=576, **more)
    template = _VICUNA.replace("VIDEOS", "")
    files.llama_tokenizer(
        folder,
        [(32000, "<image>", True), (32001, "<pad>", True)],
        chat_template=template,
        processor_class="LlavaProcessor",
    )
    dump(folder, "chat_template.json", {"chat_template": template})
    settings = {"image_token": "<image>", "patch_size": 14, "processor_class": "LlavaProcessor"}
    settings |= {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    dump(folder, "processor_config.json", settings)


def llava(folder: Path) -> None:
    """llava-hf/llava-1.5-7b-hf."""
    _llava_like(
        folder,
        "LlavaForConditionalGeneration",
        "llava",
        36,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def vipllava(folder: Path) -> None:
    """llava-hf/vip-llava-7b-hf."""
    _llava_like(
        folder,
        "VipLlavaForConditionalGeneration",
        "vipllava",
        37,
        vision_feature_layers=[-2, -5, -8, -11, 6],
    )


def video_llava(folder: Path) -> None:
    """LanguageBind/Video-LLaVA-7B-hf."""
    _vicuna(
        folder,
        "VideoLlavaForConditionalGeneration",
        "video_llava",
        224,
        38,
        video_token_index=32001,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    files.change(folder, "config.json", pad_token_id=32002)
    template = _VICUNA.replace("VIDEOS", _VIDEOS)
    added = [(32000, "<image>", True), (32001, "<video>", True), (32002, "<pad>", True)]
    named = {"chat_template": template, "processor_class": "VideoLlavaProcessor"}
    files.llama_tokenizer(folder, added, **named)
    dump(folder, "chat_template.json", {"chat_template": template})
    kinds = {"image_processor_type": "VideoLlavaImageProcessor"}
    files.change(folder, "preprocessor_config.json", **kinds)
    image = json.loads((folder / "preprocessor_config.json").read_text())
    video = image | {"video_processor_type": "VideoLlavaVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video)
    settings = {"image_token": "<image>", "video_token": "<video>", "patch_size": 14}
    settings |= {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    dump(folder, "processor_config.json", settings | {"processor_class": "VideoLlavaProcessor"})


def npm(folder: Path, name: str, renamed: dict[str, str], **settings: Any) -> None:
    """Copy a tokenizer of a package, with some of its reserved tokens renamed."""
    source = published.npm_files(name)
    content = json.loads((source / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["content"] = renamed.get(token["content"], token["content"])
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {renamed.get(text, text): at for text, at in vocabulary.items()}
    dump(folder, "tokenizer.json", content)
    shutil.copy(source / "tokenizer_config.json", folder)
    files.change(folder, "tokenizer_config.json", ("added_tokens_decoder",), **settings)


def gemma3(folder: Path) -> None:
    """google/gemma-3-4b-it; its template is the package's own."""
    text = text_config(model_type="gemma3_text", vocab_size=262208, sliding_window=1024)
    text |= {"num_hidden_layers": 6, "tie_word_embeddings": True, "query_pre_attn_scalar": 16}
    text |= {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0}
    vision = {"hidden_size": 64, "image_size": 896, "intermediate_size": 128, "patch_size": 14}
    vision |= {"num_attention_heads": 4, "num_hidden_layers": 2, "vision_use_head": False}
    config = {
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": vision | {"model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 256,
        "boi_token_index": 255999,
        "eoi_token_index": 256000,
        "image_token_index": 262144,
        "eos_token_id": [1, 106],
    }
    write_model(folder, "Gemma3ForConditionalGeneration", config, 39)
    npm(folder, "gemma3", {})
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    dump(folder, "chat_template.json", {"chat_template": template})
    image = {**HALF, "size": {"height": 896, "width": 896}, "image_seq_length": 256, "resample": 2}
    image |= {"image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor"}
    dump(folder, "preprocessor_config.json", image | {"do_pan_and_scan": None})
    settings = {"image_seq_length": 256, "processor_class": "Gemma3Processor"}
    dump(folder, "processor_config.json", settings)


OTHERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "qwen3_vl_moe": ("Qwen3-VL-30B-A3B-Instruct", qwen3_vl_moe),
    "video_llama_3": ("VideoLLaMA3-7B-HF", video_llama_3),
    "ovis2": ("Ovis2-2B-hf", ovis2),
    "llava": ("llava-1.5-7b-hf", llava),
    "vipllava": ("vip-llava-7b-hf", vipllava),
    "video_llava": ("Video-LLaVA-7B-hf", video_llava),
    "gemma3": ("gemma-3-4b-it", gemma3),
}
