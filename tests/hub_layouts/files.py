"""Writing the files of a repository: JSON, shards under old names, tokenizers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hub_layouts import vocabularies
from hub_layouts.packed import Vocabulary
from hub_layouts.vocabularies import LLAMA_BASE, Added

Rules = list[tuple[str, str]]
"""Patterns of names of weights in transformers 5, and what they were in the repository."""
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_PLAIN = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


def dump(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False))


def change(folder: Path, name: str, drop: tuple[str, ...] = (), **values: Any) -> None:
    """Change entries of a JSON file."""
    content = json.loads((folder / name).read_text()) | values
    dump(folder, name, {k: v for k, v in content.items() if k not in drop})


def randomize(model: Any, seed: int) -> None:
    """Draw all weights: matrices keep the size of what they multiply."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            if weight.ndim >= 2:
                weight.copy_(noise if "embed" in name else noise / weight[0].numel() ** 0.5)
            elif "norm" in name.lower() and name.endswith("weight"):
                weight.copy_(1 + 0.1 * noise)
            else:
                weight.copy_(0.1 * noise)


def save_weights(folder: Path, model: Any, rules: Rules, dtype: torch.dtype) -> None:
    """Write two shards and their index, as repositories of 7B models have."""
    weights = {
        _old(name, rules): value.to(dtype).contiguous().clone()
        for name, value in model.state_dict().items()
    }
    names, where = sorted(weights), {}
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        where |= dict.fromkeys(part, file)
    size = sum(value.numel() * value.element_size() for value in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    dump(folder, "model.safetensors.index.json", index)


def _old(name: str, rules: Rules) -> str:
    for pattern, old in rules:
        if (changed := re.sub(pattern, old, name)) != name:
            return changed
    return name


def decoder(added: Added) -> dict[str, Any]:
    """Return added tokens as `tokenizer_config.json` has them."""
    return {str(at): {"content": text, **_PLAIN, "special": s} for at, text, s in added}


def llama_tokenizer(
    folder: Path, added: Added, vocabulary: Vocabulary | None = None, **settings: Any
) -> None:
    """Write the tokenizer's files of a model on Vicuna, or with another vocabulary of its kind."""
    dump(folder, "tokenizer.json", vocabularies.llama_tokenizer(added, vocabulary))
    pad = "<pad>" if any(text == "<pad>" for _, text, _ in added) else "<unk>"
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": None,
        "added_tokens_decoder": decoder(LLAMA_BASE + added),
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": False,
        "model_max_length": 4096,
        "pad_token": pad,
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    dump(folder, "tokenizer_config.json", config | settings)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    dump(
        folder, "special_tokens_map.json", {k: {"content": v, **_PLAIN} for k, v in special.items()}
    )
    dump(folder, "added_tokens.json", {text: at for at, text, _ in added})


def qwen_tokenizer(folder: Path, added: Added, additional: list[str], **settings: Any) -> None:
    """Write the tokenizer's files of a model on Qwen 2."""
    dump(folder, "tokenizer.json", vocabularies.qwen_tokenizer(added))
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder(added),
        "additional_special_tokens": additional,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    dump(folder, "tokenizer_config.json", config | settings)


QWEN_BASE = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_VISION = [
    f"<|{name}|>"
    for name in """object_ref_start object_ref_end box_start box_end quad_start quad_end
    vision_start vision_end vision_pad image_pad video_pad""".split()
]
QWEN_PLAIN = ["<tool_call>", "</tool_call>"] + [
    f"<|{name}|>" for name in "fim_prefix fim_middle fim_suffix fim_pad repo_name file_sep".split()
]
QWEN_FIRST = 151643
"""Id of the first token behind the vocabulary."""


def numbered(special: list[str], plain: Sequence[str] = (), more: Sequence[str] = ()) -> Added:
    """Number added tokens of Qwen: special, plain, and again special ones."""
    marked = [(text, True) for text in special] + [(text, False) for text in plain]
    marked += [(text, True) for text in more]
    return [(QWEN_FIRST + at, text, s) for at, (text, s) in enumerate(marked)]
