"""Llama 4, and Muse Glimmer, whose vocabulary is of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_layouts import files, published, vocabularies
from hub_layouts.files import dump
from hub_layouts.others import HALF, text_config, write_model
from hub_layouts.vocabularies import Added

_FIRST = 200000
"""Id of the first token behind the vocabulary."""


def _added(names: dict[int, str]) -> Added:
    """Return all 2,048 special tokens: those with a name, and reserved ones."""
    start = """<|begin_of_text|> <|end_of_text|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|>
        <|header_start|> <|header_end|> <|eom|> <|eot|> <|step|>""".split()
    known = dict(enumerate(start, _FIRST)) | names
    reserved = "<|reserved_special_token_{}|>"
    return [(at, known.get(at, reserved.format(at - _FIRST)), True) for at in range(_FIRST, 202048)]


def _tokenizer(folder: Path, names: dict[int, str], **settings: Any) -> None:
    added = _added(names)
    dump(folder, "tokenizer.json", vocabularies.llama4_tokenizer(added))
    config = {
        "added_tokens_decoder": files.decoder(added),
        "bos_token": "<|begin_of_text|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|eot|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    dump(folder, "tokenizer_config.json", config | settings)


def llama4(folder: Path) -> None:
    """meta-llama/Llama-4-Scout-17B-16E-Instruct."""
    text = text_config(
        model_type="llama4_text",
        vocab_size=202048,
        num_hidden_layers=4,
        intermediate_size=96,
        intermediate_size_mlp=160,
        interleave_moe_layer_step=1,
        num_local_experts=4,
        num_experts_per_tok=1,
        no_rope_layers=[],
        use_qk_norm=True,
        attention_chunk_size=8192,
        attn_scale=0.1,
        attn_temperature_tuning=True,
        floor_scale=8192,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling={
            "factor": 16.0,
            "high_freq_factor": 1.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        max_position_embeddings=1048576,
        bos_token_id=200000,
        eos_token_id=[200001, 200007, 200008],
        pad_token_id=200018,
    )
    vision = {
        "model_type": "llama4_vision_model",
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "image_size": 336,
        "patch_size": 14,
        "pixel_shuffle_ratio": 0.5,
        "projector_input_dim": 64,
        "projector_output_dim": 64,
        "vision_output_dim": 64,
        "rope_theta": 10000,
    }
    config = {
        "model_type": "llama4",
        "text_config": text,
        "vision_config": vision,
        "boi_token_index": 200080,
        "eoi_token_index": 200081,
        "image_token_index": 200092,
        "tie_word_embeddings": False,
    }
    write_model(folder, "Llama4ForConditionalGeneration", config, 58)
    names = {80: "<|image_start|>", 81: "<|image_end|>", 84: "<|tile_x_separator|>"}
    names |= {85: "<|tile_y_separator|>", 90: "<|image|>", 92: "<|patch|>"}
    names |= {16: "<|python_start|>", 17: "<|python_end|>", 18: "<|finetune_right_pad|>"}
    named = {"pad_token": "<|finetune_right_pad|>", "processor_class": "Llama4Processor"}
    _tokenizer(folder, {_FIRST + at: name for at, name in names.items()}, **named)
    template = published.template("axolotl", "llama4")
    dump(folder, "chat_template.json", {"chat_template": template})
    image = {**HALF, "size": {"height": 336, "width": 336}, "max_patches": 16, "resample": 2}
    image |= {"do_convert_rgb": True, "input_data_format": "channels_first"}
    image |= {"resize_to_max_canvas": False, "image_processor_type": "Llama4ImageProcessorFast"}
    dump(folder, "preprocessor_config.json", image | {"processor_class": "Llama4Processor"})
    settings = {"fake_image_token": "<|image|>", "image_token": "<|image|>", "patch_size": 14}
    dump(folder, "processor_config.json", settings | {"processor_class": "Llama4Processor"})


def muse_glimmer(folder: Path) -> None:
    """meta-models/Muse-Glimmer-30B; which ids its own special tokens have is a guess."""
    text = text_config(
        model_type="muse_glimmer_text",
        vocab_size=202048,
        num_hidden_layers=4,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        sliding_window=2048,
        max_position_embeddings=131072,
        bos_token_id=200000,
        eos_token_id=[200001, 200008],
    )
    vision = {
        "model_type": "muse_glimmer_vision",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    config = {
        "model_type": "muse_glimmer",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": 200092,
        "video_token_id": 200091,
        "out_hidden_size": 256,
        "projector_hidden_size": 64,
    }
    write_model(folder, "MuseGlimmerForConditionalGeneration", config, 59)
    names = {5: "<|start|>", 6: "<|message|>", 80: "<|image_start|>", 81: "<|image_end|>"}
    names |= {86: "<|vid_start|>", 87: "<|vid_end|>", 88: "<|vid_frame_separator|>"}
    names |= {91: "<|video|>", 92: "<|patch|>", 18: "<|finetune_right_pad|>"}
    named = {"pad_token": "<|finetune_right_pad|>", "processor_class": "MuseGlimmerProcessor"}
    _tokenizer(folder, {_FIRST + at: name for at, name in names.items()}, **named)
    (folder / "chat_template.jinja").write_text(published.template("trl", "muse_glimmer"))
    image = {"image_processor_type": "MuseGlimmerImageProcessor"}
    dump(folder, "preprocessor_config.json", image | {"processor_class": "MuseGlimmerProcessor"})
    video = {"video_processor_type": "MuseGlimmerVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video)


LLAMA4: dict[str, tuple[str, Callable[[Path], None]]] = {
    "llama4": ("Llama-4-Scout-17B-16E-Instruct", llama4),
    "muse_glimmer": ("Muse-Glimmer-30B", muse_glimmer),
}
