"""The section on infills: which contain an option's text, which failed, and which were borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis.cells import BLOCK
from probes.report import formats
from probes.report.failures import SHOWN, short
from probes.report.leaks import CLIP, clips_with_leaked_answer
from probes.report.parts import DataTable, Paragraph, ReportPart, Section, counted
from probes.report.study import Study, rows


def section(study: Study) -> Section:
    """Return leaks, failed infills and the re-use of donors."""
    infills = study.infills
    parts: list[ReportPart] = []
    if infills.empty:
        parts.append(Paragraph("No run's folder holds infills."))
    else:
        parts += _leaks(study, infills)
        parts += _failed(infills)
    parts += _donors(study)
    return Section("infills", "Infills and donors", tuple(parts))


def without_leaked_answers(study: Study, infills: pd.DataFrame) -> pd.DataFrame:
    """Return the records whose clip has no infill that contains the right answer's text."""
    leaked = pd.MultiIndex.from_frame(clips_with_leaked_answer(infills))
    clips = pd.MultiIndex.from_frame(study.frame[list(CLIP)])
    kept = study.frame[~clips.isin(leaked)].reset_index(drop=True)
    kept.attrs = study.frame.attrs
    return kept


def _leaks(study: Study, infills: pd.DataFrame) -> Iterator[ReportPart]:
    yield Paragraph(
        "An infill leaks an option where it contains that option's whole text (case, spaces and "
        "punctuation aside). An infill that leaks the right answer can give it away instead of "
        "helping to reason."
    )
    asked = infills[infills["asked"]]
    names = ("pair", "task", "setting", "role", "frames")
    equal = {name for name in names[:3] if name not in study.differing}
    shown, data = [], []
    for values, part in asked.groupby(list(names), sort=False):
        row = {**dict(zip(names, values, strict=True)), **_leak_counts(part)}
        data.append(row)
        shown.append(tuple(str(value) for name, value in row.items() if name not in equal))
    yield DataTable(
        name="leaks",
        title="Leaks, by who wrote the infills",
        header=(
            *(name for name in names[:3] if name not in equal),
            "writer",
            "frames",
            "infills",
            "of these leaking an option",
            "empty",
            "failed",
            "items",
            "with a leak of any option",
            "with a leak of the right answer",
        ),
        rows=tuple(shown),
        words=4 - len(equal),
        data=pd.DataFrame(data),
    )
    if asked["leaks_answer"].any():
        yield _without_leaks(study, infills)


def _leak_counts(infills: pd.DataFrame) -> dict[str, int]:
    """Return one row of leaks.csv; its column names are read by others and stay as they are."""
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
    contrasts = study.contrasts
    whole = contrasts[contrasts["name"].isin(names) & (contrasts["policy"] == "strict")]
    identity = [*BLOCK, "frames", "name", "role", "arm"]
    pairs = whole[whole["arm"] == "vcot"].merge(
        rest, on=identity, how="left", suffixes=("", "_rest")
    )
    shown = []
    for row in rows(pairs):
        other = {name: row[f"{name}_rest"] for name in ("estimate", "low", "high", "n")}
        shown.append(
            (
                *study.settings(row),
                row["name"],
                row["role"],
                str(row["frames"]),
                str(row["n"]),
                formats.interval(row),
                formats.count(other["n"]),
                formats.interval(other),
            )
        )
    if not shown:
        return Paragraph(
            "vcot was not run together with its reference arm: leaks change no contrast."
        )
    return DataTable(
        name="without-leaks",
        title="Gain from vcot and DiD, over all items and without those whose right answer leaks",
        header=(
            *study.differing,
            "contrast",
            "role",
            "frames",
            "all n",
            "all [95 %]",
            "no leak n",
            "no leak [95 %]",
        ),
        rows=tuple(shown),
        words=len(study.differing) + 2,
        data=formats.for_csv(rest),
    )


def _failed(infills: pd.DataFrame) -> Iterator[ReportPart]:
    failed = infills[infills["status"] != "ok"]
    if failed.empty:
        return
    empty = int((failed["status"] == "empty").sum())
    yield Paragraph(
        f"{counted(empty, 'infill')} empty, the gap left bare; {len(failed) - empty:,} failed, and "
        "every record that needs one of these is an error."
    )
    failed = failed.rename(columns={"status": "state"})  # the name in the CSV file
    columns = ["item_id", "role", "state", "error", "frames", "gap"]
    title = "Empty and failed infills"
    if len(failed) > SHOWN:
        title += f" (the first {SHOWN} of {len(failed):,})"
    yield DataTable(
        name="failed-infills",
        title=title,
        header=tuple(columns),
        rows=tuple(
            tuple(short(str(row[name])) for name in columns) for row in rows(failed.head(SHOWN))
        ),
        words=4,
        data=failed[columns],
        folded=True,
    )


def _donors(study: Study) -> Iterator[ReportPart]:
    borrowing = study.frame[study.frame["donor_id"].notna() & (study.frame["donor_id"] != "")]
    if borrowing.empty:
        yield Paragraph("No arm borrowed frames or infills.")
        return
    pairs = borrowing.drop_duplicates([*BLOCK, "arm", "item_id", "donor_id"])
    data: list[dict[str, Any]] = []
    for values, part in pairs.groupby([*BLOCK, "arm"], sort=False):
        uses = part["donor_id"].value_counts()
        data.append(
            {
                **dict(zip((*BLOCK, "arm"), values, strict=True)),
                "items": part["item_id"].nunique(),
                "donors": len(uses),
                "most": int(uses.max()),
                "mean": float(uses.mean()),
            }
        )
    yield DataTable(
        name="donors",
        title="Donors: how often one item lent to others",
        header=(*study.differing, "arm", "items", "donors", "most uses of one", "mean uses"),
        rows=tuple(
            (
                *study.settings(row),
                str(row["arm"]),
                str(row["items"]),
                str(row["donors"]),
                str(row["most"]),
                f"{row['mean']:.2f}",
            )
            for row in data
        ),
        words=len(study.differing) + 1,
        data=pd.DataFrame(data),
    )
