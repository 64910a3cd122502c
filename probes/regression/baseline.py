"""A baseline: a snapshot, the guarded metrics and their bands; kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from probes.core.files import atomic_write
from probes.regression.snapshot import BaselineAnswer, CellAnswers, CellName, ItemFacts, Snapshot

FORMAT, VERSION = "interframe-probes baseline", 1
NAMES = ("accuracy", "gain", "drop", "transfer", "did")
TIE_TOLERANCE = 1e-3
"""Nats. Between CPUs, kernels and batch sizes, margins in float32 move by less than 1e-5
(docs/ci.md); one answer in a thousand of the embedded pair is nearer to a tie than 1e-3."""


class Metric(NamedTuple):
    """A guarded number: an accuracy, or a contrast as `probes.contrasts` names it."""

    name: str
    """One of `NAMES`."""
    cell: CellName
    """The cell; of a contrast, that of its arm. For transfer and the difference in differences
    (DiD), which compare two members, that of the member which is not the image member."""

    def cells(self, references: Mapping[str, str]) -> set[CellName]:
        """Return the cells that the metric is computed from.

        Args:
            references: reference arm by arm.
        """
        own = self.cell
        roles = (own.role,) if self.name in ("accuracy", "gain", "drop") else (own.role, "image")
        arms = [own.arm]
        if self.name not in ("accuracy", "transfer"):
            arms.append(references.get(own.arm, "baseline"))
        return {own._replace(role=role, arm=arm) for role in roles for arm in arms}

    @property
    def label(self) -> str:
        """The metric within its task and pair."""
        role = f"image - {self.cell.role}" if self.name == "did" else self.cell.role
        if self.name == "transfer":
            role = f"{self.cell.role} - image"
        return f"{self.name} {self.cell.arm}, {role}, {self.cell.frames} frames"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a run is checked against."""

    snapshot: Snapshot
    bands: Mapping[Metric, float]
    """By metric, how far it may move either way (percentage points)."""
    tie_tolerance: float = TIE_TOLERANCE
    """Nats; two options nearer than this in both runs may change places."""


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline as a whole: one line per metric, item and answer, in a fixed order."""
    atomic_write(path, to_json(baseline).encode())


def to_json(baseline: Baseline) -> str:
    """Return a baseline's file: metrics and bands first, because they are meant to be edited."""
    snapshot = baseline.snapshot
    metrics = [
        {"name": metric.name, **metric.cell._asdict(), "band": band}
        for metric, band in sorted(baseline.bands.items(), key=_order)
    ]
    # The names are the file's format; a field may have another name in this code.
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "created": snapshot.created,
        "git": snapshot.git,
        "tie_tolerance": baseline.tie_tolerance,
    }
    sources: dict[str, Any] = {
        "references": snapshot.references,
        "infill_sources": snapshot.infill_sources,
    }
    tables: dict[str, Mapping[str, Any]] = {
        "platform": snapshot.platform,
        "asked": snapshot.settings,
        "members": snapshot.members,
    }
    parts = [f"{_line(name)}: {_line(value)}" for name, value in values.items()]
    parts.append(f'"metrics": {_list(map(_line, metrics))}')
    parts += [f"{_line(name)}: {_line(value)}" for name, value in sources.items()]
    parts += [f'"{name}": {_table(table)}' for name, table in tables.items()]
    parts.append(f'"items": {_list(map(_item_line, snapshot.items))}')
    parts.append(f'"cells": {_list(map(_cell_lines, snapshot.cells))}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _order(entry: tuple[Metric, float]) -> tuple[int, CellName]:
    return NAMES.index(entry[0].name), entry[0].cell


def _item_line(item: ItemFacts) -> str:
    return _dense(
        [
            item.task,
            item.id,
            item.cluster,
            item.stratum,
            item.answer,
            item.content,
            dict(item.frames),
        ]
    )


def _cell_lines(cell: CellAnswers) -> str:
    head = _line({**cell.name._asdict(), "member": cell.member})
    return f'{head[:-1]}, "answers": {_list(map(_answer_line, cell.answers))}}}'


def _answer_line(answer: BaselineAnswer) -> str:
    return _dense(
        [
            answer.item_id,
            answer.donor_id,
            answer.rotation,
            answer.status,
            answer.choice,
            [None if math.isnan(value) else value for value in answer.logprobs],
            answer.tokens,
            answer.key,
            answer.stimulus,
        ]
    )


def _list(lines: Iterable[str]) -> str:
    return "[\n " + ",\n ".join(lines) + "\n]"


def _table(entries: Mapping[str, Any]) -> str:
    lines = (f"{_line(name)}: {_line(value)}" for name, value in entries.items())
    return "{\n " + ",\n ".join(lines) + "\n}"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(", ", ": "), allow_nan=False)


def _dense(value: Any) -> str:
    """Return a row of a long table: without spaces, which would be a tenth of the file."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
