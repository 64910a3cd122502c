"""A thought that a prompt leaves open is found, whatever tag a template has for it."""

from __future__ import annotations

import pytest

from probes.models.thoughts import opened_thought, thinking_switch


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("<|im_start|>assistant\n<think>\n", "</think>"),
        ("assistant <thinking>", "</thinking>"),
        ("[/INST][THINK]", "[/THINK]"),
        ("<|im_assistant|>\u25c1think\u25b7", "\u25c1/think\u25b7"),
        ("<|begin_of_thought|>\n", "<|end_of_thought|>"),
        ("<think>a</think><think>", "</think>"),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", "<|END_THINKING|>"),
        ("<longcat_think>\n", "</longcat_think>"),
        ("<THINK>", "</THINK>"),
    ],
)
def test_an_opened_thought_is_found(text: str, closing: str) -> None:
    found = opened_thought(text)
    assert found is not None
    assert found.closing == closing
    assert opened_thought(text + closing) is None


@pytest.mark.parametrize("text", ["assistant\n", "<think>\n\n</think>\n\n", "I think", ""])
def test_where_none_is_open_none_is_found(text: str) -> None:
    assert opened_thought(text) is None


def test_the_switch_of_a_template_is_named() -> None:
    template = "{% if enable_thinking is defined and enable_thinking is false %}x{% endif %}"
    assert thinking_switch(template) == "enable_thinking"
    assert thinking_switch("{{ messages }}") == ""
