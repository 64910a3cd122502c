"""GLM-4.1V, GLM-4.5V and LFM2.5-VL with their published templates.

Their vocabularies are in no package: instead of GLM's it is Qwen 2's, which comes of the same one
(cl100k) and is cut off where GLM's special tokens begin, which have their real ids; instead of
LFM2's, that of SmolLM2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_layouts import files, published, vocabularies
from hub_layouts.files import CLIP_MEAN, CLIP_STD, dump
from hub_layouts.others import text_config, write_model

_FIRST = 151329
_SPECIAL = """<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|>
    <|observation|> <|begin_of_image|> <|end_of_image|> <|begin_of_video|>
    <|end_of_video|>""".split()
_DENSE = "<|image|> <|video|> <think> </think> <answer> </answer>".split()
_MOE = """<|begin_of_audio|> <|end_of_audio|> <|begin_of_transcription|> <|end_of_transcription|>
    <|code_prefix|> <|code_middle|> <|code_suffix|> <think> </think> <tool_call> </tool_call>
    <tool_response> </tool_response> <arg_key> </arg_key> <arg_value> </arg_value> /nothink
    <|begin_of_box|> <|end_of_box|> <|image|> <|video|>""".split()


def _glm(folder: Path, *, moe: bool, seed: int) -> None:
    name, kind = ("glm4v_moe", "Glm4vMoe") if moe else ("glm4v", "Glm4v")
    text = text_config(
        model_type=f"{name}_text",
        vocab_size=151552,
        max_position_embeddings=65536,
        num_hidden_layers=4,
        rope_theta=10000.0,
        rope_scaling={"rope_type": "default", "mrope_section": [2, 3, 3]},
        partial_rotary_factor=0.5,
        head_dim=32,
        eos_token_id=[151329, 151336, 151338],
        pad_token_id=151329,
    )
    text["rope_scaling"]["mrope_section"] = [2, 3, 3]
    if moe:
        text |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        text |= {"n_shared_experts": 1, "first_k_dense_replace": 1, "norm_topk_prob": True}
    else:
        text.pop("head_dim")
        text |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    vision = {
        "model_type": f"{name}_vision",
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 64,
        "image_size": 336,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    image_id = 151363 if moe else 151343
    config = {
        "model_type": name,
        "text_config": text,
        "vision_config": vision,
        "image_token_id": image_id,
        "video_token_id": image_id + 1,
        "image_start_token_id": 151339,
        "image_end_token_id": 151340,
        "video_start_token_id": 151341,
        "video_end_token_id": 151342,
        "tie_word_embeddings": False,
    }
    write_model(folder, f"{kind}ForConditionalGeneration", config, seed)
    names = _SPECIAL + (_MOE if moe else _DENSE)
    added = [(_FIRST + at, one, one.startswith(("<|", "["))) for at, one in enumerate(names)]
    dump(folder, "tokenizer.json", vocabularies.qwen_tokenizer(added, most=_FIRST))
    settings = {
        "added_tokens_decoder": files.decoder(added),
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "processor_class": "Glm4vProcessor",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    dump(folder, "tokenizer_config.json", settings)
    template = published.template("xinference", "glm-4.5v" if moe else "glm-4.1v-thinking")
    (folder / "chat_template.jinja").write_text(template)
    picture: dict[str, Any] = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    picture |= {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "do_rescale": True}
    picture |= {"processor_class": "Glm4vProcessor"}
    size = {"size": {"shortest_edge": 12544, "longest_edge": 9633792}}
    image = {"image_processor_type": "Glm4vImageProcessor", **size}
    dump(folder, "preprocessor_config.json", picture | image)
    size = {"size": {"shortest_edge": 12544, "longest_edge": 47040000}}
    video = {"video_processor_type": "Glm4vVideoProcessor", **size}
    dump(folder, "video_preprocessor_config.json", picture | video)


def glm4v(folder: Path) -> None:
    """zai-org/GLM-4.1V-9B-Thinking."""
    _glm(folder, moe=False, seed=60)


def glm4v_moe(folder: Path) -> None:
    """zai-org/GLM-4.5V."""
    _glm(folder, moe=True, seed=61)


GLM: dict[str, tuple[str, Callable[[Path], None]]] = {
    "glm4v": ("GLM-4.1V-9B-Thinking", glm4v),
    "glm4v_moe": ("GLM-4.5V", glm4v_moe),
}
