"""A tiny llama in the GGUF format, written by hand: no package for it is needed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    """Return a value with its type: unsigned integer, float, text, or an array of one of them."""
    if isinstance(value, list):
        each = [_value(one) for one in value]
        return (
            struct.pack("<I", 9)
            + each[0][:4]
            + struct.pack("<Q", len(value))
            + b"".join(one[4:] for one in each)
        )
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    return (
        struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
    )


def llama(path: Path, words: str = "the red box opens a hand moves") -> Path:
    """Write a model of one layer with random weights and a vocabulary of words and letters."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *(f"▁{word}" for word in words.split()), *"abcdefghijklmnopqrstuvwxyz"]
    size, inner = 32, 64
    draw = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), size), "output": (len(tokens), size)}
    shapes |= {f"blk.0.attn_{one}": (size, size) for one in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (inner, size), "blk.0.ffn_up": (inner, size)}
    shapes |= {"blk.0.ffn_down": (size, inner)}
    shapes |= dict.fromkeys(("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"), (size,))
    tensors = {
        f"{name}.weight": draw.normal(0, 0.5, shape).astype("<f4") for name, shape in shapes.items()
    }
    facts: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 256,
        "llama.embedding_length": size,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10_000.0,
        "llama.rope.dimension_count": size // 4,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(at) for at in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    head += b"".join(_text(name) + _value(value) for name, value in facts.items())
    data = b""
    for name, array in tensors.items():
        dims = array.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0, len(data))
        data += array.tobytes() + bytes(-array.nbytes % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path
