"""What has to be the same in all runs of one setting: data, frames, weights and infills."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from probes.analysis.settings import LoadedRun, RunKind
from probes.core.errors import ProbesError
from probes.records import infills


def check(runs: Sequence[LoadedRun], labels: Sequence[str], kinds: Sequence[RunKind]) -> None:
    """Raise ProbesError where runs that would be compared do not agree, naming what differs.

    Args:
        runs: the runs.
        labels: for each run, its setting.
        kinds: for each run, its pairs, tasks and scorings.
    """
    if len(runs) < 2:
        return
    seen: dict[Hashable, tuple[Any, Path]] = {}
    for run, label, kind in zip(runs, labels, kinds, strict=True):
        for name, value, what in _facts(run, label, kind):
            # The first run that states a fact sets it, and is named in the message.
            first, folder = seen.setdefault(name, (value, run.folder))
            if first != value:
                raise ProbesError(
                    f"{what} in two runs",
                    f"{folder} and {run.folder}",
                    "load runs over the same data and models, or run one of them again",
                )


def _facts(
    run: LoadedRun, label: str, kind: RunKind
) -> Iterator[tuple[tuple[Hashable, ...], Any, str]]:
    """Yield the facts of a run: a name, the value, and the message where two values differ."""
    for (task, item), row in run.items.items():
        shown = {"question": row.question, "options": row.options, "answer": row.answer}
        shown |= {"media": row.media_sha256}
        shown |= {f"{count} frames": hashes for count, hashes in row.frame_hashes.items()}
        for name, value in shown.items():
            # What is not stated (withheld, or not kept) contradicts nothing.
            if value is not None:
                what = f"item {item} of task {task} is not the same ({name} differs)"
                yield ("item", label, task, item, name), value, what
    for name, fingerprint in run.models.items():
        what = f"the model {name} is not the same (weights, tokenizer or adapter differ)"
        yield ("model", label, name), fingerprint, what
    for infill in infills.read_rows(run.folder):
        if not infill.ok:  # a repeated run may write it
            continue
        place = (infill.item_id, infill.task, infill.frames, infill.gap, infill.draw)
        what = (
            "the infill of item {} of task {}, {} frames, gap {}, draw {}, is not the same".format(
                *place
            )
        )
        # A run of several tasks has the infills of each, whatever others it has them with.
        of = (label, kind.pairs, kind.scorings)
        yield ("infill", *of, infill.role, *place), infill.text, what
