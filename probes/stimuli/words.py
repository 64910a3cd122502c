"""Words of texts: leaks of options, neutral filler."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from probes.core.hashing import sha256_json
from probes.core.types import Item, Panels

WORD = re.compile(r"\d+(?:[.,:]\d+)*|\w+|[^\w\s.,;:!?\"'`*()\[\]“”‘’…]")
"""One word of a text: numbers keep their inner point, signs and symbols count, punctuation not."""

# Says nothing of any scene; no colour, object, person, action, order or answer.
_FILLER = (
    "this passage is only here to take up some room and it says nothing about what is shown "
    "it has no bearing on anything else and can be passed over without any loss at all"
)


def leaks(infill_texts: Iterable[str], item: Item) -> list[int]:
    """Return the options whose whole text is in one of the infills.

    Whole words are compared, without case, white space and punctuation; an option that has no
    words is never found, nor is one that is a picture.

    Args:
        infill_texts: texts of the item's infills; each is searched by itself.
        item: whose options are looked for.

    Returns:
        Indices of options, ascending.
    """
    if isinstance(item.media, Panels) and item.media.options:
        return []  # options are pictures, and their texts mere letters
    # Spaces at both ends: "car" is not in "carpet".
    texts = [f" {' '.join(words(text))} " for text in infill_texts]
    options = [f" {' '.join(words(option))} " for option in item.options]
    return [
        index
        for index, option in enumerate(options)
        if option.strip() and any(option in text for text in texts)
    ]


def words(text: str) -> list[str]:
    """Return the words of a text without case, for comparing content, not typography."""
    return [word.casefold() for word in WORD.findall(text)]


def filler(count: int, seed: int, *salt: str | int) -> str:
    """Return neutral text of exactly `count` words (split at white space).

    Args:
        count: number of words; none for 0.
        seed: with `salt`, decides where in the neutral passage the text begins.
        salt: whatever the choice is keyed by.
    """
    if count <= 0:
        return ""
    start = keyed_start(seed, *salt)
    passage = _FILLER.split()
    chosen = [passage[(start + step) % len(passage)] for step in range(count)]
    return f"{' '.join(chosen).capitalize()}."


def keyed_start(seed: int, *salt: str | int) -> int:
    """Return a large number from 0 on that depends on its arguments only."""
    # Not hash(), which Python salts anew in every process.
    return int(hashlib.sha256(sha256_json([seed, *salt]).encode()).hexdigest(), 16)
