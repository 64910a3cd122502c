"""Rows -> cells: one member's answers under one arm, in arrays that line up by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.analysis.load import combine
from probes.core.errors import ProbesError

SETTING = ("task", "setting", "pair", "frames", "scoring", "seed")
"""Columns within which cells may be compared."""

Group = tuple[str, str, str, int, str, int]
"""One value for each of `SETTING`."""

# Stimuli of these arms hold no infill, so both members must have seen the same.
TEXTLESS = ("baseline", "blind", "shuffled", "reversed", "single")


@dataclass(frozen=True, slots=True)
class Items:
    """The items of one task (and setting), by number."""

    ids: NDArray[np.object_]
    clusters: NDArray[np.intp]
    """An item without a cluster is one by itself."""
    strata: NDArray[np.object_]
    answers: NDArray[np.float64]
    """NaN where the key is withheld."""
    n_options: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """One member's answers under one arm; items [n] are sorted and have a key."""

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
    """Log-probability (nats) by which the key leads the best other option; NaN where unknown."""
    shown: NDArray[np.int64]
    """Equal numbers mean equal stimuli; 0 where unknown."""
    rows: int
    """Records behind the cell, those of withheld items included."""
    unparsed: int
    failed: int
    withheld: int
    """Items without a key."""


@dataclass(frozen=True, slots=True)
class CellTable:
    """All cells of one group, by (role, arm)."""

    group: Group
    items: Items
    cells: Mapping[tuple[str, str], Cell]

    @property
    def roles(self) -> list[str]:
        """Roles present, in the order image, video, control."""
        present = {role for role, _ in self.cells}
        return [one for one in ("image", "video", "control") if one in present] + sorted(
            present - {"image", "video", "control"}
        )

    @property
    def arms(self) -> list[str]:
        """Arms present, in order of appearance."""
        return list(dict.fromkeys(arm for _, arm in self.cells))

    @property
    def name(self) -> str:
        """The group in words, for messages."""
        return ", ".join(
            f"{name} {value}"
            for name, value in zip(SETTING, self.group, strict=True)
            if value != ""
        )


def tables(frame: pd.DataFrame, margins: NDArray[np.float64] | None = None) -> list[CellTable]:
    """Arrange a frame of records into cells.

    Args:
        frame: as returned by `load`.
        margins: per row, or None where not needed.

    Returns:
        One table per group of settings, in order of appearance.

    Raises:
        ProbesError: an empty frame, an item whose key, cluster or stratum is not the same in all
            of its rows, or one that a member answered twice under one arm.
    """
    if frame.empty:
        raise ProbesError("there are no records", fix="run something, or load another folder")
    if "setting" not in frame:
        frame = frame.assign(setting="")
    world = _dense(combine([frame["task"], frame["setting"]]))
    item_codes = _dense(combine([pd.Series(world), frame["item_id"]]))
    first_row = _first(item_codes)
    _same_items(frame, item_codes, first_row)
    group_codes = _dense(combine([frame[name] for name in SETTING]))
    cell_codes = _dense(combine([pd.Series(group_codes), frame["role"], frame["arm"]]))
    catalogue = _catalogue(frame, world, first_row)
    numbers = catalogue.number[item_codes]
    status = frame["status"]
    data = {
        "correct": frame["correct"].to_numpy(np.float64, na_value=np.nan),
        "ok": (status == "ok").to_numpy(bool),
        "unparsed": (status == "unparsed").to_numpy(bool),
        "failed": (status == "error").to_numpy(bool),
        "margin": np.full(len(frame), np.nan) if margins is None else margins,
        "shown": _shown(frame["stimulus_sha"]),
    }
    order = np.lexsort((numbers, cell_codes))
    _once(frame, order, cell_codes, numbers)
    ends = np.append(np.flatnonzero(np.diff(cell_codes[order])) + 1, len(order))
    found: dict[int, dict[tuple[str, str], Cell]] = {}
    start = 0
    heads = frame[["role", "member", "arm"]].to_numpy(object)
    slices = []
    for end in ends:
        rows = order[start:end]
        slices.append((int(rows.min()), rows))
        start = int(end)
    for _, rows in sorted(slices, key=lambda one: one[0]):
        role, member, arm = heads[rows[0]]
        cell = _cell(str(role), str(member), str(arm), numbers[rows], rows, data)
        found.setdefault(int(group_codes[rows[0]]), {})[str(role), str(arm)] = cell
    group_first = _first(group_codes)
    out = []
    for code, cells in found.items():
        row = frame.iloc[group_first[code]]
        group = tuple(
            int(row[name]) if name in ("frames", "seed") else str(row[name]) for name in SETTING
        )
        out.append(CellTable(group, catalogue.items[int(world[group_first[code]])], cells))  # type: ignore[arg-type]
    return out


def _cell(
    role: str,
    member: str,
    arm: str,
    numbers: NDArray[np.intp],
    rows: NDArray[np.intp],
    data: Mapping[str, NDArray[np.generic]],
) -> Cell:
    """Average a cell's rows [r] (sorted by item) over donors, item by item."""
    correct = data["correct"][rows].astype(np.float64)
    keyed = ~np.isnan(correct)
    withheld = len(np.unique(numbers[~keyed])) if not keyed.all() else 0
    kept, numbers, correct = rows[keyed], numbers[keyed], correct[keyed]
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
        known = ~np.isnan(margin)
        margin = _ratio(
            np.add.reduceat(np.where(known, margin, 0.0), starts),
            np.add.reduceat(known.astype(np.float64), starts),
        )
        shown = np.add.reduceat(shown, starts)
    return Cell(
        role, member, arm, items, strict, complete, margin, shown, len(rows),
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
    frame: pd.DataFrame, world: NDArray[np.int64], first_row: NDArray[np.intp]
) -> _Catalogue:
    heads = frame.iloc[first_row]
    ids = heads["item_id"].to_numpy(object)
    clusters = heads["cluster"].fillna("").to_numpy(object)
    # The marks keep an item's own id from meeting a recording of the same name.
    labels = np.array(
        [f"c:{one}" if one else f"i:{item}" for one, item in zip(clusters, ids, strict=True)],
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
    of_world = world[first_row]
    number = np.empty(len(first_row), dtype=np.intp)
    out: dict[int, Items] = {}
    for code in np.unique(of_world):
        mine = np.flatnonzero(of_world == code)
        number[mine] = np.arange(len(mine))
        out[int(code)] = Items(
            ids[mine], codes[mine], strata[mine], answers[mine], n_options[mine]
        )  # fmt: skip
    return _Catalogue(out, number)


def _same_items(
    frame: pd.DataFrame, item_codes: NDArray[np.int64], first_row: NDArray[np.intp]
) -> None:
    """Raise ProbesError where an item's key, cluster or stratum differs between its rows."""
    for name in ("answer", "cluster", "stratum"):
        codes = pd.factorize(frame[name], use_na_sentinel=False)[0]
        wrong = codes != codes[first_row][item_codes]
        if wrong.any():
            names = list(dict.fromkeys(frame["item_id"].to_numpy(object)[wrong]))
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ProbesError(
                f"the {name} of an item differs between rows: {', '.join(names[:5])}{more}",
                ", ".join(sorted(set(frame.loc[wrong, "run"].astype(str)))[:4])
                if "run" in frame
                else "",
                "these rows come from different data: load them one by one",
            )


def _once(
    frame: pd.DataFrame,
    order: NDArray[np.intp],
    cell_codes: NDArray[np.int64],
    numbers: NDArray[np.intp],
) -> None:
    """Raise ProbesError where a cell holds an item twice that differ neither in donor nor rotation.

    Averaging over them, as over donors, would hide that two runs were put together unmerged.
    """
    cell, item = cell_codes[order], numbers[order]
    again = np.flatnonzero((cell[1:] == cell[:-1]) & (item[1:] == item[:-1]))
    if not len(again):
        return
    rows = order[np.union1d(again, again + 1)]
    draw = [name for name in ("donor_id", "rotation") if name in frame]
    some = frame.iloc[rows][["item_id", "role", "arm", "frames", *draw]].assign(
        _cell=cell_codes[rows]
    )
    twice = some[some.duplicated(["_cell", "item_id", *draw])]
    if len(twice):
        one = twice.iloc[0]
        raise ProbesError(
            f"{len(twice)} rows answer what another row of the frame answers, e.g. item "
            f"{one['item_id']} ({one['arm']}, {one['role']}, {one['frames']} frames)",
            fix="name all folders to one probes.load([...]): it merges what repeats and refuses "
            "what differs",
        )


def _shown(shas: pd.Series) -> NDArray[np.int64]:
    """Number the stimuli, in numbers that can be added over donors without meeting by accident."""
    codes, unique = pd.factorize(shas)
    random = np.random.default_rng(0).integers(1, 2**54, size=len(unique) + 1)
    # Code -1 (no hash) takes the last place.
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
    """Line several cells up by item.

    Returns:
        items [n] that all cells have; for each cell the positions of those items within it [n];
        items that only some cells have.
    """
    first = cells[0].items
    if all(np.array_equal(first, cell.items) for cell in cells[1:]):
        everything = np.arange(len(first), dtype=np.intp)
        return first, [everything] * len(cells), np.empty(0, dtype=np.intp)
    shared = first
    union = first
    for cell in cells[1:]:
        shared = np.intersect1d(shared, cell.items, assume_unique=True)
        union = np.union1d(union, cell.items)
    places = [np.searchsorted(cell.items, shared) for cell in cells]
    return shared, places, np.setdiff1d(union, shared, assume_unique=True)


def same_stimuli(table: CellTable, a: Cell, b: Cell, infill_sources: Sequence[str]) -> None:
    """Raise ProbesError where two members were not shown the same under one arm.

    Infills that each member wrote for itself are the one declared difference.
    """
    if a.arm not in TEXTLESS and (not infill_sources or "self" in infill_sources):
        return
    shared, (mine, theirs), _ = align([a, b])
    left, right = a.shown[mine], b.shown[theirs]
    differ = (left != right) & (left != 0) & (right != 0)
    if differ.any():
        names = [str(one) for one in table.items.ids[shared[differ]]]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise ProbesError(
            f"{a.role} and {b.role} member were not shown the same under the arm {a.arm}: items "
            f"{', '.join(names[:5])}{more}",
            table.name,
            "frames or text differ; run both members from one configuration",
        )
