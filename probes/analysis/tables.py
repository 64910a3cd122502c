"""The study's tables for a run: gains, difference in differences (DiD) and drops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import pandas as pd

from probes.analysis import comparisons
from probes.analysis import transfer as iraven
from probes.analysis.accuracies import accuracies
from probes.analysis.columns import (
    BLOCK,
    groups,
    heading,
    in_order,
    role_order,
    rows_of,
    where,
    without_model,
)
from probes.analysis.comparisons import adjusted_p, tokens
from probes.analysis.contrasts import contrasts
from probes.analysis.draws import coverage
from probes.analysis.formats import contrast_name, family, interval, percent, points, span
from probes.analysis.pairing import PERTURBATIONS, references
from probes.analysis.scored import frame_lines
from probes.core.tables import Table
from probes.core.text import letter

_ARM_NAMES = {
    "baseline": "baseline",
    "vcot": "+vCoT",
    "blind": "blind",
    "visual_perturbation": "visual perturb.",
    "text_perturbation": "text perturb.",
}

_OF_GAINS = ("Accuracy and the gain", "DiD =", "vCoT, and its drop")

SPELLED_OUT = "DiD: difference in differences, of the two members' gains."
TableRow = Mapping[str, Any]


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
    notes: tuple[str, ...] = ()
    """What holds of all blocks, and is said once."""


def study_tables(frame: pd.DataFrame) -> Tables:
    """Arrange a frame as the study's tables, in percentage points.

    Args:
        frame: as returned by `load`.

    Returns:
        One block per (task, setting, pair, scoring, seed): accuracy without and with vCoT and its
        gain; DiD per arm; accuracy and drop under each perturbation; further arms; each difference
        with its 95 % paired interval. Columns of arms that were not run are left out.
    """
    cells = accuracies(frame)
    found = contrasts(frame)
    by_configuration = iraven.transfer(frame)
    refs = references(frame)
    blocks = []
    for head, part in groups(cells, BLOCK):
        block = _block(head, part, where(found, head), refs)
        told = frame_lines(where(frame, head), frame.attrs.get("without_mass", ()))
        block = replace(block, notes=(*block.notes, *told))
        strict = where(found, head, policy="strict")
        beside = [comparisons.transfer_table(strict), comparisons.against_table(strict)]
        block = _by_writer(block, list(comparisons.writers(where(frame, head))))
        more = [*filter(None, beside), *_transfer_tables(where(by_configuration, head))]
        block = replace(block, tables=(*block.tables, *more))
        blocks.append(_marked(block, without_model(where(frame, head))))
    notes = [coverage(frame)]
    if (found["name"] == "did").any():
        notes.insert(0, SPELLED_OUT)
    return Tables(tuple(blocks), tuple(notes) if blocks else ())


def _by_writer(block: TableBlock, writers: list[str]) -> TableBlock:
    """Return a block whose tables of gains say who wrote the text, where that is known."""
    if not writers:
        return block
    tables = tuple(
        replace(one, title=f"{one.title}; text by {' or '.join(writers)}")
        if one.title.startswith(_OF_GAINS)
        else one
        for one in block.tables
    )
    return replace(block, tables=tables)


def _marked(block: TableBlock, mark: str) -> TableBlock:
    """Return a block with a mark in the title of itself and of its tables."""
    if not mark:
        return block
    tables = tuple(replace(one, title=f"{one.title} [{mark}]") for one in block.tables)
    return replace(block, title=f"{block.title} [{mark}]", tables=tables)


def _transfer_tables(found: pd.DataFrame) -> list[Table]:
    tables = []
    for head, part in groups(found[found["arm"].isin(["baseline", "vcot"])], ("arm", "frames")):
        header, *lines = iraven.rows(part)
        title = f"i-RAVEN by configuration, {arm_name(head['arm'])} (chance 12.5)"
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
    present = tuple(table for table in tables if table)
    return TableBlock(heading(head), present, tuple(_notes(results, refs)))


class _Results:
    """The accuracies and contrasts of one block, by what they are of."""

    def __init__(self, cells: pd.DataFrame, found: pd.DataFrame) -> None:
        self.cells: dict[tuple[int, str, str], TableRow] = {
            (int(row["frames"]), str(row["role"]), str(row["arm"])): row for row in rows_of(cells)
        }
        # An arm has one reference, but is set `against` several others: see `comparisons`.
        self.contrasts: dict[tuple[str, str, int, str, str], TableRow] = {
            (row["name"], row["policy"], row["frames"], row["role"], row["arm"]): row
            for row in rows_of(found[found["name"] != "against"])
        }
        members = {(frames, role): row["member"] for (frames, role, _), row in self.cells.items()}
        order = sorted(members, key=lambda one: (one[0], role_order(one[1])))
        self.rows = [(frames, role, str(members[frames, role])) for frames, role in order]
        self.arms = list(dict.fromkeys(arm for _, _, arm in self.cells))

    def percent(self, frames: int, role: str, arm: str) -> str:
        cell = self.cells.get((frames, role, arm))
        return percent(cell["accuracy"]) if cell else "-"

    def tokens(self, frames: int, role: str, arm: str) -> str:
        row = self.contrasts.get(("gain", "strict", frames, role, arm))
        return tokens(row) if row else "-"

    def change(self, frames: int, role: str, arm: str) -> str:
        for name in ("gain", "drop"):
            if row := self.contrasts.get((name, "strict", frames, role, arm)):
                return interval(row)
        return "-"


def _gain_table(results: _Results) -> Table | None:
    arms = [arm for arm in ("blind", "baseline", "vcot") if arm in results.arms]
    if not arms:
        return None
    with_gain = "vcot" in arms and "baseline" in arms
    rows = [
        (role, member, str(frames), *(results.percent(frames, role, arm) for arm in arms))
        + (
            (results.tokens(frames, role, "vcot"), results.change(frames, role, "vcot"))
            if with_gain
            else ()
        )
        for frames, role, member in results.rows
    ]
    header = ("role", "member", "frames", *(_ARM_NAMES[arm] for arm in arms))
    title = (
        "Accuracy and the gain from vCoT (tokens: median input, baseline/vCoT)"
        if with_gain
        else "Accuracy"
    )
    return Table(
        title, header + (("tokens", "gain [95 % interval]") if with_gain else ()), tuple(rows)
    )


def _did_table(results: _Results) -> Table | None:
    rows = []
    for (name, policy, frames, role, arm), row in results.contrasts.items():
        # `blind` takes frames away: its DiD is not about text between them.
        if name != "did" or policy != "strict" or arm == "blind":
            continue
        texts = (
            arm_name(arm),
            role,
            str(frames),
            points(row["mean_a"]),
            points(row["mean_b"]),
            interval(row),
            adjusted_p(row),
            f"{percent(row['headroom_image'])}/{percent(row['headroom_other'])}",
        )
        rows.append((results.arms.index(arm), frames, role_order(role), texts))
    if not rows:
        return None
    gains = ("gain image", "gain other", "DiD [95 % interval]")
    header = ("arm", "other", "frames", *gains, "p adj.", "room")
    title = (
        "DiD = gain(image) - gain(other); room: what each had left to gain, or above chance to "
        "lose (image/other)"
    )
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
    title = "vCoT, and its drop under visual and text perturbation"
    return Table(title, tuple(header), tuple(rows))


def _further(results: _Results, refs: Mapping[str, str]) -> Table | None:
    rows = [
        (
            arm,
            role,
            str(frames),
            results.percent(frames, role, arm),
            refs.get(arm, "") or "-",
            results.change(frames, role, arm),
        )
        for arm in results.arms
        for frames, role, _ in results.rows
        if arm not in _ARM_NAMES and (frames, role, arm) in results.cells
    ]
    if not rows:
        return None
    header = ("arm", "role", "frames", "accuracy", "against", "change [95 % interval]")
    return Table("Further arms", header, tuple(rows))


def _notes(results: _Results, refs: Mapping[str, str]) -> Iterator[str]:
    cells = list(results.cells.values())
    n, clusters = (span(cell[name] for cell in cells) for name in ("n", "clusters"))
    yield f"n = {n} items in {clusters} clusters per cell"
    # The fullest cell: guessing is to be that over all items.
    first = max(cells, key=lambda cell: int(cell["n"]))
    if first["n"]:
        guess = f"chance {percent(first['chance'])}, " if isfinite(first["chance"]) else ""
        option = letter(int(first["majority_option"]))
        yield f"{guess}always answering {option} {percent(first['majority'])}"
    yield from _answer_counts(results)
    families = {str(row["family"]) for row in results.contrasts.values()}
    if primary := sorted(one for one in families if one.startswith("primary")):
        told = "Holm within a family; * marks the declared primary one"
        yield f"p adj.: {told} ({'; '.join(family(one).partition(': ')[2] for one in primary)})"
    elif "did" in {name for name, *_ in results.contrasts}:
        yield "p adj.: Holm within a family, which is one DiD over the frame counts of its run"
    if withheld := max(int(cell["withheld"]) for cell in cells):
        yield f"withheld: {withheld} items have no public answer and are left out"
    for frames, role, arm in results.cells:
        if refs.get(arm) and (frames, role, refs[arm]) not in results.cells:
            yield f"not compared: {arm}, {role}, {frames} frames: {refs[arm]} was not run there"
    for (name, policy, frames, role, arm), row in results.contrasts.items():
        if policy != "strict":
            continue
        which = f"{contrast_name(name)}, {role}, {arm}, {frames} frames"
        if row["failed_share"] and row["verdict"]:
            share = f"{100 * row['failed_share']:.1f} % of {row['failed_in']}"
            yield f"{which}: a machine failed at {share}; {row['left_out']} items are left out"
        if row["n_missing"]:
            ids = ", ".join(row["missing"][:3]) + (", ..." if row["n_missing"] > 3 else "")
            yield f"missing: {row['n_missing']} items have no answer on one side of {which}: {ids}"
        if row["reason"] and (name != "transfer" or not row["verdict"]):
            yield f"{which}: {row['method']} ({row['reason']})"


def _answer_counts(results: _Results) -> Iterator[str]:
    """Yield how many answers were not parsed or failed, and what the gains are without them."""
    roles = in_order(role for _, role, _ in results.rows)
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
    told = " (unparsed ones are wrong; items with a failed one are left out of what is compared)"
    yield f"answers: {text}" + (told if bad else "")
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
            yield f"parsed answers only: DiD image - {role}, {value}"


def arm_name(arm: str) -> str:
    """Return an arm's name as tables print it."""
    return _ARM_NAMES.get(arm, arm)
