"""Tables on disk: written as a whole, with a checksum per page, and read only where it is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.core.files import atomic_file
from probes.records.manifest import REWRITE

if TYPE_CHECKING:
    import pyarrow as pa


def write(path: Path, table: pa.Table) -> None:
    """Write a table as a whole file or not at all."""
    write_groups(path, table.schema, [table])


def write_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Write a table that comes in groups of rows, so that it never is in memory as a whole."""
    import pyarrow.parquet as pq

    with (
        # The writer closes first and adds the footer; only then does the file take its name.
        atomic_file(path) as file,
        pq.ParquetWriter(file, schema, write_page_checksum=True) as writer,
    ):
        for group in groups:
            writer.write_table(group)


def batches(path: Path, column: str, rows: int) -> Iterator[list[Any]]:
    """Yield the values of one column of a table that was just written, some rows at a time."""
    import pyarrow.parquet as pq

    # A column in pieces: the keys of all records as Python's texts would fill the memory.
    for batch in pq.ParquetFile(path).iter_batches(rows, columns=[column]):
        yield batch.column(0).to_pylist()


def read(path: Path, what: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table.

    Args:
        path: the file.
        what: what it holds, for the message.
        columns: which to read of those that it has; None for all.

    Raises:
        ProbesError: it is not there, or damaged.
    """
    import pyarrow.parquet as pq

    try:
        # A plain file: folder names such as `arm=vcot` above it are no columns of ours.
        file = pq.ParquetFile(path, page_checksum_verification=True)
        present = file.schema_arrow.names
        table = file.read([name for name in present if columns is None or name in columns])
        table.validate(full=True)  # a text that is none would come up only later
    except Exception as error:  # on damaged bytes Arrow raises nearly any
        reason = getattr(error, "strerror", None) or error
        raise ProbesError(f"the {what} cannot be read: {reason}", str(path), REWRITE) from error
    return table
