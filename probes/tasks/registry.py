"""From a task's settings to its items, by way of the reader that it names."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from probes.config.tasks import TASKS, Recipe, TaskConfig, TaskReader
from probes.core.errors import ProbesError, machine_error
from probes.core.progress import ReportProgress
from probes.core.types import Item
from probes.tasks import made
from probes.tasks.validation import check_items

__all__ = [
    "TASKS",
    "Recipe",
    "TaskConfig",
    "TaskReader",
    "check_media",
    "frames",
    "load",
    "root",
    "submission",
]


_Returned = TypeVar("_Returned")


def load(
    task: TaskConfig,
    progress: ReportProgress | None = None,
    media: Literal["now", "later"] = "now",
) -> list[Item]:
    """Return all items of a task, checked; data that has a recipe is made on first use.

    Made data that is damaged is made again.

    Args:
        task: the task's settings.
        progress: called with (clips or problems made, how many to make) while data is made.
        media: whether what was made of the items' media is read now, or by `check_media`.

    Raises:
        ProbesError: no such reader, no folder named, what the reader finds wrong or fails with, a
            file that is missing or not JSON, or items that it may not return (`check_items`).
    """
    if media == "later" and _is_made(task):
        folder = _root(task, progress, verify=False)
        # What a damaged file makes a reader say is not shown: the file is made again.
        with contextlib.suppress(Exception):
            items = _items(task, folder)
            shown = {item.media.path for item in items}
            if not made.problem(folder, lambda path: path not in shown):
                return items
    return _items(task, _root(task, progress, verify=True))


def check_media(
    task: TaskConfig, items: Iterable[Item], progress: ReportProgress | None = None
) -> None:
    """Read made media of some items, of all that `load` did not; what is damaged is made again.

    Args:
        task: the task's settings.
        items: of it, as loaded.
        progress: called while data is made.

    Raises:
        ProbesError: the data cannot be made.
    """
    shown = {item.media.path for item in items}
    if _is_made(task) and made.problem(
        _root(task, progress, verify=False), lambda path: path in shown
    ):
        _root(task, progress, verify=True)


def _is_made(task: TaskConfig) -> bool:
    reader = TASKS.get(task.reader, "task.reader")
    return reader.root is None and task.root is None and reader.recipe is not None


def _items(task: TaskConfig, folder: Path) -> list[Item]:
    reader = TASKS.get(task.reader, "task.reader")
    try:
        items = _asked(task, "load", lambda: reader.load(folder, task))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        # A full disk or a lack of rights is no fault of the data, and is reported as what it is.
        if machine_error(error) is not None:
            raise
        raise ProbesError(
            f"reader {task.reader} cannot read the data: {error}",
            str(getattr(error, "filename", None) or folder),
            "correct task.root or the data",
        ) from error
    # Here, not in the readers: those of other packages are checked in the same way.
    check_items(items, task.name, several=reader.several)
    return items


def root(task: TaskConfig, progress: ReportProgress | None = None) -> Path:
    """Return the absolute folder of a task's data; data that has a recipe is made on first use.

    Raises:
        ProbesError: the task names no folder and its data cannot be made.
    """
    return _root(task, progress, verify=False)


def _root(task: TaskConfig, progress: ReportProgress | None, *, verify: bool) -> Path:
    reader = TASKS.get(task.reader, "task.reader")
    # First: such a reader finds its data itself, whatever `task.root` says.
    if (root_of := reader.root) is not None:
        return _asked(task, "root", lambda: root_of(task))
    if task.root is not None:
        return Path(task.root).expanduser().resolve()
    if (recipe_of := reader.recipe) is not None:
        recipe = _asked(task, "recipe", lambda: recipe_of(task))
        if not isinstance(recipe, Recipe):
            raise _unsound(task, f"gives a {type(recipe).__name__}, not a Recipe")
        try:
            json.dumps(recipe.facts)
        except (TypeError, ValueError) as error:
            raise _unsound(task, f"has a recipe whose facts are not JSON: {error}") from error
        return _asked(
            task, "recipe", lambda: made.folder(task.name, recipe, progress, verify=verify)
        )
    raise ProbesError(f"task {task.name} names no folder", "task.root", "set task.root=DIR")


def frames(task: TaskConfig) -> int | None:
    """Return the number of frames that all the task's items have; None where any number will do."""
    return TASKS.get(task.reader, "task.reader").frames


def submission(task: TaskConfig, choices: Mapping[str, int | None]) -> bytes | None:
    """Return the benchmark's submission file for one member under one arm and frame count.

    None unless the task ran its unanswered items and its benchmark takes submissions.
    """
    write = TASKS.get(task.reader, "task.reader").submission
    if write is None or not task.unanswered:
        return None
    return _asked(task, "submission", lambda: write(choices))


def _asked(task: TaskConfig, what: str, call: Callable[[], _Returned]) -> _Returned:
    """Call a reader; where an installed one fails as only a program does, say whose it is."""
    try:
        return call()
    # What a user, a disk or data can be to blame for is reported elsewhere, as is a lack of memory.
    except (ProbesError, OSError, MemoryError, json.JSONDecodeError, UnicodeDecodeError):
        raise
    except (Exception, SystemExit) as error:  # a program of others: it may raise anything
        if not TASKS.whose(task.reader):
            raise
        raise _unsound(task, f"fails in `{what}`: {type(error).__name__}: {error}") from error


def _unsound(task: TaskConfig, problem: str) -> ProbesError:
    return ProbesError(
        f"reader {task.reader!r}{TASKS.whose(task.reader)} {problem}",
        f"task {task.name}",
        "correct the data, or the package; `probes plugins` shows what is installed",
    )
