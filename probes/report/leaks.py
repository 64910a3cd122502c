"""Infills of runs, and which of them contain an option's text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from probes.records import infills as records

COLUMNS = ("task", "role", "frames", "item_id", "gap", "text", "status", "error", "leaks")
_RUN = ("pair", "setting")
CLIP = ("pair", "task", "setting", "frames", "item_id")
"""Columns that identify the clip an infill belongs to."""


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every infill of the runs of a frame once.

    Args:
        frame: as returned by `analysis.load`.

    Returns:
        Columns of `COLUMNS`; pair and setting of the run's records; `asked` (False for items
        that only lent), their `answer`, `leaks_answer`. Rows of gaps that never hold a text are
        left out. No rows where no run has any.

    Raises:
        ProbesError: a file that is there but cannot be read.
    """
    tables = []
    for _, run in frame[["run", *_RUN]].drop_duplicates("run").iterrows():
        if len(table := _read(Path(run["run"]))):
            tables.append(table.assign(**{name: run[name] for name in _RUN}))
    if not tables:
        return pd.DataFrame(columns=[*COLUMNS, *_RUN, "answer", "asked", "leaks_answer"])
    infills = pd.concat(tables, ignore_index=True)
    infills = infills.drop_duplicates([*CLIP, "role", "gap"], ignore_index=True)
    infills = infills[infills["status"] != "not_applicable"]
    answers = frame[["task", "item_id", "answer"]].drop_duplicates(["task", "item_id"])
    infills = infills.merge(answers.assign(asked=True), on=["task", "item_id"], how="left")
    infills["asked"] = infills["asked"].notna()
    infills["leaks_answer"] = [
        bool(pd.notna(answer) and answer in leaks)
        for answer, leaks in zip(infills["answer"], infills["leaks"], strict=True)
    ]
    return infills


def _read(folder: Path) -> pd.DataFrame:
    frame: pd.DataFrame = records.read(folder, COLUMNS).to_pandas()
    lists = [list(one) if one is not None else [] for one in frame["leaks"]]
    return frame.assign(leaks=pd.Series(lists, index=frame.index, dtype=object))


def clips_with_leaked_answer(infills: pd.DataFrame) -> pd.DataFrame:
    """Return the clips (columns `CLIP`) with an infill that contains the right answer's text."""
    return infills.loc[infills["leaks_answer"], list(CLIP)].drop_duplicates()
