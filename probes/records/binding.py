"""Whether the tables of a run folder are those that its manifest names: what readers ask first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_file, sha256_json
from probes.core.text import listed
from probes.records import folder_lock
from probes.records.manifest import FILE, REWRITE, TABLES, bound_files, read_manifest

NOTE = "run.json"
"""Written before anything else of a run: whose folder it is. Without a manifest next to it, the run
has not finished."""
READ_ANYWAY = "or read it as it is: --edited (in Python: edited=True)"

BindingState = Literal["bound", "older", "alone"]


@dataclass(frozen=True, slots=True)
class FolderState:
    """How far a run folder's tables are known to belong together."""

    state: BindingState
    """`bound`; `older` (a manifest without hashes); `alone` (tables without a manifest)."""
    edited: tuple[str, ...] = ()
    """What does not hold, a clause each; empty unless it was allowed."""


def check(folder: Path, edited: bool = False, names: Sequence[str] | None = None) -> FolderState:
    """Check a run folder before its tables are read.

    Every table is hashed: 0.1 s for 100 MB.

    Args:
        folder: the folder of `records.parquet`.
        edited: whether tables that are not those of the manifest are allowed, and told.
        names: which tables are looked at, e.g. `("artifacts.parquet",)`; all by default.

    Raises:
        ProbesError: the run has not finished; a table or the manifest is not as the run wrote it,
            or a table is missing; a manifest that cannot be read.
    """
    if not (folder / FILE).is_file():
        if not unfinished(folder):
            return FolderState("alone")
        if not edited:
            raise _unfinished(folder)
        return FolderState("alone", (f"{folder}: the run has not finished",))
    content = read_manifest(folder)
    if not isinstance(content.get("files"), dict) and "sha256" not in content:
        return FolderState("older")
    found = _problems(folder, content, names)
    if found and not edited:
        raise ProbesError(listed(found, 3, "; "), str(folder), f"{REWRITE}; {READ_ANYWAY}")
    return FolderState("bound", tuple(f"{folder}: {one}" for one in found))


def unfinished(folder: Path) -> bool:
    """Return whether a run has begun in a folder and is not complete."""
    return (folder / NOTE).is_file() and not (folder / FILE).is_file()


def manifest_holds(content: dict[str, Any]) -> bool:
    """Return whether a manifest is as it was written."""
    entries = {name: value for name, value in content.items() if name != "sha256"}
    return isinstance(entries.get("files"), dict) and content.get("sha256") == sha256_json(entries)


def edited_line(edited: Sequence[str]) -> str:
    """Return what an output of edited tables says; empty where none is."""
    return f"Edited, read as it is: {listed(edited, 5, '; ')}" if edited else ""


def _unfinished(folder: Path) -> ProbesError:
    if who := folder_lock.holder(folder):
        what = f"the run in this folder has not finished: {who} is writing it"
        fix = "wait until it has ended"
    else:
        what = "the run in this folder has not finished: it was stopped"
        fix = "finish it with the same `probes run`, into the same hydra.run.dir"
    return ProbesError(what, str(folder), f"{fix}; {READ_ANYWAY}")


def _problems(folder: Path, content: dict[str, Any], names: Sequence[str] | None) -> list[str]:
    found = [] if manifest_holds(content) else [f"{FILE} was changed after the run wrote it"]
    files = content.get("files")
    files = files if isinstance(files, dict) else {}
    there = {path.name: path for path in bound_files(folder)}
    for name in sorted({*files, *there}):
        if names is not None and name not in names:
            continue
        if name not in there:
            # A submission file that was moved away to be handed in takes nothing from the run.
            found += [f"{name} is missing, which the manifest names"] if name in TABLES else []
        elif name not in files:
            found.append(f"{name} does not belong to the run: its manifest does not name it")
        elif files[name] != _sha256(there[name]):
            found.append(
                f"{name} is not the file that the manifest names: it was edited, damaged, or is "
                "another run's"
            )
    return found


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        what = f"{path.name} cannot be read: {error.strerror or error}"
        raise ProbesError(what, str(path), REWRITE) from error
