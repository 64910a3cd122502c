"""The study's tables for a run: gains, difference in differences (DiD) and drops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import pandas as pd

from probes.analysis import transfer as iraven
from probes.analysis.accuracies import accuracies
from probes.analysis.cells import BLOCK, role_order, rows_of
from probes.analysis.contrasts import contrasts
from probes.analysis.pairing import PERTURBATIONS, references

_ARM_NAMES = {
    "baseline": "baseline", "vcot": "+vCoT", "blind": "blind",
    "visual_perturbation": "visual perturb.", "text_perturbation": "text perturb.",
}  # fmt: skip
_LETTERS = "ABCDEFGHIJ"

TableRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of finished text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 2
    """Leading columns of words (left-aligned); the rest are numbers."""


@dataclass(frozen=True, slots=True)
class TableBlock:
    """The tables of one pair on one task under one scoring, seed and setting."""

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """What is printed at the end of a run."""

    blocks: tuple[TableBlock, ...]


def study_tables(frame: pd.DataFrame) -> Tables:
    """Arrange a frame as the study's tables, in percentage points.

    Args:
        frame: as returned by `load`.

    Returns:
        One block per (task, setting, pair, scoring, seed): accuracy without and with vCoT and its
        gain; did per arm; accuracy and drop under each perturbation; further arms; each difference
        with its 95 % paired interval. Columns of arms that were not run are left out.
    """
    cells = accuracies(frame)
    found = contrasts(frame)
    by_configuration = iraven.transfer(frame)
    refs = references(frame)
    blocks = []
    for values, part in cells.groupby(list(BLOCK), sort=False):
        head = dict(zip(BLOCK, values, strict=True))
        block = _block(head, part, _of(found, head), refs)
        more = _transfer_tables(_of(by_configuration, head))
        blocks.append(replace(block, tables=(*block.tables, *more)))
    return Tables(tuple(blocks))


def _of(rows: pd.DataFrame, head: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of one block."""
    mask = pd.Series(True, index=rows.index)
    for name, value in head.items():
        mask &= rows[name] == value
    return rows[mask]


def _transfer_tables(found: pd.DataFrame) -> list[Table]:
    tables = []
    for (arm, _), part in found.groupby(["arm", "frames"], sort=False):
        if arm not in ("baseline", "vcot"):
            continue
        header, *lines = iraven.rows(part)
        title = f"i-RAVEN by configuration, {arm_name(str(arm))} (chance 12.5)"
        tables.append(Table(title, header, tuple(lines), words=1))
    return tables


def _block(
    head: Mapping[str, Any], cells: pd.DataFrame, found: pd.DataFrame, refs: Mapping[str, str]
) -> TableBlock:
    results = _Results(cells, found)
    tables = [
        _gain_table(results),
        _did_table(results),
        _perturbation_table(results),
        _further(results, refs),
    ]
    title = (
        f"pair {head['pair']}, task {head['task']}, scoring {head['scoring']}, seed {head['seed']}"
    )
    if head["setting"]:
        title += f", {head['setting']}"
    present = tuple(table for table in tables if table)
    return TableBlock(title, present, tuple(_notes(results, refs)))


class _Results:
    """The accuracies and contrasts of one block, by what they are of."""

    def __init__(self, cells: pd.DataFrame, found: pd.DataFrame) -> None:
        self.cells: dict[tuple[int, str, str], TableRow] = {
            (int(row["frames"]), str(row["role"]), str(row["arm"])): row for row in rows_of(cells)
        }
        self.contrasts: dict[tuple[str, str, int, str, str], TableRow] = {
            (str(row["name"]), str(row["policy"]), int(row["frames"]), str(row["role"]),
             str(row["arm"])): row
            for row in rows_of(found)
        }  # fmt: skip
        members = {(frames, role): row["member"] for (frames, role, _), row in self.cells.items()}
        order = sorted(members, key=lambda one: (one[0], role_order(one[1])))
        self.rows = [(frames, role, str(members[frames, role])) for frames, role in order]
        self.arms = list(dict.fromkeys(arm for _, _, arm in self.cells))

    def percent(self, frames: int, role: str, arm: str) -> str:
        cell = self.cells.get((frames, role, arm))
        return percent(cell["accuracy"]) if cell else "-"

    def change(self, frames: int, role: str, arm: str, policy: str = "strict") -> str:
        row = self.contrasts.get(("gain", policy, frames, role, arm)) or self.contrasts.get(
            ("drop", policy, frames, role, arm)
        )
        return interval(row) if row else "-"


def _gain_table(results: _Results) -> Table | None:
    arms = [arm for arm in ("blind", "baseline", "vcot") if arm in results.arms]
    if not arms:
        return None
    with_gain = "vcot" in arms and "baseline" in arms
    rows = [
        (role, member, str(frames), *(results.percent(frames, role, arm) for arm in arms))
        + ((results.change(frames, role, "vcot"),) if with_gain else ())
        for frames, role, member in results.rows
    ]
    header = ("role", "member", "frames", *(_ARM_NAMES[arm] for arm in arms))
    title = "Accuracy and the gain from vCoT" if with_gain else "Accuracy"
    return Table(title, header + (("gain [95 % interval]",) if with_gain else ()), tuple(rows))


def _did_table(results: _Results) -> Table | None:
    rows = []
    for (name, policy, frames, role, arm), row in results.contrasts.items():
        if name != "did" or policy != "strict" or arm == "blind":
            continue
        headroom = f"{percent(row['headroom_image'])}/{percent(row['headroom_other'])}"
        texts = (
            arm_name(arm), role, str(frames), points(row["mean_a"]), points(row["mean_b"]),
            interval(row), p_value(row["p"]), headroom,
        )  # fmt: skip
        rows.append((results.arms.index(arm), frames, role_order(role), texts))
    if not rows:
        return None
    header = ("arm", "other", "frames", "gain image", "gain other", "did [95 % interval]", "p",
              "room")  # fmt: skip
    title = "did = gain(image) - gain(other); room: what each had left to gain (image/other)"
    return Table(title, header, tuple(texts for *_, texts in sorted(rows, key=lambda row: row[:3])))


def _perturbation_table(results: _Results) -> Table | None:
    arms = [arm for arm in PERTURBATIONS if arm in results.arms]
    if not arms or "vcot" not in results.arms:
        return None
    header = ["role", "member", "frames", "vCoT"]
    for arm in arms:
        header += [arm.split("_")[0], "drop [95 % interval]"]
    rows = []
    for frames, role, member in results.rows:
        row = [role, member, str(frames), results.percent(frames, role, "vcot")]
        for arm in arms:
            row += [results.percent(frames, role, arm), results.change(frames, role, arm)]
        rows.append(tuple(row))
    return Table(
        "vCoT, and its drop under visual and text perturbation", tuple(header), tuple(rows)
    )


def _further(results: _Results, refs: Mapping[str, str]) -> Table | None:
    known = {"baseline", "vcot", "blind", *PERTURBATIONS}
    rows = [
        (arm, role, str(frames), results.percent(frames, role, arm), refs.get(arm, "") or "-",
         results.change(frames, role, arm))
        for arm in results.arms if arm not in known
        for frames, role, _ in results.rows if (frames, role, arm) in results.cells
    ]  # fmt: skip
    if not rows:
        return None
    header = ("arm", "role", "frames", "accuracy", "against", "change [95 % interval]")
    return Table("Further arms", header, tuple(rows))


def _notes(results: _Results, refs: Mapping[str, str]) -> Iterator[str]:
    cells = list(results.cells.values())
    yield f"n = {_range(cells, 'n')} items in {_range(cells, 'clusters')} clusters per cell"
    first = max(cells, key=lambda cell: int(cell["n"]))
    if first["n"]:
        option = int(first["majority_option"])
        letter = _LETTERS[option] if option < len(_LETTERS) else str(option)
        guess = f"chance {percent(first['chance'])}, " if isfinite(first["chance"]) else ""
        yield f"{guess}always answering {letter} {percent(first['majority'])}"
    yield from _answer_counts(results)
    if withheld := max(int(cell["withheld"]) for cell in cells):
        yield f"withheld: {withheld} items have no public answer and are left out"
    for frames, role, arm in results.cells:
        if refs.get(arm) and (frames, role, refs[arm]) not in results.cells:
            yield f"not compared: {arm}, {role}, {frames} frames: {refs[arm]} was not run there"
    for (name, policy, frames, role, arm), row in results.contrasts.items():
        if policy != "strict":
            continue
        where = f"{name}, {role}, {arm}, {frames} frames"
        if row["n_missing"]:
            ids = ", ".join(row["missing"][:3]) + (", ..." if row["n_missing"] > 3 else "")
            yield f"missing: {row['n_missing']} items have no answer on one side of {where}: {ids}"
        if row["reason"] and name != "transfer":
            yield f"{where}: {row['method']} ({row['reason']})"


def _answer_counts(results: _Results) -> Iterator[str]:
    """Yield how many answers were not parsed or failed, and what the gains are without them."""
    roles = sorted({role for _, role, _ in results.rows}, key=role_order)
    counts = {
        role: [
            sum(int(cell[name]) for (_, of, _), cell in results.cells.items() if of == role)
            for name in ("unparsed", "failed", "records")
        ]
        for role in roles
    }
    text = "; ".join(
        f"{role} {unparsed} unparsed, {failed} failed of {records}"
        for role, (unparsed, failed, records) in counts.items()
    )
    bad = any(unparsed or failed for unparsed, failed, _ in counts.values())
    yield f"answers: {text}" + (" (counted as wrong)" if bad else "")
    if bad:
        yield from _complete(results)


def _complete(results: _Results) -> Iterator[str]:
    """Yield gains and DiD over parsed answers only."""
    for frames, role, _ in results.rows:
        row = results.contrasts.get(("gain", "complete", frames, role, "vcot"))
        if row is not None:
            value = f"{frames} frames {interval(row)}, n = {row['n']}"
            yield f"parsed answers only: gain {role}, {value}"
    for (name, policy, frames, role, arm), row in results.contrasts.items():
        if name == "did" and policy == "complete" and arm == "vcot":
            value = f"{frames} frames {interval(row)}, n = {row['n']}"
            yield f"parsed answers only: did image - {role}, {value}"


def _range(cells: Sequence[TableRow], name: str) -> str:
    values = {int(cell[name]) for cell in cells}
    return str(min(values)) if len(values) == 1 else f"{min(values)}-{max(values)}"


def arm_name(arm: str) -> str:
    """Return an arm's name as tables print it."""
    return _ARM_NAMES.get(arm, arm)


def percent(value: float) -> str:
    """Format a proportion in percent with one decimal."""
    return f"{100 * value:.1f}" if isfinite(value) else "-"


def points(value: float) -> str:
    """Format a difference of proportions in percentage points, signed."""
    # Adding 0.0 turns -0.0 into 0.0, so that no table shows "-0.0".
    return f"{round(100 * value, 1) + 0.0:+.1f}" if isfinite(value) else "-"


def interval(row: TableRow) -> str:
    """Format a contrast as `+7.4 [+3.1, +11.7]`."""
    if not isfinite(row["estimate"]):
        return "-"
    if not isfinite(row["low"]):
        return f"{points(row['estimate'])} [undefined]"
    return f"{points(row['estimate'])} [{points(row['low'])}, {points(row['high'])}]"


def p_value(p: float) -> str:
    """Format a p-value."""
    if not isfinite(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
