"""Small operations on text and nested mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def whole_text(text: str) -> str:
    """Return a text with a question mark for every lone surrogate.

    JSON may hold half a character, which no file, table or tokenizer takes.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, for diffs and manifests."""
    out: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out
