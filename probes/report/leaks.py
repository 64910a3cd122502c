"""Infills of runs, and which of them contain an option's text, or a form of a word of it alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from probes.records import infills as records
from probes.records import schema
from probes.records.schema import ItemRow
from probes.stimuli.stems import leaks_by_stem

COLUMNS = ("task", "role", "frames", "item_id", "gap", "draw", "text", "status", "error", "leaks")
_RUN = ("pair", "setting")
CLIP = ("pair", "task", "setting", "frames", "item_id")
"""Columns that identify the clip an infill belongs to."""


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every infill of the runs of a frame once.

    Args:
        frame: as returned by `analysis.load`.

    Returns:
        Columns of `COLUMNS`; pair and setting of the run's records; `asked` (False for items
        that only lent), their `answer`, `leaks_answer`; `stems`, the options that have a word of
        their own of which the text holds a form (`stimuli.stems`), of `options` many, and
        `stems_answer`. Rows of gaps that never hold a text are
        left out. No rows where no run has any.

    Raises:
        ProbesError: a file that is there but cannot be read.
    """
    tables = []
    for _, run in frame[["run", *_RUN]].drop_duplicates("run").iterrows():
        if len(table := _read(Path(run["run"]))):
            tables.append(table.assign(**{name: run[name] for name in _RUN}))
    if not tables:
        more = ("answer", "asked", "leaks_answer", "stems", "options", "stems_answer")
        return pd.DataFrame(columns=[*COLUMNS, *_RUN, *more])
    infills = pd.concat(tables, ignore_index=True)
    infills = infills.drop_duplicates([*CLIP, "role", "gap", "draw"], ignore_index=True)
    infills = infills[infills["status"] != "not_applicable"]
    answers = frame[["task", "item_id", "answer"]].drop_duplicates(["task", "item_id"])
    infills = infills.merge(answers.assign(asked=True), on=["task", "item_id"], how="left")
    infills["asked"] = infills["asked"].notna()
    for name, found in (("leaks_answer", "leaks"), ("stems_answer", "stems")):
        infills[name] = [
            bool(pd.notna(answer) and answer in some)
            for answer, some in zip(infills["answer"], infills[found], strict=True)
        ]
    return infills


def _read(folder: Path) -> pd.DataFrame:
    frame: pd.DataFrame = records.read(folder, COLUMNS).to_pandas()
    lists = [list(one) if one is not None else [] for one in frame["leaks"]]
    options = _options(folder) if len(frame) else {}
    own = [options.get(key, ()) for key in zip(frame["task"], frame["item_id"], strict=True)]
    stems = [leaks_by_stem([text], some) for text, some in zip(frame["text"], own, strict=True)]
    return frame.assign(
        leaks=pd.Series(lists, index=frame.index, dtype=object),
        stems=pd.Series(stems, index=frame.index, dtype=object),
        options=[len(some) for some in own],
    )


def _options(folder: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the texts of the options of a run's items by (task, id); none of those of pictures."""
    return {
        (row.task, row.id): row.options
        for row in schema.read_rows(folder / "items.parquet", ItemRow)
        if not row.option_hashes
    }


def clips_with_leaked_answer(infills: pd.DataFrame, *, by_stem: bool = False) -> pd.DataFrame:
    """Return the clips (columns `CLIP`) with an infill that contains the right answer's text.

    Args:
        infills: as `read` returns them.
        by_stem: also those that hold a form of a word that only the right answer has.
    """
    leaking = infills["leaks_answer"].astype(bool)
    if by_stem:
        leaking |= infills["stems_answer"].astype(bool)
    return infills.loc[leaking, list(CLIP)].drop_duplicates()
