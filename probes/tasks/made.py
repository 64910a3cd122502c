"""Data that is made on first use: once, completely, and in a folder that its facts name."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from probes.config.tasks import Recipe
from probes.core.files import home
from probes.core.hashing import sha256_file, sha256_json
from probes.core.progress import ReportProgress


def code(generator: ModuleType) -> list[str]:
    """Return the hashes of a generator's files: another release may make other data."""
    return [
        sha256_file(path) for path in sorted(Path(generator.__file__ or "").parent.glob("*.py"))
    ]


def folder(name: str, recipe: Recipe, progress: ReportProgress | None) -> Path:
    """Return the folder of made data; it appears only once it is complete.

    Args:
        name: of the task.
        recipe: what the data holds, and how it is made.
        progress: called while it is made.
    """
    made = home().resolve() / "data" / f"{name}-{sha256_json(recipe.facts)[:12]}"
    if made.is_dir():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with _lock(made.with_name(f".{made.name}.lock")) as held:
        if made.is_dir():  # another process made it while this one waited
            return made
        if held:  # what is there was left by a process that was killed
            for left in made.parent.glob(f"{made.name}.half-*"):
                shutil.rmtree(left, ignore_errors=True)
        half = made.with_name(f"{made.name}.half-{uuid.uuid4().hex[:8]}")
        try:
            recipe.make(half, progress)
            half.rename(made)
        except BaseException as error:
            shutil.rmtree(half, ignore_errors=True)
            # Without a lock another process may have been first: its data is as good.
            if not (isinstance(error, OSError) and made.is_dir()):
                raise
    return made


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
