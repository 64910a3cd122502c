"""Llama 3.2 Vision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hub_layouts import published
from hub_layouts.files import CLIP_MEAN, CLIP_STD, dump
from hub_layouts.others import npm, text_config, write_model


def mllama(folder: Path) -> None:
    """meta-llama/Llama-3.2-11B-Vision-Instruct: text attends to pictures across, in some layers."""
    text = text_config(vocab_size=128256, rope_theta=500000.0, model_type="mllama_text_model")
    text |= {"num_hidden_layers": 3, "cross_attention_layers": [1], "rms_norm_eps": 1e-5}
    text |= {"pad_token_id": 128004, "eos_token_id": [128001, 128008, 128009]}
    text |= {"bos_token_id": 128000, "max_position_embeddings": 131072}
    text.pop("head_dim")
    vision: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "attention_heads": 2}
    vision |= {"num_hidden_layers": 2, "num_global_layers": 1, "image_size": 560, "patch_size": 14}
    vision |= {"intermediate_layers_indices": [0], "vision_output_dim": 128}
    vision |= {"max_num_tiles": 4, "model_type": "mllama_vision_model"}
    config = {
        "model_type": "mllama",
        "text_config": text,
        "vision_config": vision,
        "image_token_index": 128256,
        "tie_word_embeddings": False,
    }
    write_model(folder, "MllamaForConditionalGeneration", config, 45)
    npm(
        folder,
        "llama3_2",
        {},
        pad_token="<|finetune_right_pad_id|>",
        processor_class="MllamaProcessor",
    )
    content = json.loads((folder / "tokenizer.json").read_text())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    picture = {"id": 128256, "content": "<|image|>", **plain, "special": True}
    content["added_tokens"].append(picture)
    dump(folder, "tokenizer.json", content)
    template = published.template("xinference", "llama-3.2-vision-instruct")
    dump(folder, "chat_template.json", {"chat_template": template})
    image = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_processor_type": "MllamaImageProcessor",
        "image_std": CLIP_STD,
        "max_image_tiles": 4,
        "processor_class": "MllamaProcessor",
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": 560, "width": 560},
    }
    dump(folder, "preprocessor_config.json", image)
