"""The manifest of a run folder: where its numbers come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.core.hashing import sha256_file, sha256_json
from probes.core.redaction import redacted

FILE = "manifest.json"
TABLES = tuple(f"{name}.parquet" for name in "records items donors infills artifacts".split())
SUBMISSIONS = "submission-*.json"
REWRITE = "have it written again: the same `probes run` answers from the store"
"""How to restore a file of a run folder."""


def _means(text: str, **more: Any) -> Any:
    return field(metadata={"meaning": text}, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of manifest.json; it is written last: its presence means that a run is whole."""

    git: str = _means("commit of the code; empty where it is no checkout")
    dirty: bool = _means("whether that checkout had changes")
    packages: Mapping[str, str] = _means(
        "versions of the packages that results can depend on, and of those with entries that were "
        "used"
    )
    device: str = _means("what the run computed on")
    config: Mapping[str, Any] = _means(
        "the whole resolved configuration (`probes run --cfg job` shows its settings)"
    )
    data: Mapping[str, Any] = _means(
        "the task's folder, number of items, hashes of items and media"
    )
    sample: Mapping[str, Any] = _means(
        "the items of all shards together: how many, and the hash of their tasks and ids, in order",
        default_factory=dict,
    )
    seeds: Mapping[str, int] = _means("of the run, of made data and of every arm")
    created: str = _means("when it was written (UTC)")
    platform: Mapping[str, str] = _means(
        "what decides which kernels run: answers are equal to the last digit only on the same"
    )
    members: Mapping[str, Mapping[str, Any]] = _means(
        "the facts of every model, with fingerprint, classes, tokens per frame and hashes of "
        "configuration, tokenizer and chat template"
    )
    counts: Mapping[str, Any] = _means(
        "items, planned records and their statuses; requests by model: unique, cached, computed, "
        "failed"
    )
    failed_infills: int = _means("infills of which a step failed")
    empty_infills: int = _means("infills with an empty reply")
    donors: Mapping[str, Mapping[str, float]] = _means("by arm: how many there are, how often used")
    decode_passes: int = _means("media files that were decoded for this run")
    backends: Mapping[str, Mapping[str, Any]] = _means("counts of every backend")
    seconds: Mapping[str, float] = _means("wall time of every phase")
    frames_lost: tuple[str, ...] = _means(
        "frames that were shown and are gone, and so are their media; absent where none is",
        default=(),
    )
    artifacts: Mapping[str, Any] = _means(
        "arrays of answers: how many, their names, bytes of their files; absent where there are "
        "none",
        default_factory=dict,
    )
    origins: Mapping[str, Mapping[str, int]] = _means(
        "what computed the answers of every member, and the infills: libraries, device, dtype, "
        "kernels, with the number of answers or texts; `packages`, `device` and `platform` are "
        "those of the process that wrote this folder",
        default_factory=dict,
    )
    scored: Mapping[str, Mapping[str, float]] = _means(
        "by member: answers whose options were scored, how many of them tied or have a letter that "
        "a server did not list, and the mean probability on the options' letters; absent where "
        "nothing was scored",
        default_factory=dict,
    )
    notes: tuple[str, ...] = _means(
        "what has to be known beside any number: ties, bounds, little mass on letters; absent "
        "where there is nothing",
        default=(),
    )
    comparability: Mapping[str, Any] = _means(
        "what `probes doctor` finds: the verdict on the pair, differences, faults, what could not "
        "be seen, and for every member its context, scored letters, end of prompt, and how its "
        "first answers compare with its class's own forward pass (absent in folders of older "
        "versions)",
        default_factory=dict,
    )
    remarks: tuple[Mapping[str, str], ...] = _means(
        "what has to be known of how the members are run, as {member, text}, the member empty "
        "where it is of the pair: how frames are shown, templates that move or trim, processors "
        "put together from parts, adapters, own code, classes that are run whole; absent where "
        "there is nothing (and in folders of older versions)",
        default=(),
    )
    files: Mapping[str, str] = _means(
        "sha256 of every table and submission file of the run; readers refuse others (in folders "
        "of older versions absent)",
        default_factory=dict,
    )
    sha256: str = _means(
        "of all other entries, as JSON with sorted names and without blanks; absent as `files` is",
        default="",
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a run's manifest; see `write_content`."""
    optional = "frames_lost artifacts origins scored notes comparability remarks".split()
    content = {k: v for k, v in asdict(manifest).items() if v or k not in optional}
    write_content(folder, content)


def write_content(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest as a whole and without secrets, and bind the folder's files to it.

    Args:
        folder: with all tables and submission files that it is to have; where the manifest is,
            the run is complete.
        content: the entries; `files` and `sha256` are made here.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    entries = plain({k: v for k, v in content.items() if k not in ("files", "sha256")})
    entries["files"] = {path.name: sha256_file(path) for path in bound_files(folder)}
    entries["sha256"] = sha256_json(entries)
    atomic_write(folder / FILE, f"{json.dumps(entries, indent=2)}\n".encode())


def plain(content: Any) -> Any:
    """Return content as its JSON file has it: plain values, without secrets."""
    # Plain JSON first: a secret within a path or another object would escape the search.
    return redacted(json.loads(json.dumps(content, default=str)))


def bound_files(folder: Path) -> list[Path]:
    """Return the files of a folder that a manifest binds: its tables, then submission files."""
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    return tables + sorted(folder.glob(SUBMISSIONS))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the content of a run's manifest; empty where there is none.

    Raises:
        ProbesError: it cannot be read, or is no JSON object.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProbesError(f"the manifest cannot be read: {reason}", str(path), REWRITE) from error
    if not isinstance(content, dict):
        raise ProbesError("the manifest cannot be read: it is no JSON object", str(path), REWRITE)
    return content
