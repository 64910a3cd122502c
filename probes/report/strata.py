"""The sections on strata, and on the effects that this many items can find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from probes import analysis, stats
from probes.analysis import formats
from probes.analysis.columns import heading, in_order, rows_of, where
from probes.core.tables import Table
from probes.report import figures
from probes.report.parts import FigurePart, Paragraph, ReportPart, Section
from probes.report.results import P_COLUMNS
from probes.report.study import ShownColumn, Study, plain

_STRATA = 40
"""Most strata that are drawn; a figure with more cannot be read."""


def iraven(study: Study) -> Section | None:
    """Return i-RAVEN's accuracies per configuration; None where it was not asked."""
    frame = where(study.frame, task="iraven")
    if frame.empty:
        return None
    parts: list[ReportPart] = []
    for block, suffix in study.each_block():
        records = where(frame, block)
        no_strata = not (records["stratum"] != "").any()
        if records.empty or records["correct"].isna().all() or no_strata:
            continue
        title = f"Accuracy per configuration: {heading(block)}"
        figure = figures.configurations_figure(records)
        parts.append(FigurePart(f"iraven{suffix}", title, figure))
        parts.append(_configurations(study, block, records, f"iraven{suffix}"))
    if not parts:
        parts.append(Paragraph("No problem has a public answer and a configuration."))
    return Section("iraven", "i-RAVEN per configuration", tuple(parts))


_PLACE = ("frames", "arm", "stratum")


def _configurations(
    study: Study, block: Mapping[str, Any], records: pd.DataFrame, name: str
) -> Table:
    each = where(study.accuracies, block)
    # Every configuration counts the same in the mean, whatever its number of problems.
    mean = analysis.accuracies(records, stratify=True)
    found = pd.concat([mean, each[each["stratum"] != ""]], ignore_index=True)
    transfer = where(study.contrasts_by_stratum, block, name="transfer")
    mean_transfer = analysis.contrasts(
        records, names=("transfer",), policies=("strict",), stratify="strata"
    )
    roles = in_order(found["role"])
    others = [role for role in roles if role != "image"] if "image" in roles else []

    def by_place(rows: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
        return {(*(row[of] for of in _PLACE), row["role"]): row for row in rows_of(rows)}

    accuracies = by_place(found)
    # The mean over configurations comes last: it takes the place of transfer over all problems.
    transfers = by_place(pd.concat([transfer, mean_transfer]))
    shown = []
    for frames, arm, stratum in dict.fromkeys(tuple(r[n] for n in _PLACE) for r in rows_of(each)):
        places = [(frames, arm, stratum, role) for role in roles]
        differences = [(frames, arm, stratum, role) for role in others]
        texts = (
            *(formats.accuracy(accuracies[at]) if at in accuracies else "-" for at in places),
            *(formats.interval(transfers[at]) if at in transfers else "-" for at in differences),
        )
        shown.append((str(arm), stratum or "all", str(frames), *texts))
    return Table(
        "Accuracy per configuration, and transfer (all: mean over configurations)",
        header=(
            *("arm", "configuration", "frames"),
            *(f"{role} [95 %]" for role in roles),
            *(f"{role} - image [95 %]" for role in others),
        ),
        rows=tuple(shown),
        name=name,
        data=formats.for_csv(
            pd.concat([found.assign(name="accuracy"), transfer, mean_transfer], ignore_index=True)
        ),
    )


def strata(study: Study) -> Section:
    """Return gains from vcot, and their DiD, in every stratum."""
    contrasts = where(study.contrasts_by_stratum, arm="vcot")
    shown = contrasts[contrasts["name"].isin(["gain", "did"])]
    if not set(shown["stratum"]) - {""}:
        why = (
            "no item has a stratum"
            if (study.frame["stratum"] == "").all()
            else "vcot was not run together with its reference arm"
        )
        return Section("strata", "Strata", (Paragraph(f"There is nothing to compare: {why}."),))
    parts: list[ReportPart] = [
        Paragraph(
            "Exploratory: strata are small, and intervals are not corrected for looking at many; "
            "p-values are, over the strata and frame counts of one contrast of one member."
        )
    ]
    for block, suffix in study.each_block():
        found = where(shown, block)
        # Less the empty one, which is the whole.
        count = found["stratum"].nunique() - 1
        if 0 < count <= _STRATA:
            title = f"Gain from vcot by stratum: {heading(block)}"
            parts.append(FigurePart(f"strata{suffix}", title, figures.strata_figure(found)))
        elif count:
            parts.append(Paragraph(f"{heading(block)}: {count} strata are too many to draw."))
    columns: dict[str, ShownColumn] = {
        "stratum": lambda row: row["stratum"] or "all",
        "contrast": lambda row: formats.contrast_name(row["name"]),
        **plain("role frames n clusters"),
        "points [95 %]": formats.interval,
        **P_COLUMNS,
    }
    title = "Gain from vcot and DiD by stratum"
    table = Table(title, words=3, name="strata", data=formats.for_csv(shown))
    parts.append(study.table(table, shown, columns))
    return Section("strata", "Strata", tuple(parts))


def power(study: Study) -> Section:
    """Return the effects that this many items can find."""
    planned = analysis.planning(study.contrasts)
    planned = planned[planned["n"] > 0]
    if planned.empty:
        text = "There is no contrast with items in it: nothing to plan with."
        return Section("power", "Power", (Paragraph(text),))
    text = (
        "The minimum effect is the least true difference that a run like this one finds in 4 of 5 "
        f"cases (two-sided, level {stats.ALPHA:g}, uncorrected), at this run's own discordance and "
        "clusters. An estimate below it that cannot be told from 0 at this n is no "
        "evidence of 0."
    )
    columns: dict[str, ShownColumn] = {
        "contrast": lambda row: formats.contrast_name(row["name"]),
        **plain("role arm frames n clusters"),
        "discordant, %": lambda row: formats.percent(row["discordance"]),
        "design effect": lambda row: formats.number(row["design_effect"], 2),
        "estimate": lambda row: formats.points(row["estimate"]),
        "minimum effect": lambda row: formats.percent(row["minimum_effect"]),
        "items needed": lambda row: formats.count(row["items_needed"]),
    }
    title = "Minimum effect, and items needed for an effect as large as the estimate"
    table = Table(title, words=3, name="power", data=formats.for_csv(planned))
    return Section("power", "Power", (Paragraph(text), study.table(table, planned, columns)))
