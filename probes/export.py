"""The files of a run's folder: four tables, a manifest, and the frames that were shown.

records.parquet, items.parquet (those asked), donors.parquet (items that only lend their frames or
infills, so that every stimulus can be made again) and infills.parquet.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes import infills, parquet
from probes.config import RunConfig, TaskConfig
from probes.frames import FramePool
from probes.plan import Material, Plan, Written
from probes.provenance import (
    atomic_write,
    git_state,
    packages,
    sha256_file,
    sha256_json,
    whole_text,
)
from probes.redaction import redacted
from probes.types import Item, MachineError, Manifest, ProbesError, Record
from tasks import registry

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 8_192
"""Rows that are columns at the same time: few beside the records themselves."""


def write(
    out: Path,
    *,
    cfg: RunConfig,
    plan: Plan,
    material: Material,
    written: Mapping[str, Written],
    records: Sequence[Record],
    shown: Collection[str],
    pool: FramePool,
    describe: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """Write a run's files, each as a whole; the manifest comes last.

    Args:
        out: folder; made if need be.
        cfg: configuration of the run.
        plan: what was asked.
        material: what stimuli were made of.
        written: infills by writer: `shared`, or a member's role.
        records: of all members.
        shown: sha256 of every frame that stood in a stimulus.
        pool: where those frames are.
        describe: facts of every model that was opened, by name.
        facts: further entries of the manifest.
    """
    out.mkdir(parents=True, exist_ok=True)
    root = registry.root(cfg.task)
    media = {item.id: _media_sha(item) for item in plan.shown_items()}
    _parquet(out / "records.parquet", record_schema(), map(_row, records))
    items = (_item_row(item, root, media[item.id], plan.counts, material) for item in plan.items)
    _parquet(out / "items.parquet", item_schema(), items)
    asked = {item.id for item in plan.items}
    others = [item for item in plan.shown_items() if item.id not in asked]
    lent = (_item_row(item, root, media[item.id], plan.counts, material) for item in others)
    _parquet(out / "donors.parquet", item_schema(), lent)
    by_id = {item.id: item for item in plan.shown_items()}
    _parquet(out / "infills.parquet", infill_schema(), _infill_rows(written, material, by_id))
    lost = _frames(out / "frames", shown, pool)
    _submissions(out, cfg.task, records)
    git, dirty = git_state(Path(__file__).parent)
    manifest = Manifest(
        git=git,
        dirty=dirty,
        packages=packages(),
        device=_device(),
        config=dataclasses.asdict(cfg),
        data={
            "root": str(root),
            "items": len(plan.known),
            "items_sha256": sha256_json([_content(item) for item in plan.shown_items()]),
            "media_sha256": sha256_json(sorted(sha for sha in media.values() if sha)),
        },
        seeds={"run": cfg.seed, "data": cfg.task.seed} | {arm.name: arm.seed for arm in cfg.suite},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    content = dataclasses.asdict(manifest) | {"platform": _platform(), "members": describe}
    content |= dict(facts) | ({"frames_lost": lost} if lost else {})
    text = json.dumps(redacted(json.loads(json.dumps(content, default=str))), indent=2)
    atomic_write(out / "manifest.json", f"{text}\n".encode())


def record_schema() -> pa.Schema:
    """Return the columns of records.parquet: `Record`'s fields in order."""
    import pyarrow as pa

    kinds = {
        "frames": pa.int64(), "seed": pa.int64(), "rotation": pa.int64(), "choice": pa.int64(),
        "answer": pa.int64(),
        "correct": pa.bool_(), "option_logprobs": pa.list_(pa.float64()),
        "option_tokens": pa.list_(pa.int64()), "input_tokens": pa.int64(),
        "output_tokens": pa.int64(), "seconds": pa.float64(),
    }  # fmt: skip
    names = [field.name for field in dataclasses.fields(Record)]
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])


def item_schema() -> pa.Schema:
    """Return the columns of items.parquet and donors.parquet."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("id", text), ("task", text), ("question", text), ("options", pa.list_(text)),
            ("answer", pa.int64()), ("stratum", text), ("cluster", text), ("media_path", text),
            ("media_sha256", text), ("frame_hashes", pa.map_(text, pa.list_(text))),
            ("option_hashes", pa.list_(text)), ("breaks", pa.list_(pa.int64())),
            ("meta", pa.map_(text, text)),
        ]
    )  # fmt: skip


def infill_schema() -> pa.Schema:
    """Return the columns of infills.parquet."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("role", text), ("frames", pa.int64()), ("item_id", text), ("gap", pa.int64()),
            ("frame_a", text), ("frame_b", text), ("text", text), ("common", text),
            ("event", text), ("generator", text), ("ok", pa.bool_()), ("error", text),
            ("leaks", pa.list_(pa.int64())),
        ]
    )  # fmt: skip


def _row(record: Record) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _item_row(
    item: Item, root: Path, media_sha: str | None, counts: Sequence[int], material: Material
) -> dict[str, Any]:
    path = item.media.path
    clips = {count: material.clips.get((item.id, count)) for count in counts}
    first = next((clip for clip in clips.values() if clip), None)
    return {
        "id": item.id,
        "task": item.task,
        "question": item.question,
        "options": list(item.options),
        "answer": item.answer,
        "stratum": item.stratum,
        "cluster": item.cluster,
        "media_path": str(path.relative_to(root) if path.is_relative_to(root) else path),
        "media_sha256": media_sha,
        "frame_hashes": [(str(k), list(clip.hashes)) for k, clip in clips.items() if clip],
        "option_hashes": list(first.options) if first else [],
        "breaks": list(first.breaks) if first else [],
        "meta": list(item.meta),
    }


def _infill_rows(
    written: Mapping[str, Written], material: Material, items: Mapping[str, Item]
) -> Iterable[dict[str, Any]]:
    for role, texts in written.items():
        for (item_id, count), gaps in texts.items():
            clip = material.clips[item_id, count]
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
                    "leaks": infills.leaks([infill.text], items[item_id]),
                }


def _parquet(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows column by column, a group at a time; a whole file or none."""
    left = iter(rows)
    groups = iter(lambda: list(islice(left, ROW_GROUP)), [])
    parquet.write_groups(path, schema, (_table(group, schema) for group in groups))


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


def _frames(folder: Path, shown: Collection[str], pool: FramePool) -> list[str]:
    """Put the PNG of every frame that was shown into the folder: a hard link where that works.

    Returns:
        The frames that are gone, with the video they came from: no reason to lose the answers.
    """
    folder.mkdir(exist_ok=True)
    lost = []
    for sha in sorted(shown):
        target = folder / f"{sha}.png"
        if target.exists():
            continue
        source = pool.path(sha)
        try:
            if not source.exists():
                pool[sha]  # decoded again
            os.link(source, target)
        except MachineError:
            raise
        except (ProbesError, KeyError):
            lost.append(sha)
        except OSError:  # no hard links here, or none to another disk
            atomic_write(target, source.read_bytes())
    if lost:
        warnings.warn(
            f"{len(lost)} frames that were shown are gone, and so are their videos: {folder} lacks "
            "them", stacklevel=2,
        )  # fmt: skip
    return lost


def _submissions(out: Path, task: TaskConfig, records: Sequence[Record]) -> None:
    """Write the benchmark's submission file of every cell of the tables, where it takes some."""
    cells: dict[tuple[str, str, int], dict[str, int | None]] = {}
    for record in records:
        cell = cells.setdefault((record.role, record.arm, record.frames), {})
        cell.setdefault(record.item_id, record.choice)
    for (role, arm, count), choices in cells.items():
        content = registry.submission(task, choices)
        if content is not None:
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


def _device() -> str:
    """Return what the run computed on; torch is not imported for it."""
    device = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        device += f", {torch.cuda.get_device_name()}"
    return device


def _platform() -> dict[str, str]:
    """Return what decides which kernels run: answers are equal to the last digit only on the same.

    `cpu` is the vector extension that torch chooses its kernels by, read without torch.
    """
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""
    return {
        "system": platform.system(), "machine": platform.machine(), "cpu": _vectors(), "gpu": gpu,
    }  # fmt: skip


def _vectors() -> str:
    if chosen := os.environ.get("ATEN_CPU_CAPABILITY"):
        return chosen
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return "unknown"
    line = next((one for one in text.splitlines() if one.startswith(("flags", "Features"))), "")
    flags = set(line.partition(":")[2].split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "avx512"
    if {"avx2", "fma"} <= flags:
        return "avx2"
    return "sve" if "sve" in flags else "default"
