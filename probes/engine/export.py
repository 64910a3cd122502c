"""The files of a run's folder: four tables, a manifest, and the frames that were shown.

records.parquet, items.parquet (those asked), donors.parquet (items that only lend their frames or
infills, so that every stimulus can be made again) and infills.parquet.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.config.settings import RunConfig, TaskConfig
from probes.core.environment import git_state, packages
from probes.core.errors import MachineError, ProbesError
from probes.core.files import atomic_write
from probes.core.hashing import sha256_file, sha256_json, sha256_json_rows
from probes.core.redaction import redacted
from probes.core.text import whole_text
from probes.core.types import Clip, Item, Manifest, Record
from probes.engine.plan import InfillsByClip, Plan
from probes.media import png
from probes.media.frame_store import FrameStore
from probes.records import parquet
from probes.stimuli import words
from probes.stimuli.infills import ClipKey
from probes.tasks import registry

if TYPE_CHECKING:
    import pyarrow as pa

from probes.core.machine import device_name, platform_facts
from probes.records.schema import infill_schema, item_schema, record_schema

ROW_GROUP = 2_048
"""Rows that a table's file holds together, and that are in memory as columns at the same time."""
_ROWS = 256  # of them, as objects of Python


def tables(
    out: Path,
    *,
    cfg: RunConfig,
    plan: Plan,
    clips: Mapping[ClipKey, Clip],
    written: Mapping[str, InfillsByClip],
    records: Iterable[Record],
) -> None:
    """Write a run's tables and submission files, each as a whole.

    Args:
        out: folder; made if need be.
        cfg: configuration of the run.
        plan: what was asked.
        clips: of everything that was shown.
        written: infills by writer: `shared`, or a member's role.
        records: of all members; looked at once, some at a time.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A manifest vouches for the tables beside it, so an earlier run's goes first.
    (out / "manifest.json").unlink(missing_ok=True)
    root = registry.root(cfg.task)
    shown = plan.shown_items()
    asked = {item.id for item in plan.items}
    _parquet(out / "records.parquet", record_schema(), map(_row, records))
    for name, some in (
        ("items", plan.items), ("donors", [item for item in shown if item.id not in asked])
    ):  # fmt: skip
        rows = (_item_row(item, root, plan.counts, clips) for item in some)
        _parquet(out / f"{name}.parquet", item_schema(), rows)
    by_id = {item.id: item for item in shown}
    _parquet(out / "infills.parquet", infill_schema(), _infill_rows(written, clips, by_id))
    _submissions(out, cfg.task)


def manifest(
    out: Path,
    *,
    cfg: RunConfig,
    plan: Plan,
    describe: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """Write a run's manifest, which says that its other files are complete.

    Args:
        out: the run's folder.
        cfg: configuration of the run.
        plan: what was asked.
        describe: facts of every model that was opened, by name.
        facts: further entries of the manifest.
    """
    git, dirty = git_state(Path(__file__).parent)
    media = {_media_sha(item) for item in plan.shown_items()}
    told = Manifest(
        git=git,
        dirty=dirty,
        packages=packages(),
        device=device_name(),
        config=dataclasses.asdict(cfg),
        data={
            "root": str(registry.root(cfg.task)),
            "items": len(plan.known),
            "items_sha256": sha256_json_rows(map(_content, plan.shown_items())),
            "media_sha256": sha256_json(sorted(sha for sha in media if sha)),
        },
        seeds={"run": cfg.seed, "data": cfg.task.seed} | {arm.name: arm.seed for arm in cfg.suite},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    content = dataclasses.asdict(told) | {"platform": platform_facts(), "members": describe}
    content |= facts
    text = json.dumps(redacted(json.loads(json.dumps(content, default=str))), indent=2)
    atomic_write(out / "manifest.json", f"{text}\n".encode())


def _row(record: Record) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _item_row(
    item: Item, root: Path, counts: Sequence[int], clips: Mapping[ClipKey, Clip]
) -> dict[str, Any]:
    path = item.media.path
    mine = {count: clips.get((item.id, count)) for count in counts}
    first = next((clip for clip in mine.values() if clip), None)
    return {
        "id": item.id,
        "task": item.task,
        "question": item.question,
        "options": list(item.options),
        "answer": item.answer,
        "stratum": item.stratum,
        "cluster": item.cluster,
        "media_path": str(path.relative_to(root) if path.is_relative_to(root) else path),
        "media_sha256": _media_sha(item),
        "frame_hashes": [(str(k), list(clip.hashes)) for k, clip in mine.items() if clip],
        "option_hashes": list(first.options) if first else [],
        "breaks": list(first.breaks) if first else [],
        "meta": list(item.meta),
    }


def _infill_rows(
    written: Mapping[str, InfillsByClip], clips: Mapping[ClipKey, Clip], items: Mapping[str, Item]
) -> Iterable[dict[str, Any]]:
    for role, texts in written.items():
        for (item_id, count), gaps in texts.items():
            clip = clips[item_id, count]
            hashes = clip.hashes
            for gap, infill in enumerate(gaps):
                if gap in clip.breaks:
                    continue
                yield {
                    "role": role,
                    "frames": count,
                    "item_id": item_id,
                    "gap": gap,
                    "frame_a": hashes[gap],
                    "frame_b": hashes[gap + 1],
                    **{
                        field.name: getattr(infill, field.name)
                        for field in dataclasses.fields(infill)
                    },
                    "leaks": words.leaks([infill.text], items[item_id]),
                }


def _parquet(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows column by column, a group at a time; a whole file or none."""
    import pyarrow as pa

    left = iter(rows)
    some = iter(lambda: list(islice(left, _ROWS)), [])
    columns = (_table(few, schema) for few in some)
    groups = iter(lambda: list(islice(columns, ROW_GROUP // _ROWS)), [])
    parquet.write_groups(path, schema, map(pa.concat_tables, groups))


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = {name: [row[name] for row in rows] for name in schema.names}
    try:
        return pa.table(columns, schema=schema)
    except UnicodeEncodeError:  # half a character: a file whose name is not UTF-8
        return pa.table({name: _whole(column) for name, column in columns.items()}, schema=schema)


def _whole(value: Any) -> Any:
    """Return a value whose texts have a question mark for every half of a character."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    return value


def frames(folder: Path, shown: Iterable[str], pool: FrameStore) -> list[str]:
    """Put the PNG of every frame that was shown into the folder: a hard link where that works.

    Args:
        folder: made if need be.
        shown: sha256 of every frame that stood in a stimulus.
        pool: where those frames are.

    Returns:
        The frames that are gone, with the video they came from: no reason to lose the answers.
    """
    folder.mkdir(exist_ok=True)
    lost = []
    for sha in shown:
        target = folder / f"{sha}.png"
        if target.exists():
            continue
        source = pool.path(sha)
        try:
            os.link(source, target)
        except OSError:  # it is gone, or there are no hard links here, or none to another disk
            try:
                there = source.exists()
                atomic_write(target, source.read_bytes() if there else png.encode(pool[sha]))
            except MachineError:
                raise
            except (ProbesError, KeyError):
                lost.append(sha)
    if lost:
        warnings.warn(
            f"{len(lost)} frames that were shown are gone, and so are their videos: {folder} lacks "
            "them", stacklevel=2,
        )  # fmt: skip
    return lost


def _submissions(out: Path, task: TaskConfig) -> None:
    """Write the benchmark's submission file of every cell of the tables, where it takes some."""
    if registry.submission(task, {}) is None:
        return
    names = ["role", "arm", "frames", "item_id", "choice"]
    cells: dict[tuple[str, str, int], dict[str, int | None]] = {}
    for row in parquet.read(out / "records.parquet", "records", names).to_pylist():
        cell = cells.setdefault((row["role"], row["arm"], row["frames"]), {})
        cell.setdefault(row["item_id"], row["choice"])
    for (role, arm, count), choices in cells.items():
        if (content := registry.submission(task, choices)) is not None:
            atomic_write(out / f"submission-{role}-{arm}-{count}.json", content)


def _media_sha(item: Item) -> str | None:
    try:
        return sha256_file(item.media.path)
    except OSError:
        return None  # told in the item's records


def _content(item: Item) -> list[Any]:
    return [
        item.id, item.question, item.options, item.answer, item.stratum, item.cluster, item.meta
    ]  # fmt: skip
