"""The sections on strata, and on the effects that this many items can find."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from probes import analysis, stats
from probes.report import figures, formats
from probes.report.figures import style
from probes.report.parts import DataTable, FigurePart, Paragraph, ReportPart, Section
from probes.report.study import Study, heading, rows, within

_STRATA = 40
"""Most strata that are drawn; a figure with more cannot be read."""


def iraven(study: Study) -> Section | None:
    """Return i-RAVEN's accuracies per configuration; None where it was not asked."""
    frame = study.frame[study.frame["task"] == "iraven"]
    if frame.empty:
        return None
    parts: list[ReportPart] = []
    for block, suffix in study.each_block():
        records = within(frame, block)
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
) -> DataTable:
    each = within(study.accuracies, block)
    # Every configuration counts the same in the mean, whatever its number of problems.
    mean = analysis.accuracies(records, stratify=True)
    found = pd.concat([mean, each[each["stratum"] != ""]], ignore_index=True)
    transfer = within(study.contrasts_by_stratum, block)
    transfer = transfer[transfer["name"] == "transfer"]
    mean_transfer = analysis.contrasts(
        records, names=("transfer",), policies=("strict",), stratify="strata"
    )
    roles = style.in_order([str(role) for role in found["role"]])
    others = [role for role in roles if role != "image"] if "image" in roles else []
    accuracies = {(*(r[n] for n in _PLACE), r["role"]): formats.accuracy(r) for r in rows(found)}
    transfers = {
        (*(row[name] for name in _PLACE), row["role"]): formats.interval(row)
        for row in rows(transfer)
        if row["stratum"]
    } | {
        (row["frames"], row["arm"], "", row["role"]): formats.interval(row)
        for row in rows(mean_transfer)
    }
    table = []
    for frames, arm, stratum in dict.fromkeys(tuple(r[n] for n in _PLACE) for r in rows(each)):
        place = (frames, arm, stratum)
        table.append(
            (
                str(arm),
                stratum or "all",
                str(frames),
                *(accuracies.get((*place, role), "-") for role in roles),
                *(transfers.get((*place, role), "-") for role in others),
            )
        )
    data = pd.concat([found.assign(name="accuracy"), transfer, mean_transfer], ignore_index=True)
    return DataTable(
        name=name,
        title="Accuracy per configuration, and transfer (all: mean over configurations)",
        header=(
            "arm",
            "configuration",
            "frames",
            *(f"{role} [95 %]" for role in roles),
            *(f"{role} - image [95 %]" for role in others),
        ),
        rows=tuple(table),
        words=2,
        data=formats.for_csv(data),
    )


def strata(study: Study) -> Section:
    """Return gains from vcot, and their DiD, in every stratum."""
    contrasts = study.contrasts_by_stratum
    shown = contrasts[contrasts["name"].isin(["gain", "did"]) & (contrasts["arm"] == "vcot")]
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
            "p-values are, over everything in this table."
        )
    ]
    for block, suffix in study.each_block():
        found = within(shown, block)
        count = found["stratum"].nunique() - 1
        if 0 < count <= _STRATA:
            title = f"Gain from vcot by stratum: {heading(block)}"
            parts.append(FigurePart(f"strata{suffix}", title, figures.strata_figure(found)))
        elif count:
            parts.append(Paragraph(f"{heading(block)}: {count} strata are too many to draw."))
    parts.append(_strata(study, shown.assign(p_adjusted=stats.holm(shown["p"]))))
    return Section("strata", "Strata", tuple(parts))


def _strata(study: Study, contrasts: pd.DataFrame) -> DataTable:
    return DataTable(
        name="strata",
        title="Gain from vcot and DiD by stratum",
        header=(
            *study.differing,
            "stratum",
            "contrast",
            "role",
            "frames",
            "n",
            "clusters",
            "points [95 %]",
            "p",
            "p adjusted",
        ),
        rows=tuple(
            (
                *study.settings(row),
                row["stratum"] or "all",
                row["name"],
                row["role"],
                str(row["frames"]),
                str(row["n"]),
                str(row["clusters"]),
                formats.interval(row),
                formats.p_value(row["p"]),
                formats.p_value(row["p_adjusted"]),
            )
            for row in rows(contrasts)
        ),
        words=len(study.differing) + 3,
        data=formats.for_csv(contrasts),
    )


def power(study: Study) -> Section:
    """Return the effects that this many items can find."""
    planned = analysis.planning(study.contrasts)
    planned = planned[planned["n"] > 0]
    if planned.empty:
        text = "There is no contrast with items in it: nothing to plan with."
        return Section("power", "Power", (Paragraph(text),))
    text = (
        "The minimum effect is the least true difference that a run like this one finds in 4 of 5 "
        "cases (two-sided, level 0.05, uncorrected), at this run's own discordance and clusters. "
        "An estimate below it that cannot be distinguished from zero does not show that there is "
        "no effect."
    )
    return Section("power", "Power", (Paragraph(text), _power(study, planned)))


def _power(study: Study, planned: pd.DataFrame) -> DataTable:
    return DataTable(
        name="power",
        title="Minimum effect, and items needed for an effect as large as the estimate",
        header=(
            *study.differing,
            "contrast",
            "role",
            "arm",
            "frames",
            "n",
            "clusters",
            "discordant, %",
            "design effect",
            "estimate",
            "minimum effect",
            "items needed",
        ),
        rows=tuple(
            (
                *study.settings(row),
                row["name"],
                row["role"],
                row["arm"],
                str(row["frames"]),
                str(row["n"]),
                str(row["clusters"]),
                formats.percent(row["discordance"]),
                "-" if isnan(row["design_effect"]) else f"{row['design_effect']:.2f}",
                formats.points(row["estimate"]),
                formats.percent(row["minimum_effect"]),
                formats.count(row["items_needed"]),
            )
            for row in rows(planned)
        ),
        words=len(study.differing) + 3,
        data=formats.for_csv(planned),
    )
