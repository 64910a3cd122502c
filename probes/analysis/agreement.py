"""What has to be the same in all runs of one setting: data, frames, weights and infills."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from probes.analysis.settings import LoadedRun, rows
from probes.core.errors import ProbesError

_INFILL = ("role", "frames", "item_id", "gap", "text", "ok")


def check(
    runs: Sequence[LoadedRun], labels: Sequence[str], kinds: Sequence[tuple[str, ...]]
) -> None:
    """Raise ProbesError where runs that would be compared do not agree, naming what differs.

    Args:
        runs: the runs.
        labels: for each run, its setting.
        kinds: for each run, its pair, task and scoring.
    """
    if len(runs) < 2:
        return
    seen: dict[Hashable, tuple[Any, Path]] = {}
    for run, label, kind in zip(runs, labels, kinds, strict=True):
        for name, value, what in _facts(run, label, kind):
            first, folder = seen.setdefault(name, (value, run.folder))
            if first != value:
                raise ProbesError(
                    f"{what} in two runs",
                    f"{folder} and {run.folder}",
                    "load runs over the same data and models, or run one of them again",
                )


def _facts(
    run: LoadedRun, label: str, kind: tuple[str, ...]
) -> Iterator[tuple[tuple[Hashable, ...], Any, str]]:
    """Yield the facts of a run: a name, the value, and the message where two values differ."""
    for (task, item), facts in run.items.items():
        shown = {name: facts[name] for name in ("question", "options", "answer", "media")}
        shown |= {f"{count} frames": hashes for count, hashes in facts["frames"].items()}
        for name, value in shown.items():
            if value is not None:
                what = f"item {item} of task {task} is not the same ({name} differs)"
                yield ("item", label, task, item, name), value, what
    for name, fingerprint in run.models.items():
        what = f"the model {name} is not the same (weights, tokenizer or adapter differ)"
        yield ("model", label, name), fingerprint, what
    for row in rows(run.folder / "infills.parquet", _INFILL):
        if not row["ok"]:  # a repeated run may write it
            continue
        item, frames, gap = row["item_id"], row["frames"], row["gap"]
        what = f"the infill of item {item}, {frames} frames, gap {gap}, is not the same"
        yield ("infill", label, *kind, row["role"], frames, item, gap), row["text"], what
