"""Records of one run, a sweep or shards -> one tidy pandas frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from probes.analysis import agreement, run_files, settings, shards
from probes.analysis.margins import flat
from probes.analysis.run_files import Paths
from probes.analysis.settings import LoadedRun
from probes.core.errors import ProbesError
from probes.core.text import listed
from probes.records import binding, schema
from probes.records.manifest import FILE, REWRITE
from probes.records.schema import Record

# Integers and booleans that may be missing keep their type; the rest becomes plain numpy.
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}

IDENTITY = tuple(
    "task setting pair role arm frames scoring seed item_id donor_id donor_task "
    "infill_draw rotation".split()
)
"""Columns that identify the question that a row answers."""
_CONTENT = ("member", "status", "choice", "answer", "stimulus_sha")


def load(path: Paths, *, edited: bool = False, partial: bool = False) -> pd.DataFrame:
    """Read the records of a run folder, of a folder of runs (sweep, shards), or of several.

    Args:
        path: a run folder, any folder above run folders, a `records.parquet`, or a list of those.
        edited: whether tables that are not those that the run wrote are read as they are.
        partial: read runs too of which shards are missing.

    Returns:
        One row per record, with the columns of `Record` and three more: `n_options` (number of
        options of the item), `setting` (how this run's configuration differs from other runs of the
        same pair and task, e.g. `frame_as=image`; empty where it does not) and `run` (its folder).
        `frame.attrs["references"]` maps each arm to the arm it is compared with. Where they are not
        empty, `attrs["edited"]` says what is not as its run wrote it, `attrs["partial"]` what is
        missing of a run, `attrs["unfinished"]` which runs below a folder have not finished and were
        left out, `attrs["unbound"]` which folders have no hashes to check their tables by (an older
        version's, or tables without a manifest).

    Raises:
        ProbesError: nothing found, a run that has not finished, tables that are not those that the
            run wrote, an unreadable file, a missing column, missing shards of a run, or runs of one
            setting whose items, frames, infills or models differ, or which answer the same question
            differently.
    """
    return read(path, edited=edited, partial=partial)[0]


def read(
    path: Paths, *, edited: bool = False, partial: bool = False
) -> tuple[pd.DataFrame, list[LoadedRun]]:
    """Read records as `load` does; return their runs too, also those that only repeat others."""
    found = run_files.find(path, edited=edited)
    files = found.records
    # First: what is checked and what is read then belong to one writing of the folder.
    written = [_written(file.parent) for file in files]
    states = [binding.check(file.parent, edited) for file in files]
    runs = [settings.read_run(file.parent) for file in files]
    tables = [schema.read(file, Record) for file in files]
    kinds = [settings.kind_of(table) for table in tables]
    labels = settings.labels(runs, kinds)
    agreement.check(runs, labels, kinds)
    lacking = shards.check(runs, found.unfinished, partial)
    parts = []
    for table, run, label in zip(tables, runs, labels, strict=True):
        frame = _to_pandas(table)
        sizes = {place: len(item.options) for place, item in run.items.items()}
        options = _n_options(frame, sizes)
        _check_choices(frame, options, run.folder)
        parts.append(frame.assign(n_options=options, setting=label, run=str(run.folder)))
    if written != [_written(file.parent) for file in files]:
        what = "a run was written again while it was read"
        raise ProbesError(what, str(path), "read it once more when the run has ended")
    whole = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    whole = merge(whole)
    whole.attrs.update(settings.attributes(runs))
    told = {
        "edited": [one for state in states for one in state.edited],
        "partial": list(lacking),
        "unfinished": [str(folder) for folder in found.unfinished],
        "unbound": [
            str(run.folder) for run, one in zip(runs, states, strict=True) if one.state != "bound"
        ],
    }
    whole.attrs.update({name: value for name, value in told.items() if value})
    if found.unfinished:
        shown = listed(told["unfinished"], 3)
        warnings.warn(f"left out, as they have not finished: {shown}", stacklevel=3)
    return whole, runs


def from_records(
    records: Iterable[Record], references: dict[str, str] | None = None
) -> pd.DataFrame:
    """Return the frame of records in memory, as `load` would.

    Args:
        records: the records of one run.
        references: reference arm by arm (empty for a reference arm); default: see `contrasts`.
    """
    frame = _to_pandas(schema.to_table(list(records), Record))
    frame = frame.assign(n_options=_n_options(frame, {}), setting="", run="")
    if references is not None:
        frame.attrs["references"] = dict(references)
    return merge(frame)


def _written(folder: Path) -> int:
    """Return when a run's manifest was written, in ns; 0 where there is none."""
    try:
        return (folder / FILE).stat().st_mtime_ns
    except OSError:
        return 0


def _check_choices(frame: pd.DataFrame, options: pd.Series, folder: Path) -> None:
    """Refuse a choice that the item does not have."""
    # Without a known number of options (0), only the records themselves could tell.
    wrong = (options > 0) & (frame["choice"] >= options).fillna(False).astype(bool)
    if wrong.any():
        row = frame[wrong].iloc[0]
        raise ProbesError(
            f"an answer contradicts itself: {row['member']} under {row['arm']}, {row['frames']} "
            f"frames, item {row['item_id']} chose an option that the item does not have",
            str(folder / "records.parquet"),
            REWRITE,
        )


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for field in schema.fields(Record):
        column = table.column(field.name)
        if pa.types.is_list(field.kind) or pa.types.is_map(field.kind):
            # Kept in Arrow: a million small Python lists would cost more than all the rest.
            columns[field.name] = pd.Series(pd.arrays.ArrowExtensionArray(column))
        else:
            mapper = _NULLABLE.get if field.nullable else None
            columns[field.name] = column.to_pandas(types_mapper=mapper)
    return pd.DataFrame(columns)


def _n_options(frame: pd.DataFrame, known: dict[tuple[str, str], int]) -> pd.Series:
    """Return each row's number of options: from the items file, else from what was scored."""
    scored = pd.Series(flat(frame["option_tokens"])[2].astype(np.float64), index=frame.index)
    # A failed row scored nothing; another row of the same item did.
    scored = scored.groupby([frame["task"], frame["item_id"]], sort=False).transform("max")
    if known:
        pairs = pd.MultiIndex.from_arrays([frame["task"], frame["item_id"]])
        codes, unique = pairs.factorize()
        sizes = np.array([known.get(pair, 0) for pair in unique], dtype=np.float64)[codes]
        # 0: the run's items file does not know the item, so what was scored stands.
        scored = scored.where(sizes == 0, sizes)
    return scored.astype("int64")


def merge(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop rows that repeat another one.

    Two rows repeat each other if they answer the same question (`IDENTITY`) with the same member,
    status, choice and stimulus. A failed row is dropped where another one of the same key did not
    fail: a repeated run has answered it.

    Raises:
        ProbesError: rows of the same question that differ.
    """
    identity = combine([frame[name] for name in IDENTITY])
    order = np.argsort(identity, kind="stable")
    ordered = identity[order]
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not len(repeated):
        return frame
    # Few rows repeat; unique also restores their order, so that the first one loaded is kept.
    touched = np.unique(np.concatenate([order[repeated], order[repeated + 1]]))
    some = frame.iloc[touched].copy()
    some["_identity"] = identity[touched]
    failed = some["status"] == "error"
    answered = some.loc[~failed, ["_identity", "key"]].drop_duplicates()
    # With the key: a failed request is not answered by another one of the same question.
    requests = pd.MultiIndex.from_frame(some[["_identity", "key"]])
    superseded = failed & requests.isin(pd.MultiIndex.from_frame(answered))
    dropped = set(some.index[superseded])
    rest = some[~superseded]
    content = pd.Series(combine([rest[name] for name in _CONTENT]), index=rest.index)
    variants = content.groupby(rest["_identity"]).nunique()
    if (variants > 1).any():
        raise _conflict(rest[rest["_identity"].isin(variants.index[variants > 1])])
    dropped |= set(rest.index[rest["_identity"].duplicated()])
    _tell_of_origins(rest)
    # pandas does not promise to pass attrs on, and references are in them.
    attrs = frame.attrs
    kept = frame.drop(index=list(dropped)).reset_index(drop=True)
    kept.attrs = attrs
    return kept


def _tell_of_origins(rows: pd.DataFrame) -> None:
    """Warn of answers that are there twice, computed by two versions of something."""
    by_question = rows.groupby("_identity", sort=False)["origin"]
    several = int((by_question.nunique() > 1).sum())
    if several:
        kept = listed(sorted(set(by_question.first())), 3, "; ")
        warnings.warn(
            f"{several} answers are there more than once and were computed in different ways; "
            f"their choices are the same, and those by {kept} are kept",
            stacklevel=4,
        )


def _conflict(rows: pd.DataFrame) -> ProbesError:
    """Return the error that names the rows that disagree, and where they come from."""
    questions = rows[["arm", "role", "frames", "task", "item_id"]].drop_duplicates()
    named = "; ".join(
        f"{row.arm}, {row.role}, {row.frames} frames, task {row.task}, item {row.item_id}"
        for row in questions.head(5).itertuples()
    )
    more = f" and {len(questions) - 5} more" if len(questions) > 5 else ""
    by_question = rows.groupby("_identity")
    differing = [
        name for name in (*_CONTENT, "key") if by_question[name].nunique(dropna=False).max() > 1
    ]
    return ProbesError(
        f"the same question has different answers (they differ in {', '.join(differing)}): "
        f"{named}{more}",
        ", ".join(sorted(set(rows["run"].astype(str)))[:4]),
        "load these runs one by one: they differ in something that is not in the records",
    )


def combine(columns: Sequence[pd.Series | np.ndarray]) -> np.ndarray:
    """Number the distinct combinations of several columns.

    Args:
        columns: of equal length n; a missing value counts as a value of its own.

    Returns:
        int64 [n]; equal numbers mean equal values in every column. Not dense.
    """
    total: np.ndarray = np.zeros(len(columns[0]), dtype=np.int64)
    size = 1
    for column in columns:
        codes, unique = pd.factorize(column, use_na_sentinel=False)
        if size * len(unique) > 2**62:
            total, compact = pd.factorize(total)
            size = len(compact)
        total = total * max(len(unique), 1) + codes
        size *= max(len(unique), 1)
    return total
