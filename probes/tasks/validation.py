"""What a reader returned, checked before any model is asked.

A value of the wrong type would otherwise show when the records are written, after all answers.
Two options of the same text are allowed: public data sets hold such items, and letters distinguish
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from probes.core.errors import ProbesError
from probes.core.text import listed, whole_text
from probes.core.types import Item, Panels, Video

_FIX = "correct the data, or what its reader returns (docs/own_task.md, 'A reader of your own')"


def check_items(items: Sequence[Item], task_name: str, *, several: bool = False) -> None:
    """Check the items that a reader returned.

    Args:
        items: what the reader returned.
        task_name: the name in the task's settings.
        several: whether the items may be of several tasks, with names of their own.

    Raises:
        ProbesError: a rule is broken; the first offenders are named.
    """
    where = f"task {task_name}"
    # A text is a sequence as well, of characters.
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        what = f"the reader returned a {type(items).__name__}, not a list of items"
        raise ProbesError(what, where, _FIX)
    if not items:
        raise ProbesError("the reader returned no items", where, _FIX)
    others = [
        f"entry {at} ({type(entry).__name__})"
        for at, entry in enumerate(items)
        if not isinstance(entry, Item)
    ]
    refuse(others, "entries are not of type Item", where, _FIX)
    unnamed = [f"entry {at}" for at, item in enumerate(items) if not _is_name(item.id)]
    refuse(unnamed, "items have no id (a text that is not empty)", where, _FIX)
    if several:
        unnamed = [item.id for item in items if not _is_name(item.task)]
        refuse(unnamed, "items have no task (a text that is not empty)", where, _FIX)
    others = [item.id for item in items if item.task != task_name and not several]
    fix = (
        "set the field `task` of every item to the name in the task's settings (`task.name`), or "
        "say that the reader's items are of several tasks (`TaskReader(..., several=True)`)"
    )
    refuse(others, f"items do not carry the task's name {task_name!r}", where, fix)
    # Samples, donors and records go by task and id: two items of both would be mixed up.
    repeated = [key for key, count in Counter(item.key for item in items).items() if count > 1]
    refuse([key.id for key in repeated], "ids occur more than once", where, _FIX)
    for what, is_broken in _RULES:
        refuse([item.id for item in items if is_broken(item)], f"items {what}", where, _FIX)


def refuse(offenders: Sequence[str], what: str, where: str, fix: str) -> None:
    """Raise if there are offenders, naming the first few and their number.

    Raises:
        ProbesError: there are offenders.
    """
    if offenders:
        named = listed([repr(name) for name in offenders])
        raise ProbesError(f"{len(offenders)} {what}: {named}", where, fix)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object, least: int = 0) -> bool:
    # For Python True is the number 1.
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)


def _are_pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(_are_texts(pair) and len(pair) == 2 for pair in value)


def _is_answer(item: Item) -> bool:
    return item.answer is None or (_is_count(item.answer) and item.answer < len(item.options))


def _is_sized(panels: Panels) -> bool:
    return _is_count(panels.count, 1) and _is_count(panels.options) and _is_count(panels.row)


def _texts(item: Item) -> Iterator[str]:
    yield from (item.id, item.task, item.question, *item.options, item.stratum, item.cluster)
    yield from (text for pair in item.meta for text in pair)


# In order: a rule may rely on the ones before it.
_RULES: tuple[tuple[str, Callable[[Item], bool]], ...] = (
    ("have a question that is not text", lambda item: not isinstance(item.question, str)),
    ("have options that are not a tuple of texts", lambda item: not _are_texts(item.options)),
    ("have a stratum that is not text", lambda item: not isinstance(item.stratum, str)),
    ("have a cluster that is not text", lambda item: not isinstance(item.cluster, str)),
    ("have a meta that is not a tuple of pairs of texts", lambda item: not _are_pairs(item.meta)),
    (
        "have a meta with one name twice",
        lambda item: len({name for name, _ in item.meta}) < len(item.meta),
    ),
    (
        # UTF-8 cannot hold it: the records could not be written.
        "have text with half a character (a lone surrogate)",
        lambda item: any(whole_text(text) != text for text in _texts(item)),
    ),
    ("have fewer than two options", lambda item: len(item.options) < 2),
    (
        "have an answer that is neither None nor the index of an option",
        lambda item: not _is_answer(item),
    ),
    (
        "have media that are neither Video nor Panels",
        lambda item: not isinstance(item.media, Video | Panels),
    ),
    (
        # A relative path is another file for whoever works in another folder.
        "have media whose path is not an absolute pathlib.Path",
        lambda item: not isinstance(item.media.path, Path) or not item.media.path.is_absolute(),
    ),
    ("have a media path with a NUL character", lambda item: "\0" in str(item.media.path)),
    (
        "have panels with a count below 1, or with negative options or row",
        lambda item: isinstance(item.media, Panels) and not _is_sized(item.media),
    ),
    (
        "have pictures of options, but not one for each option",
        lambda item: (
            isinstance(item.media, Panels) and item.media.options not in (0, len(item.options))
        ),
    ),
)
