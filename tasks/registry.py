"""From a task's settings to its items: the one list of readers."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probes.provenance import home, sha256_file, sha256_json
from probes.types import Item, ProbesError
from tasks.egoschema import reader as egoschema

if TYPE_CHECKING:
    from probes.config import TaskConfig

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """What is known of one layout of data sets."""

    load: Callable[..., list[Item]]
    """(root, *, unanswered, task) -> items."""
    submission: Callable[[Mapping[str, int | None]], bytes] | None = None
    """Choices by item id -> the benchmark's submission file, where it has one."""


READERS: dict[str, Reader] = {"egoschema": Reader(egoschema.load, egoschema.submission)}


def load(task: TaskConfig, progress: Progress | None = None) -> list[Item]:
    """Return all items of a task, making its data first if it is EgoWorld's and not made yet.

    Args:
        task: the task's settings.
        progress: called with (clips made, clips to make) while data is made.

    Raises:
        ProbesError: no such reader, no folder named, or what the reader finds wrong.
    """
    reader = _reader(task)
    return reader.load(root(task, progress), unanswered=task.unanswered, task=task.name)


def root(task: TaskConfig, progress: Progress | None = None) -> Path:
    """Return the folder of a task's data, as an absolute path; EgoWorld's is made on first use.

    Raises:
        ProbesError: the task names no folder and its data cannot be made.
    """
    if task.root is not None:
        return Path(task.root).expanduser().resolve()
    if task.name == "egoworld":
        return _egoworld(task, progress)
    raise ProbesError(f"task {task.name} names no folder", "task.root", "set task.root=DIR")


def submission(task: TaskConfig, choices: Mapping[str, int | None]) -> bytes | None:
    """Return the benchmark's submission file for one member under one arm and frame count.

    None unless the task ran its unanswered items and its benchmark takes submissions.
    """
    write = _reader(task).submission
    return write(choices) if task.unanswered and write is not None else None


def _reader(task: TaskConfig) -> Reader:
    if task.reader not in READERS:
        known = ", ".join(sorted(READERS))
        raise ProbesError(f"no reader {task.reader!r}", "task.reader", f"one of: {known}")
    return READERS[task.reader]


def _egoworld(task: TaskConfig, progress: Progress | None) -> Path:
    from probes.config import conf_dir
    from tasks.egoworld import generate

    code = sorted(Path(generate.__file__).parent.glob("*.py"))
    settings = {
        "videos": task.videos,
        "seed": task.seed,
        "height": task.height,
        "fps": float(task.fps),
        "seconds": float(task.seconds),
        # A new release may draw another world; the folder made by the old one is not its data.
        "world": [sha256_file(p) for p in (*code, conf_dir() / "world" / "egoworld.yaml")],
    }
    folder = home().resolve() / "data" / f"egoworld-{sha256_json(settings)[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f".{folder.name}.lock")) as alone:
        if folder.is_dir():  # another process made it while this one waited
            return folder
        if alone:
            for left in folder.parent.glob(f"{folder.name}.half-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        half = folder.with_name(f"{folder.name}.half-{uuid.uuid4().hex[:8]}")
        try:
            generate.make(
                half, task.videos, task.seed, task.height, task.fps, task.seconds, progress
            )
            half.rename(folder)
        except BaseException as error:
            shutil.rmtree(half, ignore_errors=True)
            if not (isinstance(error, OSError) and folder.is_dir()):
                raise
    return folder


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock file that the system releases if the process dies; yields whether it is held.

    Some network disks have no locks. Two processes then both make the data, each in a folder of its
    own, and the first to rename it wins.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
