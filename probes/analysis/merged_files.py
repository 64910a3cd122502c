"""The content of a merged run's folder: what its runs hold, once and in the order of one run."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.analysis import shards
from probes.analysis.scored import of_frame
from probes.analysis.settings import LoadedRun
from probes.core.errors import ProbesError
from probes.core.files import atomic_write, link_or_copy
from probes.core.hashing import sha256_file, sha256_json, sha256_json_rows
from probes.records import artifacts, infills, schema, scored
from probes.records.manifest import REWRITE
from probes.records.schema import InfillRow, ItemRow, Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_Cells = dict[str, Any]
"""A row of a table, or a part of a manifest."""
_IDENTITY = {
    ItemRow: ("task", "id"),
    InfillRow: ("task", "role", "frames", "item_id", "gap", "draw"),
}
"""Columns that identify a row: ids are unique within a task only."""
_OF_ITEMS = ("id", "question", "options", "answer", "stratum", "cluster", "meta")
"""What a manifest's hash of the items covers."""
_OF_ONE_RUN = ("seconds", "backends", "artifacts", "partial", "frames_lost", "files", "sha256")
"""What a manifest says that is true of its own run only."""
_KEPT = ("git", "dirty", "packages", "device", "platform", "created", "counts", "seconds")
"""What the merged manifest keeps of each run, under `merged`."""


def tables(frame: pd.DataFrame, folders: Sequence[Path]) -> dict[str, pa.Table]:
    """Return the tables of several runs as those of one run over all their items.

    Args:
        frame: their records, as `analysis.load` returns them.
        folders: the runs.

    Returns:
        By name; in the order in which one run would have written them, where the items' places are
        known.

    Raises:
        ProbesError: a table that cannot be read, or infills that could be of two tasks.
    """
    items = _joined(folders, "items", ItemRow)
    lenders = _joined(folders, "donors", ItemRow) or {}
    asked = sorted((items or {}).values(), key=_place)
    # By (task, id): the order in which one run would have asked them.
    ranks = {(row["task"], row["id"]): rank for rank, row in enumerate(asked)}
    records = in_order(frame, ranks)
    # One shard's donor may be another's item: then items.parquet has it.
    needed = {key: lenders[key] for key in _lenders(records) if key in lenders}
    lent = [row for key, row in (needed | lenders).items() if key not in ranks]
    found = {"records": _records(records), "items": _table(asked, ItemRow)}
    if any((folder / "donors.parquet").is_file() for folder in folders):
        found["donors"] = _table(lent, ItemRow)
        ranks |= {(row["task"], row["id"]): len(ranks) + at for at, row in enumerate(lent)}
    texts = _joined(folders, "infills", InfillRow)
    if texts is not None:
        roles = list(dict.fromkeys(row["role"] for row in texts.values()))

        def order(row: _Cells) -> tuple[Any, ...]:
            rank = ranks.get((row["task"], row["item_id"]), math.inf)
            return roles.index(row["role"]), row["draw"], rank, row["frames"], row["gap"]

        found["infills"] = _table(sorted(texts.values(), key=order), InfillRow)
    return found


def in_order(frame: pd.DataFrame, ranks: Mapping[tuple[str, str], int]) -> pd.DataFrame:
    """Return records in the order of one run: by member, then item; of an item as they were."""
    import numpy as np

    roles = list(dict.fromkeys(frame["role"]))
    places = zip(frame["task"], frame["item_id"], strict=True)
    by_item = np.array([ranks.get(place, len(ranks)) for place in places])
    by_role = np.array([roles.index(role) for role in frame["role"]])
    return frame.iloc[np.lexsort((by_item, by_role))]  # stable; the last key comes first


def _place(row: _Cells) -> float:
    return math.inf if row["place"] is None else row["place"]


def _lenders(records: pd.DataFrame) -> dict[tuple[str, str], None]:
    """Return the donors of ordered records by (task, id), in the order in which a run has them."""
    lent = records[records["donor_id"].notna()]
    # A donor may be of another task, which its record then names.
    tasks = lent["donor_task"].fillna(lent["task"]) if "donor_task" in lent else lent["task"]
    pairs = lent[["arm", "donor_id"]].assign(task=tasks).drop_duplicates()
    found: dict[tuple[str, str], None] = {}
    # A run looks for the donors of one arm after the other.
    for arm in dict.fromkeys(records["arm"]):
        of_arm = pairs[pairs["arm"] == arm]
        found |= dict.fromkeys(zip(of_arm["task"], of_arm["donor_id"], strict=True))
    return found


def _records(frame: pd.DataFrame) -> pa.Table:
    """Return the records of a frame as a table."""
    import pyarrow as pa

    columns = {
        field.name: pa.array(frame[field.name].array, field.kind, from_pandas=True)
        for field in schema.fields(Record)
    }
    return pa.table(columns, schema=schema.arrow_schema(Record))


def _table(rows: Sequence[_Cells], row_type: type) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema.arrow_schema(row_type))


def _joined(
    folders: Sequence[Path], name: str, row_type: type
) -> dict[tuple[Any, ...], _Cells] | None:
    """Return the rows of one table in all runs, each once; None where no run has the table."""
    rows: dict[tuple[Any, ...], _Cells] = {}
    files = [folder / f"{name}.parquet" for folder in folders]
    files = [file for file in files if file.is_file()]
    for file in files:
        table = infills.read(file.parent) if row_type is InfillRow else schema.read(file, row_type)
        # The first run that has a row gives it: what could differ, `load` has compared.
        for row in table.to_pylist():
            identity = tuple(row[name] for name in _IDENTITY[row_type])
            # An infill that failed in one run may have been written in another.
            if identity not in rows or not rows[identity].get("ok", True):
                rows[identity] = row
    return rows if files else None


def join_frames(folders: Sequence[Path], out: Path) -> None:
    """Put every picture of several runs into one folder; those that are there stay."""
    out.mkdir(exist_ok=True)
    there = {picture.name for picture in out.iterdir()}
    for folder in folders:
        for picture in sorted((folder / "frames").glob("*.png")):
            # Files are named by the sha256 of their pixels: an equal name is an equal picture.
            if picture.name not in there:
                link_or_copy(picture, out / picture.name)
                there.add(picture.name)


def join_submissions(folders: Sequence[Path], ids: Sequence[str], out: Path) -> None:
    """Join submission files of runs, whose entries are by item, in the order of the items."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for file in sorted(folder.glob("submission-*.json")):
            try:
                entries = json.loads(file.read_bytes())
            except (OSError, ValueError, RecursionError) as error:
                what = f"the submission file cannot be read: {error}"
                raise ProbesError(what, str(file), REWRITE) from error
            # A benchmark's format of another kind is not ours to join: it is left out.
            if isinstance(entries, dict) and entries.keys() <= set(ids):
                found.setdefault(file.name, {}).update(entries)
    for name, entries in found.items():
        ordered = {key: entries[key] for key in ids if key in entries}
        atomic_write(out / name, (json.dumps(ordered, indent=1) + "\n").encode())


def manifest(
    runs: Sequence[LoadedRun],
    frame: pd.DataFrame,
    joined: Mapping[str, pa.Table],
    out: Path,
) -> _Cells:
    """Return the manifest of a merged run whose other files are written.

    Args:
        runs: those that were merged.
        frame: their records; `attrs["partial"]` says what is missing.
        joined: the merged run's tables.
        out: its folder.
    """
    manifests = [run.manifest for run in runs]
    first = manifests[0]
    kept = {name: value for name, value in first.items() if name not in _OF_ONE_RUN}
    kept |= {"config": _config([run.config for run in runs]), "counts": _counts(frame)}
    kept |= {"data": {**(first.get("data") or {}), **_data(joined)}, "donors": _donor_use(frame)}
    kept["created"] = max(str(one.get("created", "")) for one in manifests)
    samples = [one["sample"] for one in manifests if one.get("sample")]
    if samples:
        # With several limits: the smaller samples are parts of the larger ones.
        kept["sample"] = max(samples, key=lambda sample: int(sample["items"]))
    found = of_frame(frame)
    without = {name for run in runs for name in scored.exempt(run.config)}
    kept["scored"] = {name: one.as_dict() for (_, name), one in found.items()}
    # What is counted from answers is counted anew; what was told of stimuli stays as it was told.
    notes = [note for run in runs for note in run.manifest.get("notes") or ()]
    notes = [note for note in notes if note.split(":")[0] not in scored.KINDS]
    kept["notes"] = [*scored.lines(found, without), *dict.fromkeys(notes)]
    kept = {k: v for k, v in kept.items() if v or k not in ("scored", "notes")}
    said = {json.dumps(o, sort_keys=True): o for one in manifests for o in one.get("remarks") or ()}
    kept |= {"remarks": list(said.values())} if said else {}
    if origins := _origins(frame, manifests):
        kept["origins"] = origins
    states = joined["infills"]["status"].to_pylist() if "infills" in joined else []
    kept |= {f"{state}_infills": states.count(state) for state in ("failed", "empty")}
    kept["decode_passes"] = sum(int(one.get("decode_passes") or 0) for one in manifests)
    lost = dict.fromkeys(sha for one in manifests for sha in one.get("frames_lost") or ())
    if gone := [sha for sha in lost if not (out / "frames" / f"{sha}.png").is_file()]:
        kept["frames_lost"] = gone
    if arrays := artifacts.facts(out):
        kept["artifacts"] = arrays
    if lacking := frame.attrs.get("partial"):
        kept["partial"] = shards.stated(runs, lacking)
    return kept | {"merged": [_of_run(run) for run in runs]}


def manifest_sha256(folder: Path) -> str:
    """Return the hash of a run's manifest: it changes whenever the run is written again."""
    return sha256_file(folder / "manifest.json")


def _of_run(run: LoadedRun) -> _Cells:
    """Return what the merged manifest says of one of its runs."""
    own = {name: run.manifest[name] for name in _KEPT if name in run.manifest}
    part = {name: run.config.get(name) for name in ("shard", "shards")}
    return {"run": run.folder.name, **part, "manifest_sha256": manifest_sha256(run.folder), **own}


def _config(configs: Sequence[Mapping[str, Any]]) -> _Cells:
    """Return the configuration of one run that asks all that several runs of one setting asked."""
    found: _Cells = dict(configs[0]) | {"shard": 0, "shards": 1}
    lists = [list(config["frames"]) for config in configs if config.get("frames")]
    if any(one != lists[0] for one in lists):
        found["frames"] = sorted({count for one in lists for count in one})
    # Arms of one name are the same: others would be of another setting.
    arms = [arm for config in configs for arm in config.get("suite") or ()]
    if arms and all(isinstance(arm, Mapping) and "name" in arm for arm in arms):
        found["suite"] = list({arm["name"]: arm for arm in arms}.values())
    if "limit" in found:
        limits = [config.get("limit") for config in configs]
        # None: no limit, which has all that a limit has.
        found["limit"] = None if None in limits else max(map(int, filter(None, limits)))
    for name in ("donor_draws", "infill_draws"):
        if found.get(name) is not None:
            found[name] = max(config.get(name) or 1 for config in configs)
    return found


def _counts(frame: pd.DataFrame) -> _Cells:
    statuses = frame["status"].value_counts()
    return {
        "items": len(frame[["task", "item_id"]].drop_duplicates()),
        "planned": len(frame),
        **{status: int(statuses.get(status, 0)) for status in ("ok", "unparsed", "error")},
    }


def _data(joined: Mapping[str, pa.Table]) -> _Cells:
    """Return the hashes of the items and media that were shown, as one run states them."""
    shown = [joined[name] for name in ("items", "donors") if name in joined]
    rows = [row for table in shown for row in table.to_pylist()]
    media = {row["media_sha256"] for row in rows} - {None}
    # Of one task, whose name is no content, as a run has it.
    several = ("task",) if len({row["task"] for row in rows}) > 1 else ()
    content = ([row[name] for name in (*several, *_OF_ITEMS)] for row in rows)
    return {
        "items_sha256": sha256_json_rows(content),
        "media_sha256": sha256_json(sorted(media)),
    }


def _donor_use(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return, by arm, how many donors there are and how often one is used."""
    names = ["arm", "task", "item_id", "donor_id"]
    uses = frame.loc[frame["donor_id"].notna(), names].drop_duplicates()
    found: dict[str, dict[str, float]] = {}
    for arm, rows in uses.groupby("arm", sort=False):
        counts = rows["donor_id"].value_counts()
        mean = round(float(counts.mean()), 3)
        found[str(arm)] = {"donors": len(counts), "max": int(counts.max()), "mean": mean}
    return found


def _origins(
    frame: pd.DataFrame, manifests: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, int]]:
    """Return, by member, what computed the merged answers, with their number.

    Of infills, whose rows do not say it, the counts of the runs: texts of several runs of the same
    items count in each.
    """
    known = frame[frame["origin"] != ""]
    found: dict[str, Counter[str]] = {}
    for member, origin in zip(known["member"], known["origin"], strict=True):
        found.setdefault(str(member), Counter())[str(origin)] += 1
    writers: dict[str, Counter[str]] = {}
    for one in manifests:
        for name, texts in (one.get("origins") or {}).items():
            if name not in found:
                writers.setdefault(name, Counter()).update(texts)
    return {name: dict(sorted(one.items())) for name, one in (found | writers).items()}
