"""The manifest of a run folder: where its numbers come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.core.redaction import redacted

FILE = "manifest.json"
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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a run's manifest as a whole, without secrets."""
    optional = ("frames_lost", "artifacts")
    content = {k: v for k, v in asdict(manifest).items() if v or k not in optional}
    # Plain JSON first: a secret within a path or another object would escape the search.
    text = json.dumps(redacted(json.loads(json.dumps(content, default=str))), indent=2)
    atomic_write(folder / FILE, f"{text}\n".encode())


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
