"""The files of a run folder: tables, submission files, arrays, and the frames that were shown.

records.parquet, items.parquet (those asked), donors.parquet (items that only lend their frames or
infills, so that every stimulus can be rebuilt), infills.parquet, and artifacts.parquet where there
are arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from probes.cache.output_cache import Store
from probes.config.settings import TaskConfig
from probes.core.errors import MachineError, ProbesError
from probes.core.files import atomic_write
from probes.core.types import Clip, ClipKey, Item, ItemKey
from probes.engine.plan import InfillDraws, Plan
from probes.media.frame_store import FrameStore
from probes.records import artifacts, claim, parquet, schema
from probes.records.artifacts import NamedArray
from probes.records.manifest import FILE
from probes.records.schema import InfillRow, ItemRow, Record
from probes.stimuli.words import leaks
from probes.tasks import registry

ROW_GROUP = 2_048
"""Rows that a table's file holds together, and that are in memory as columns at the same time."""
_ROWS = 256  # of them, as objects of Python
_KEYS = 256  # answers whose files of arrays are open at the same time


def tables(
    out: Path,
    *,
    task: TaskConfig,
    plan: Plan,
    clips: Mapping[ClipKey, Clip],
    frames: FrameStore,
    infills: Mapping[str, InfillDraws],
    records: Iterable[Record],
) -> None:
    """Write a run's tables and submission files, each as a whole.

    Args:
        out: folder; made if need be.
        task: the task's settings.
        plan: what was asked.
        clips: of everything that was shown.
        frames: knows the hash of every media file that the clips are from.
        infills: by writer: `shared`, or a member's role.
        records: of all members; looked at once, some at a time.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A manifest marks a complete run, so an earlier run's goes first.
    (out / FILE).unlink(missing_ok=True)
    claim.remove_submissions(out)
    root = registry.root(task)
    shown = plan.shown_items()
    asked = {item.key for item in plan.items}
    lenders = [item for item in shown if item.key not in asked]
    _write(out / "records.parquet", Record, records)
    for name, items in (("items", plan.items), ("donors", lenders)):
        rows = (_item_row(item, root, plan, clips, frames) for item in items)
        _write(out / f"{name}.parquet", ItemRow, rows)
    by_key = {item.key: item for item in shown}
    _write(out / "infills.parquet", InfillRow, _infill_rows(infills, clips, by_key))
    _submissions(out, task)


def _item_row(
    item: Item,
    root: Path,
    plan: Plan,
    clips: Mapping[ClipKey, Clip],
    frames: FrameStore,
) -> ItemRow:
    path = item.media.path
    mine = {count: clips.get(item.key.clip(count)) for count in plan.counts}
    first = next((clip for clip in mine.values() if clip), None)
    return ItemRow(
        id=item.id,
        task=item.task,
        question=item.question,
        options=item.options,
        answer=item.answer,
        stratum=item.stratum,
        cluster=item.cluster,
        # Relative where it can be: a run folder is read on other machines too.
        media_path=str(path.relative_to(root) if path.is_relative_to(root) else path),
        media_sha256=frames.media_sha256(item.media),
        frame_hashes={str(count): clip.hashes for count, clip in mine.items() if clip},
        option_hashes=first.options if first else (),
        breaks=first.breaks if first else (),
        meta=dict(item.meta),
        place=plan.places.get(item.key),
    )


def _infill_rows(
    infills: Mapping[str, InfillDraws],
    clips: Mapping[ClipKey, Clip],
    items: Mapping[ItemKey, Item],
) -> Iterator[InfillRow]:
    drawn = [(role, *one) for role, draws in infills.items() for one in enumerate(draws)]
    for role, draw, by_clip in drawn:
        for key, gaps in by_clip.items():
            hashes = clips[key].hashes
            for gap, infill in enumerate(gaps):
                # A break has no text by design: as an empty row it would look like a failure.
                if infill.status == "not_applicable":
                    continue
                yield InfillRow(
                    role=role,
                    frames=key.frames,
                    item_id=key.item_id,
                    gap=gap,
                    frame_a=hashes[gap],
                    frame_b=hashes[gap + 1],
                    text=infill.text,
                    common=infill.common,
                    event=infill.event,
                    generator=infill.generator,
                    ok=infill.ok,
                    error=infill.error,
                    leaks=tuple(leaks([infill.text], items[key.item])),
                    status=infill.status,
                    task=key.task,
                    draw=draw,
                )


def _write(path: Path, row: type, rows: Iterable[object]) -> None:
    """Write rows column by column, a group at a time; a whole file or none."""
    import pyarrow as pa

    left = iter(rows)
    # As objects of Python, a group of rows would be megabytes: few become columns at a time.
    some = iter(lambda: list(islice(left, _ROWS)), [])
    columns = (schema.to_table(few, row) for few in some)
    groups = iter(lambda: list(islice(columns, ROW_GROUP // _ROWS)), [])
    parquet.write_groups(path, schema.arrow_schema(row), map(pa.concat_tables, groups))


def arrays(out: Path, store: Store) -> None:
    """Write the arrays of a run's answers, if there are some, next to its records.

    Args:
        out: the run's folder, with its records.
        store: where the answers are.
    """
    artifacts.write(out, _arrays(out / "records.parquet", store) if store.has_arrays else ())


def _arrays(records: Path, store: Store) -> Iterator[NamedArray]:
    """Yield the arrays of every key once, in the order of the records."""
    seen: set[bytes] = set()
    for keys in parquet.batches(records, "key", _KEYS):
        found = store.get(filter(None, keys))
        for key in keys:
            output = found.pop(key, None)  # so that its file is closed when the next one is read
            if output is None or not output.arrays or (short := bytes.fromhex(key)) in seen:
                continue
            seen.add(short)
            for name, array in output.arrays.items():
                yield key, name, array


def frames(folder: Path, shown: Iterable[str], store: FrameStore) -> list[str]:
    """Put the PNG of every frame that was shown into the folder: a hard link where that works.

    Args:
        folder: made if need be.
        shown: sha256 of every frame that stood in a stimulus.
        store: where those frames are.

    Returns:
        The frames that are gone, with the video they came from: no reason to lose the answers.
    """
    folder.mkdir(exist_ok=True)
    lost = []
    kept: set[bytes] = set()
    for sha in shown:
        kept.add(bytes.fromhex(sha))  # half the memory of the text
        try:
            store.save(sha, folder / f"{sha}.png")
        except MachineError:
            raise
        except (ProbesError, KeyError):
            lost.append(sha)
    claim.keep_frames(folder, kept)
    if lost:
        what = "frames that were shown are gone, and so are their videos: they are missing in"
        warnings.warn(f"{len(lost)} {what} {folder}", stacklevel=2)
    return lost


def _submissions(out: Path, task: TaskConfig) -> None:
    """Write the benchmark's submission file of every cell, where the benchmark takes some."""
    if registry.submission(task, {}) is None:
        return
    names = ("task", "role", "arm", "frames", "item_id", "choice")
    cells: dict[tuple[str, str, str, int], dict[str, int | None]] = {}
    for row in schema.read(out / "records.parquet", Record, names).to_pylist():
        cell = cells.setdefault((row["task"], row["role"], row["arm"], row["frames"]), {})
        # The first draw and rotation counts: a benchmark takes one answer to an item.
        cell.setdefault(row["item_id"], row["choice"])
    several = len({of for of, *_ in cells}) > 1
    for (of, role, arm, count), choices in cells.items():
        if (content := registry.submission(task, choices)) is not None:
            # Ids of a file are those of one task; a task's name may hold what a file's may not.
            which = f"{quote(of, safe='')}-" if several else ""
            atomic_write(out / f"submission-{which}{role}-{arm}-{count}.json", content)
