"""What of a reply is a thought, and what the answer."""

from __future__ import annotations

import pytest

from probes.core import replies


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("B", "", "B"),
        ("", "", ""),
        ("<think>\nIt is red.\n</think>\n\nB", "It is red.", "B"),
        ("<think>\n\n</think>\n\nB", "", "B"),  # Qwen3 with thinking switched off
        ("It is red.\n</think>\nB", "It is red.", "B"),  # the template has opened it
        ("<think>A or B?", "A or B?", None),
        ("  <think>", "", None),
        ("<think>a</think> <think>b", "a</think> <think>b", None),
        ("<think>a <think>b</think> c</think>D", "a <think>b c", "D"),
        ("<thinking>a</thinking>B", "a", "B"),
        ("[THINK]a[/THINK]B", "a", "B"),
        ("\u25c1think\u25b7a\u25c1/think\u25b7B", "a", "B"),
        ("<|channel>thought\na<channel|>B", "a", "B"),
        ("<think>a</think>", "a", ""),
        # A mark that nothing opens is ordinary text.
        ("B. she wrote <think> on it", "", "B. she wrote <think> on it"),
    ],
)
def test_a_thought_and_an_answer_come_apart(text: str, thought: str, answer: str | None) -> None:
    found = replies.split_thought(text)
    assert found.answer == answer
    if answer is not None:
        assert found.thought == thought


@pytest.mark.parametrize("thought", ["", "It is red.\nOr not."])
def test_what_came_apart_is_one_text_again(thought: str) -> None:
    text = replies.with_thought(thought, "B")
    assert replies.split_thought(text) == (thought, "B")
    assert replies.all_thought(replies.with_thought(thought, "")) is bool(thought)
