"""Newer classes with the template and the vocabulary that their repositories have on the hub."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hub_layouts import files, packed, published, vocabularies
from hub_layouts.files import dump
from hub_layouts.others import HALF, QWEN3_TOWER, text_config, write_model

QWEN3_5_FIRST = 248044
"""Id of the first token behind the vocabulary of Qwen 3.5."""
_QWEN3_5_SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|>
    <|box_start|> <|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|>
    <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
_QWEN3_5_PLAIN = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|>
    <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response> </tool_response> <think>
    </think>""".split()
QWEN_AUDIO = """<|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod>
    <tts_text_bos_single> <|audio_pad|>""".split()


def qwen3_5(folder: Path, seed: int = 50, *, moe: bool = False, thinks: bool = True) -> None:
    """Qwen/Qwen3.5-9B, or with experts Qwen3.5-35B-A3B; those that do not think: Qwen3.5-0.8B."""
    name = "qwen3_5_moe" if moe else "qwen3_5"
    text = text_config(
        vocab_size=248320,
        max_position_embeddings=262144,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        num_hidden_layers=4,
        attn_output_gate=True,
        full_attention_interval=4,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        linear_conv_kernel_dim=4,
        linear_key_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_value_head_dim=16,
        mamba_ssm_dtype="float32",
        mtp_num_hidden_layers=1,
        rope_parameters={
            "mrope_interleaved": True,
            "mrope_section": [3, 3, 2],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        eos_token_id=QWEN3_5_FIRST,
        model_type=f"{name}_text",
    )
    if moe:
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        text |= {"shared_expert_intermediate_size": 32}
    vision = {
        "depth": 2,
        **QWEN3_TOWER,
        "deepstack_visual_indexes": [],
        "model_type": name,
    }
    config = {
        "model_type": name,
        "text_config": text,
        "vision_config": vision,
        "image_token_id": 248056,
        "video_token_id": 248057,
        "vision_start_token_id": 248053,
        "vision_end_token_id": 248054,
        "tie_word_embeddings": False,
    }
    kind = "Qwen3_5Moe" if moe else "Qwen3_5"
    write_model(folder, f"{kind}ForConditionalGeneration", config, seed)
    sampling = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    ends = {"bos_token_id": 248044, "eos_token_id": [248046, 248044], "pad_token_id": 248044}
    dump(folder, "generation_config.json", sampling | ends)
    _qwen3_5_tokenizer(folder)
    which = "qwen3_5_think" if thinks else "qwen3_5_nothink"
    (folder / "chat_template.jinja").write_text(published.template("trl", which))
    image: dict[str, Any] = {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **HALF,
        "processor_class": "Qwen3VLProcessor",
    }
    processor = {"image_processor_type": "Qwen2VLImageProcessorFast"}
    dump(folder, "preprocessor_config.json", image | processor)
    video = image | {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
    video |= {"video_processor_type": "Qwen3VLVideoProcessor"}
    dump(folder, "video_preprocessor_config.json", video)


def _qwen3_5_tokenizer(folder: Path) -> None:
    marked = [(text, True) for text in _QWEN3_5_SPECIAL] + [
        (text, False) for text in _QWEN3_5_PLAIN
    ]
    marked += [(text, True) for text in QWEN_AUDIO]
    added = [(QWEN3_5_FIRST + at, text, special) for at, (text, special) in enumerate(marked)]
    files.qwen_tokenizer(
        folder, added, _QWEN3_5_SPECIAL[1:], model_max_length=262144, eos_token="<|im_end|>"
    )
    dump(folder, "tokenizer.json", vocabularies.qwen3_5_tokenizer(added))


_GEMMA4_TOKENS = {
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "boi_token": "<|image>",
    "bos_token": "<bos>",
    "eoa_token": "<audio|>",
    "eoc_token": "<channel|>",
    "eoi_token": "<image|>",
    "eos_token": "<eos>",
    "eot_token": "<turn|>",
    "escape_token": '<|"|>',
    "etc_token": "<tool_call|>",
    "etd_token": "<tool|>",
    "etr_token": "<tool_response|>",
    "image_token": "<|image|>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "soc_token": "<|channel>",
    "sot_token": "<|turn>",
    "stc_token": "<|tool_call>",
    "std_token": "<|tool>",
    "str_token": "<|tool_response>",
    "think_token": "<|think|>",
    "unk_token": "<unk>",
}
_GEMMA4_IDS = {
    "audio_token_id": 258881,
    "boa_token_id": 256000,
    "boi_token_id": 255999,
    "eoa_token_index": 258883,
    "eoi_token_id": 258882,
    "eos_token_id": [1, 106],
    "image_token_id": 258880,
    "video_token_id": 258884,
    "tie_word_embeddings": True,
    "vision_soft_tokens_per_image": 280,
}


def _gemma4_text(name: str, **values: Any) -> dict[str, Any]:
    rope = {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1000000.0,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    }
    text = text_config(
        model_type=f"{name}_text",
        vocab_size=262144,
        num_hidden_layers=6,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        rope_parameters=rope,
        global_head_dim=32,
        sliding_window=512,
        final_logit_softcapping=30.0,
        hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
        max_position_embeddings=131072,
    )
    return text | values


def _gemma4_files(folder: Path, kind: str, seed: int, config: dict[str, Any]) -> None:
    write_model(folder, f"{kind}ForConditionalGeneration", config | _GEMMA4_IDS, seed)
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 64, "top_p": 0.95}
    ends = {"bos_token_id": 2, "eos_token_id": [1, 106, 50], "pad_token_id": 0}
    dump(folder, "generation_config.json", sampling | ends)
    path = published.path_of("llama.cpp", "vendor/llama.cpp/models/ggml-vocab-gemma-4.gguf")
    content = vocabularies.gemma4_tokenizer(packed.gguf_metadata(path))
    dump(folder, "tokenizer.json", content)
    named = {"backend": "tokenizers", "extra_special_tokens": ["<|video|>"], "padding_side": "left"}
    named |= {"processor_class": f"{kind}Processor", "tokenizer_class": "GemmaTokenizer"}
    dump(folder, "tokenizer_config.json", named | _GEMMA4_TOKENS)
    (folder / "chat_template.jinja").write_text(published.template("trl", "gemma4_v5"))
    picture = {"do_convert_rgb": True, "do_rescale": True, "do_resize": True, "resample": 3}
    picture |= {"rescale_factor": 1 / 255, "patch_size": 16, "pooling_kernel_size": 3}
    picture |= {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    image = {"do_normalize": False, "image_processor_type": f"{kind}ImageProcessor"}
    image |= {"max_soft_tokens": 280, "image_seq_length": 280}
    video = {"do_normalize": True, "video_processor_type": f"{kind}VideoProcessor"}
    video |= {"max_soft_tokens": 70, "num_frames": 32, "do_sample_frames": True}
    sound = {"feature_extractor_type": f"{kind}AudioFeatureExtractor", "sampling_rate": 16000}
    settings = {
        "audio_ms_per_token": 40,
        "audio_seq_length": 750,
        "feature_extractor": sound,
        "image_processor": picture | image,
        "image_seq_length": 280,
        "processor_class": f"{kind}Processor",
        "video_processor": picture | video,
    }
    dump(folder, "processor_config.json", settings)


def gemma4(folder: Path) -> None:
    """google/gemma-4-E2B-it: embeddings by layer, layers that share keys, a tower for sound."""
    text = _gemma4_text(
        "gemma4",
        num_key_value_heads=1,
        hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=262144,
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 3,
        use_double_wide_mlp=True,
    )
    _gemma4_files(
        folder,
        "Gemma4",
        53,
        {
            "model_type": "gemma4",
            "text_config": text,
            "vision_config": _GEMMA4_VISION,
            "audio_config": {
                "model_type": "gemma4_audio",
                "hidden_size": 32,
                "num_attention_heads": 2,
                "num_hidden_layers": 1,
                "output_proj_dims": 48,
                "subsampling_conv_channels": [16, 8],
            },
        },
    )


_GEMMA4_VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "global_head_dim": 16,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "position_embedding_size": 10240,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
    "use_clipped_linears": True,
    "standardize": False,
}


def gemma4_moe(folder: Path) -> None:
    """google/gemma-4-26B-A4B-it: experts, and pictures whose tokens see each other."""
    text = _gemma4_text(
        "gemma4",
        sliding_window=1024,
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
        hidden_size_per_layer_input=0,
        enable_moe_block=True,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=32,
        use_bidirectional_attention="vision",
        max_position_embeddings=262144,
    )
    vision = _GEMMA4_VISION | {"use_clipped_linears": False, "standardize": True}
    config = {"model_type": "gemma4", "text_config": text, "vision_config": vision}
    _gemma4_files(folder, "Gemma4", 54, config | {"audio_config": None})


def gemma4_unified(folder: Path) -> None:
    """google/gemma-4-12B-it, which has no tower: pixels go into the language model."""
    text = _gemma4_text(
        "gemma4_unified",
        sliding_window=1024,
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
        use_bidirectional_attention="vision",
        max_position_embeddings=262144,
    )
    vision = {"model_type": "gemma4_unified_vision", "mm_embed_dim": 64, "output_proj_dims": 64}
    vision |= {"patch_size": 16, "pooling_kernel_size": 3, "mm_posemb_size": 1120}
    config = {"model_type": "gemma4_unified", "text_config": text, "vision_config": vision}
    audio = {"model_type": "gemma4_unified_audio", "audio_embed_dim": 640}
    _gemma4_files(folder, "Gemma4Unified", 55, config | {"audio_config": audio})


NEWER: dict[str, tuple[str, Callable[[Path], None]]] = {
    "qwen3_5": ("Qwen3.5-9B", qwen3_5),
    "qwen3_5_small": ("Qwen3.5-0.8B", partial(qwen3_5, seed=51, thinks=False)),
    "qwen3_5_moe": ("Qwen3.5-35B-A3B", partial(qwen3_5, seed=52, moe=True)),
    "gemma4": ("gemma-4-E2B-it", gemma4),
    "gemma4_moe": ("gemma-4-26B-A4B-it", gemma4_moe),
    "gemma4_unified": ("gemma-4-12B-it", gemma4_unified),
}
