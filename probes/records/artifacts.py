"""The arrays of a run: an index, `artifacts.parquet`, and safetensors files in `artifacts/`.

The index is written last and removed first: where it is, all files that it names are whole. A run
without arrays has neither.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probes.core import tensors
from probes.core.errors import ProbesError
from probes.core.files import atomic_write, link_or_copy
from probes.core.hashing import array_sha256
from probes.core.text import nearest
from probes.core.types import ArrayName
from probes.records import binding, parquet, schema
from probes.records.schema import ArtifactRow

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

INDEX = "artifacts.parquet"
FOLDER = "artifacts"
SHARD_BYTES = 256 * 2**20
"""Bytes of arrays in one file, of which one is in memory at a time; a larger array has its own."""
_SHARD = re.compile(r"artifacts-\d{5,}\.safetensors")

NamedArray = tuple[str, ArrayName, NDArray[np.generic]]
"""(key of the answer, name, array)."""


class Artifacts:
    """The arrays of a run, or some of them; an array is read when it is asked for.

    Args:
        run: the run's folder.
        table: rows of its index.
    """

    def __init__(self, run: Path, table: pa.Table) -> None:
        self.run = run
        self.table = table
        self._opened: tuple[str, tensors.TensorFile] | None = None

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row for each array, with the columns of `ArtifactRow`."""
        import pandas as pd
        import pyarrow as pa

        # A layer that is none stays none instead of making all layers floats.
        frame: pd.DataFrame = self.table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        return frame

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[NamedArray]:
        """Read all arrays, one after the other, in the order of the index."""
        for batch in self.table.to_batches(max_chunksize=1_000):
            for row in schema.rows(batch, ArtifactRow):
                yield row.key, ArrayName(row.name, row.layer, row.span), self.read_row(row)

    def array(
        self, key: str, name: str, layer: int | None = None, span: str = ""
    ) -> NDArray[np.generic]:
        """Read one array.

        Args:
            key: of the answer, as the records have it.
            name: what it holds.
            layer: of which decoder layer; None for one that is of none.
            span: of which span; empty for one that is of none.

        Raises:
            ProbesError: the run has no such array, or its file is not there or damaged.
        """
        import pyarrow.compute as pc

        rows = list(schema.rows(self.table.filter(pc.field("key") == key), ArtifactRow))
        for row in rows:
            if (row.name, row.layer, row.span) == (name, layer, span):
                return self.read_row(row)
        known = [_shown(row.name, row.layer, row.span) for row in rows]
        wanted = _shown(name, layer, span)
        raise ProbesError(
            f"the answer {key} has no array {wanted}",
            str(self.run / INDEX),
            nearest(wanted, known) if known else "it has none: see the column `key` of the index",
        )

    def read_row(self, row: ArtifactRow) -> NDArray[np.generic]:
        """Read the array of a row of the index; ProbesError where it is damaged or not there."""
        path = _shard(self.run, row.shard)
        # One file is open at a time: the index is in the order of the files.
        if self._opened is None or self._opened[0] != row.shard:
            self._opened = row.shard, tensors.TensorFile(path)
        array = self._opened[1].read(row.tensor)
        # The format has no checksum of its own.
        if (array.dtype.name, array_sha256(array)) != (row.dtype, row.sha256):
            raise tensors.damaged(path, f"{row.tensor} is not what was written")
        return array


def read(
    run: str | Path, key: str | None = None, name: str | None = None, *, edited: bool = False
) -> Artifacts:
    """Return the arrays of a run.

    Args:
        run: the run's folder.
        key: only those of this answer.
        name: only those of this name.
        edited: whether an index that is not the one that the run wrote is read as it is.

    Returns:
        None of them is read before it is asked for; no rows where the run has no arrays.

    Raises:
        ProbesError: there is no such run, it has not finished, or its index cannot be read or is
            not the one that the run wrote.
    """
    run = Path(run)
    binding.check(run, edited, (INDEX,))
    table = schema.to_table([], ArtifactRow)
    if (run / INDEX).is_file():
        table = schema.read(run / INDEX, ArtifactRow)
    elif not (run / "records.parquet").is_file():
        raise ProbesError(
            "there is no run in this folder", str(run), "give the folder that `probes run` wrote to"
        )
    import pyarrow.compute as pc

    for column, value in (("key", key), ("name", name)):
        if value is not None:
            table = table.filter(pc.field(column) == value)
    return Artifacts(run, table)


def write(run: Path, arrays: Iterable[NamedArray]) -> None:
    """Write the arrays of a run, all of them or none; those of an earlier run go.

    Args:
        run: the run's folder.
        arrays: each key with its arrays once; looked at once, and never all in memory.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    _write(run, _written(run, iter(arrays)))


def merge(runs: Sequence[Path], out: Path) -> None:
    """Put the arrays of several runs into the folder of another one, those of equal keys once.

    Raises:
        ProbesError: a run's index is damaged, or a file of arrays that no other run has intact.
    """
    _write(out, _merged(runs, out))


def facts(run: Path) -> dict[str, Any]:
    """Return how many arrays a run has, their names and the size of their files.

    Returns:
        `arrays`, `names`, `bytes`; empty where it has none.
    """
    if not (run / INDEX).is_file():
        return {}
    names = schema.read(run / INDEX, ArtifactRow, ("name",))["name"]
    size = sum(path.stat().st_size for path in (run / FOLDER).glob("artifacts-*"))
    return {"arrays": len(names), "names": sorted(names.unique().to_pylist()), "bytes": size}


def _write(run: Path, tables: Iterator[pa.Table]) -> None:
    """Write the files that make the rows of an index, then the index."""
    remove(run)
    try:
        # Looked at first: a run without arrays has no index at all.
        if (first := next(tables, None)) is not None:
            # Each table is made when its file is written: one file's arrays are in memory.
            groups = itertools.chain([first], tables)
            parquet.write_groups(run / INDEX, schema.arrow_schema(ArtifactRow), groups)
    except BaseException:
        remove(run)
        raise


def remove(run: Path) -> None:
    """Remove the arrays of a run."""
    (run / INDEX).unlink(missing_ok=True)  # first: it says that the files are whole
    with contextlib.suppress(OSError):  # there is no such folder, or something else is in it
        for path in (run / FOLDER).glob("*artifacts-*"):  # those with a dot are of a killed process
            path.unlink()
        (run / FOLDER).rmdir()


def _written(run: Path, arrays: Iterator[NamedArray]) -> Iterator[pa.Table]:
    """Write arrays to one file after the other; yield each file's rows of the index."""
    following = next(arrays, None)
    numbers = itertools.count()
    while following is not None:
        shard = f"artifacts-{next(numbers):05d}.safetensors"
        content: dict[str, NDArray[np.generic]] = {}
        rows: list[ArtifactRow] = []
        size = 0
        # One array is known ahead: whether it still fits is decided before it is taken.
        while following and (not rows or size + following[2].nbytes <= SHARD_BYTES):
            key, name, given = following
            tensor = f"{key} {tensors.label(name)}"
            content[tensor] = array = tensors.plain(tensor, given)
            size += array.nbytes
            sha256 = array_sha256(array)
            rows.append(
                ArtifactRow(key, *name, array.shape, array.dtype.name, shard, tensor, sha256)
            )
            following = next(arrays, None)
        atomic_write(run / FOLDER / shard, tensors.packed(content))
        yield schema.to_table(rows, ArtifactRow)


def _merged(runs: Sequence[Path], out: Path) -> Iterator[pa.Table]:
    import pyarrow as pa

    seen: set[str] = set()
    lost: dict[str, ProbesError] = {}
    numbers = itertools.count()
    for run in runs:
        if not (run / INDEX).is_file():
            continue
        table = schema.read(run / INDEX, ArtifactRow)
        # An equal key is one computation: its arrays are the same in every run.
        table = _without(table, seen)
        # Checked before it is linked: another run may have the intact copy.
        broken = _broken(Artifacts(run, table))
        lost |= broken
        table = _without(table, broken)
        seen.update(table["key"].to_pylist())
        renamed: dict[str, str] = {}
        for shard in table["shard"].unique().to_pylist():
            renamed[shard] = f"artifacts-{next(numbers):05d}.safetensors"
            link_or_copy(_shard(run, shard), out / FOLDER / renamed[shard])
        if renamed:
            column = pa.array([renamed[shard] for shard in table["shard"].to_pylist()])
            yield table.set_column(table.column_names.index("shard"), "shard", column)
    for key, error in lost.items():
        if key not in seen:
            raise error


def _without(table: pa.Table, keys: Container[str]) -> pa.Table:
    """Return the rows of an index that are of none of some keys."""
    import pyarrow as pa

    return table.filter(pa.array([key not in keys for key in table["key"].to_pylist()], pa.bool_()))


def _broken(arrays: Artifacts) -> dict[str, ProbesError]:
    """Read all arrays; return what is wrong by key of an answer, one of whose arrays is damaged."""
    found: dict[str, ProbesError] = {}
    for row in schema.rows(arrays.table, ArtifactRow):
        try:
            arrays.read_row(row)
        except ProbesError as error:
            found.setdefault(row.key, error)
    return found


def _shard(run: Path, name: str) -> Path:
    """Return the path of a file that an index names."""
    # A run folder may come from others: a name with slashes would lead out of it.
    if not _SHARD.fullmatch(name):
        raise tensors.damaged(run / INDEX, f"{name!r} is not the name of a file of arrays")
    return run / FOLDER / name


def _shown(name: str, layer: int | None, span: str) -> str:
    parts = [name, "" if layer is None else f"layer {layer}", span]
    return ", ".join(part for part in parts if part)
