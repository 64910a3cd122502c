"""Whose folder it is: a run writes into an empty one, or goes on in that of the same settings."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.core.text import flat, listed, without_lists
from probes.records import artifacts
from probes.records.binding import NOTE, manifest_holds
from probes.records.manifest import FILE, SUBMISSIONS, TABLES, bound_files, plain, read_manifest

_FIX = (
    "choose another folder (hydra.run.dir=DIR), add overwrite=true (what the old run left here is "
    "removed), or delete the folder"
)
# What decides where and how fast a run is computed, not which records it has; `answers` says which
# stored answers are taken, and the same run may be asked again more strictly.
_NOT_COMPARED = set(
    "out overwrite answers backend.batch_size backend.feature_cache_mb backend.device".split()
)
_NOT_COMPARED_LAST = {"device", "caveat"}
_EMPTY: tuple[Any, ...] = (None, "", False, 0, [], {})
_SHOWN = 60
_FRAME = re.compile(r"[0-9a-f]{64}\.png")
# What `core.files.atomic_file` calls a file of a run until it is whole.
_HALF = re.compile(
    r"\.(?:\w+\.parquet|(?:run|manifest|submission-.*)\.json|[0-9a-f]{64}|arms\.\w+|\w+\.yaml)"
    r"\.\d+\.[0-9a-f]{8}"
)


def claim(folder: Path, config: Mapping[str, Any], overwrite: bool = False) -> None:
    """Take a folder, whose lock is held, for a run; nothing of another run is replaced unasked.

    Args:
        folder: the run's folder, which is there.
        config: the run's resolved configuration, as its manifest will have it.
        overwrite: what another run left here is removed first.

    Raises:
        ProbesError: the folder holds a run of other settings, or files of an unknown run that this
            run would replace.
        MachineError: the folder cannot be written to.
    """
    own = plain(config)
    if overwrite:
        remove(folder)
    elif there := _ours(folder):
        known = _config_of(folder)
        if known is None:
            raise ProbesError(
                f"the folder is not empty, and does not say which run wrote {listed(there, 3)}",
                str(folder),
                _FIX,
            )
        if differing := differences(known, own):
            what = f"the folder holds a run of other settings: {listed(differing, 5, '; ')}"
            raise ProbesError(what, str(folder), _FIX)
    _remove_half(folder)
    atomic_write(folder / NOTE, f"{json.dumps({'config': own}, indent=2)}\n".encode())


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the settings that decide records and differ, e.g. `limit: 4 -> 8`.

    Both as JSON has them. A setting that only one of them has, as versions differ in what can be
    set, counts where it is not empty.
    """
    before, after = (_compared(config) for config in (old, new))
    return [
        f"{name}: {_short(before.get(name))} -> {_short(after.get(name))}"
        for name in dict.fromkeys([*after, *before])
        if _value(before, name) != _value(after, name)
    ]


def remove(folder: Path) -> None:
    """Remove all files of a run from its folder; other files stay.

    Its frames stay until the next run is complete, which keeps those that it has shown.
    """
    # First what says that the run is complete; last what says whose the folder is.
    (folder / FILE).unlink(missing_ok=True)
    for path in bound_files(folder):
        path.unlink()
    artifacts.remove(folder)
    for figure in (folder / "plots").glob("arms.*"):
        figure.unlink()
    if (folder / "report" / "report.html").is_file():
        shutil.rmtree(folder / "report")
    (folder / NOTE).unlink(missing_ok=True)


def remove_submissions(folder: Path) -> None:
    """Remove the submission files of an earlier run of the same settings."""
    for path in folder.glob(SUBMISSIONS):
        path.unlink()


def keep_frames(folder: Path, shown: Collection[bytes]) -> None:
    """Remove the frames of earlier runs that this one did not show.

    Args:
        folder: of the frames.
        shown: sha256 of those that stay, 32 bytes each.
    """
    for path in folder.iterdir():
        if _FRAME.fullmatch(path.name) and bytes.fromhex(path.stem) not in shown:
            path.unlink()


def _remove_half(folder: Path) -> None:
    """Remove what a killed process was writing: the lock is held, so nobody writes it now."""
    for part in (folder, folder / "frames", folder / "plots", folder / ".hydra"):
        for path in part.iterdir() if part.is_dir() else ():
            if _HALF.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _ours(folder: Path) -> list[str]:
    """Return the names in a folder that a run would replace."""
    there = [name for name in (FILE, *TABLES) if (folder / name).exists()]
    there += [path.name for path in folder.glob(SUBMISSIONS)]
    pictures = (folder / "frames").is_dir() and any((folder / "frames").iterdir())
    return there + ["frames"] * (pictures or (folder / "frames").is_file())


def _config_of(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of the run that wrote a folder; None where it is not known."""
    try:
        note = json.loads((folder / NOTE).read_bytes())
        if isinstance(note["config"], dict):
            return dict(note["config"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass  # of an older version, or damaged: the manifest has it too
    try:
        content = read_manifest(folder)
    except ProbesError:
        return None
    # What was edited does not say whose folder it is.
    older = not {"files", "sha256"} & set(content)
    config = content.get("config")
    return config if isinstance(config, dict) and (older or manifest_holds(content)) else None


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in flat(without_lists(config, by="name")).items()
        if name not in _NOT_COMPARED and name.rsplit(".", 1)[-1] not in _NOT_COMPARED_LAST
    }


def _value(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    # With the type: 1 and true are two settings.
    return "" if any(value is one or value == one for one in _EMPTY) else repr(value)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) and not value else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
