"""A baseline: a snapshot, the guarded metrics and their bands; kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

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
MetricFamily = Literal["primary", "headline", "other"]
"""Metrics that share a part of the error rate; the first are told first."""
FAMILIES: tuple[MetricFamily, ...] = get_args(MetricFamily)
STUDIED_ARM = "vcot"
"""The arm of the study's question, where a run does not declare one."""
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

    def weights(self, references: Mapping[str, str]) -> dict[CellName, float]:
        """Return the cells that the metric is computed from, each with its weight, 1 or -1.

        Args:
            references: reference arm by arm.
        """
        own = self.cell
        roles, arms = {own.role: 1.0}, {own.arm: 1.0}
        if self.name == "transfer":
            roles["image"] = -1.0
        elif self.name == "did":
            # Image minus other, while transfer is other minus image.
            roles = {"image": 1.0, own.role: -1.0}
        if self.name not in ("accuracy", "mean", "transfer"):
            arms[references.get(own.arm, "baseline")] = -1.0
        return {
            own._replace(role=role, arm=arm): of_role * of_arm
            for role, of_role in roles.items()
            for arm, of_arm in arms.items()
        }

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
    families: Mapping[Metric, MetricFamily]
    """By metric of `bands`; one that is not in here is `other`."""
    tie_tolerance: float = TIE_TOLERANCE
    """Nats; two options nearer than this in both runs may change places."""

    def family(self, metric: Metric) -> MetricFamily:
        """Return the family of a guarded metric."""
        return self.families.get(metric, "other")

    def by_family(self) -> dict[MetricFamily, list[Metric]]:
        """Return the guarded metrics by family, in the order of the file; none is empty."""
        found = {name: [m for m in self.bands if self.family(m) == name] for name in FAMILIES}
        return {name: metrics for name, metrics in found.items() if metrics}


def usual_families(
    metrics: Iterable[Metric], references: Mapping[str, str], primary: Sequence[str] = ()
) -> dict[Metric, MetricFamily]:
    """Return the families of metrics of which a file marks none.

    Primary is what the run declared; where it declared nothing, the DiD of vcot, and in runs
    without vcot every DiD. Of the headline are the other gains and DiDs of the same arms, and the
    accuracies of arms without a reference.

    Args:
        metrics: what is guarded.
        references: reference arm by arm.
        primary: contrast and arm, e.g. `did vcot`; each at every number of frames.
    """
    known = [metric for metric in metrics if metric.measure == "accuracy"]
    declared = [metric for metric in known if f"{metric.name} {metric.cell.arm}" in primary]
    studied = {metric.cell.arm for metric in declared} or {STUDIED_ARM}
    compared = [metric for metric in known if metric.name in ("gain", "did")]
    chosen = [metric for metric in compared if metric.cell.arm in studied]
    if not chosen and not declared:
        chosen = compared
    first = [m for m in known if m.name == "accuracy" and not references.get(m.cell.arm)]
    found: dict[Metric, MetricFamily] = dict.fromkeys([*first, *chosen], "headline")
    main = declared or [metric for metric in chosen if metric.name == "did"]
    return found | dict.fromkeys(main, "primary")


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline as a whole: one line per metric, item and answer, in a fixed order."""
    atomic_write(path, to_json(baseline).encode())


def to_json(baseline: Baseline) -> str:
    """Return a baseline's file: metrics and bands first, because they are meant to be edited."""
    snapshot = baseline.snapshot
    metrics = [
        {
            "name": metric.name,
            **_measure(metric),
            **metric.cell._asdict(),
            "band": band,
            **({"family": family} if (family := baseline.family(metric)) != "other" else {}),
        }
        for metric, band in sorted(baseline.bands.items(), key=lambda one: _order(baseline, one[0]))
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


def _order(baseline: Baseline, metric: Metric) -> tuple[int, str, int, CellName]:
    names = NAMES if metric.measure == "accuracy" else OTHER_NAMES
    family = FAMILIES.index(baseline.family(metric))
    return family, metric.measure, names.index(metric.name), metric.cell


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
