"""The section on infills: which contain an option's text, which failed, and which were borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis import formats
from probes.analysis.columns import BLOCK, CONTRAST, groups, where
from probes.core.tables import Table
from probes.report.failures import cut_list
from probes.report.leaks import CLIP, clips_with_leaked_answer
from probes.report.parts import Paragraph, ReportPart, Section, counted
from probes.report.study import ShownColumn, Study, plain


def section(study: Study) -> Section:
    """Return leaks, failed infills and the re-use of donors."""
    infills = study.infills
    parts: list[ReportPart] = []
    if infills.empty:
        # Every run writes the file; where there is none it is an older one, or was taken away.
        there = [folder for folder in study.folders if (folder / "infills.parquet").is_file()]
        text = "No arm showed infills." if there else "No run's folder holds infills."
        parts.append(Paragraph(text))
    else:
        parts += _leaks(study, infills)
        parts += _failed(study, infills)
    parts += _donors(study)
    return Section("infills", "Infills and donors", tuple(parts))


def without_leaked_answers(study: Study, infills: pd.DataFrame) -> pd.DataFrame:
    """Return the records whose clip has no infill that contains the right answer's text."""
    # By clip, since every frame count has infills of its own.
    leaked = pd.MultiIndex.from_frame(clips_with_leaked_answer(infills))
    clips = pd.MultiIndex.from_frame(study.frame[list(CLIP)])
    kept = study.frame[~clips.isin(leaked)].reset_index(drop=True)
    # References are in attrs; without them arms would have the default ones.
    kept.attrs = study.frame.attrs
    return kept


def _leaks(study: Study, infills: pd.DataFrame) -> Iterator[ReportPart]:
    yield Paragraph(
        "An infill leaks an option where it contains that option's whole text (case, spaces and "
        "punctuation aside). An infill that leaks the right answer can give it away instead of "
        "helping to reason."
    )
    # Items that only lent were not answered: leaks there give nothing away.
    asked = infills[infills["asked"]]
    names = ("pair", "task", "setting", "role", "frames")
    data = [{**head, **_leak_counts(part)} for head, part in groups(asked, names)]
    differing = [name for name in names if name in study.differing]
    columns = (*differing, "role", "frames", *_LEAK_COLUMNS)
    yield Table(
        "Leaks, by who wrote the infills",
        header=(*differing, "writer", "frames", *_LEAK_COLUMNS.values()),
        rows=tuple(tuple(str(row[name]) for name in columns) for row in data),
        words=len(differing) + 1,
        name="leaks",
        data=pd.DataFrame(data),
    )
    if asked["leaks_answer"].any():
        yield _without_leaks(study, infills)


_LEAK_COLUMNS = {
    "infills": "infills",
    "leaking": "of these leaking an option",
    "empty": "empty",
    "failed": "failed",
    "items": "items",
    "items_leaking": "with a leak of any option",
    "items_leaking_key": "with a leak of the right answer",
}
"""Columns of leaks.csv, whose names are read by others and stay as they are, and their headings."""


def _leak_counts(infills: pd.DataFrame) -> dict[str, int]:
    """Return one row of leaks.csv, by `_LEAK_COLUMNS`."""
    any_leak = infills["leaks"].map(len) > 0
    items = infills.assign(any_leak=any_leak).groupby("item_id")
    return {
        "infills": len(infills),
        "leaking": int(any_leak.sum()),
        "empty": int((infills["status"] == "empty").sum()),
        "failed": int((infills["status"] == "failed").sum()),
        "items": items.ngroups,
        "items_leaking": int(items["any_leak"].any().sum()),
        "items_leaking_key": int(items["leaks_answer"].any().sum()),
    }


def _without_leaks(study: Study, infills: pd.DataFrame) -> ReportPart:
    kept = without_leaked_answers(study, infills)
    if kept.empty:
        return Paragraph("Every item has an infill that leaks the right answer.", "note")
    names = ("gain", "did")
    rest = analysis.contrasts(kept, names=names, policies=("strict",))
    whole = where(study.contrasts, policy="strict", arm="vcot")
    whole = whole[whole["name"].isin(names)]
    if whole.empty:
        return Paragraph(
            "vcot was not run together with its reference arm: leaks change no contrast."
        )
    # Left: a contrast whose items all leak keeps its row.
    pairs = whole.merge(rest, on=list(CONTRAST), how="left", suffixes=("", "_rest"))
    columns: dict[str, ShownColumn] = {
        "contrast": "name",
        **plain("role frames"),
        "all n": "n",
        "all [95 %]": formats.interval,
        "no leak n": lambda row: formats.count(row["n_rest"]),
        "no leak [95 %]": lambda row: formats.bracketed(
            row["estimate_rest"], row["low_rest"], row["high_rest"]
        ),
    }
    title = "Gain from vcot and DiD, over all items and without those whose right answer leaks"
    table = Table(title, name="without-leaks", data=formats.for_csv(rest))
    return study.table(table, pairs, columns)


def _failed(study: Study, infills: pd.DataFrame) -> Iterator[ReportPart]:
    failed = infills[infills["status"] != "ok"]
    if failed.empty:
        return
    empty = int((failed["status"] == "empty").sum())
    yield Paragraph(
        f"{counted(empty, 'infill')} empty, the gap left bare; {len(failed) - empty:,} failed, and "
        "every record that needs one of these is an error."
    )
    failed = failed.rename(columns={"status": "state"})  # the name in the CSV file
    # An id alone would name an item of each task, and a clip of each run.
    differing = [name for name in ("pair", "task", "setting") if name in study.differing]
    failed = failed[["item_id", "role", *differing, "state", "error", "frames", "gap"]]
    title, words = "Empty and failed infills", 4 + len(differing)
    yield cut_list(Table(title, words=words, name="failed-infills", data=failed, folded=True))


def _donors(study: Study) -> Iterator[ReportPart]:
    borrowing = study.frame[study.frame["donor_id"].notna() & (study.frame["donor_id"] != "")]
    if borrowing.empty:
        yield Paragraph("No arm borrowed frames or infills.")
        return
    # All members and frame counts borrow from the same donor: one use, not several.
    pairs = borrowing.drop_duplicates([*BLOCK, "arm", "item_id", "donor_id", "donor_task"])
    data: list[dict[str, Any]] = []
    for head, part in groups(pairs, (*BLOCK, "arm")):
        # A donor of another task may have the id of one of the block's own.
        uses = part[["donor_task", "donor_id"]].value_counts(dropna=False)
        counts = {"items": part["item_id"].nunique(), "donors": len(uses)}
        data.append({**head, **counts, "most": int(uses.max()), "mean": float(uses.mean())})
    columns: dict[str, ShownColumn] = {
        **plain("arm items donors"),
        "most uses of one": "most",
        "mean uses": lambda row: formats.number(row["mean"], 2),
    }
    title = "Donors: how often one item lent to others"
    table = Table(title, words=1, name="donors", data=pd.DataFrame(data))
    yield study.table(table, data, columns)
