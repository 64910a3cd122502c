"""Where a text opens a thought: what a model writes next is then no answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = r"(?:\w+[:_])?think(?:ing)?|thoughts?|reason(?:ing)?|scratchpad"
_TAGS = re.compile(
    rf"<(?P<end>/)?(?P<name>(?i:{_NAMES}))>"
    r"|<\|(?P<end6>START|END)_(?P<name6>THINKING)\|>"
    r"|\[(?P<end2>/)?(?P<name2>THINK)\]"
    r"|\u25c1(?P<end3>/)?(?P<name3>think)\u25b7"
    r"|<\|(?P<end4>begin|end)_of_(?P<name4>thought|thinking)\|>"
    r"|<\|channel\|?>(?P<name5>thought|analysis)|(?P<end5><channel\|>)"
)
_CLOSING = {
    "name": "</{}>",
    "name2": "[/{}]",
    "name3": "\u25c1/{}\u25b7",
    "name4": "<|end_of_{}|>",
    "name5": "<channel|>",
    "name6": "<|END_{}|>",
}
"""How a thought ends, by the group of `_TAGS` that names it."""
_SWITCH = re.compile(
    r"\b(enable_thinking|thinking|reasoning_effort)\b(?=\s+is\b|\s*[=!)%}]|\s+and)"
)


class OpenedThought(NamedTuple):
    """A thought that a text begins and does not end."""

    opening: str
    closing: str
    """What would end it."""


def opened_thought(text: str) -> OpenedThought | None:
    """Return the thought that a rendered prompt leaves open at its end.

    Args:
        text: what the template writes behind the user's text, answer prefix included.
    """
    found: OpenedThought | None = None
    for match in _TAGS.finditer(text):
        groups = {name: value for name, value in match.groupdict().items() if value}
        # "begin" and "START" are written where others write nothing.
        ends = {value for name, value in groups.items() if name.startswith("end")}
        if ends - {"begin", "START"}:
            found = None
            continue
        name = next(name for name in groups if name.startswith("name"))
        found = OpenedThought(match[0], _CLOSING[name].format(groups[name]))
    return found


def thinking_switch(template: str) -> str:
    """Return the setting by which a chat template turns thinking on and off; empty without any."""
    found = _SWITCH.search(template)
    return found[1] if found else ""
