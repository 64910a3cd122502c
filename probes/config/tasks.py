"""Tasks as the configuration knows them: settings, and the readers that name those of their own.

Composing a configuration needs to know which settings a task has, so the registry is here; the
readers are loaded by name, be they built in or installed. `probes.tasks.registry` uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from probes.config.fields import build, composed, require_known_bounds
from probes.core.plugins import Registry
from probes.core.progress import ReportProgress
from probes.core.types import Item, Layout, Scoring


@dataclass(frozen=True, slots=True)
class NoSettings:
    """The own settings of a task that has none."""


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """Where items come from."""

    name: str
    reader: str
    """Layout of the data set: a name in the registry of readers."""
    root: str | None = field(default=None, metadata={"path": True})
    """Folder of the data set; None where it is made on first use."""
    unanswered: bool = False
    """Also items whose answer is withheld."""
    same_stratum_donor: bool = False
    """A donor must share the item's stratum."""
    scoring: Scoring = "letter"
    """Default scoring, where the pair has none; where options are pictures, of every pair."""
    frames: int = field(default=5, metadata={"at_least": 1})
    """Default number of frames."""
    layout: Layout | None = None
    """How a problem of pictures is shown; None for a task whose options are texts."""
    settings: Any = NoSettings()
    """The task's own settings: an object of its reader's class, `TaskReader.settings`."""


class Recipe(NamedTuple):
    """How data is made that nobody has to fetch."""

    facts: Mapping[str, Any]
    """Everything that decides what the data holds, code included: its folder is named by it."""
    make: Callable[[Path, ReportProgress | None], object]
    """Makes the data in a folder, calling back with (clips or problems made, how many to make)."""


@dataclass(frozen=True, slots=True)
class TaskReader:
    """How data sets of one layout are read: an entry of the registry of tasks."""

    load: Callable[[Path, TaskConfig], list[Item]]
    """Items of the data in a folder."""
    settings: type = NoSettings
    """The task's own settings: a frozen dataclass whose fields have defaults. They are set as those
    of every task are, `task.NAME=VALUE`; `probes.config.fields` says which bounds are checked."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Of an installed task: values of settings that every task has, e.g. `frames` or `scoring`."""
    frames: int | None = None
    """The number of frames that all its items have; None where frames are sampled."""
    root: Callable[[TaskConfig], Path] | None = None
    """Folder of the data, where something else than `task.root` names it."""
    recipe: Callable[[TaskConfig], Recipe] | None = None
    """How the data is made, where the task names no folder."""
    submission: Callable[[Mapping[str, int | None]], bytes] | None = None
    """Choices by item id -> the benchmark's submission file, where it has one."""
    meaning: str = ""
    """Of an installed task: what it is, in one line, for `probes tasks`."""
    several: bool = False
    """Whether its items are of several tasks, each named by `Item.task`; else all of them carry the
    name in the settings. Ids are unique within a task."""


def composed_task(settings: type) -> type:
    """Return what Hydra composes of a task: the settings of every task, and its own.

    Raises:
        TypeError: an own setting has the name of one that every task has.
    """
    common = composed(TaskConfig, without=("settings",))
    own = composed(settings)
    if twice := sorted({name for name, _, _ in own} & {name for name, _, _ in common}):
        raise TypeError(f"every task has a setting {twice[0]!r}: name its own otherwise")
    return make_dataclass("TaskSchema", [*common, *own])


def _check(name: str, found: object) -> TaskReader:
    if not isinstance(found, TaskReader):
        raise TypeError(f"it is not a TaskReader but a {type(found).__name__}")
    # A private name, but dataclasses offer no other way to see whether a class is frozen.
    if not getattr(getattr(found.settings, "__dataclass_params__", None), "frozen", False):
        raise TypeError(f"its settings are no frozen dataclass but {found.settings!r}")
    found.settings()  # every field has a default
    require_known_bounds(found.settings)
    _defaults(name, found)
    return found


def _defaults(name: str, reader: TaskReader) -> dict[str, Any]:
    """Return all settings of an installed task as a file in conf/task would give them."""
    frames = {} if reader.frames is None else {"frames": reader.frames}
    given = {"name": name, "reader": name, **frames, **reader.defaults}
    try:
        made = OmegaConf.merge(OmegaConf.structured(composed_task(reader.settings)), given)
    except OmegaConfBaseException as error:
        raise ValueError(f"its defaults: {str(error).splitlines()[0]}") from error
    values: dict[str, Any] = OmegaConf.to_container(made)
    return values


TASKS: Registry[TaskReader] = Registry(
    "probes.tasks",
    "reader",
    {
        "egoschema": "probes.tasks.builtin:EGOSCHEMA",
        "egoworld": "probes.tasks.builtin:EGOWORLD",
        "iraven": "probes.tasks.builtin:IRAVEN",
        "lmms": "probes.tasks.builtin:LMMS",
    },
    _check,
)
"""Readers by name."""


def installed_defaults(name: str) -> dict[str, Any]:
    """Return the settings of an installed task as a file in conf/task would give them.

    Raises:
        ProbesError: its package cannot be loaded, or what it names is no reader.
    """
    return _defaults(name, TASKS.get(name, f"task={name}"))


def freeze_task(values: Mapping[str, Any]) -> TaskConfig:
    """Return a task's settings, checked.

    Args:
        values: those of every task and its own, by name.

    Raises:
        ProbesError: the first value that makes no sense, with the name of its setting.
    """
    # From the same values: a task's own settings stand among the common ones in files.
    own: object = build(TASKS.get(values["reader"], "task.reader").settings, values, "task")
    return build(TaskConfig, values, "task", settings=own)
