"""A baseline: a snapshot, the guarded metrics and their bands; kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from probes.analysis.formats import compared
from probes.core.files import atomic_write
from probes.core.types import CONTRASTS
from probes.regression.snapshot import CellAnswers, CellName, Snapshot

FORMAT, VERSION = "interframe-probes baseline", 1
NAMES = ("accuracy", *CONTRASTS)
"""Metrics of accuracies."""
OTHER_NAMES = ("mean", *CONTRASTS)
"""Metrics of any other measure."""
TIE_TOLERANCE = 1e-3
"""Nats. Between CPUs, kernels and batch sizes, margins in float32 move by less than 1e-5
(docs/ci.md); one answer in a thousand of the embedded pair is nearer to a tie than 1e-3."""
ITEM = ("task", "id", "cluster", "stratum", "answer", "content", "frames")
ANSWER = (
    *("item_id", "donor_id", "rotation", "status", "choice"),
    *("logprobs", "tokens", "key", "stimulus"),
)
"""What the rows of the file's two long tables hold, in this order; an answer with a donor of
another task has that task behind them."""


class Metric(NamedTuple):
    """A guarded number: the mean of a measure in a cell, or a contrast of `probes.contrasts`."""

    name: str
    """One of `NAMES`, of other measures than accuracy one of `OTHER_NAMES`."""
    cell: CellName
    """The cell; of a contrast, that of its arm. For transfer and the difference in differences
    (DiD), which compare two members, that of the member which is not the image member."""
    measure: str = "accuracy"

    @property
    def kind(self) -> str:
        """What a band may be given for: the name of an accuracy's metric, else the measure."""
        return self.name if self.measure == "accuracy" else self.measure

    def cells(self, references: Mapping[str, str]) -> set[CellName]:
        """Return the cells that the metric is computed from.

        Args:
            references: reference arm by arm.
        """
        own = self.cell
        roles = (own.role, "image") if self.name in ("transfer", "did") else (own.role,)
        arms = [own.arm]
        if self.name not in ("accuracy", "mean", "transfer"):
            arms.append(references.get(own.arm, "baseline"))
        return {own._replace(role=role, arm=arm) for role in roles for arm in arms}

    @property
    def label(self) -> str:
        """The metric within its task and pair."""
        role = compared(self.name, self.cell.role)
        return f"{self.what} {self.cell.arm}, {role}, {self.cell.frames} frames"

    @property
    def what(self) -> str:
        """The name, with the measure where it is not accuracy."""
        return self.name if self.measure == "accuracy" else f"{self.name} of {self.measure}"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a run is checked against."""

    snapshot: Snapshot
    bands: Mapping[Metric, float]
    """By metric, how far it may move either way (percentage points, or the measure's unit)."""
    tie_tolerance: float = TIE_TOLERANCE
    """Nats; two options nearer than this in both runs may change places."""


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline as a whole: one line per metric, item and answer, in a fixed order."""
    atomic_write(path, to_json(baseline).encode())


def to_json(baseline: Baseline) -> str:
    """Return a baseline's file: metrics and bands first, because they are meant to be edited."""
    snapshot = baseline.snapshot
    metrics = [
        {"name": metric.name, **_measure(metric), **metric.cell._asdict(), "band": band}
        for metric, band in sorted(baseline.bands.items(), key=_order)
    ]
    items = (_dense([getattr(item, name) for name in ITEM]) for item in snapshot.items)
    # The names are the file's format; a field may have another name in this code.
    parts = {
        "format": _line(FORMAT),
        "version": _line(VERSION),
        "created": _line(snapshot.created),
        "git": _line(snapshot.git),
        "tie_tolerance": _line(baseline.tie_tolerance),
        "metrics": _list(map(_line, metrics)),
        "references": _line(snapshot.references),
        "infill_sources": _line(snapshot.infill_sources),
        "platform": _table(snapshot.platform),
        # Only where a run states them: files of older runs stay as they are.
        **({"origins": _table(snapshot.origins)} if snapshot.origins else {}),
        "asked": _table(snapshot.settings),
        "members": _table(snapshot.members),
        "items": _list(items),
        "cells": _list(map(_cell_lines, snapshot.cells)),
    }
    return "{\n" + ",\n".join(f'"{name}": {part}' for name, part in parts.items()) + "\n}\n"


def _measure(metric: Metric) -> dict[str, str]:
    # Files of accuracies alone are as they were before there were other measures.
    return {} if metric.measure == "accuracy" else {"measure": metric.measure}


def _order(entry: tuple[Metric, float]) -> tuple[str, int, CellName]:
    metric, _ = entry
    names = NAMES if metric.measure == "accuracy" else OTHER_NAMES
    return metric.measure, names.index(metric.name), metric.cell


def _cell_lines(cell: CellAnswers) -> str:
    head = _line({**cell.name._asdict(), "member": cell.member})
    # Only there: files of runs of one task are as they were.
    named = ((one, (*ANSWER, *(["donor_task"] if one.donor_task else ()))) for one in cell.answers)
    rows = ([_plain(getattr(answer, name)) for name in names] for answer, names in named)
    return f'{head[:-1]}, "answers": {_list(map(_dense, rows))}}}'


def _plain(value: Any) -> Any:
    """Return a value of an answer as JSON holds it, which has no NaN."""
    if isinstance(value, tuple):
        return [None if math.isnan(one) else one for one in value]
    return value


def _list(lines: Iterable[str]) -> str:
    return "[\n " + ",\n ".join(lines) + "\n]"


def _table(entries: Mapping[str, Any]) -> str:
    lines = (f"{_line(name)}: {_line(value)}" for name, value in entries.items())
    return "{\n " + ",\n ".join(lines) + "\n}"


def _line(value: Any) -> str:
    # NaN is not JSON: other readers would refuse the file.
    return json.dumps(value, separators=(", ", ": "), allow_nan=False)


def _dense(value: Sequence[Any]) -> str:
    """Return a row of a long table: without spaces, which would be a tenth of the file."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
