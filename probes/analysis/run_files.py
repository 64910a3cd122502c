"""Which runs lie below some folders, those that have not ended included."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.core.errors import ProbesError
from probes.core.text import listed
from probes.records.manifest import FILE

Paths = str | Path | Sequence[str | Path]
RECORDS = "records.parquet"
MERGING = "merging.json"
"""Is in the folder of a merged run while that is written, and says of which runs."""
_HYDRA = ".hydra"
"""Hydra's notes of a run: there before the run begins."""
_NO_RUNS_IN = {"frames", "artifacts", "plots", _HYDRA}
"""Folders of a run that hold many files, and no runs."""


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """What is below some folders."""

    records: tuple[Path, ...]
    """Tables of records, sorted; resolved paths."""
    unfinished: tuple[Path, ...]
    """Folders in which a run or a merge began that has not ended, or ended without records."""

    @property
    def half(self) -> tuple[Path, ...]:
        """Folders that have records all the same: their tables may be of two runs."""
        return tuple(file.parent for file in self.records if file.parent in set(self.unfinished))


def find(path: Paths) -> FoundRuns:
    """Find the runs at some paths, each once.

    Args:
        path: a run folder, any folder above run folders, a `records.parquet`, or a list of those.

    Raises:
        ProbesError: there are none.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise ProbesError("no run was named", fix="give a run folder or a folder of runs")
    # A sweep and a run in it may both be named.
    records: dict[Path, None] = {}
    unfinished: dict[Path, None] = {}
    for start in map(Path, paths):
        found = _below(start)
        if not found.records:
            what = f"holds no {RECORDS}" if start.is_dir() else "is not there"
            fix = "give the folder that `probes run` wrote to, or a folder above such folders"
            if found.unfinished:
                began = listed([folder.name for folder in found.unfinished])
                what += f": what began there ({began}) has not ended"
                fix = "wait until it has, or give the same command again"
            raise ProbesError(f"the run folder {what}", str(start), fix)
        records |= dict.fromkeys(found.records)
        unfinished |= dict.fromkeys(found.unfinished)
    return FoundRuns(tuple(sorted(records)), tuple(sorted(unfinished)))


def _below(start: Path) -> FoundRuns:
    if start.is_file():
        file = start.resolve()
        beside = {entry.name for entry in file.parent.iterdir()}
        return FoundRuns((file,), (file.parent,) if _is_unfinished(beside) else ())
    records, unfinished = [], []
    for folder, folders, files in os.walk(start):
        names = {*folders, *files}
        if RECORDS in files:
            records.append((Path(folder) / RECORDS).resolve())
            # A run's folder has thousands of pictures: a sweep's would take seconds.
            folders[:] = [name for name in folders if name not in _NO_RUNS_IN]
        if _is_unfinished(names):
            unfinished.append(Path(folder).resolve())
    return FoundRuns(tuple(records), tuple(unfinished))


def _is_unfinished(names: set[str]) -> bool:
    # The manifest is written last. A folder of tables alone is no run that could go on.
    return (_HYDRA in names or MERGING in names) and not {FILE, RECORDS} <= names
