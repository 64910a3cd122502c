"""Records -> cells: one member's answers under one arm, in arrays ordered by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.analysis.columns import SETTING, in_order
from probes.analysis.load import combine
from probes.analysis.measures import ACCURACY, Measure, Policy
from probes.core.errors import ProbesError
from probes.core.text import listed

Group = tuple[str, str, str, int, str, int]
"""One value for each of `SETTING`."""

TEXTLESS = ("baseline", "blind", "shuffled", "reversed", "single")
"""Arms that have no infills, where the runs' manifests do not say which do."""


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
    """One member's answers under one arm.

    Items [n] are sorted. One whose right answer is withheld is among them where the measure has a
    value of it.
    """

    role: str
    member: str
    arm: str
    items: NDArray[np.intp]
    """Numbers into `Items`."""
    values: Mapping[Policy, NDArray[np.float64]]
    """The measure by policy, a mean where an item had several donors or texts; NaN where there is
    none, and where a machine failed at one of the item's answers."""
    right: NDArray[np.float64]
    """1 right, 0 wrong or unparsed, whatever the measure; NaN where withheld or failed."""
    broken: NDArray[np.bool_]
    """Whether a machine failed at one of the item's answers."""
    shown: NDArray[np.int64]
    """Equal numbers mean equal stimuli; 0 where unknown."""
    rows: int
    """Records behind the cell, those of withheld items included."""
    unparsed: int
    failed: int
    withheld: int
    """Items whose right answer is withheld."""
    tokens: float
    """Median input tokens of an answer that did not fail; NaN where unknown."""


@dataclass(frozen=True, slots=True)
class CellTable:
    """All cells of one group, by (role, arm)."""

    group: Group
    items: Items
    cells: Mapping[tuple[str, str], Cell]

    @property
    def roles(self) -> list[str]:
        """Roles present, in the order image, video, control."""
        return in_order(role for role, _ in self.cells)

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


def tables(frame: pd.DataFrame, measure: Measure = ACCURACY) -> list[CellTable]:
    """Arrange a frame of records into cells.

    Args:
        frame: as returned by `load`.
        measure: what the cells hold the values of.

    Returns:
        One table per group of settings, in order of appearance.

    Raises:
        ProbesError: an empty frame, an item whose right answer, cluster or stratum is not the same
            in all of its rows, or one that a member answered twice under one arm.
    """
    if frame.empty:
        raise ProbesError("there are no records", fix="run something, or load another folder")
    # Frames that were put together by hand may lack what `load` adds.
    if "setting" not in frame:
        frame = frame.assign(setting="")
    task_codes = _dense(combine([frame["task"], frame["setting"]]))
    # An id names an item within its task (and setting) only.
    item_codes = _dense(combine([pd.Series(task_codes), frame["item_id"]]))
    first_row = _first(item_codes)
    _same_items(frame, item_codes, first_row)
    group_codes = _dense(combine([frame[name] for name in SETTING]))
    cell_codes = _dense(combine([pd.Series(group_codes), frame["role"], frame["arm"]]))
    items, number = _catalogue(frame, task_codes, first_row)
    numbers = number[item_codes]
    # Cells become runs of rows in the order of their items: a million rows are split, not grouped.
    order = np.lexsort((numbers, cell_codes))
    _no_repeats(frame, order, cell_codes, numbers)
    data = _RowArrays(
        right=ACCURACY.of(frame),
        value=measure.of(frame),
        status=frame["status"].to_numpy(object),
        shown=_shown(frame["stimulus_sha"]),
        tokens=_tokens(frame),
    )
    heads = frame[["role", "member", "arm"]].to_numpy(object)
    found: dict[int, dict[tuple[str, str], Cell]] = {}
    ends = np.flatnonzero(np.diff(cell_codes[order])) + 1
    # Cells in order of appearance: by the first row of each.
    for rows in sorted(np.split(order, ends), key=lambda rows: int(rows.min())):
        role, member, arm = (str(value) for value in heads[rows[0]])
        cell = _cell((role, member, arm), numbers[rows], rows, data, measure)
        found.setdefault(int(group_codes[rows[0]]), {})[role, arm] = cell
    group_first = _first(group_codes)
    out = []
    for code, cells in found.items():
        row = frame.iloc[group_first[code]]
        group = tuple(
            int(row[name]) if name in ("frames", "seed") else str(row[name]) for name in SETTING
        )
        of_task = items[int(task_codes[group_first[code]])]
        out.append(CellTable(group, of_task, cells))  # type: ignore[arg-type]
    return out


@dataclass(frozen=True, slots=True)
class _RowArrays:
    """What cells need of every row [rows]."""

    right: NDArray[np.float64]
    value: NDArray[np.float64]
    status: NDArray[np.object_]
    shown: NDArray[np.int64]
    tokens: NDArray[np.float64]


def _cell(
    head: tuple[str, str, str],
    numbers: NDArray[np.intp],
    rows: NDArray[np.intp],
    data: _RowArrays,
    measure: Measure,
) -> Cell:
    """Average a cell's rows [r] (sorted by item) over donors, item by item.

    Args:
        head: role, member and arm.
        numbers: item of each row [r].
        rows: the cell's rows of the frame [r].
        data: all rows of the frame.
        measure: whose values they are.
    """
    withheld = np.isnan(data.right[rows])
    n_withheld = len(np.unique(numbers[withheld])) if withheld.any() else 0
    kept = ~withheld | ~np.isnan(data.value[rows])
    numbers, chosen = numbers[kept], rows[kept]
    # The slice is for cells without rows, which have no first one either.
    starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)])
    value = data.value[chosen]
    every = np.ones(len(value), dtype=bool)
    parsed = data.status[chosen] == "ok" if measure.of_failed else ~np.isnan(value)
    known: dict[Policy, NDArray[np.bool_]] = {"strict": every, "complete": parsed}
    # Withheld items are counted too: failures say how a run went, not how good a member is.
    status = data.status[rows]
    # An error is no answer. Of an item with several, what is left is no mean over the same donors.
    broken = _sum((data.status[chosen] == "error").astype(np.int64), starts) > 0
    return Cell(
        *head,
        items=numbers[starts],
        values={
            policy: np.where(broken, np.nan, _mean(value, known[policy], starts))
            for policy in measure.policies
        },
        right=np.where(broken, np.nan, _mean(data.right[chosen], every, starts)),
        broken=broken,
        shown=_sum(data.shown[chosen], starts),
        rows=len(rows),
        unparsed=int((status == "unparsed").sum()),
        failed=int((status == "error").sum()),
        withheld=n_withheld,
        tokens=_median(data.tokens[rows]),
    )


def _tokens(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return the input tokens of every row; NaN where an answer failed, or none were counted."""
    if "input_tokens" not in frame:
        return np.full(len(frame), np.nan)
    counted = frame["input_tokens"].to_numpy(np.float64, na_value=np.nan)
    unknown = (frame["status"] == "error").to_numpy(bool) | (counted <= 0)
    return np.where(unknown, np.nan, counted)


def _median(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _mean(
    values: NDArray[np.float64], known: NDArray[np.bool_], starts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the mean of the known values of each item, whose rows begin at `starts`."""
    total = _sum(np.where(known, values, 0.0), starts)
    # Of an item without a known value: 0 / 0, which is NaN as it should be.
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = total / _sum(known.astype(np.float64), starts)
    return mean


def _sum(values: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[Any]:
    # Of no rows reduceat has no sum, not even an empty one.
    return np.add.reduceat(values, starts) if len(starts) else values


def _catalogue(
    frame: pd.DataFrame, task_codes: NDArray[np.int64], first_row: NDArray[np.intp]
) -> tuple[dict[int, Items], NDArray[np.intp]]:
    """Return the items of each task by its code, and each item's number there by its global code.

    Args:
        frame: the records [r].
        task_codes: code of (task, setting) of each row [r].
        first_row: first row of each item, by its global code.
    """
    heads = frame.iloc[first_row]
    ids = heads["item_id"].to_numpy(object)
    clusters = heads["cluster"].fillna("").to_numpy(object)
    # The prefixes keep an item's own id distinct from a recording of the same name.
    labels = np.where(clusters == "", "i:" + ids, "c:" + clusters)
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
    return out, number


def _same_items(
    frame: pd.DataFrame, item_codes: NDArray[np.int64], first_row: NDArray[np.intp]
) -> None:
    """Raise ProbesError where an item's answer, cluster or stratum differs between its rows."""
    for name in ("answer", "cluster", "stratum"):
        # NA has a code too: an answer withheld in one row and known in another is a difference.
        codes = pd.factorize(frame[name], use_na_sentinel=False)[0]
        wrong = codes != codes[first_row][item_codes]
        if wrong.any():
            names = list(dict.fromkeys(frame["item_id"].to_numpy(object)[wrong]))
            runs = sorted(set(frame.loc[wrong, "run"].astype(str))) if "run" in frame else []
            raise ProbesError(
                f"the {name} of an item differs between rows: {listed(names)}",
                ", ".join(runs[:4]),
                "these rows come from different data: load them one by one",
            )


def _no_repeats(
    frame: pd.DataFrame,
    order: NDArray[np.intp],
    cell_codes: NDArray[np.int64],
    numbers: NDArray[np.intp],
) -> None:
    """Raise ProbesError where a cell has an item twice with the same donor, text and rotation.

    Averaging over them, as over donors, would hide that two runs were joined without merging.
    """
    cell, item = cell_codes[order], numbers[order]
    repeated = np.flatnonzero((cell[1:] == cell[:-1]) & (item[1:] == item[:-1]))
    if not len(repeated):
        return
    # Donors, texts and rotations repeat items lawfully: only these rows need a closer look.
    rows = order[np.union1d(repeated, repeated + 1)]
    draw = [name for name in ("donor_id", "donor_task", "infill_draw", "rotation") if name in frame]
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
    # Below 2**54, so that sums over hundreds of donors stay within int64.
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
    # Mostly every cell has every item; then no sets need to be built.
    if all(np.array_equal(first, cell.items) for cell in cells[1:]):
        positions = np.arange(len(first), dtype=np.intp)
        return first, [positions] * len(cells), np.empty(0, dtype=np.intp)
    shared = union = first
    for cell in cells[1:]:
        shared = np.intersect1d(shared, cell.items, assume_unique=True)
        union = np.union1d(union, cell.items)
    each = [np.searchsorted(cell.items, shared) for cell in cells]
    return shared, each, np.setdiff1d(union, shared, assume_unique=True)


def same_stimuli(table: CellTable, a: Cell, b: Cell, declared: Mapping[str, Any]) -> None:
    """Raise ProbesError where two members were not shown the same under one arm.

    Infills that each member wrote for itself, and filler, are the declared differences.

    Args:
        table: holds the cells.
        a: one member's cell.
        b: another member's, of the same arm.
        declared: by the runs' manifests (`attrs` of a frame): `infills`, the kind of every arm's
            text, and `infill_sources`, who wrote it.
    """
    sources = declared.get("infill_sources", ())
    kind = declared.get("infills", {}).get(a.arm, "none" if a.arm in TEXTLESS else "")
    # Where no source is stated, members may have written their own. Neutral text is as long as
    # infills by each member's own tokens, so that it differs between tokenizers.
    if kind == "filler" or (kind != "none" and (not sources or "self" in sources)):
        return
    shared, (in_a, in_b), _ = align([a, b])
    shown_a, shown_b = a.shown[in_a], b.shown[in_b]
    # 0 is an unknown hash, which is no evidence of a difference.
    differ = (shown_a != shown_b) & (shown_a != 0) & (shown_b != 0)
    if differ.any():
        names = [str(name) for name in table.items.ids[shared[differ]]]
        raise ProbesError(
            f"{a.role} and {b.role} member were not shown the same under the arm {a.arm}: items "
            f"{listed(names)}",
            table.name,
            "frames or text differ; run both members from one configuration",
        )
