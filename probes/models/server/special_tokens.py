"""Special tokens that a server leaves in a reply, taken out as a tokenizer's `decode` would do.

Some servers part a reply by patterns over its text with all tokens in it (`transformers serve` for
Qwen, Gemma 4 and what brings a response template) and leave some of them in what they return.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probes.core.replies import marks
from probes.core.types import ModelSpec
from probes.models.chat_template import checkpoint_file
from probes.models.checkpoint import Checkpoint

# No text has these by chance. Other shapes ("</s>" strikes out, too) count at the ends only.
_ANYWHERE = re.compile(r"<\|[A-Za-z][A-Za-z0-9_]{0,40}\|>|<\uff5c[^<>\uff5c\s]{1,40}\uff5c>")
_AT_ENDS = "|".join(
    (
        r"</?s>",
        r"<(?:bos|eos|pad|unk)>",
        r"<(?:start|end)_of_turn>",
        r"<\|?turn\|?>",
        r"\[/?INST\]",
        r"\s+",
    )
)
_ENDS = re.compile(rf"\A(?:{_AT_ENDS})+|(?:{_AT_ENDS})+\Z")


def cleaner(local: Checkpoint | None, spec: ModelSpec) -> Callable[[str], str]:
    """Return what takes special tokens and outer white space out of a reply.

    Where the checkpoint's tokenizer is on this machine, all of its special tokens go, wherever they
    stand; else what has the shape of one.

    Args:
        local: the checkpoint, if it is a local folder.
        spec: else its hub name, which is looked up in the local cache only.
    """
    special = special_tokens(local, spec)
    if not special:
        return lambda text: _ENDS.sub("", _ANYWHERE.sub("", text))
    longest_first = sorted(special, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return lambda text: pattern.sub("", text).strip()


def special_tokens(local: Checkpoint | None, spec: ModelSpec) -> set[str]:
    """Return the special tokens of a checkpoint's tokenizer; none where its files are not here.

    A token that marks a thought is none: what it marks is not told apart without it.
    """
    found: set[str] = set()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = checkpoint_file(local, spec, name)
        if path is not None and path.is_file():
            found |= _special(path)
    # A token of one character is ordinary text.
    return {token for token in found if len(token) > 1} - marks()


def _special(path: Path) -> set[str]:
    try:
        held: Any = json.loads(path.read_text("utf-8"))
        listed = held.get("added_tokens") or list(held.get("added_tokens_decoder", {}).values())
        return {str(one["content"]) for one in listed if one.get("special")}
    except (ValueError, AttributeError, KeyError, TypeError):
        return set()  # the server reads its own files: ours need not be sound
