"""Mistral Small 3.2, Pixtral, and LLaVA-NeXT on Mistral 7B."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hub_layouts import packed, published
from hub_layouts.files import change, dump
from hub_layouts.others import CLIP, npm, text_config, write_model

_INST = (
    "{{ bos_token }}{% for message in messages %}[INST]"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for chunk in message['content'] %}{% if chunk['type'] == 'text' %}{{ chunk['text'] }}"
    "{% elif chunk['type'] == 'image' %}[IMG]{% endif %}{% endfor %}{% endif %}"
    "[/INST]{% endfor %}"
)
_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
_TOWER |= {"num_hidden_layers": 3, "patch_size": 14, "head_dim": 16, "image_size": 1540}
_TOWER |= {"model_type": "pixtral", "rope_theta": 10000.0}
# The vocabulary is that of Nemo (`test_published.py` holds it); these tokens have other names.
_NAMES = {"<pad>": "[IMG]", "[PREFIX]": "<pad>", "[MIDDLE]": "[IMG_BREAK]", "[SUFFIX]": "[IMG_END]"}
_NAMES |= {
    f"<SPECIAL_{at}>": name
    for at, name in enumerate(
        "[PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]".split(), 14
    )
}
_NAMES |= {"<SPECIAL_32>": "[ARGS]", "<SPECIAL_33>": "[CALL_ID]"}


def _processor(folder: Path, template: str, merge: int, patch: int) -> None:
    named = {"chat_template": template, "pad_token": "<pad>", "processor_class": "PixtralProcessor"}
    npm(folder, "mistral_nemo", _NAMES, **named)
    dump(folder, "chat_template.json", {"chat_template": template})
    size = {"size": {"longest_edge": 1540}, "patch_size": patch}
    image = {**CLIP, **size, "do_convert_rgb": True, "resample": 3}
    kinds = {"image_processor_type": "PixtralImageProcessor", "processor_class": "PixtralProcessor"}
    dump(folder, "preprocessor_config.json", image | kinds)
    settings = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "patch_size": patch}
    settings |= {"image_end_token": "[IMG_END]", "spatial_merge_size": merge}
    dump(folder, "processor_config.json", settings | {"processor_class": "PixtralProcessor"})


def mistral3(folder: Path) -> None:
    """mistralai/Mistral-Small-3.2-24B-Instruct-2506."""
    config = {
        "model_type": "mistral3",
        "text_config": text_config(model_type="mistral", vocab_size=131072, rope_theta=1e9),
        "vision_config": _TOWER,
        "image_token_index": 10,
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
        "tie_word_embeddings": False,
    }
    write_model(folder, "Mistral3ForConditionalGeneration", config, 40)
    template = published.template("llama.cpp", "Mistral-Small-3.2-24B-Instruct-2506")
    _processor(folder, template, 2, 14)


def pixtral(folder: Path) -> None:
    """mistral-community/pixtral-12b: the class of LLaVA with another tower."""
    tower = {**_TOWER, "image_size": 1024, "patch_size": 16}
    config = {
        "model_type": "llava",
        "text_config": text_config(model_type="mistral", vocab_size=131072, rope_theta=1e9),
        "vision_config": tower,
        "image_token_index": 10,
        "image_seq_length": 1,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": False,
    }
    write_model(folder, "LlavaForConditionalGeneration", config, 41)
    _processor(folder, _INST, 1, 16)
    change(folder, "preprocessor_config.json", size={"longest_edge": 1024})


def mistral_7b() -> packed.Vocabulary:
    """Return the vocabulary of Mistral 7B v0.1 and v0.2."""
    file = "mistral_common/data/tokenizer.model.v1"
    return packed.sentencepiece(published.path_of("mistral-common", file))


MISTRAL: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mistral3": ("Mistral-Small-3.2-24B-Instruct-2506", mistral3),
    "pixtral": ("pixtral-12b", pixtral),
}
