"""The infills of a run folder, each with its task: folders that are older have ids alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probes.core.errors import ProbesError
from probes.core.text import listed
from probes.records import schema
from probes.records.schema import InfillRow, ItemRow, Record

if TYPE_CHECKING:
    import pyarrow as pa


def read(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the infills of a run folder.

    Where the table does not say of which task an item is, that follows from the run's other tables.

    Args:
        folder: a run's folder.
        columns: which to read; all by default.

    Returns:
        As `schema.read` does; no rows where the folder has no infills.

    Raises:
        ProbesError: see `schema.read`; or the tables do not say whose an infill is.
    """
    names = schema.names(InfillRow) if columns is None else tuple(columns)
    file = folder / "infills.parquet"
    if not file.is_file():
        return schema.to_table([], InfillRow).select(list(names))
    table = schema.read(file, InfillRow, tuple(dict.fromkeys((*names, "item_id", "task"))))
    given = table.column("task").to_pylist()
    if "" in given:
        tasks = _tasks(folder)
        # The task of a run of one task is known of every item, even of one that no table names.
        only = {task for some in tasks.values() for task in some}
        ids = table.column("item_id").to_pylist()
        pairs = zip(given, ids, strict=True)
        made = [task or _task(tasks.get(item_id), only, item_id, file) for task, item_id in pairs]
        at = table.column_names.index("task")
        table = table.set_column(at, table.field("task"), [made])
    return table.select(list(names))


def read_rows(folder: Path) -> list[InfillRow]:
    """Read the infills of a run folder as rows; see `read`."""
    return list(schema.rows(read(folder), InfillRow))


def _tasks(folder: Path) -> dict[str, set[str]]:
    """Return, by id, the tasks of the items that a run's tables name."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, row, columns in (
        ("items", ItemRow, ("task", "id")),
        ("donors", ItemRow, ("task", "id")),
        ("records", Record, ("task", "item_id")),
    ):
        if (file := folder / f"{name}.parquet").is_file():
            pairs = (column.to_pylist() for column in schema.read(file, row, columns).columns)
            for task, item_id in zip(*pairs, strict=True):
                found[item_id].add(task)
    return found


def _task(having: set[str] | None, every: set[str], item_id: str, file: Path) -> str:
    """Return the one task that has an item of this id, or that the run has."""
    tasks = having or every
    if len(tasks) == 1:
        return next(iter(tasks))
    whose = f"one of each of the tasks {listed(sorted(tasks))}" if having else "in no other table"
    raise ProbesError(
        f"the infills name no task, and the item {item_id!r} is {whose}",
        str(file),
        "merge the runs that it came from once more, or run it again",
    )
