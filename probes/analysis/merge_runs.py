"""Several runs of one setting, such as the shards of a sweep, as one run folder.

The folder is written in steps that can be done again, and holds a note of its runs until it is
whole: a merge that was killed goes on when it is started again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from probes.analysis import merged_files, run_files
from probes.analysis.run_files import MERGING
from probes.core.errors import UNSOUND, MachineError, ProbesError
from probes.core.files import atomic_write
from probes.records import artifacts, binding, folder_lock, parquet
from probes.records.manifest import FILE, read_manifest, write_content

if TYPE_CHECKING:
    import pandas as pd

    from probes.analysis.settings import LoadedRun

_HALF_WRITTEN = re.compile(r"\..+\.\d+\.[0-9a-f]{8}")
"""Names of files that `atomic_file` was writing when its process was killed."""
_MergeStage = Literal["new", "begun", "whole"]


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What came of a merge."""

    records: int
    """Records of the merged run."""
    runs: int
    """Runs that it is made of."""
    written: bool
    """Whether anything was written: the folder may have held this merge already."""
    partial: tuple[str, ...] = ()
    """What is missing, a sentence each."""


def merge(paths: Sequence[Path], out: Path, partial: bool = False) -> MergeResult:
    """Write the runs below some folders as one run; the runs stay as they are.

    Records are merged by what they answer: one that failed in one run is dropped where it did not
    fail in another; equal ones are kept once. Tables of items and infills are joined by task and
    item, frames and files of arrays linked (copied to another disk), and the manifest names every
    run that was merged. Of the shards of a run the folder is what the run would be without shards.

    A merge that was killed, or whose disk was full, goes on when it is called again; where the
    folder holds the merge of these runs already, nothing is written.

    Args:
        paths: run folders, sweeps, or any folders above runs.
        out: folder of the merged run: new, empty or of the same merge; in none of `paths`.
        partial: merge runs too of which shards are missing; the manifest then says which.

    Raises:
        ProbesError: nothing to merge, a folder in use, a run that did not finish, missing shards,
            or runs that differ in more than which items they asked.
        MachineError: the disk is full or cannot be written.
    """
    from probes.analysis.load import read

    _check_place(paths, out)
    folders = [file.parent for file in run_files.find(list(paths)).records]
    # Before anything is loaded: of a merge that is there nothing need be.
    if (state := _state(out, folders)) == "whole":
        return _found(out)
    # Loading compares the runs: nothing is written before they are known to agree.
    frame, runs = read(list(paths), partial=partial)
    _check_one_setting(frame, runs, paths)
    _check_finished(runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder cannot be made: {error.strerror}"
        raise ProbesError(what, str(out), "give another") from error
    with folder_lock.held(out):
        # Once more: another process may have been faster.
        if (state := _state(out, folders)) == "whole":
            return _found(out)
        if state == "begun":
            _remove_halves(out)
        _write(frame, runs, out)
    lacking = tuple(frame.attrs.get("partial", ()))
    return MergeResult(len(frame), len(runs), True, lacking)


def _write(frame: pd.DataFrame, runs: Sequence[LoadedRun], out: Path) -> None:
    """Write the files of a merged run; every step leaves alone or repeats what is there."""
    folders = [run.folder for run in runs]
    claim = _claim(folders)
    atomic_write(out / MERGING, (json.dumps(claim, indent=2) + "\n").encode())
    joined = merged_files.tables(frame, folders)
    for name, table in joined.items():
        parquet.write(out / f"{name}.parquet", table)
    artifacts.merge(folders, out)
    merged_files.join_frames(folders, out / "frames")
    merged_files.join_submissions(folders, joined["items"]["id"].to_pylist(), out)
    content = merged_files.manifest(runs, frame, joined, out)
    if _claim(folders) != claim:
        raise ProbesError(
            "a run was written again while it was merged",
            ", ".join(map(str, folders[:4])),
            f"remove {out}, and merge them once they have ended",
        )
    # Last, as it says that the run is whole. The note goes behind it: with neither of them the
    # folder would be nobody's.
    write_content(out, content)
    (out / MERGING).unlink()


def _claim(folders: Sequence[Path]) -> list[dict[str, str]]:
    """Return which runs are merged, and in which state: a manifest changes with its run."""
    return [
        {"run": str(folder), "manifest_sha256": merged_files.manifest_sha256(folder)}
        for folder in folders
        if (folder / FILE).is_file()
    ]


def _state(out: Path, folders: Sequence[Path]) -> _MergeStage:
    """Return how far the merge of some runs is in a folder.

    Raises:
        ProbesError: the folder is of something else.
    """
    if not out.exists():
        return "new"
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else {out.name}
    names.discard(folder_lock.FILE)
    wanted = [one["manifest_sha256"] for one in _claim(folders)]
    if out.is_dir() and FILE in names:
        merged = read_manifest(out).get("merged")
        if _states(merged) == wanted:
            return "whole"
        raise _other(out, merged, folders)
    if out.is_dir() and MERGING in names:
        begun = _begun(out)
        if _states(begun) == wanted:
            return "begun"
        named = ", ".join(str(one.get("run")) for one in begun) or "unknown runs"
        what = f"the folder is not empty: a merge of other runs began in it ({named})"
        raise ProbesError(what, str(out), "merge those, give a new one, or remove it")
    if out.is_dir() and all(_HALF_WRITTEN.fullmatch(name) for name in names):
        return "begun" if names else "new"
    raise ProbesError("the folder is not empty", str(out), "give a new one")


def _other(out: Path, merged: object, folders: Sequence[Path]) -> ProbesError:
    rows = merged if isinstance(merged, list) else []
    names = [one.get("run") for one in rows if isinstance(one, dict)]
    what = "it holds another run, or a merge of other runs"
    if names == [folder.name for folder in folders]:
        what = "it holds a merge of these runs, which have been written again since"
    fix = "give a new one, or remove it if nobody needs it"
    return ProbesError(f"the folder is not empty: {what}", str(out), fix)


def _begun(out: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads((out / MERGING).read_bytes())
    except (OSError, *UNSOUND):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _states(runs: object) -> list[object]:
    """Return the states of the runs that a manifest or a note names."""
    rows = runs if isinstance(runs, list) else []
    return [one.get("manifest_sha256") if isinstance(one, dict) else None for one in rows]


def _found(out: Path) -> MergeResult:
    """Return the merge that a folder holds; a note that outlived its writer is removed.

    Raises:
        ProbesError: its tables are not those that were written.
    """
    binding.check(out)
    content = read_manifest(out)
    if (out / MERGING).exists():
        with folder_lock.held(out):
            (out / MERGING).unlink(missing_ok=True)
    lacking = tuple((content.get("partial") or {}).get("missing") or ())
    return MergeResult(content["counts"]["planned"], len(content["merged"]), False, lacking)


def _remove_halves(out: Path) -> None:
    """Remove what a killed process was writing."""
    try:
        for file in out.rglob(".*"):
            if _HALF_WRITTEN.fullmatch(file.name) and file.is_file():
                file.unlink()
    except OSError as error:
        what = f"the folder cannot be written to: {error.strerror}"
        raise MachineError(what, str(out), "correct its access rights") from error


def _check_place(paths: Sequence[Path], out: Path) -> None:
    """Refuse a folder within what is merged: the next merge would find it among the runs."""
    target = out.resolve()
    for path in paths:
        source = path.resolve()
        source = source.parent if source.is_file() else source
        if target == source or source in target.parents:
            raise ProbesError(
                "the merged run would lie in what it is made of",
                f"{out} in {path}",
                "give a folder next to it",
            )


def _check_one_setting(
    frame: pd.DataFrame, runs: Sequence[LoadedRun], paths: Sequence[Path]
) -> None:
    """Refuse runs that one configuration cannot describe."""
    where = ", ".join(map(str, paths))
    fix = "merge those of one setting; `probes report` takes runs of several settings"
    if len(settings := sorted(set(frame["setting"]))) > 1:
        shown = "; ".join(name or "none" for name in settings)
        raise ProbesError(f"the runs differ in their settings: {shown}", where, fix)
    # A run may have items of several tasks, of one reader; its configuration names one.
    given = {name: frame[name].unique() for name in ("pair", "scoring", "seed")}
    tasks = {_task(run.config) for run in runs}
    for name, values in ({"task": tasks} | given).items():
        if len(found := sorted(map(str, values))) > 1:
            what = f"the runs differ in their settings: {name} is {' and '.join(found)}"
            raise ProbesError(what, where, fix)


def _task(config: Mapping[str, Any]) -> object:
    task = config.get("task")
    return task.get("name") if isinstance(task, Mapping) else task


def _check_finished(runs: Sequence[LoadedRun]) -> None:
    """Refuse a run without a manifest, which a run writes last."""
    for run in runs:
        if not run.config:
            raise ProbesError(
                "the run has no manifest with a configuration: it did not finish",
                str(run.folder),
                "finish it with the same `probes run`, or leave it out",
            )
