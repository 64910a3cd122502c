"""Data that is made: on first use, in a folder that its facts name, or where the user wants it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from probes.config.tasks import Recipe
from probes.core.errors import UNSOUND, ProbesError
from probes.core.files import atomic_write, home
from probes.core.hashing import sha256_file, sha256_json
from probes.core.progress import ReportProgress

_log = logging.getLogger(__name__)
_LIST = ".files.json"
"""In the folder: sha256 of every file that was made."""


def code(generator: ModuleType) -> list[str]:
    """Return the hashes of a generator's files: another release may make other data."""
    # Not the folders below: what egoworld/pair/ learns changes no clip.
    return [
        sha256_file(path) for path in sorted(Path(generator.__file__ or "").parent.glob("*.py"))
    ]


def folder(
    name: str, recipe: Recipe, progress: ReportProgress | None, *, verify: bool = False
) -> Path:
    """Return the folder of made data; it appears only once it is complete.

    Args:
        name: of the task.
        recipe: what the data holds, and how it is made.
        progress: called while it is made.
        verify: whether all files are read and compared with what was made; data that is damaged is
            made again.
    """
    made = home().resolve() / "data" / f"{name}-{sha256_json(recipe.facts)[:12]}"
    # Before the lock: finished data may lie on a disk that can only be read.
    if made.is_dir() and not (verify and problem(made)):
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with _lock(made.with_name(f".{made.name}.lock")) as held:
        # Again: another process may have made it while this one waited.
        if made.is_dir() and not (found := problem(made)):
            return made
        if made.is_dir():
            _log.warning("%s: %s; the data is made again", made, found)
        if held:  # what is there was left by a process that was killed
            for left in made.parent.glob(f"{made.name}.half-*"):
                shutil.rmtree(left, ignore_errors=True)
        _make(name, recipe, made, progress)
    return made


def _make(name: str, recipe: Recipe, made: Path, progress: ReportProgress | None) -> None:
    """Make the data in a folder of another name, which then takes the place of what is there."""
    half = made.with_name(f"{made.name}.half-{uuid.uuid4().hex[:8]}")
    try:
        recipe.make(half, progress)
        if not half.is_dir():
            raise ProbesError(
                "the recipe made no folder",
                f"task {name}",
                "make the data in the folder that `Recipe.make` is given",
            )
        content = _hashes(half)
        atomic_write(
            half / _LIST, json.dumps({"files": content, "sha256": sha256_json(content)}).encode()
        )
        # What is damaged goes only now: were the making stopped, some of it might still serve.
        if made.is_dir() and problem(made):
            old = half.with_name(f"{half.name}-old")
            made.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        # At once: whoever finds the folder finds all of it.
        half.rename(made)
    # Not Exception: after Ctrl-C the half folder has to go as well.
    except BaseException as error:
        shutil.rmtree(half, ignore_errors=True)
        # Without a lock another process may have been first: its data is as good.
        if not (isinstance(error, OSError) and made.is_dir()):
            raise


def _hashes(made: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, by its path there."""
    files = sorted(path for path in made.rglob("*") if path.is_file() and path.name != _LIST)
    return {path.relative_to(made).as_posix(): sha256_file(path) for path in files}


def problem(made: Path, is_read: Callable[[Path], bool] = lambda path: True) -> str:
    """Return how made data differs from what was made; empty where it does not.

    Files that were put there later do not count.

    Args:
        made: the folder.
        is_read: of which files all is read; the others only have to be there.
    """
    try:
        found = json.loads((made / _LIST).read_bytes())
        listed = dict(found["files"])
        if found["sha256"] != sha256_json(listed):
            return "its list of files is damaged"
        for name, sha256 in listed.items():
            if is_read(made / name):
                same = sha256_file(made / name) == sha256
            else:
                (made / name).stat()  # one that is missing raises, as when it is read
                same = True
            if not same:
                return f"{name} is not what was made"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, *UNSOUND) as error:
        return f"it cannot be read: {error}"
    return ""


def claim(note: Path, settings: Mapping[str, Any], has_data: bool) -> None:
    """Note in a folder what its data is made with, or see that it is what is wanted now.

    Args:
        note: the file in the folder that says so.
        settings: what is wanted, as plain values.
        has_data: whether the folder holds any data yet.

    Raises:
        ProbesError: it holds other data.
    """
    # As the file gives it back: tuples are lists there, and all names are text.
    wanted = json.loads(json.dumps(settings))
    if not has_data:  # what was refused or stopped before it made anything claims nothing
        atomic_write(note, (json.dumps(wanted, indent=1) + "\n").encode())
    else:
        fix = "name another folder, or repeat the settings that it was made with"
        try:
            held = json.loads(note.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "the folder is not empty, and does not say what its data was made with"
            raise ProbesError(what, str(note.parent), fix) from error
        except ValueError as error:
            what = "what the folder's data was made with cannot be read"
            raise ProbesError(what, str(note), fix) from error
        if held != wanted:
            raise ProbesError(f"the folder holds other data: {held}, not {wanted}", str(note), fix)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock file that the system releases if the process dies; yield whether it is held.

    Some network disks have no locks. Two processes then both make the data, each in a folder of its
    own, and the first one to rename its folder wins.
    """
    # The file is never removed: a newcomer would lock another one of that name meanwhile.
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
