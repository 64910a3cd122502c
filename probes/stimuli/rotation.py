"""Items with rotated options."""

from __future__ import annotations

from dataclasses import replace

from probes.core.types import Item


def rotated(item: Item, places: int) -> Item:
    """Return the item with its options rotated to the left, and its answer where it then is."""
    if not places:
        return item
    count = len(item.options)
    options = item.options[places:] + item.options[:places]
    answer = None if item.answer is None else (item.answer - places) % count
    return replace(item, options=options, answer=answer)
