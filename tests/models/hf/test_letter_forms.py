"""Which tokens a letter can be written as, in real vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hub_layouts import files
from hub_layouts.published import npm_files
from letter_scores import letter_ids
from transformers import AutoTokenizer

from probes.models.hf.prompt_encoder import PromptTokens
from probes.models.hf.token_layout import letter_forms

VICUNA = [(32000, "<image>", True), (32001, "<video>", True)]


def found(folder: Path, placeholder: str) -> tuple[Any, PromptTokens]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, PromptTokens(tokenizer, placeholder)


def test_llama_writes_a_letter_behind_its_space_only(tmp_path: Path) -> None:
    files.llama_tokenizer(tmp_path, VICUNA)
    tokenizer, tokens = found(tmp_path, "<video>")
    # The bare piece exists, and the tokenizer never makes it of a letter by itself.
    assert tokenizer.convert_ids_to_tokens([319, 29909]) == ["▁A", "A"]
    assert tokens.letter_forms("A") == (319,)
    assert tokens.letter_forms("B") == (350,)
    assert letter_ids(tokenizer, "A") == [319]


def test_qwen_writes_a_letter_bare_and_behind_a_space(tmp_path: Path) -> None:
    special = [*files.QWEN_BASE, *files.QWEN_VISION]
    files.qwen_tokenizer(tmp_path, files.numbered(special), special)
    tokenizer, tokens = found(tmp_path, "<|video_pad|>")
    assert tokens.letter_forms("A") == (32, 362)
    assert letter_ids(tokenizer, "A") == [32, 362]
    forms = letter_forms(tokens, "ABCDEFGHIJ")
    assert [tokenizer.decode(ids[:1]) for ids in forms.values()] == list("ABCDEFGHIJ")
    assert [tokenizer.decode(ids[1:]) for ids in forms.values()] == [f" {c}" for c in "ABCDEFGHIJ"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("gemma3", (236776, 562)),
        ("mistral_nemo", (1065, 1349)),
        ("llama3", (32, 362)),
        ("qwen3", (32, 362)),
    ],
)
def test_other_vocabularies(name: str, ids: tuple[int, ...]) -> None:
    tokenizer, tokens = found(npm_files(name), "<unused0>")
    assert tokens.letter_forms("A") == ids
    assert set(letter_ids(tokenizer, "A")) == set(ids)
    assert len(letter_forms(tokens, "ABCDEFGHIJ")) == 10
