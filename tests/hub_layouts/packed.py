"""Vocabularies and merges out of files that other programs pack them into: GGUF, sentencepiece."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

Vocabulary = tuple[dict[str, int], list[str]]
"""Ids by token, and merges (`LEFT RIGHT`), the first ones first."""


def gguf(path: Path) -> Vocabulary:
    """Return the vocabulary of a GGUF file that holds merges."""
    found = gguf_metadata(path)
    tokens = found["tokenizer.ggml.tokens"]
    return {text: at for at, text in enumerate(tokens)}, found["tokenizer.ggml.merges"]


@functools.cache
def gguf_metadata(path: Path) -> dict[str, Any]:
    """Return what stands in a GGUF file before its tensors."""
    with path.open("rb") as stream:
        magic, version, _, count = struct.unpack("<4sIQQ", stream.read(24))
        assert magic == b"GGUF" and version in (2, 3)
        return {_text(stream): _value(stream, _number(stream, "<I")) for _ in range(count)}


_NUMBERS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?")))
_NUMBERS |= {10: "<Q", 11: "<q", 12: "<d"}


def _number(stream: BinaryIO, form: str) -> Any:
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]


def _text(stream: BinaryIO) -> str:
    return stream.read(_number(stream, "<Q")).decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == 8:
        return _text(stream)
    if kind == 9:
        inner, length = _number(stream, "<I"), _number(stream, "<Q")
        return [_value(stream, inner) for _ in range(length)]
    return _number(stream, _NUMBERS[kind])


@functools.cache
def sentencepiece(path: Path) -> Vocabulary:
    """Return the vocabulary of a sentencepiece model of the BPE kind.

    Such a model has scores in place of merges: a piece is merged the earlier the higher its score.
    """
    pieces = [dict(_fields(value)) for field, value in _fields(path.read_bytes()) if field == 1]
    names = [bytes(piece[1]).decode() for piece in pieces]
    vocab = {name: at for at, name in enumerate(names)}
    # Only of ordinary pieces: the others (bytes, control, unknown) say their kind in field 3.
    scores = {
        name: struct.unpack("<f", piece[2])[0]
        for name, piece in zip(names, pieces, strict=True)
        if piece.get(3, 1) == 1 and len(name) > 1
    }
    merges = [
        (-score, -at, f"{name[:at]} {name[at:]}")
        for name, score in scores.items()
        for at in range(1, len(name))
        if name[:at] in vocab and name[at:] in vocab
    ]
    return vocab, [merge for *_, merge in sorted(merges)]


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a protobuf message."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield field, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _varint(content, at)
        yield field, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
