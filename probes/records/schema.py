"""The tables of a run folder, once: a row type -> Arrow schema, reader and rows.

A column is a field of `Record`, `ItemRow` or `InfillRow`. To add one, add the field here, behind
the others and with a default (so that older run folders are still read), and fill it where the rows
are made (`probes/engine/answering.py`, `probes/engine/export.py`); everything else follows.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
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
from probes.core.types import EMPTY_REPLIES, InfillStatus, Role, Scoring, Status
from probes.records import parquet
from probes.records.manifest import REWRITE

if TYPE_CHECKING:
    import pyarrow as pa

RowType = TypeVar("RowType")


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds."""

    meaning: str
    """In the words of docs/records.md."""
    of_older: Callable[[pa.Table], list[Any]] | None = None
    """Makes the column of a table that was written before there was one; else the field's default
    is used for every row."""
    follows: tuple[tuple[str, ...], Callable[..., pa.Array]] | None = None
    """Names of columns, and what makes this one of them whenever a table is read: what the file
    has is not looked at."""


def _correct(choice: pa.ChunkedArray, answer: pa.ChunkedArray) -> pa.Array:
    """Return whether choices are right: null where the answer is withheld."""
    import pyarrow as pa
    import pyarrow.compute as pc

    right = pc.fill_null(pc.equal(choice, answer), False)
    return pc.if_else(pc.is_null(answer), pa.scalar(None, pa.bool_()), right)


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of one member to one trial: a row of records.parquet."""

    key: Annotated[
        str,
        Column(
            "sha256 of prompt, model, scoring, adapter and the versions of libraries that computed "
            "the answer: equal keys are one computation; empty where nothing could be asked"
        ),
    ]
    task: Annotated[str, Column("name of the task")]
    item_id: Annotated[str, Column("the item; ids are unique within a task")]
    cluster: Annotated[
        str, Column("recording that the item comes from; items that share one are not independent")
    ]
    stratum: Annotated[str, Column("kind of item, e.g. i-RAVEN's configuration; may be empty")]
    pair: Annotated[str, Column("name of the pair")]
    role: Annotated[Role, Column("`image`, `video` or `control`")]
    member: Annotated[str, Column("the member's name")]
    arm: Annotated[str, Column("the condition")]
    frames: Annotated[int, Column("frames per clip")]
    scoring: Annotated[Scoring, Column("`letter`, `cloze` or `generate`")]
    seed: Annotated[int, Column("the run's seed")]
    donor_id: Annotated[str | None, Column("item that a perturbation borrowed from, if any")]
    status: Annotated[
        Status,
        Column(
            "`ok`, `unparsed` (a reply that names no option, is cut off or all thinking) or `error`"
        ),
    ]
    choice: Annotated[
        int | None, Column("index of the chosen option; null where unparsed or failed")
    ]
    answer: Annotated[int | None, Column("index of the right option; null where it is withheld")]
    correct: Annotated[
        bool | None,
        Column(
            "whether the two agree; false where unparsed or failed, null where the answer is "
            "withheld. Made from the two again whenever the table is read",
            follows=(("choice", "answer"), _correct),
        ),
    ]
    option_logprobs: Annotated[
        tuple[float, ...],
        Column(
            "per option: sum of its tokens' log-probabilities (nats); under `letter` the log of "
            "the summed probability of the tokens that the letter can be written as"
        ),
    ]
    option_tokens: Annotated[
        tuple[int, ...],
        Column(
            "per option: number of tokens behind that sum; `cloze` chooses by their ratio; 0 where "
            "a server did not list the letter, and the log-probability is only a bound"
        ),
    ]
    text: Annotated[
        str,
        Column(
            "the reply under `generate`, with the thought before the answer if there is one",
        ),
    ]
    error: Annotated[str, Column("what went wrong")]
    input_tokens: Annotated[int, Column("tokens read")]
    output_tokens: Annotated[int, Column("tokens written")]
    seconds: Annotated[float, Column("wall time of the batch divided by its size")]
    stimulus_sha: Annotated[
        str,
        Column(
            "sha256 of everything that was shown, pixels and text: equal for both members of a "
            "pair but where each wrote its own infills, or filler has the length of its own tokens"
        ),
    ]
    rotation: Annotated[
        int,
        Column(
            "places by which the listed options were rotated to the left (`option_rotation`); "
            "`choice`, `option_logprobs` and `option_tokens` are in the item's own order"
        ),
    ] = 0
    extras: Annotated[
        Mapping[str, float], Column("further numbers of the answer by name, e.g. of a readout")
    ] = dataclasses.field(default_factory=dict, hash=False)
    donor_task: Annotated[
        str | None, Column("the donor's task; null where that is the record's own, or no donor is")
    ] = None
    origin: Annotated[
        str,
        Column(
            "what computed the answer: major.minor of libraries; device; dtype; kernels. Empty "
            "where nothing was computed, and in older folders"
        ),
    ] = ""
    letter_mass: Annotated[
        float | None,
        Column(
            "probability that the member puts on the options' letters altogether; null where it "
            "was not scored by letter, and in older runs"
        ),
    ] = None
    tied: Annotated[
        bool,
        Column(
            "whether several options had exactly the best score: a draw keyed by seed, item and "
            "stimulus decided; false in older runs"
        ),
    ] = False
    infill_draw: Annotated[
        int,
        Column(
            "which of the texts of every gap was shown (`infill_draws`): 0 was written greedily, "
            "the others were sampled; 0 where no text was"
        ),
    ] = 0
    donor_draw: Annotated[
        int, Column("which of the item's donors it is, from 0 (`donor_draws`); 0 in older runs")
    ] = 0
    fillers: Annotated[
        tuple[str, ...],
        Column(
            "neutral text in each gap, as long as the infill by the member's own tokens (by words "
            "where its backend counts none); empty under arms without, and in older runs"
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item that was shown: a row of items.parquet or donors.parquet."""

    id: Annotated[str, Column("unique within the task")]
    task: Annotated[str, Column("name of the task")]
    question: Annotated[str, Column("the question, without options")]
    options: Annotated[tuple[str, ...], Column("its options, in order")]
    answer: Annotated[int | None, Column("index of the right option; null where it is withheld")]
    stratum: Annotated[str, Column("as in the records")]
    cluster: Annotated[str, Column("as in the records")]
    media_path: Annotated[str, Column("the file below the task's folder")]
    media_sha256: Annotated[str | None, Column("its hash; null where it cannot be read")]
    frame_hashes: Annotated[
        Mapping[str, tuple[str, ...]],
        Column("frame count -> sha256 of each frame, in order: names of files in `frames/`"),
    ]
    option_hashes: Annotated[tuple[str, ...], Column("sha256 of options that are pictures")]
    breaks: Annotated[
        tuple[int, ...], Column("gaps that never have an infill (ends of rows of panels)")
    ]
    meta: Annotated[Mapping[str, str], Column("further facts of the item")]
    place: Annotated[
        int | None, Column("which of the task's items it is, from 0; null in older folders")
    ] = None


def _older_status(table: pa.Table) -> list[Any]:
    """Return the states of infills of a table that has only `ok` and `error`."""

    def status(ok: bool, text: str, error: str) -> InfillStatus:
        if ok:
            return "ok" if text else "not_applicable"
        return "empty" if not error or error in EMPTY_REPLIES else "failed"

    return list(map(status, *(table.column(name).to_pylist() for name in ("ok", "text", "error"))))


@dataclass(frozen=True, slots=True)
class InfillRow:
    """One text between two neighbouring frames: a row of infills.parquet."""

    role: Annotated[
        str, Column("who was shown it: `shared` for both members, or the member that wrote its own")
    ]
    frames: Annotated[int, Column("frames per clip")]
    item_id: Annotated[str, Column("the item whose clip it belongs to")]
    gap: Annotated[int, Column("which gap; 0 is between the first two frames")]
    frame_a: Annotated[str, Column("sha256 of the frame before it")]
    frame_b: Annotated[str, Column("sha256 of the frame behind it")]
    text: Annotated[str, Column("the text in the gap")]
    common: Annotated[str, Column("step 1: what both frames have in common")]
    event: Annotated[str, Column("step 2: what happened between them, before condensing")]
    generator: Annotated[str, Column("fingerprint of the writing model and its prompts")]
    ok: Annotated[bool, Column("whether there is a text")]
    error: Annotated[str, Column("why there is none")]
    leaks: Annotated[tuple[int, ...], Column("options whose whole text is in it")]
    status: Annotated[
        InfillStatus,
        Column(
            "`ok`, `empty` (an empty reply: the gap is bare) or `failed` (records that need it are "
            "errors)",
            of_older=_older_status,
        ),
    ] = "ok"
    # Empty in older folders, whose other tables say it: `probes.records.infills` reads them.
    task: Annotated[str, Column("name of the item's task")] = ""
    draw: Annotated[
        int,
        Column("which text of its gap: 0 was written greedily, the others were sampled"),
    ] = 0


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """One array of an answer: a row of artifacts.parquet."""

    key: Annotated[str, Column("as in the records; answers of one key share their arrays")]
    name: Annotated[str, Column("what it holds")]
    layer: Annotated[int | None, Column("of which decoder layer, from 0; null where of none")]
    span: Annotated[str, Column("of which span, e.g. `frame 3`; may be empty")]
    shape: Annotated[tuple[int, ...], Column("its shape")]
    dtype: Annotated[str, Column("its element type, as NumPy names it")]
    shard: Annotated[str, Column("the file in `artifacts/` that it is in (safetensors)")]
    tensor: Annotated[str, Column("its name in that file")]
    sha256: Annotated[str, Column("sha256 of its shape, as text, and its bytes")]


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
