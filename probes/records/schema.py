"""The tables of a run folder, once: a row type -> Arrow schema, reader and rows.

A column is a field of `Record`, `ItemRow` or `InfillRow` (`probes.records.row_types`).
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from probes.core.errors import ProbesError
from probes.records import parquet
from probes.records.manifest import REWRITE
from probes.records.row_types import ArtifactRow as ArtifactRow
from probes.records.row_types import Column
from probes.records.row_types import InfillRow as InfillRow
from probes.records.row_types import ItemRow as ItemRow
from probes.records.row_types import Record as Record

if TYPE_CHECKING:
    import pyarrow as pa

RowType = TypeVar("RowType")


class Field(NamedTuple):
    """One column of a row type."""

    name: str
    kind: pa.DataType
    nullable: bool
    column: Column
    default: Any
    """`dataclasses.MISSING` for a column that every table has."""


@functools.cache
def fields(row: type) -> tuple[Field, ...]:
    """Return the columns of a row type, in order."""
    # Annotations are texts in this module, and plain resolving would drop their `Column`.
    hints = get_type_hints(row, include_extras=True)
    found = []
    for one in dataclasses.fields(row):
        make = one.default_factory
        default = one.default if make is dataclasses.MISSING else make()
        kind, column = get_args(hints[one.name])[:2]
        inner = [arg for arg in get_args(kind) if arg is not types.NoneType]
        nullable = get_origin(kind) in (Union, types.UnionType)
        found.append(
            Field(one.name, _arrow(inner[0] if nullable else kind), nullable, column, default)
        )
    return tuple(found)


def _arrow(kind: Any) -> pa.DataType:
    import pyarrow as pa

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is Literal:
        return pa.string()
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return pa.list_(_arrow(arguments[0]))
    return pa.map_(_arrow(arguments[0]), _arrow(arguments[1]))


def names(row: type) -> tuple[str, ...]:
    """Return the names of a row type's columns, in order."""
    return tuple(field.name for field in fields(row))


def arrow_schema(row: type) -> pa.Schema:
    """Return the Arrow schema of a row type."""
    import pyarrow as pa

    return pa.schema([(field.name, field.kind) for field in fields(row)])


def to_table(rows: Sequence[object], row: type) -> pa.Table:
    """Return rows as an Arrow table; half a character becomes a question mark."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [_cell(getattr(one, name)) for one in rows] for name in names(row)
    }
    try:
        return pa.table(columns, schema=arrow_schema(row))
    except UnicodeEncodeError:  # a file whose name is not UTF-8, say
        from probes.core.text import whole_texts

        whole = {name: whole_texts(values) for name, values in columns.items()}
        return pa.table(whole, schema=arrow_schema(row))


def _cell(value: Any) -> Any:
    # Arrow takes a map as its pairs.
    return list(value.items()) if isinstance(value, Mapping) else value


def read(path: Path, row: type, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of a run folder, in the present form whichever version wrote it.

    Args:
        path: the file.
        row: its row type.
        columns: which to read; all by default.

    Returns:
        The columns in the order of the row type (or as named), of the row type's Arrow types.

    Raises:
        ProbesError: it is not there or damaged, a column is missing, one is of another type, or
            an answer contradicts itself.
    """
    wanted = [field for field in fields(row) if columns is None or field.name in columns]
    # What older tables lack may follow from any of their columns.
    derived = any(field.column.of_older for field in wanted)
    needed = [name for field in wanted for name in _needed(field)]
    table = parquet.read(path, path.stem, None if derived else list(dict.fromkeys(needed)))
    return conform(table, row, str(path), columns)


def conform(
    table: pa.Table, row: type, where: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Bring a table into the present form of its row type; see `read`.

    Args:
        table: as it was read.
        row: its row type.
        where: where it comes from, for messages.
        columns: which to keep; all by default.
    """
    import pyarrow as pa

    wanted = [field for field in fields(row) if columns is None or field.name in columns]
    required = {
        name for field in wanted if field.default is dataclasses.MISSING for name in _needed(field)
    }
    if lacking := [name for name in names(row) if name in required - set(table.column_names)]:
        raise ProbesError(
            f"the {Path(where).stem} have no columns {', '.join(lacking)}",
            where,
            "was the file written by `probes run`, of this version or an older one?",
        )
    by_name = {field.name: field for field in fields(row)}
    found = {}
    for field in wanted:
        if field.column.follows is None:
            found[field.name] = _column(table, field, where)
            continue
        sources, make = field.column.follows
        found[field.name] = make(*(_cast(table.column(n), by_name[n], where) for n in sources))
    schema = pa.schema([(field.name, field.kind) for field in wanted])
    whole = pa.table(found, schema=schema)
    if issubclass(row, Record) and columns is None:
        _check_answers(whole, where)
    return whole if columns is None else whole.select(list(columns))


def _needed(field: Field) -> tuple[str, ...]:
    """Return the columns that a column is made from: itself, in most cases."""
    return field.column.follows[0] if field.column.follows else (field.name,)


def _check_answers(table: pa.Table, where: str) -> None:
    """Refuse an answer that contradicts itself: its status and its choice, or what was scored."""
    import pyarrow.compute as pc

    status, choice = table["status"], table["choice"]
    scored = pc.list_value_length(table["option_logprobs"])
    ok = pc.equal(status, "ok")
    beyond = pc.and_(pc.greater(scored, 0), pc.less_equal(scored, choice))
    outside = pc.or_(pc.less(choice, 0), beyond)
    wrong = {
        "has status ok and no choice": pc.and_(ok, pc.is_null(choice)),
        "has a choice, but not status ok": pc.and_(pc.invert(ok), pc.is_valid(choice)),
        "chose an option that there is not": pc.fill_null(outside, False),
    }
    for what, rows in wrong.items():
        if not pc.any(rows).as_py():
            continue
        first = table.filter(rows).slice(0, 1).to_pylist()[0]
        name = "{member} under {arm}, {frames} frames, item {item_id}".format(**first)
        count = pc.sum(rows).as_py()
        raise ProbesError(
            f"an answer contradicts itself: {name} {what}"
            + (f" ({count - 1} more like it)" if count > 1 else ""),
            where,
            REWRITE,
        )


def _column(table: pa.Table, field: Field, where: str) -> pa.Array | pa.ChunkedArray:
    """Return a column of a table in its present form, whichever version wrote the table."""
    import pyarrow as pa

    present = field.name in table.column_names
    column = _cast(table.column(field.name), field, where) if present else None
    make = field.column.of_older
    # Without a default, or where null is that: nulls stay.
    as_is = field.default is dataclasses.MISSING or (field.default is None and make is None)
    if column is not None and (as_is or not column.null_count):
        return column
    try:
        values = make(table) if make else [_cell(field.default)] * len(table)
    except KeyError as error:  # Arrow's, for a column that this one follows from
        raise ProbesError(
            f"the {Path(where).stem} have no column {field.name}, nor those that it follows from",
            where,
            REWRITE,
        ) from error
    if column is not None:
        # Tables of two versions that others have joined have nulls in the newer column.
        pairs = zip(column.to_pylist(), values, strict=True)
        values = [older if given is None else given for given, older in pairs]
    return pa.array(values, field.kind)


def _cast(column: pa.ChunkedArray, field: Field, where: str) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type) and pa.types.is_integer(field.kind):
        # pandas writes whole numbers with gaps as floats with NaN.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if column.type == field.kind:
        return column
    try:
        # Arrow's safe cast: a number that does not fit is refused, never cut.
        return column.cast(field.kind)
    except pa.ArrowException as error:
        what = f"column {field.name} holds {column.type}, not {field.kind}"
        raise ProbesError(what, where, REWRITE) from error


def read_rows(path: Path, row: type[RowType]) -> list[RowType]:
    """Read the rows of a table of a run folder; none where there is no such file.

    Raises:
        ProbesError: see `read`.
    """
    return list(rows(read(path, row), row)) if path.is_file() else []


def rows(table: pa.Table, row: type[RowType]) -> Iterator[RowType]:
    """Yield the rows of a table, which has all columns of the row type."""
    import pyarrow as pa

    maps = {field.name for field in table.schema if pa.types.is_map(field.type)}
    for values in table.to_pylist():
        yield row(**{name: _frozen(value, name in maps) for name, value in values.items()})


def _frozen(value: Any, is_map: bool = False) -> Any:
    if is_map:  # Arrow gives a map as a list of pairs
        return {name: _frozen(one) for name, one in value or ()}
    return tuple(value) if isinstance(value, list) else value


def read_records(folder: Path) -> list[Record]:
    """Read the records of a run folder.

    Raises:
        ProbesError: the table is not there or damaged.
    """
    return list(rows(read(folder / "records.parquet", Record), Record))
