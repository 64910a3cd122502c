"""Small operations on text and nested mappings."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def whole_text(text: str) -> str:
    """Return a text with every lone surrogate replaced by a question mark.

    JSON may hold half a character, which no file, table or tokenizer accepts.
    """
    # Nearly all texts are ASCII, which is known without a look at each character.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def whole_texts(value: Any) -> Any:
    """Return nested lists and tuples with `whole_text` applied to every text."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list | tuple):
        return type(value)(whole_texts(one) for one in value)
    return value


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted names, for diffs and manifests."""
    out: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


def without_lists(value: Any, by: str | None = None) -> Any:
    """Turn lists of mappings into mappings, so that they flatten.

    Args:
        value: a mapping, a list, or anything else, which stays as it is.
        by: the entry that names a mapping within a list; otherwise its position does.
    """
    if isinstance(value, Mapping):
        return {str(name): without_lists(inner, by) for name, inner in value.items()}
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        named = (
            (inner.get(by, at) if isinstance(inner, Mapping) else at, inner)
            for at, inner in enumerate(value)
        )
        return {str(name): without_lists(inner, by) for name, inner in named}
    return value


def letter(option: int) -> str:
    """Return an option's letter by its index; its index where there are more than 26."""
    return chr(ord("A") + option) if option < 26 else str(option)


def listed(names: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """Return at most `most` names as one text, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def nearest(
    given: str, known: Collection[str], *, count: int = 1, prefix: str = "", otherwise: str = ""
) -> str:
    """Return the fix for an unknown name: the nearest known ones, else all of them.

    Args:
        given: the unknown name.
        known: those that there are.
        count: how many to offer at most.
        prefix: what stands before every name, e.g. that of its group.
        otherwise: the fix where no known name is near and there are too many to list.
    """
    # Below the library's own 0.6: in a short name one wrong letter counts for much.
    near = difflib.get_close_matches(given, known, count, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(prefix + name for name in near)}?"
    return otherwise or f"use one of {', '.join(known)}"
