"""Columns of the tables of a run folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from probes.core.types import Record
from probes.records import parquet

if TYPE_CHECKING:
    import pyarrow as pa


def read_records(out: Path) -> list[Record]:
    """Read the records of a run's folder.

    Raises:
        ProbesError: the table is not there or damaged.
    """
    names = [field.name for field in dataclasses.fields(Record)]
    rows = parquet.read(out / "records.parquet", "records", names).select(names).to_pylist()
    for row in rows:
        row |= {name: tuple(row[name]) for name in ("option_logprobs", "option_tokens")}
    return [Record(**row) for row in rows]


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
