"""Records -> cells: one member's answers under one arm, in arrays ordered by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.analysis.load import combine
from probes.core.errors import ProbesError
from probes.core.types import ROLES

SETTING = ("task", "setting", "pair", "frames", "scoring", "seed")
"""Columns in which cells must agree to be compared."""
BLOCK = tuple(name for name in SETTING if name != "frames")
"""Columns whose values share one block of tables."""

Group = tuple[str, str, str, int, str, int]
"""One value for each of `SETTING`."""

# Stimuli of these arms have no infill, so both members must have seen the same.
TEXTLESS = ("baseline", "blind", "shuffled", "reversed", "single")


@dataclass(frozen=True, slots=True)
class Items:
    """The items of one task (and setting), by number."""

    ids: NDArray[np.object_]
    clusters: NDArray[np.intp]
    """An item without a cluster is a cluster of its own."""
    strata: NDArray[np.object_]
    answers: NDArray[np.float64]
    """Index of the right option; NaN where it is withheld."""
    n_options: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """One member's answers under one arm; items [n] are sorted, and their right answer is known."""

    role: str
    member: str
    arm: str
    items: NDArray[np.intp]
    """Numbers into `Items`."""
    strict: NDArray[np.float64]
    """1 right, 0 wrong, unparsed or failed; a mean where an item had several donors."""
    complete: NDArray[np.float64]
    """The same over parsed answers only; NaN where there is none."""
    margin: NDArray[np.float64]
    """Log-probability (nats) of the right option less the best other; NaN where unknown."""
    shown: NDArray[np.int64]
    """Equal numbers mean equal stimuli; 0 where unknown."""
    rows: int
    """Records behind the cell, those of withheld items included."""
    unparsed: int
    failed: int
    withheld: int
    """Items whose right answer is withheld."""


@dataclass(frozen=True, slots=True)
class CellTable:
    """All cells of one group, by (role, arm)."""

    group: Group
    items: Items
    cells: Mapping[tuple[str, str], Cell]

    @property
    def roles(self) -> list[str]:
        """Roles present, in the order image, video, control."""
        return sorted({role for role, _ in self.cells}, key=role_order)

    @property
    def arms(self) -> list[str]:
        """Arms present, in order of appearance."""
        return list(dict.fromkeys(arm for _, arm in self.cells))

    @property
    def settings(self) -> dict[str, str | int]:
        """The group by the names of `SETTING`."""
        return dict(zip(SETTING, self.group, strict=True))

    @property
    def name(self) -> str:
        """The group as text, for messages."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items() if value != "")


def role_order(role: str) -> tuple[int, str]:
    """Return what sorts roles into the order image, video, control, then others by name."""
    return (ROLES.index(role) if role in ROLES else len(ROLES)), role


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as mappings."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def first_names(names: Sequence[str], most: int = 5) -> str:
    """Return some names as text: the first ones, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def tables(frame: pd.DataFrame, margins: NDArray[np.float64] | None = None) -> list[CellTable]:
    """Arrange a frame of records into cells.

    Args:
        frame: as returned by `load`.
        margins: per row, or None where not needed.

    Returns:
        One table per group of settings, in order of appearance.

    Raises:
        ProbesError: an empty frame, an item whose right answer, cluster or stratum is not the same
            in all of its rows, or one that a member answered twice under one arm.
    """
    if frame.empty:
        raise ProbesError("there are no records", fix="run something, or load another folder")
    if "setting" not in frame:
        frame = frame.assign(setting="")
    task_codes = _dense(combine([frame["task"], frame["setting"]]))
    item_codes = _dense(combine([pd.Series(task_codes), frame["item_id"]]))
    first_row = _first(item_codes)
    _same_items(frame, item_codes, first_row)
    group_codes = _dense(combine([frame[name] for name in SETTING]))
    cell_codes = _dense(combine([pd.Series(group_codes), frame["role"], frame["arm"]]))
    catalogue = _catalogue(frame, task_codes, first_row)
    numbers = catalogue.number[item_codes]
    order = np.lexsort((numbers, cell_codes))
    _no_repeats(frame, order, cell_codes, numbers)
    data = _columns(frame, margins)
    heads = frame[["role", "member", "arm"]].to_numpy(object)
    found: dict[int, dict[tuple[str, str], Cell]] = {}
    ends = np.flatnonzero(np.diff(cell_codes[order])) + 1
    # Cells in order of appearance: by the first row of each.
    for rows in sorted(np.split(order, ends), key=lambda rows: int(rows.min())):
        role, member, arm = (str(value) for value in heads[rows[0]])
        cell = _cell((role, member, arm), numbers[rows], rows, data)
        found.setdefault(int(group_codes[rows[0]]), {})[role, arm] = cell
    group_first = _first(group_codes)
    out = []
    for code, cells in found.items():
        row = frame.iloc[group_first[code]]
        group = tuple(
            int(row[name]) if name in ("frames", "seed") else str(row[name]) for name in SETTING
        )
        items = catalogue.items[int(task_codes[group_first[code]])]
        out.append(CellTable(group, items, cells))  # type: ignore[arg-type]
    return out


def _columns(
    frame: pd.DataFrame, margins: NDArray[np.float64] | None
) -> dict[str, NDArray[np.generic]]:
    """Return what cells need of every row, as arrays."""
    status = frame["status"]
    return {
        "correct": frame["correct"].to_numpy(np.float64, na_value=np.nan),
        "ok": (status == "ok").to_numpy(bool),
        "unparsed": (status == "unparsed").to_numpy(bool),
        "failed": (status == "error").to_numpy(bool),
        "margin": np.full(len(frame), np.nan) if margins is None else margins,
        "shown": _shown(frame["stimulus_sha"]),
    }


def _cell(
    head: tuple[str, str, str],
    numbers: NDArray[np.intp],
    rows: NDArray[np.intp],
    data: Mapping[str, NDArray[np.generic]],
) -> Cell:
    """Average a cell's rows [r] (sorted by item) over donors, item by item.

    Args:
        head: role, member and arm.
        numbers: item of each row [r].
        rows: the cell's rows of the frame [r].
        data: of `_columns`.
    """
    correct = data["correct"][rows].astype(np.float64)
    known = ~np.isnan(correct)
    withheld = len(np.unique(numbers[~known])) if not known.all() else 0
    kept, numbers, correct = rows[known], numbers[known], correct[known]
    ok = data["ok"][kept].astype(np.float64)
    margin = data["margin"][kept].astype(np.float64)
    shown = data["shown"][kept].astype(np.int64)
    items = numbers
    strict, complete = correct, np.where(ok > 0, correct, np.nan)
    if len(numbers) and (numbers[1:] == numbers[:-1]).any():
        starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
        items = numbers[starts]
        counts = np.diff(np.append(starts, len(numbers)))
        strict = np.add.reduceat(correct, starts) / counts
        complete = _ratio(np.add.reduceat(correct * ok, starts), np.add.reduceat(ok, starts))
        scored = ~np.isnan(margin)
        margin = _ratio(
            np.add.reduceat(np.where(scored, margin, 0.0), starts),
            np.add.reduceat(scored.astype(np.float64), starts),
        )
        shown = np.add.reduceat(shown, starts)
    return Cell(
        *head, items, strict, complete, margin, shown, len(rows),
        int(data["unparsed"][rows].sum()), int(data["failed"][rows].sum()), withheld,
    )  # fmt: skip


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(len(top), np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


@dataclass(frozen=True, slots=True)
class _Catalogue:
    items: dict[int, Items]
    """By code of (task, setting)."""
    number: NDArray[np.intp]
    """Global item code -> number within its own `Items`."""


def _catalogue(
    frame: pd.DataFrame, task_codes: NDArray[np.int64], first_row: NDArray[np.intp]
) -> _Catalogue:
    """Return all items.

    Args:
        frame: the records [r].
        task_codes: code of (task, setting) of each row [r].
        first_row: first row of each item, by its global code.
    """
    heads = frame.iloc[first_row]
    ids = heads["item_id"].to_numpy(object)
    clusters = heads["cluster"].fillna("").to_numpy(object)
    # The prefixes keep an item's own id distinct from a recording of the same name.
    labels = np.array(
        [
            f"c:{cluster}" if cluster else f"i:{item}"
            for cluster, item in zip(clusters, ids, strict=True)
        ],
        dtype=object,
    )
    codes = pd.factorize(labels)[0].astype(np.intp)
    strata = heads["stratum"].fillna("").to_numpy(object)
    answers = heads["answer"].to_numpy(np.float64, na_value=np.nan)
    n_options = (
        heads["n_options"].to_numpy(np.float64, na_value=np.nan)
        if "n_options" in heads
        else np.zeros(len(heads))
    )
    task_of = task_codes[first_row]
    number = np.empty(len(first_row), dtype=np.intp)
    out: dict[int, Items] = {}
    for code in np.unique(task_of):
        own = np.flatnonzero(task_of == code)
        number[own] = np.arange(len(own))
        out[int(code)] = Items(ids[own], codes[own], strata[own], answers[own], n_options[own])
    return _Catalogue(out, number)


def _same_items(
    frame: pd.DataFrame, item_codes: NDArray[np.int64], first_row: NDArray[np.intp]
) -> None:
    """Raise ProbesError where an item's answer, cluster or stratum differs between its rows."""
    for name in ("answer", "cluster", "stratum"):
        codes = pd.factorize(frame[name], use_na_sentinel=False)[0]
        wrong = codes != codes[first_row][item_codes]
        if wrong.any():
            names = list(dict.fromkeys(frame["item_id"].to_numpy(object)[wrong]))
            runs = sorted(set(frame.loc[wrong, "run"].astype(str))) if "run" in frame else []
            raise ProbesError(
                f"the {name} of an item differs between rows: {first_names(names)}",
                ", ".join(runs[:4]),
                "these rows come from different data: load them one by one",
            )


def _no_repeats(
    frame: pd.DataFrame,
    order: NDArray[np.intp],
    cell_codes: NDArray[np.int64],
    numbers: NDArray[np.intp],
) -> None:
    """Raise ProbesError where a cell has an item twice with the same donor and rotation.

    Averaging over them, as over donors, would hide that two runs were joined without merging.
    """
    cell, item = cell_codes[order], numbers[order]
    repeated = np.flatnonzero((cell[1:] == cell[:-1]) & (item[1:] == item[:-1]))
    if not len(repeated):
        return
    rows = order[np.union1d(repeated, repeated + 1)]
    draw = [name for name in ("donor_id", "rotation") if name in frame]
    some = frame.iloc[rows][["item_id", "role", "arm", "frames", *draw]].assign(
        _cell=cell_codes[rows]
    )
    twice = some[some.duplicated(["_cell", "item_id", *draw])]
    if len(twice):
        row = twice.iloc[0]
        raise ProbesError(
            f"{len(twice)} rows answer what another row of the frame answers, e.g. item "
            f"{row['item_id']} ({row['arm']}, {row['role']}, {row['frames']} frames)",
            fix="give all folders to one probes.load([...]), which merges rows that repeat and "
            "refuses rows that differ",
        )


def _shown(shas: pd.Series) -> NDArray[np.int64]:
    """Number the stimuli at random: sums over donors must not be equal by accident."""
    codes, unique = pd.factorize(shas)
    random = np.random.default_rng(0).integers(1, 2**54, size=len(unique) + 1)
    # Code -1 (no hash) takes the last one.
    random[-1] = 0
    random[:-1][np.asarray(unique == "", dtype=bool)] = 0
    out: NDArray[np.int64] = random[codes]
    return out


def _dense(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    return pd.factorize(codes)[0].astype(np.int64)


def _first(codes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the first row of each code; codes are dense and numbered by first appearance."""
    return np.unique(codes, return_index=True)[1].astype(np.intp)


def align(
    cells: Sequence[Cell],
) -> tuple[NDArray[np.intp], list[NDArray[np.intp]], NDArray[np.intp]]:
    """Align several cells by item.

    Returns:
        items [n] that all cells have; for each cell the positions of those items within it [n];
        items that only some cells have.
    """
    first = cells[0].items
    if all(np.array_equal(first, cell.items) for cell in cells[1:]):
        positions = np.arange(len(first), dtype=np.intp)
        return first, [positions] * len(cells), np.empty(0, dtype=np.intp)
    shared = union = first
    for cell in cells[1:]:
        shared = np.intersect1d(shared, cell.items, assume_unique=True)
        union = np.union1d(union, cell.items)
    each = [np.searchsorted(cell.items, shared) for cell in cells]
    return shared, each, np.setdiff1d(union, shared, assume_unique=True)


def same_stimuli(table: CellTable, a: Cell, b: Cell, infill_sources: Sequence[str]) -> None:
    """Raise ProbesError where two members were not shown the same under one arm.

    Infills that each member wrote for itself are the one declared difference.
    """
    if a.arm not in TEXTLESS and (not infill_sources or "self" in infill_sources):
        return
    shared, (in_a, in_b), _ = align([a, b])
    shown_a, shown_b = a.shown[in_a], b.shown[in_b]
    differ = (shown_a != shown_b) & (shown_a != 0) & (shown_b != 0)
    if differ.any():
        names = [str(name) for name in table.items.ids[shared[differ]]]
        raise ProbesError(
            f"{a.role} and {b.role} member were not shown the same under the arm {a.arm}: items "
            f"{first_names(names)}",
            table.name,
            "frames or text differ; run both members from one configuration",
        )
