"""Several runs of one setting, such as the shards of a sweep, as one run folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.records import parquet
from probes.records.manifest import read_manifest

if TYPE_CHECKING:
    import pyarrow as pa


_ITEM, _GAP = ("task", "id"), ("role", "frames", "item_id", "gap")


def merge(paths: Sequence[Path], out: Path) -> int:
    """Write the runs below some folders as one run.

    Records are merged by what they answer: one that failed in one run yields to the same one that
    did not in another; equal ones are kept once. Tables of items and infills are united, frames
    are linked (copied to another disk), and the manifest names every run that went in.

    Args:
        paths: run folders, sweeps, or any folders above runs.
        out: folder of the merged run; must be new or empty.

    Returns:
        Number of records written.

    Raises:
        ProbesError: nothing to merge, a folder in use, a run that did not finish, or runs that
            differ in more than which items they asked.
    """
    from probes.analysis import load
    from probes.records.schema import item_schema, record_schema

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ProbesError("the folder is not empty", str(out), "name a new one")
    frame = load(list(paths))
    if len(settings := sorted(set(frame["setting"]))) > 1:
        raise ProbesError(
            f"the runs differ in their settings: {'; '.join(one or 'none' for one in settings)}",
            ", ".join(map(str, paths)),
            "merge those of one setting; `probes report` takes several as they are",
        )
    folders = [Path(run) for run in dict.fromkeys(frame["run"])]
    manifests = [_finished(folder) for folder in folders]
    schema = record_schema()
    rows = frame[list(schema.names)].to_dict("list")
    records = {str(name): [_plain(value) for value in column] for name, column in rows.items()}
    items = _united(folders, "items.parquet", _ITEM)
    asked = set(items.column("id").to_pylist()) if items is not None else set()
    donors = _united(folders, "donors.parquet", _ITEM, lambda row: row["id"] not in asked)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProbesError(
            f"the folder cannot be made: {error.strerror}", str(out), "name another"
        ) from error
    parquet.write(out / "records.parquet", _table(records, schema))
    for name, table in {
        "items.parquet": items,
        "donors.parquet": donors,
        "infills.parquet": _united(folders, "infills.parquet", _GAP),
    }.items():
        if table is not None:
            parquet.write(out / name, table)
        elif name == "items.parquet":
            parquet.write(
                out / name, _table({one: [] for one in item_schema().names}, item_schema())
            )
    _link_frames(folders, out / "frames")
    statuses = frame["status"].value_counts()
    counts = {
        "items": int(frame[["task", "item_id"]].drop_duplicates().shape[0]),
        "planned": len(frame),
        **{one: int(statuses.get(one, 0)) for one in ("ok", "unparsed", "error")},
    }
    # Last: the run is whole.
    atomic_write(out / "manifest.json", _manifest(folders, manifests, counts))
    return len(frame)


def _plain(value: Any) -> Any:
    """Return a cell of a frame as Arrow takes it: missing values are None, arrays are lists."""
    import pandas as pd

    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return list(value)
    return None if pd.isna(value) else value


def _united(
    folders: Sequence[Path],
    name: str,
    identity: Sequence[str],
    keep: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> pa.Table | None:
    """Return one table's rows of all runs, each once; None where no run has it."""
    schema: pa.Schema | None = None
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for folder in folders:
        if not (folder / name).is_file():
            continue
        table = parquet.read(folder / name, Path(name).stem)
        schema = schema or table.schema
        for row in table.to_pylist():
            key = tuple(row[one] for one in identity)
            # An infill that failed in one run may have been written in another.
            if keep(row) and (key not in rows or not rows[key].get("ok", True)):
                rows[key] = row
    if schema is None:
        return None
    return _table({one: [row[one] for row in rows.values()] for one in schema.names}, schema)


def _table(columns: Mapping[str, list[Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.table(dict(columns), schema=schema)


def _link_frames(folders: Sequence[Path], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for folder in folders:
        for source in sorted((folder / "frames").glob("*.png")):
            if (there := target / source.name).exists():
                continue
            try:
                os.link(source, there)
            except OSError:  # no hard links here, or none to another disk
                shutil.copyfile(source, there)


def _finished(folder: Path) -> dict[str, Any]:
    """Return a run's manifest, which is the last thing that a run writes."""
    manifest = read_manifest(folder)
    if not isinstance(manifest.get("config"), dict):
        raise ProbesError(
            "the run has no manifest with a configuration: it did not finish", str(folder),
            "finish it with the same `probes run`, or leave it out",
        )  # fmt: skip
    return manifest


def _manifest(
    folders: Sequence[Path], manifests: Sequence[dict[str, Any]], counts: Mapping[str, int]
) -> bytes:
    """Return the first run's manifest with what holds for all, and every run's own facts."""
    known = list(zip(folders, manifests, strict=True))
    first = manifests[0]
    own = ("git", "dirty", "packages", "device", "platform", "created", "counts", "seconds")
    parts = {
        folder: {name: one["config"].get(name) for name in ("shard", "shards")}
        for folder, one in known
    }
    first["config"] |= {"shard": 0, "shards": 1}
    merged = [
        {"run": folder.name, **parts[folder]} | {name: one[name] for name in own if name in one}
        for folder, one in known
    ]
    kept = {name: value for name, value in first.items() if name not in ("seconds", "backends")}
    sums = {
        name: sum(int(one.get(name) or 0) for _, one in known)
        for name in ("failed_infills", "empty_infills", "decode_passes")
    }
    content = {**kept, "counts": dict(counts), **sums, "merged": merged}
    return (json.dumps(content, indent=2) + "\n").encode()
