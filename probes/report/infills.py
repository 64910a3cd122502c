"""The section on infills: what they gave away, which failed, and whose were borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from probes import analysis
from probes.report import cells
from probes.report.failures import SHOWN, short
from probes.report.leaks import PLACE, leaking
from probes.report.parts import DataTable, Paragraph, ReportPart, Section, counted
from probes.report.study import BLOCK, Study, rows


def section(study: Study) -> Section:
    """Return leaks, failed infills and the re-use of donors."""
    written = study.infills
    parts: list[ReportPart] = []
    if written.empty:
        parts.append(Paragraph("No run's folder holds infills."))
    else:
        parts += _leaks(study, written)
        parts += _failed(written)
    parts += _donors(study)
    return Section("infills", "Infills and donors", tuple(parts))


def without_leaks(study: Study, written: pd.DataFrame) -> pd.DataFrame:
    """Return the records of items no infill of which gives the key away, at that frame count."""
    leaked = pd.MultiIndex.from_frame(leaking(written))
    marks = pd.MultiIndex.from_frame(study.frame[list(PLACE)])
    kept = study.frame[~marks.isin(leaked)].reset_index(drop=True)
    kept.attrs = study.frame.attrs
    return kept


def _leaks(study: Study, written: pd.DataFrame) -> Iterator[ReportPart]:
    yield Paragraph(
        "An infill leaks an option where it holds that option's whole text (case, spaces and "
        "punctuation aside). A leaked key can hand an answer over instead of helping to reason."
    )
    asked = written[written["asked"]]
    told, data = [], []
    names = ("pair", "task", "setting", "role", "frames")
    same = {name for name in names[:3] if name not in study.told_apart}
    for values, part in asked.groupby(list(names), sort=False):
        items = part.groupby("item_id").agg(any=("leaks", lambda one: any(map(len, one))),
                                            key=("leaks_key", "any"))  # fmt: skip
        row: dict[str, Any] = dict(zip(names, values, strict=True))
        row |= {
            "infills": len(part), "leaking": int((part["leaks"].map(len) > 0).sum()),
            "empty": int((part["status"] == "empty").sum()),
            "failed": int((part["status"] == "failed").sum()), "items": len(items),
            "items_leaking": int(items["any"].sum()), "items_leaking_key": int(items["key"].sum()),
        }  # fmt: skip
        data.append(row)
        told.append(tuple(str(value) for name, value in row.items() if name not in same))
    yield DataTable(
        "leaks", "Leaks, by who wrote the infills",
        (*(name for name in names[:3] if name not in same), "writer", "frames", "infills",
         "of these leaking an option", "empty", "failed", "items", "with a leak of any option",
         "with a leak of the key"),
        tuple(told), 4 - len(same), pd.DataFrame(data),
    )  # fmt: skip
    if asked["leaks_key"].any():
        yield _robust(study, written)


def _robust(study: Study, written: pd.DataFrame) -> ReportPart:
    kept = without_leaks(study, written)
    if kept.empty:
        return Paragraph("Every item has an infill that leaks the key.", "note")
    names = ("gain", "did")
    rest = analysis.contrasts(kept, names=names, policies=("strict",))
    key = [*BLOCK, "frames", "name", "role", "arm"]
    whole = study.found[study.found["name"].isin(names) & (study.found["policy"] == "strict")]
    pairs = whole[whole["arm"] == "vcot"].merge(rest, on=key, how="left", suffixes=("", "_rest"))
    told = []
    for row in rows(pairs):
        other = {name: row[f"{name}_rest"] for name in ("estimate", "low", "high", "n")}
        told.append(
            (*study.place(row), row["name"], row["role"], str(row["frames"]), str(row["n"]),
             cells.interval(row), cells.whole(other["n"]), cells.interval(other))
        )  # fmt: skip
    if not told:
        return Paragraph(
            "vcot was not run together with its reference arm: leaks change no contrast."
        )
    return DataTable(
        "without-leaks", "Gain from vcot and did, over all items and where infills leak no key",
        (*study.told_apart, "contrast", "role", "frames", "all n", "all [95 %]", "no leak n",
         "no leak [95 %]"),
        tuple(told), len(study.told_apart) + 2, cells.plain(rest),
    )  # fmt: skip


def _failed(written: pd.DataFrame) -> Iterator[ReportPart]:
    failed = written[written["status"] != "ok"]
    if failed.empty:
        return
    empty = int((failed["status"] == "empty").sum())
    yield Paragraph(
        f"{counted(empty, 'infill')} empty, the gap left bare; {len(failed) - empty:,} failed, and "
        "every record that needs one of these is an error."
    )
    columns = ["item_id", "role", "status", "error", "frames", "gap"]
    title = "Empty and failed infills"
    if len(failed) > SHOWN:
        title += f" (the first {SHOWN} of {len(failed):,})"
    yield DataTable(
        "failed-infills", title, tuple(columns),
        tuple(tuple(short(str(row[name])) for name in columns) for row in rows(failed.head(SHOWN))),
        4, failed[columns], folded=True,
    )  # fmt: skip


def _donors(study: Study) -> Iterator[ReportPart]:
    lent = study.frame[study.frame["donor_id"].notna() & (study.frame["donor_id"] != "")]
    if lent.empty:
        yield Paragraph("No arm borrowed frames or infills.")
        return
    pairs = lent.drop_duplicates([*BLOCK, "arm", "item_id", "donor_id"])
    data = []
    for values, part in pairs.groupby([*BLOCK, "arm"], sort=False):
        uses = part["donor_id"].value_counts()
        head = dict(zip((*BLOCK, "arm"), values, strict=True))
        data.append(
            {**head, "items": part["item_id"].nunique(), "donors": len(uses),
             "most": int(uses.max()), "mean": float(uses.mean())}
        )  # fmt: skip
    yield DataTable(
        "donors", "Donors: how often one item lent to others",
        (*study.told_apart, "arm", "items", "donors", "most uses of one", "mean uses"),
        tuple(
            (*study.place(row), str(row["arm"]), str(row["items"]), str(row["donors"]),
             str(row["most"]), f"{row['mean']:.2f}")
            for row in data
        ),
        len(study.told_apart) + 1, pd.DataFrame(data),
    )  # fmt: skip
