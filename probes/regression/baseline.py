"""A baseline: a snapshot, the metrics declared to be guarded, and their bands; kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from probes.core.files import atomic_write
from probes.regression.snapshot import CellAnswers, CellName, Snapshot

FORMAT, VERSION = "interframe-probes baseline", 1
NAMES = ("accuracy", "gain", "drop", "transfer", "did")
TIE_TOLERANCE = 1e-3
"""Nats. Between CPUs, kernels and batch sizes, margins in float32 move by less than 1e-5
(docs/ci.md); one answer in a thousand of the embedded pair is nearer to a tie than 1e-3."""


class Metric(NamedTuple):
    """A number that is guarded: an accuracy, or a contrast as `probes.contrasts` names it."""

    name: str
    """One of `NAMES`."""
    cell: CellName
    """The cell; for a contrast that of the arm and (for transfer and did) of the other member."""

    def cells(self, references: Mapping[str, str]) -> set[CellName]:
        """Return the cells that the metric is made of.

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
    def words(self) -> str:
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
    """Return a baseline's file: metrics and bands first, for they are meant to be edited."""
    taken = baseline.snapshot
    metrics = [
        {"name": metric.name, **metric.cell._asdict(), "band": band}
        for metric, band in sorted(baseline.bands.items(), key=_order)
    ]
    items = [
        [one.task, one.id, one.cluster, one.stratum, one.answer, one.content, dict(one.frames)]
        for one in taken.items
    ]
    head: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "created": taken.created, "git": taken.git,
        "tie_tolerance": baseline.tie_tolerance,
    }  # fmt: skip
    rest: dict[str, Any] = {
        "references": taken.references, "infill_sources": taken.infill_sources,
    }  # fmt: skip
    parts = [f"{_line(name)}: {_line(value)}" for name, value in head.items()]
    parts.append(f'"metrics": {_rows(map(_line, metrics))}')
    parts += [f"{_line(name)}: {_line(value)}" for name, value in rest.items()]
    for name in ("platform", "asked", "members"):
        pairs = (f"{_line(key)}: {_line(one)}" for key, one in getattr(taken, name).items())
        parts.append(f'"{name}": {{\n ' + ",\n ".join(pairs) + "\n}")
    parts.append(f'"items": {_rows(map(_dense, items))}')
    parts.append(f'"cells": {_rows(map(_cell_text, taken.cells))}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _order(entry: tuple[Metric, float]) -> tuple[int, CellName]:
    return NAMES.index(entry[0].name), entry[0].cell


def _cell_text(cell: CellAnswers) -> str:
    head = _line({**cell.name._asdict(), "member": cell.member})
    rows = (
        _dense([one.item_id, one.donor_id, one.rotation, one.status, one.choice,
               [None if math.isnan(value) else value for value in one.logprobs],
               one.tokens, one.key, one.stimulus])
        for one in cell.answers
    )  # fmt: skip
    return f'{head[:-1]}, "answers": {_rows(rows)}}}'


def _rows(lines: Iterable[str]) -> str:
    return "[\n " + ",\n ".join(lines) + "\n]"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(", ", ": "), allow_nan=False)


def _dense(value: Any) -> str:
    """Return a row of a long table: without spaces, which would be a tenth of the file."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
