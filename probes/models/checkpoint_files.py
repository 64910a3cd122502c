"""The files of a checkpoint folder that a loader could read, and what is in them.

A loader of others decides by itself what it reads, and reads more with every version. So a file
counts unless it is known to be read by nobody, and not the other way round.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from probes.core.errors import ProbesError
from probes.core.hashing import forget, remembered_sha256, sha256_file

NEVER_READ = (".git", ".gitattributes", ".gitignore", ".cache", ".DS_Store", "__pycache__")
"""What version control, downloads and Python put into a folder; at any depth."""
_UNREAD = re.compile(
    r"""
    .*\.(md|rst|pdf|png|jpe?g|gif|webp|svg|mp4)          # of a model card
    |.*\.(h5|msgpack|onnx|tflite|gguf)                   # the same weights for other programs
    |(pytorch|tf|adapter)_model.*\.bin(\.index\.json)?   # pickled: never loaded
    |consolidated.*\.pth
    |(optimizer|scheduler|scaler)\.(pt|bin)|rng_state.*\.pth|training_args\.bin|trainer_state\.json
    |events\.out\.tfevents.*                             # of training
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNREAD_FOLDERS = re.compile(r"checkpoint-\d+|global_step\d+|runs")
_BESIDE = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".spm", ".vocab")
_THREADS = 8

StatFields = tuple[int, ...]
"""Size, times of change in nanoseconds, inode and device."""


def listed(folder: Path, *, everything: bool = False) -> tuple[str, ...]:
    """Return the files below a folder that a loader could read, sorted, with `/` between parts.

    Args:
        folder: of a checkpoint or adapter. Links are followed, as in snapshots of the hub.
        everything: whether a program of others reads it (code of the checkpoint, a wrapper), which
            may take any file; else what transformers never reads is left out.
    """
    return tuple(sorted(_walk(folder, "", everything, frozenset())))


def listed_beside(folder: Path, weights: str) -> tuple[str, ...]:
    """Return a file of weights and what transformers reads beside it, sorted.

    Such a file may lie among many of others, in a folder of downloads say: only files of the kinds
    that belong to a tokenizer count, and no folders but that of templates.
    """
    templates = folder.glob("additional_chat_templates/*.jinja")
    found = [one for one in folder.iterdir() if one.suffix in _BESIDE and one.is_file()]
    names = {one.relative_to(folder).as_posix() for one in (*found, *templates)}
    return tuple(sorted(names | {weights}))


def _walk(folder: Path, below: str, everything: bool, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it lies in
        return
    for entry in os.scandir(folder):
        name = below + entry.name
        if entry.name in NEVER_READ:
            continue
        if entry.is_dir():
            if everything or not _UNREAD_FOLDERS.fullmatch(entry.name):
                yield from _walk(Path(entry.path), f"{name}/", everything, above | {real})
        elif entry.is_file() and (everything or not _UNREAD.fullmatch(entry.name)):
            yield name


def remembered_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of files by name, for planning: see `hashing.remembered_sha256`."""
    return _each(remembered_sha256, {name: folder / name for name in names})


def _each(one: Callable[[Path], str], paths: Mapping[str, Path]) -> dict[str, str]:
    # hashlib lets other threads run while it works.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "hash") as pool:
        return dict(zip(paths, pool.map(one, paths.values()), strict=True))


class WatchedFiles:
    """Files that were read in full and hold what they are expected to, and have to go on doing so.

    Args:
        folder: of the files.
        expected: sha256 by name, as the keys of answers were made with.
        names: what is listed now.

    Raises:
        ProbesError: a file has come, gone or changed. What was remembered of it is forgotten, so
            that the next run plans with what is there.
    """

    def __init__(self, folder: Path, expected: Mapping[str, str], names: Iterable[str]) -> None:
        self._folder, self._expected = folder, dict(expected)
        # Before they are read: a change while they are hashed shows in the next `check`.
        self._states = {name: _state(folder / name) for name in expected}
        found = _each(_content, {name: folder / name for name in expected})
        changed = {name for name in expected if found[name] != expected[name]}
        self._refuse(changed | (set(names) ^ set(expected)))

    def narrow(self, names: Iterable[str]) -> None:
        """Leave all but these files out of further checks: the rest was read to its end."""
        self._states = {name: self._states[name] for name in names}

    def check(self) -> None:
        """Raise ProbesError if one of the files has other content by now."""
        for name, before in self._states.items():
            path, state = self._folder / name, _state(self._folder / name)
            if state == before:
                continue
            # A backup or a change of rights touches a file without changing it.
            if _content(path) != self._expected[name]:
                self._refuse({name})
            self._states[name] = state

    def _refuse(self, changed: set[str]) -> None:
        if not changed:
            return
        for name in changed:
            forget(self._folder / name)
        names = sorted(changed)
        raise ProbesError(
            f"{', '.join(names[:3])}{' and others' * (len(names) > 3)} changed after the run's"
            " answers were looked up by their content, or a remembered hash was out of date",
            str(self._folder),
            "run the same command again: it reads them anew; let nothing write there meanwhile",
        )


def _content(path: Path) -> str:
    """Return the sha256 of a file that is read in full; empty where there is none."""
    try:
        return sha256_file(path)
    except FileNotFoundError:
        return ""


def _state(path: Path) -> StatFields:
    """Return the state of a file; empty where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
