"""The sections on what members gained and lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis import published_comparison
from probes.analysis.cells import BLOCK
from probes.report import figures, formats
from probes.report.parts import (
    BulletList,
    DataTable,
    FigurePart,
    Paragraph,
    ReportPart,
    Section,
    from_table,
    listed,
)
from probes.report.study import Study, heading, rows, within


def study_tables(study: Study) -> Section:
    """Return the study's tables, block by block, and every accuracy as CSV."""
    parts: list[ReportPart] = []
    tables = analysis.study_tables(study.frame)
    for block, (_, suffix) in zip(tables.blocks, study.each_block(), strict=True):
        parts.append(Paragraph(f"{block.title[0].upper()}{block.title[1:]}. Percent and points."))
        parts += [
            from_table(table, f"study-{number}{suffix}")
            for number, table in enumerate(block.tables, 1)
        ]
        parts.append(BulletList(block.notes))
    parts.append(_accuracies(study))
    return Section("tables", "The study's tables", tuple(parts))


def _accuracies(study: Study) -> DataTable:
    found = study.accuracies_over_all
    return DataTable(
        name="accuracies",
        title="Every accuracy, unrounded in the CSV file",
        header=(
            *study.differing,
            "role",
            "arm",
            "frames",
            "n",
            "clusters",
            "accuracy [95 %]",
            "parsed only",
            "chance",
        ),
        rows=tuple(
            (
                *study.settings(row),
                row["role"],
                row["arm"],
                str(row["frames"]),
                str(row["n"]),
                str(row["clusters"]),
                formats.accuracy(row),
                formats.percent(row["complete_accuracy"]),
                formats.percent(row["chance"]),
            )
            for row in rows(found)
        ),
        words=len(study.differing) + 2,
        data=found,
        folded=True,
    )


def published(study: Study) -> Section:
    """Return the study's published figures with those of the same pair, where there are any."""
    title = "Comparison with the published figures"
    compared = published_comparison.compare(study.frame)
    if compared.empty:
        pairs = listed(sorted({str(block["pair"]) for block in study.blocks}))
        text = (
            f"The study published no figures of {pairs} on these tasks. If the pair is one of the "
            "study's under another name: `probes compare-published RUN --family NAME`."
        )
        return Section("published", title, (Paragraph(text),))
    table = from_table(published_comparison.table(compared), "published", compared)
    notes = BulletList(tuple(published_comparison.notes(compared)))
    return Section("published", title, (table, notes))


def forests(study: Study) -> Section:
    """Return gains, drops and DiD with their intervals, drawn and listed, and the headroom."""
    title = "Gains, drops and DiD"
    drawn = [
        figure
        for block, suffix in study.each_block()
        for figure in _figures(within(study.contrasts, block), heading(block), suffix)
    ]
    if not drawn:
        text = "No arm was run together with the arm that it is compared with: nothing to draw."
        return Section("contrasts", title, (Paragraph(text),))
    text = (
        "Points with 95 % intervals that take clusters into account. DiD = gain(image) - "
        "gain(other): right of zero the image member gained more. Unparsed and failed answers "
        "count as wrong."
    )
    parts: list[ReportPart] = [Paragraph(text), *drawn, _contrasts(study)]
    strict = study.contrasts[study.contrasts["policy"] == "strict"]
    if (strict["name"] == "did").any():
        parts.append(_scales(study))
    return Section("contrasts", title, tuple(parts))


def _figures(contrasts: pd.DataFrame, title: str, suffix: str) -> Iterator[FigurePart]:
    names = set(contrasts["name"])
    if names & {"gain", "drop"}:
        figure = figures.forest_figure(contrasts)
        yield FigurePart(f"gains{suffix}", f"Gains and drops of every member: {title}", figure)
    if "did" in names:
        figure = figures.forest_figure(contrasts, ("did",))
        yield FigurePart(f"did{suffix}", f"DiD of every arm: {title}", figure)
    if ((contrasts["name"] == "gain") & (contrasts["arm"] == "vcot")).any():
        figure = figures.headroom_figure(contrasts)
        yield FigurePart(f"headroom{suffix}", f"Headroom and gain: {title}", figure)


def _contrasts(study: Study) -> DataTable:
    return DataTable(
        name="contrasts",
        title="Every contrast, unrounded in the CSV file",
        header=(
            *study.differing,
            "contrast",
            "role",
            "arm",
            "against",
            "policy",
            "method",
            "frames",
            "n",
            "points [95 %]",
            "p",
            "p adjusted",
            "discordant",
            "missing",
        ),
        rows=tuple(_contrast(study, row) for row in rows(study.contrasts)),
        words=len(study.differing) + 6,
        data=formats.for_csv(study.contrasts),
        folded=True,
    )


def _contrast(study: Study, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *study.settings(row),
        row["name"],
        row["role"],
        row["arm"],
        row["reference"] or "-",
        row["policy"],
        row["method"] + (f" ({row['reason']})" if row["reason"] else ""),
        str(row["frames"]),
        str(row["n"]),
        formats.interval(row),
        formats.p_value(row["p"]),
        formats.p_value(row["p_adjusted"]),
        str(row["discordant"]),
        str(row["n_missing"]),
    )


_COMPARISON = (*BLOCK, "frames", "role", "arm")


def _scales(study: Study) -> DataTable:
    """Return the DiD of accuracies with those of log-odds and of the right answer's margin."""
    contrasts, scales = study.contrasts, study.did_on_other_scales
    shown = contrasts[(contrasts["name"] == "did") & (contrasts["policy"] == "strict")]
    other = {
        (str(row["measure"]), *(row[name] for name in _COMPARISON)): row for row in rows(scales)
    }
    table = []
    for row in rows(shown):
        comparison = tuple(row[name] for name in _COMPARISON)
        others = [other.get((measure, *comparison)) for measure in ("logit", "margin")]
        table.append(
            (
                *study.settings(row),
                row["arm"],
                row["role"],
                str(row["frames"]),
                formats.interval(row),
                *(formats.nats(one) if one else "-" for one in others),
                formats.percent(row["headroom_image"]),
                formats.percent(row["headroom_other"]),
            )
        )
    return DataTable(
        name="scales",
        title="DiD on three scales: a DiD of accuracies is partly caused by the ceiling",
        header=(
            *study.differing,
            "arm",
            "other",
            "frames",
            "points [95 %]",
            "log-odds [95 %]",
            "margin, nats [95 %]",
            "room image",
            "room other",
        ),
        rows=tuple(table),
        words=len(study.differing) + 2,
        data=formats.for_csv(pd.concat([shown, scales], ignore_index=True)),
    )


def arms(study: Study) -> Section:
    """Return a figure of all arms, block by block."""
    parts: list[ReportPart] = []
    for block, suffix in study.each_block():
        records = within(study.frame, block)
        if records["correct"].notna().any():
            title = f"Accuracy of every member under every arm: {heading(block)}"
            parts.append(FigurePart(f"arms{suffix}", title, figures.arms_figure(records)))
    if not parts:
        parts.append(Paragraph("No item has a public answer: there are no accuracies to draw."))
    return Section("arms", "Arms per member", tuple(parts))


def by_frames(study: Study) -> Section:
    """Return accuracies by the number of frames."""
    counts = sorted({int(count) for count in study.accuracies_over_all["frames"]})
    parts: list[ReportPart] = []
    for block, suffix in study.each_block():
        records = within(study.frame, block)
        if records["frames"].nunique() > 1 and records["correct"].notna().any():
            title = f"Accuracy by number of frames: {heading(block)}"
            parts.append(FigurePart(f"frames{suffix}", title, figures.frames_figure(records)))
    if not parts:
        parts.append(Paragraph(f"Items were shown at one number of frames only ({counts[0]})."))
    parts.append(_by_frames(study, counts))
    return Section("frames", "Accuracy by frame count", tuple(parts))


def _by_frames(study: Study, counts: list[int]) -> DataTable:
    found = study.accuracies_over_all
    table = []
    for values, part in found.groupby([*BLOCK, "role", "arm"], sort=False):
        head = dict(zip((*BLOCK, "role", "arm"), values, strict=True))
        by_count = {int(row["frames"]): formats.accuracy(row) for row in rows(part)}
        table.append(
            (
                *study.settings(head),
                str(head["role"]),
                str(head["arm"]),
                *(by_count.get(count, "-") for count in counts),
            )
        )
    return DataTable(
        name="frames",
        title="Accuracy [95 %] by number of frames",
        header=(*study.differing, "role", "arm", *(f"{count} frames" for count in counts)),
        rows=tuple(table),
        words=len(study.differing) + 2,
        data=found,
    )
