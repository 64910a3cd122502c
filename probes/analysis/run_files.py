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
# What is there before a run has a manifest: Hydra's notes, a merge's, a run's own.
_BEGUN = (".hydra", MERGING, "run.json")
_NO_RUNS_IN = {".hydra", "artifacts", "frames", "plots"}
"""Folders of a run that hold many files, and no runs."""


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """What is below some folders."""

    records: tuple[Path, ...]
    """Tables of records of runs that have ended, sorted; resolved paths."""
    unfinished: tuple[Path, ...]
    """Folders in which a run or a merge began that has not ended, with or without records."""


def find(path: Paths, *, edited: bool = False) -> FoundRuns:
    """Find the runs at some paths, each once.

    A run below a folder that has not ended is left out and named: its tables may be of two runs.

    Args:
        path: a run folder, any folder above run folders, a `records.parquet`, or a list of those.
        edited: whether one that was named itself is taken although it has not ended.

    Raises:
        ProbesError: there are none, or one that was named itself has not ended.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise ProbesError("no run was named", fix="give a run folder or a folder of runs")
    # A sweep and a run in it may both be named.
    records: dict[Path, None] = {}
    unfinished: dict[Path, None] = {}
    for start in map(Path, paths):
        found = _below(start)
        own = start if start.is_file() else start / RECORDS
        if edited and not found.records and own.is_file():
            found = FoundRuns((own.resolve(),), ())
        if not found.records:
            raise _nothing(start, found.unfinished)
        records |= dict.fromkeys(found.records)
        unfinished |= dict.fromkeys(found.unfinished)
    return FoundRuns(tuple(sorted(records)), tuple(sorted(unfinished)))


def _nothing(start: Path, unfinished: Sequence[Path]) -> ProbesError:
    if unfinished:
        return ProbesError(
            "the run has not ended: it is being written, or was stopped",
            listed([str(folder) for folder in unfinished]),
            "wait until it has ended, or finish it with the same `probes run` or `probes merge`",
        )
    what = f"holds no {RECORDS}" if start.is_dir() else "is not there"
    fix = "give the folder that `probes run` wrote to, or a folder above such folders"
    return ProbesError(f"the run folder {what}", str(start), fix)


def _below(start: Path) -> FoundRuns:
    if start.is_file():
        file = start.resolve()
        begun = _is_unfinished({entry.name for entry in file.parent.iterdir()})
        return FoundRuns((), (file.parent,)) if begun else FoundRuns((file,), ())
    records, unfinished = [], []
    for folder, folders, files in os.walk(start):
        if _is_unfinished({*folders, *files}):
            unfinished.append(Path(folder).resolve())
        elif RECORDS in files:
            records.append((Path(folder) / RECORDS).resolve())
        if RECORDS in files:
            # A run's folder has thousands of pictures: a sweep's would take seconds.
            folders[:] = [name for name in folders if name not in _NO_RUNS_IN]
    return FoundRuns(tuple(records), tuple(unfinished))


def _is_unfinished(names: set[str]) -> bool:
    # The manifest is written last. A folder of tables alone is no run that could go on.
    return any(name in names for name in _BEGUN) and not {FILE, RECORDS} <= names
