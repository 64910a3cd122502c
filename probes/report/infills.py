"""The section on infills: which contain an option's text, which failed, and which were borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis import formats
from probes.analysis.columns import BLOCK, CONTRAST, groups, where
from probes.core.tables import Table
from probes.report import fillers
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
        parts += fillers.section_parts(study)
    parts += _donors(study)
    return Section("infills", "Infills and donors", tuple(parts))


def without_leaked_answers(
    study: Study, infills: pd.DataFrame, *, by_stem: bool = False
) -> pd.DataFrame:
    """Return the records whose clip has no infill that contains the right answer's text.

    Args:
        study: all runs.
        infills: of them.
        by_stem: leave out too what holds a form of a word that only the right answer has.
    """
    # By clip, since every frame count has infills of its own.
    leaked = pd.MultiIndex.from_frame(clips_with_leaked_answer(infills, by_stem=by_stem))
    clips = pd.MultiIndex.from_frame(study.frame[list(CLIP)])
    kept = study.frame[~clips.isin(leaked)].reset_index(drop=True)
    # References are in attrs; without them arms would have the default ones.
    kept.attrs = study.frame.attrs
    return kept


def _leaks(study: Study, infills: pd.DataFrame) -> Iterator[ReportPart]:
    yield Paragraph(
        "An infill leaks an option where it contains that option's whole text (case, spaces and "
        "punctuation aside), and by a stem where it holds a form of a word that only that option "
        "has (took for take). An infill that leaks the right answer can give it away instead of "
        "helping to reason. Stems are shared by chance too: what tells is how much more often they "
        "are the right answer's than a wrong option's."
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
    if asked["leaks_answer"].any() or asked["stems_answer"].any():
        yield _without_leaks(study, infills)


_LEAK_COLUMNS = {
    "infills": "infills",
    "leaking": "of these leaking an option",
    "empty": "empty",
    "failed": "failed",
    "items": "items",
    "items_leaking": "with a leak of any option",
    "items_leaking_key": "with a leak of the right answer",
    "items_stem_key": "with a stem of the right answer",
    "items_stem_wrong": "with a stem of a wrong option (mean)",
}
"""Columns of leaks.csv, whose names are read by others and stay as they are, and their headings."""


def _leak_counts(infills: pd.DataFrame) -> dict[str, int | float]:
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
        "items_stem_key": int(items["stems_answer"].any().sum()),
        "items_stem_wrong": round(sum(_wrong_stems(part) for _, part in items), 1),
    }


def _wrong_stems(infills: pd.DataFrame) -> float:
    """Return the share of an item's wrong options that its infills leak by a stem."""
    answer, options = infills["answer"].iloc[0], int(infills["options"].iloc[0])
    if pd.isna(answer) or options < 2:
        return 0.0
    found = {index for some in infills["stems"] for index in some}
    return len(found - {int(answer)}) / (options - 1)


def _without_leaks(study: Study, infills: pd.DataFrame) -> ReportPart:
    names = ("gain", "did")
    kept = {
        "leak": without_leaked_answers(study, infills),
        "stem": without_leaked_answers(study, infills, by_stem=True),
    }
    if kept["leak"].empty:
        return Paragraph("Every item has an infill that leaks the right answer.", "note")
    rests = {
        name: analysis.contrasts(part, names=names, policies=("strict",))
        for name, part in kept.items()
        if len(part)
    }
    whole = where(study.contrasts, policy="strict", arm="vcot")
    whole = whole[whole["name"].isin(names)]
    if whole.empty:
        return Paragraph(
            "vcot was not run together with its reference arm: leaks change no contrast."
        )
    # Left: a contrast whose items all leak keeps its row.
    pairs = whole
    for name, rest in rests.items():
        pairs = pairs.merge(rest, on=list(CONTRAST), how="left", suffixes=("", f"_{name}"))
    columns: dict[str, ShownColumn] = {
        "contrast": lambda row: formats.contrast_name(row["name"]),
        **plain("role frames"),
        "all n": "n",
        "all [95 %]": formats.interval,
        **_rest("leak", "no leak"),
        **(_rest("stem", "no stem") if "stem" in rests else {}),
    }
    title = "Gain from vcot and DiD, over all items and without those whose right answer leaks"
    data = pd.concat([rest.assign(without=name) for name, rest in rests.items()])
    table = Table(title, name="without-leaks", data=formats.for_csv(data))
    return study.table(table, pairs, columns)


def _rest(name: str, heading: str) -> dict[str, ShownColumn]:
    """Return the columns of what is left without some items."""
    return {
        f"{heading} n": lambda row: formats.count(row[f"n_{name}"]),
        f"{heading} [95 %]": lambda row: formats.bracketed(
            *(row[f"{value}_{name}"] for value in ("estimate", "low", "high"))
        ),
    }


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
