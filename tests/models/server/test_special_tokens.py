"""Special tokens that a server leaves in a reply are taken out; ordinary text stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loopback import LoopbackServer, ask, chat

from probes.core.types import ModelSpec
from probes.models.server.special_tokens import cleaner


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("B<|im_end|>", "B"),
        ("<|begin_of_box|>B<|end_of_box|>", "B"),
        ("B<|im_end|>\n<|endoftext|>\n", "B"),
        ("B</s>", "B"),
        ("<s> B <end_of_turn><eos>", "B"),
        ("B<\uff5cend\u2581of\u2581sentence\uff5c>", "B"),
        # Ordinary text.
        ("a <s>struck</s> word", "a <s>struck</s> word"),
        ("1 <| 2 |> 3, <b>bold</b> <|>", "1 <| 2 |> 3, <b>bold</b> <|>"),
        ("B. the <image> of a cup", "B. the <image> of a cup"),
    ],
)
def test_shapes_of_special_tokens_where_the_tokenizer_is_elsewhere(
    text: str, clean: str, loopback: LoopbackServer, opened: Any
) -> None:
    loopback.answer = lambda prompt, n: chat(text)
    assert ask(opened(), "q")[0].text == clean


def test_special_tokens_of_a_tokenizer_that_is_here(tmp_path: Path) -> None:
    for name, content in (("config.json", '{"model_type": "x"}'), ("model.safetensors", "")):
        (tmp_path / name).write_text(content)
    added = [
        {"id": 0, "content": "<turn>", "special": True},
        {"id": 1, "content": "<turn>2", "special": True},
        {"id": 2, "content": "<think>", "special": True},
        {"id": 3, "content": "<tool>", "special": False},
        {"id": 4, "content": "x", "special": True},
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    spec = ModelSpec("m", "image", str(tmp_path), frame_as="image")
    from probes.models.chat_template import local_checkpoint

    clean = cleaner(local_checkpoint(spec), spec)
    assert clean("<turn>2<think>six<turn> </think><tool>B<|im_end|> ") == (
        "<think>six </think><tool>B<|im_end|>"
    )
    # Files of others need not be sound.
    (tmp_path / "tokenizer.json").write_text("[]")
    assert cleaner(local_checkpoint(spec), spec)("B<|im_end|>") == "B"
