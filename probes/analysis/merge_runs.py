"""Several runs of one setting, such as the shards of a sweep, as one run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.core.files import link_or_copy
from probes.records import artifacts, parquet, schema
from probes.records.manifest import read_manifest, write_content
from probes.records.schema import InfillRow, ItemRow, Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_IDENTITY = {ItemRow: ("task", "id"), InfillRow: ("role", "frames", "item_id", "gap")}
"""Columns that identify a row."""


def merge(paths: Sequence[Path], out: Path) -> int:
    """Write the runs below some folders as one run.

    Records are merged by what they answer: one that failed in one run is dropped where it did not
    fail in another; equal ones are kept once. Tables of items and infills are joined, frames and
    files of arrays linked (copied to another disk), and the manifest names every run that was
    merged.

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

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ProbesError("the folder is not empty", str(out), "give a new one")
    # Loading compares the runs: nothing is written before they are known to agree.
    frame = load(list(paths))
    _check_one_setting(frame, paths)
    folders = [Path(run) for run in dict.fromkeys(frame["run"])]
    manifests = [_finished(folder) for folder in folders]
    items = _joined(folders, "items", ItemRow)
    asked = set(items["id"].to_pylist()) if items is not None else set()
    tables = {
        "records": _records(frame),
        "items": schema.to_table([], ItemRow) if items is None else items,
        # One shard's donor may be another's item: then items.parquet has it.
        "donors": _joined(folders, "donors", ItemRow, lambda row: row["id"] not in asked),
        "infills": _joined(folders, "infills", InfillRow),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder cannot be made: {error.strerror}"
        raise ProbesError(what, str(out), "give another") from error
    for name, table in tables.items():
        if table is not None:
            parquet.write(out / f"{name}.parquet", table)
    artifacts.merge(folders, out)
    _join_frames(folders, out / "frames")
    statuses = frame["status"].value_counts()
    counts = {
        "items": int(frame[["task", "item_id"]].drop_duplicates().shape[0]),
        "planned": len(frame),
        **{status: int(statuses.get(status, 0)) for status in ("ok", "unparsed", "error")},
    }
    content = _manifest(folders, manifests, counts)
    if arrays := artifacts.facts(out):
        content["artifacts"] = arrays
    # Last, as it says that the run is whole, and binds its files.
    write_content(out, content)
    return len(frame)


def _check_one_setting(frame: pd.DataFrame, paths: Sequence[Path]) -> None:
    if len(settings := sorted(set(frame["setting"]))) > 1:
        raise ProbesError(
            f"the runs differ in their settings: {'; '.join(name or 'none' for name in settings)}",
            ", ".join(map(str, paths)),
            "merge those of one setting; `probes report` takes runs of several settings",
        )


def _join_frames(folders: Sequence[Path], out: Path) -> None:
    out.mkdir()
    for picture in (path for folder in folders for path in (folder / "frames").glob("*.png")):
        # Files are named by the sha256 of their pixels: an equal name is an equal picture.
        if not (target := out / picture.name).exists():
            link_or_copy(picture, target)


def _records(frame: pd.DataFrame) -> pa.Table:
    """Return the records of a frame as a table."""
    import pyarrow as pa

    columns = {
        field.name: pa.array(frame[field.name].array, field.kind, from_pandas=True)
        for field in schema.fields(Record)
    }
    return pa.table(columns, schema=schema.arrow_schema(Record))


def _joined(
    folders: Sequence[Path],
    name: str,
    row_type: type,
    keep: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> pa.Table | None:
    """Return the rows of one table in all runs, each once; None where no run has the table."""
    import pyarrow as pa

    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    files = [folder / f"{name}.parquet" for folder in folders]
    files = [file for file in files if file.is_file()]
    for file in files:
        # The first run that has a row gives it: what could differ, `load` has compared.
        for row in schema.read(file, row_type).to_pylist():
            identity = tuple(row[name] for name in _IDENTITY[row_type])
            # An infill that failed in one run may have been written in another.
            if keep(row) and (identity not in rows or not rows[identity].get("ok", True)):
                rows[identity] = row
    if not files:
        return None
    return pa.Table.from_pylist(list(rows.values()), schema.arrow_schema(row_type))


def _finished(folder: Path) -> dict[str, Any]:
    """Return a run's manifest, which a run writes last."""
    manifest = read_manifest(folder)
    if not isinstance(manifest.get("config"), dict):
        raise ProbesError(
            "the run has no manifest with a configuration: it did not finish",
            str(folder),
            "finish it with the same `probes run`, or leave it out",
        )
    return manifest


def _manifest(
    folders: Sequence[Path], manifests: Sequence[dict[str, Any]], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Return the first run's manifest with the merged run's facts, and each run's own facts."""
    runs = list(zip(folders, manifests, strict=True))
    first = manifests[0]
    own = ("git", "dirty", "packages", "device", "platform", "created", "counts", "seconds")
    parts = {
        folder: {name: manifest["config"].get(name) for name in ("shard", "shards")}
        for folder, manifest in runs
    }
    first["config"] |= {"shard": 0, "shards": 1}
    merged = [
        {"run": folder.name, **parts[folder]}
        | {name: manifest[name] for name in own if name in manifest}
        for folder, manifest in runs
    ]
    # These are true of the first run only, not of the whole.
    kept = {k: v for k, v in first.items() if k not in ("seconds", "backends", "artifacts")}
    sums = {
        name: sum(int(manifest.get(name) or 0) for manifest in manifests)
        for name in ("failed_infills", "empty_infills", "decode_passes")
    }
    return {**kept, "counts": dict(counts), **sums, "merged": merged}
