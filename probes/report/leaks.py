"""Infills of runs, and which of them give an answer away."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from probes.records import schema
from probes.records.schema import InfillRow

COLUMNS = ("role", "frames", "item_id", "gap", "text", "status", "error", "leaks")
_RUN = ("pair", "task", "setting")
PLACE = (*_RUN, "frames", "item_id")
"""What tells one clip's infills from another's."""


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every infill of the runs of a frame once.

    Args:
        frame: as returned by `analysis.load`.

    Returns:
        Columns of `COLUMNS`; pair, task and setting of the run's records; `asked` (False for items
        that only lent), their `answer`, `leaks_key`. Gaps in which no text ever stands have no row,
        nor has a run without infills.

    Raises:
        ProbesError: a file that is there but cannot be read.
    """
    tables = []
    for _, run in frame[["run", *_RUN]].drop_duplicates("run").iterrows():
        table = _read(Path(run["run"]) / "infills.parquet")
        if len(table):
            tables.append(table.assign(**{name: run[name] for name in _RUN}))
    if not tables:
        return pd.DataFrame(columns=[*COLUMNS, *_RUN, "answer", "asked", "leaks_key"])
    whole = pd.concat(tables, ignore_index=True)
    whole = whole.drop_duplicates([*PLACE, "role", "gap"], ignore_index=True)
    whole = whole[whole["status"] != "not_applicable"]
    keys = frame[["task", "item_id", "answer"]].drop_duplicates(["task", "item_id"])
    whole = whole.merge(keys.assign(asked=True), on=["task", "item_id"], how="left")
    whole["asked"] = whole["asked"].notna()
    whole["leaks_key"] = [
        bool(pd.notna(answer) and answer in leaks)
        for answer, leaks in zip(whole["answer"], whole["leaks"], strict=True)
    ]
    return whole


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    frame: pd.DataFrame = schema.read(file, InfillRow, COLUMNS).to_pandas()
    lists = [list(one) if one is not None else [] for one in frame["leaks"]]
    return frame.assign(leaks=pd.Series(lists, index=frame.index, dtype=object))


def leaking(written: pd.DataFrame) -> pd.DataFrame:
    """Return the places in which an infill gives the key away."""
    return written.loc[written["leaks_key"], list(PLACE)].drop_duplicates()
