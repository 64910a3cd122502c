"""From a task's settings to its items: all readers by name."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError, machine_error
from probes.core.files import home
from probes.core.hashing import sha256_file, sha256_json
from probes.core.progress import ReportProgress
from probes.core.types import Item
from probes.tasks.egoschema import reader as egoschema
from probes.tasks.iraven import reader as iraven
from probes.tasks.lmms_eval import reader as lmms
from probes.tasks.validation import check_items

if TYPE_CHECKING:
    from probes.config.settings import TaskConfig


@dataclass(frozen=True, slots=True)
class TaskReader:
    """How data sets of one layout are read."""

    load: Callable[[Path, TaskConfig], list[Item]]
    """Items of the data in a folder."""
    frames: int | None = None
    """The number of frames that all its items have; None where frames are sampled."""
    submission: Callable[[Mapping[str, int | None]], bytes] | None = None
    """Choices by item id -> the benchmark's submission file, where it has one."""


def _load_egoschema(root: Path, task: TaskConfig) -> list[Item]:
    return egoschema.load(root, unanswered=task.unanswered, task=task.name)


def _load_iraven(root: Path, task: TaskConfig) -> list[Item]:
    return iraven.load(root, task=task.name, across_rows=task.across_rows)


def _load_lmms(root: Path, task: TaskConfig) -> list[Item]:
    return lmms.load(root, task.name, unanswered=task.unanswered)


READERS: dict[str, TaskReader] = {
    "egoschema": TaskReader(_load_egoschema, submission=egoschema.submission),
    "iraven": TaskReader(_load_iraven, frames=iraven.CONTEXT),
    "lmms": TaskReader(_load_lmms),
}


def load(task: TaskConfig, progress: ReportProgress | None = None) -> list[Item]:
    """Return all items of a task, checked; EgoWorld's and i-RAVEN's data is made on first use.

    Args:
        task: the task's settings.
        progress: called with (clips or problems made, how many to make) while data is made.

    Raises:
        ProbesError: no such reader, no folder named, what the reader finds wrong, a file that is
            missing or not JSON, or items that the reader may not return (`check_items`).
    """
    reader = _reader(task)
    folder = root(task, progress)
    try:
        items = reader.load(folder, task)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        if machine_error(error) is not None:
            raise
        raise ProbesError(
            f"reader {task.reader} cannot read the data: {error}",
            str(getattr(error, "filename", None) or folder),
            "correct task.root or the data",
        ) from error
    check_items(items, task.name)
    return items


def root(task: TaskConfig, progress: ReportProgress | None = None) -> Path:
    """Return the absolute folder of a task's data; EgoWorld's and i-RAVEN's is made on first use.

    Raises:
        ProbesError: the task names no folder and its data cannot be made.
    """
    if task.reader == "lmms":
        return lmms.folder(task.include_path)
    if task.root is not None:
        return Path(task.root).expanduser().resolve()
    if task.name in MADE:
        return _made(task, *MADE[task.name](task, progress))
    raise ProbesError(f"task {task.name} names no folder", "task.root", "set task.root=DIR")


def frames(task: TaskConfig) -> int | None:
    """Return the number of frames that all the task's items have; None where any number will do."""
    return _reader(task).frames


def submission(task: TaskConfig, choices: Mapping[str, int | None]) -> bytes | None:
    """Return the benchmark's submission file for one member under one arm and frame count.

    None unless the task ran its unanswered items and its benchmark takes submissions.
    """
    write = _reader(task).submission
    return write(choices) if task.unanswered and write is not None else None


def _reader(task: TaskConfig) -> TaskReader:
    if task.reader not in READERS:
        known = ", ".join(sorted(READERS))
        raise ProbesError(f"no reader {task.reader!r}", "task.reader", f"one of: {known}")
    return READERS[task.reader]


Recipe = tuple[dict[str, Any], Callable[[Path], object]]
"""Everything that decides what made data holds, and the function that makes it in a folder."""


def _egoworld(task: TaskConfig, progress: ReportProgress | None) -> Recipe:
    from probes.config.paths import conf_dir
    from probes.tasks.egoworld import generate

    settings = {
        "videos": task.videos,
        "seed": task.seed,
        "height": task.height,
        "fps": float(task.fps),
        "seconds": float(task.seconds),
        # Another release may draw another world: its data gets a folder of its own.
        "world": [*_code(generate), sha256_file(conf_dir() / "world" / "egoworld.yaml")],
    }

    def make(folder: Path) -> None:
        clips = generate.ClipSettings(
            task.videos, task.seed, height=task.height, fps=task.fps, seconds=task.seconds
        )
        generate.make(folder, clips, progress)

    return settings, make


def _iraven(task: TaskConfig, progress: ReportProgress | None) -> Recipe:
    from probes.tasks.iraven import generate

    settings = {"per_config": task.per_config, "seed": task.seed, "generator": _code(generate)}
    return settings, lambda folder: generate.make(
        folder, task.per_config, task.seed, progress=progress
    )


MADE: dict[str, Callable[[TaskConfig, ReportProgress | None], Recipe]] = {
    "egoworld": _egoworld,
    "iraven": _iraven,
}
"""Tasks whose data is made on first use, by name."""


def _code(generator: ModuleType) -> list[str]:
    return [
        sha256_file(path) for path in sorted(Path(generator.__file__ or "").parent.glob("*.py"))
    ]


def _made(task: TaskConfig, settings: Mapping[str, Any], make: Callable[[Path], object]) -> Path:
    """Return the folder of made data; it appears only once it is complete."""
    folder = home().resolve() / "data" / f"{task.name}-{sha256_json(settings)[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(f".{folder.name}.lock")) as held:
        if folder.is_dir():  # another process made it while this one waited
            return folder
        if held:  # what is there was left by a process that was killed
            for left in folder.parent.glob(f"{folder.name}.half-*"):
                shutil.rmtree(left, ignore_errors=True)
        half = folder.with_name(f"{folder.name}.half-{uuid.uuid4().hex[:8]}")
        try:
            make(half)
            half.rename(folder)
        except BaseException as error:
            shutil.rmtree(half, ignore_errors=True)
            if not (isinstance(error, OSError) and folder.is_dir()):
                raise
    return folder


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock file that the system releases if the process dies; yield whether it is held.

    Some network disks have no locks. Two processes then both make the data, each in a folder of its
    own, and the first one to rename its folder wins.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
