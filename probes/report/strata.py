"""The sections that look into strata, and at what this many items can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from probes import analysis, stats
from probes.report import cells, figures
from probes.report.figures import style
from probes.report.parts import DataTable, FigurePart, Paragraph, ReportPart, Section
from probes.report.study import Study, heading, rows, within

_STRATA = 40
"""Most strata that are drawn; a picture with more is no picture."""


def iraven(study: Study) -> Section | None:
    """Return i-RAVEN's accuracies per configuration; None where it was not asked."""
    frame = study.frame[study.frame["task"] == "iraven"]
    if frame.empty:
        return None
    parts: list[ReportPart] = []
    for block, end in study.each_block():
        mine = within(frame, block)
        if mine.empty or mine["correct"].isna().all() or not (mine["stratum"] != "").any():
            continue
        title = f"Accuracy per configuration: {heading(block)}"
        parts.append(FigurePart(f"iraven{end}", title, figures.configurations_figure(mine)))
        parts.append(_configurations(study, block, mine, end))
    if not parts:
        parts.append(Paragraph("No problem has a public key and a configuration."))
    return Section("iraven", "i-RAVEN per configuration", tuple(parts))


def _configurations(
    study: Study, block: Mapping[str, Any], frame: pd.DataFrame, end: str
) -> DataTable:
    # Every configuration counts the same, whatever the numbers of problems.
    each = within(study.cells, block)
    flat = pd.concat(
        [analysis.accuracies(frame, stratify=True), each[each["stratum"] != ""]], ignore_index=True
    )
    roles = style.in_order([str(role) for role in flat["role"]])
    others = [role for role in roles if role != "image"] if "image" in roles else []
    place = ["frames", "arm", "stratum"]
    transfer = within(study.layered, block)
    transfer = transfer[transfer["name"] == "transfer"]
    mean = analysis.contrasts(frame, names=("transfer",), policies=("strict",), stratify="strata")
    across = {(r["frames"], r["arm"], r["role"]): cells.interval(r) for r in rows(mean)}
    by = {(*(r[name] for name in place), r["role"]): cells.accuracy(r) for r in rows(flat)}
    moved = {(*(r[name] for name in place), r["role"]): cells.interval(r) for r in rows(transfer)}
    told = []
    for count, arm, layer in dict.fromkeys(tuple(r[name] for name in place) for r in rows(each)):
        difference = (
            moved.get((count, arm, layer, role), "-")
            if layer
            else across.get((count, arm, role), "-")
            for role in others
        )
        answers = (by.get((count, arm, layer, role), "-") for role in roles)
        told.append((str(arm), layer or "all", str(count), *answers, *difference))
    header = ("arm", "configuration", "frames", *(f"{role} [95 %]" for role in roles))
    return DataTable(
        f"iraven{end}",
        "Accuracy per configuration, and transfer (all: mean over configurations)",
        header + tuple(f"{role} - image [95 %]" for role in others),
        tuple(told), 2,
        cells.plain(pd.concat([flat.assign(name="accuracy"), transfer, mean], ignore_index=True)),
    )  # fmt: skip


def strata(study: Study) -> Section:
    """Return gains from vcot, and their did, in every stratum."""
    parts: list[ReportPart] = []
    layered = study.layered
    shown = layered[layered["name"].isin(["gain", "did"]) & (layered["arm"] == "vcot")]
    layers = set(shown["stratum"]) - {""}
    if not layers:
        what = (
            "no item has a stratum"
            if (study.frame["stratum"] == "").all()
            else ("vcot was not run together with its reference arm")
        )
        parts.append(Paragraph(f"Nothing to tell apart: {what}."))
        return Section("strata", "Strata", tuple(parts))
    parts.append(Paragraph(
        "Exploratory: strata are small, and intervals are not corrected for looking at many; "
        "p-values are, over everything in this table."
    ))  # fmt: skip
    for block, end in study.each_block():
        mine = within(shown, block)
        count = mine["stratum"].nunique() - 1
        if 0 < count <= _STRATA:
            title = f"Gain from vcot by stratum: {heading(block)}"
            parts.append(FigurePart(f"strata{end}", title, figures.strata_figure(mine)))
        elif count:
            parts.append(Paragraph(f"{heading(block)}: {count} strata are too many to draw."))
    adjusted = shown.assign(p_adjusted=stats.holm(shown["p"]))
    parts.append(
        DataTable(
            "strata", "Gain from vcot and did by stratum",
            (*study.told_apart, "stratum", "contrast", "role", "frames", "n", "clusters",
             "points [95 %]", "p", "p adjusted"),
            tuple(
                (*study.place(r), r["stratum"] or "all", r["name"], r["role"], str(r["frames"]),
                 str(r["n"]), str(r["clusters"]), cells.interval(r), cells.p_value(r["p"]),
                 cells.p_value(r["p_adjusted"]))
                for r in rows(adjusted)
            ),
            len(study.told_apart) + 3, cells.plain(adjusted),
        )
    )  # fmt: skip
    return Section("strata", "Strata", tuple(parts))


def power(study: Study) -> Section:
    """Return what this many items could have found."""
    planned = analysis.planning(study.found)
    planned = planned[planned["n"] > 0]
    if planned.empty:
        said = Paragraph("There is no contrast with items in it: nothing to plan with.")
        return Section("power", "Power", (said,))
    parts: list[ReportPart] = [Paragraph(
        "The minimum effect is the least true difference that a run like this one finds in 4 of 5 "
        "cases (two-sided, level 0.05, uncorrected), at this run's own discordance and clusters. "
        "An estimate below it that is not told apart from zero is no evidence of nothing."
    )]  # fmt: skip
    parts.append(
        DataTable(
            "power", "Minimum effect, and items needed for an effect as large as the estimate",
            (*study.told_apart, "contrast", "role", "arm", "frames", "n", "clusters",
             "discordant, %", "design effect", "estimate", "minimum effect", "items needed"),
            tuple(
                (*study.place(r), r["name"], r["role"], r["arm"], str(r["frames"]), str(r["n"]),
                 str(r["clusters"]), cells.percent(r["discordance"]),
                 f"{r['design_effect']:.2f}" if r["design_effect"] == r["design_effect"] else "-",
                 cells.points(r["estimate"]), cells.percent(r["minimum_effect"]),
                 cells.whole(r["items_needed"]))
                for r in rows(planned)
            ),
            len(study.told_apart) + 3, cells.plain(planned),
        )
    )  # fmt: skip
    return Section("power", "Power", tuple(parts))
