"""What of a reply is an answer: a thought is no part of it; a reply that was cut off is none."""

from __future__ import annotations

import re
from typing import NamedTuple

CUT_OFF = (
    "the reply was cut off at its longest, and an answer is read of a whole reply only: raise"
    " max_new_tokens"
)
"""The error of a text that its writer had not ended."""
THINKING = (
    "all of the reply is thinking: raise max_new_tokens, or switch thinking off"
    " (chat_template_kwargs: {enable_thinking: false})"
)
"""Why a reply that ends before its answer begins is none."""
_MARKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<longcat_think>": "</longcat_think>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "[THINK]": "[/THINK]",
    "\u25c1think\u25b7": "\u25c1/think\u25b7",
    "<|channel>thought": "<channel|>",
}
"""How models mark the beginning and the end of a thought."""
_OPEN = re.compile(rf"\s*(?:{'|'.join(map(re.escape, _MARKS))})")
_CLOSE = re.compile("|".join(map(re.escape, _MARKS.values())))


class SplitReply(NamedTuple):
    """A reply in two."""

    thought: str
    """Without its marks and outer white space; empty where there is none."""
    answer: str | None
    """What follows the thought; None where the reply ends within one."""


def split_thought(text: str) -> SplitReply:
    """Part a reply into its thought and its answer.

    A thought begins with the reply, or in the chat template, whose mark the reply does not repeat;
    it ends with the last closing mark. A mark elsewhere is ordinary text.

    >>> split_thought("<think>It is red.</think> B")
    SplitReply(thought='It is red.', answer='B')
    >>> split_thought("It is red.</think>B").answer, split_thought("<think>It is").answer
    ('B', None)
    """
    end = 0
    for mark in _CLOSE.finditer(text):
        end = mark.end()
    thought, answer = text[:end], text[end:]
    if _OPEN.match(answer):
        return SplitReply(_bare(text), None)
    return SplitReply(_bare(thought), answer.strip())


def all_thought(text: str) -> bool:
    """Return whether a reply has a thought and no answer."""
    thought, answer = split_thought(text)
    return bool(thought) and not answer


def marks() -> frozenset[str]:
    """Return all marks of thoughts."""
    return frozenset((*_MARKS, *_MARKS.values()))


def opens_thought(text: str) -> bool:
    """Return whether a text begins with the mark that opens a thought."""
    return _OPEN.match(text) is not None


def with_thought(thought: str, answer: str) -> str:
    """Return a thought and an answer that came apart as one text, as models write them."""
    if not thought.strip():
        return answer
    return f"<think>\n{thought.strip()}\n</think>\n\n{answer.strip()}".strip()


def _bare(text: str) -> str:
    """Return a thought without the marks around and within it."""
    inner = _OPEN.sub("", text, count=1) if _OPEN.match(text) else text
    return _CLOSE.sub("", inner).strip()
