"""The sections on what members gained and lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis import artefacts, comparisons, draws, formats, published_comparison
from probes.analysis.columns import BLOCK, CONTRAST, groups, heading, rows_of, where
from probes.analysis.measures import named
from probes.analysis.tables import TableRow
from probes.core.tables import Table
from probes.core.text import listed
from probes.report import figures
from probes.report.beside import beside
from probes.report.parts import BulletList, FigurePart, Paragraph, ReportPart, Section
from probes.report.study import ShownColumn, Study, plain

CONTRAST_COLUMNS: Mapping[str, ShownColumn] = {
    "contrast": lambda row: formats.contrast_name(row["name"]),
    **plain("role arm"),
    "against": lambda row: row["reference"] or "-",
    "policy": "policy",
    "method": lambda row: row["method"] + (f" ({row['reason']})" if row["reason"] else ""),
    **plain("frames n"),
    "tokens": comparisons.tokens,
}
"""Columns of a list of contrasts, before the estimates."""
_SHOWN_CELLS = 20
"""Most cells whose scoring a page shows without a click."""
P_COLUMNS: Mapping[str, ShownColumn] = {
    "p": lambda row: formats.p_value(row["p"]),
    "p adjusted": lambda row: formats.p_value(row["p_adjusted"]),
    "family": lambda row: formats.family(row["family"]),
}


def study_tables(study: Study) -> Section:
    """Return the study's tables, block by block, and every accuracy as CSV."""
    parts: list[ReportPart] = []
    tables = analysis.study_tables(study.frame)
    # Both go by first appearance; strict, since a shift would give tables another block's name.
    for block, (_, suffix) in zip(tables.blocks, study.each_block(), strict=True):
        parts.append(Paragraph(f"{block.title[0].upper()}{block.title[1:]}. Percent and points."))
        parts += [
            replace(table, name=f"study-{number}{suffix}")
            for number, table in enumerate(block.tables, 1)
        ]
        parts.append(BulletList(block.notes))
    found = study.accuracies_over_all
    title = "Every accuracy, unrounded in the CSV file"
    columns: dict[str, ShownColumn] = {
        **plain("role arm frames n clusters"),
        "accuracy [95 %]": formats.accuracy,
        "parsed only": lambda row: formats.percent(row["complete_accuracy"]),
        "chance": lambda row: formats.percent(row["chance"]),
    }
    empty = Table(title, name="accuracies", data=found, folded=True)
    parts.append(study.table(empty, found, columns))
    parts.append(_scoring(study))
    return Section("tables", "The study's tables", tuple(parts))


def _scoring(study: Study) -> Table:
    """Return what scoring itself may have put into every cell's answers."""
    found = artefacts.artefacts(study.frame)
    columns: dict[str, ShownColumn] = {
        **plain("role arm frames answers"),
        "exact ties": "ties",
        "mass on letters": lambda row: formats.number(row["letter_mass"], 2),
        "choices by place": lambda row: " / ".join(map(str, row["choices"])),
        "most frequent": lambda row: formats.percent(row["top_share"]),
        "entropy": lambda row: formats.number(row["entropy"], 2),
        "ECE": lambda row: formats.number(row["ece"], 2),
        "AUROC": lambda row: formats.number(row["auroc"], 2),
    }
    # Only rotations tell a letter from what stands at it.
    if found["letter_bias"].notna().any():
        columns |= {
            "letter bias": lambda row: formats.number(row["letter_bias"], 2),
            "accuracy": lambda row: formats.percent(row["accuracy"]),
            "corrected for letters": lambda row: formats.percent(row["accuracy_corrected"]),
        }
    title = "Scoring: ties, favourite places (the first is A), confidence (ECE, AUROC), letter bias"
    lists = {name: found[name].map(list) for name in ("choices", "letter_prior")}
    folded = len(found) > _SHOWN_CELLS
    empty = Table(title, name="scoring", data=found.assign(**lists), folded=folded)
    return study.table(empty, found, columns)


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
    table = replace(published_comparison.table(compared), name="published", data=compared)
    notes = BulletList(tuple(published_comparison.notes(compared)))
    return Section("published", title, (table, notes))


def forests(study: Study) -> Section:
    """Return gains, drops and DiD with their intervals, drawn and listed, and the headroom."""
    title = "Gains, drops and DiD"
    drawn = [
        figure
        for block, suffix in study.each_block()
        for figure in _figures(
            where(study.contrasts, block), f"{heading(block)}{study.by_writer(block)}", suffix
        )
    ]
    if not drawn:
        text = "No arm was run together with the arm that it is compared with: nothing to draw."
        return Section("contrasts", title, (Paragraph(text),))
    text = (
        "Points with 95 % intervals that take clusters into account. DiD = gain(image) - "
        "gain(other): right of zero the image member gained more. Unparsed answers count as wrong; "
        "items at which a machine failed are left out. A p-value is adjusted within the family "
        "that stands beside it."
    )
    columns = {
        **CONTRAST_COLUMNS,
        "points [95 %]": formats.interval,
        **P_COLUMNS,
        "discordant": "discordant",
        "missing": "n_missing",
    }
    empty = Table(
        "Every contrast, unrounded in the CSV file",
        words=6,
        name="contrasts",
        data=formats.for_csv(study.contrasts),
        folded=True,
    )
    listing = study.table(empty, study.contrasts, columns)
    parts: list[ReportPart] = [Paragraph(text), *drawn, listing]
    dids = where(study.contrasts, policy="strict", name="did")
    if len(dids):
        parts.append(_scales(study, dids))
    parts += _draws(study)
    parts += beside(study)
    return Section("contrasts", title, tuple(parts))


def _draws(study: Study) -> Iterator[ReportPart]:
    """Yield how much of each contrast's spread is due to texts and donors, where these were drawn.

    Of a run with one of each, that its intervals do not cover them.
    """
    found = draws.components(study.frame)
    if found.empty:
        yield Paragraph(
            f"{draws.coverage(study.frame)} With other texts between the frames, or other donors, "
            "the same items would give other numbers: infill_draws=K and donor_draws=K measure how "
            "far."
        )
        return
    yield Paragraph(
        f"{draws.coverage(study.frame)} Texts or donors were drawn several times, and an item "
        "counts once, with the mean of its draws. Standard deviations of the per-item difference, "
        "in points: over items, and within items over donors, over texts (the first is the greedy "
        "one) and what neither explains alone. The last columns: the standard error as it is and "
        "as it would be with one draw of each (items taken as independent), and the estimates of "
        "single draws."
    )
    columns: dict[str, ShownColumn] = {
        "contrast": lambda row: formats.contrast_name(row["name"]),
        **plain("role arm frames n donors texts"),
        "points": lambda row: formats.points(row["estimate"]),
        **{
            head: _of(name)
            for head, name in {
                "SD items": "sd_items",
                "SD donors": "sd_donors",
                "SD texts": "sd_texts",
                "SD both": "sd_both",
                "SE": "se",
                "SE, one draw": "se_one",
            }.items()
        },
        "single draws": lambda row: (
            f"{formats.points(row['lowest'])} to {formats.points(row['highest'])}"
        ),
    }
    title = "Spread over items, donors and texts"
    yield study.table(Table(title, words=3, name="draws", data=found), found, columns)


def _of(name: str) -> ShownColumn:
    return lambda row: formats.percent(row[name])


def _figures(contrasts: pd.DataFrame, title: str, suffix: str) -> Iterator[FigurePart]:
    names = set(contrasts["name"])
    if names & {"gain", "drop"}:
        figure = figures.forest_figure(contrasts)
        yield FigurePart(f"gains{suffix}", f"Gains and drops of every member: {title}", figure)
    if names & {"transfer", "control"}:
        figure = figures.forest_figure(contrasts, ("transfer", "control"))
        yield FigurePart(f"transfer{suffix}", f"Transfer, member against member: {title}", figure)
    if "did" in names:
        figure = figures.forest_figure(contrasts, ("did",))
        yield FigurePart(f"did{suffix}", f"DiD of every arm: {title}", figure)
    if len(where(contrasts, name="gain", arm="vcot")):
        figure = figures.headroom_figure(contrasts)
        yield FigurePart(f"headroom{suffix}", f"Headroom and gain: {title}", figure)


def _scales(study: Study, dids: pd.DataFrame) -> Table:
    """Return the DiD of accuracies with those of log-odds and of the right answer's margin."""
    scales = study.did_on_other_scales
    others = {(row["measure"], *(row[name] for name in CONTRAST)): row for row in rows_of(scales)}

    def other(measure: str) -> ShownColumn:
        unit = named(measure).unit

        def text(row: TableRow) -> str:
            found = others.get((measure, *(row[name] for name in CONTRAST)))
            return formats.interval(found, unit) if found else "-"

        return text

    columns: dict[str, ShownColumn] = {
        "arm": "arm",
        "other": "role",
        "frames": "frames",
        "points [95 %]": formats.interval,
        "log-odds [95 %]": other("logit"),
        "margin, nats [95 %]": other("margin"),
        "of the room": comparisons.shares_of_room,
        "room image": lambda row: formats.percent(row["headroom_image"]),
        "room other": lambda row: formats.percent(row["headroom_other"]),
    }
    title = (
        "DiD on three scales, and against the room that was left: a DiD of accuracies is partly "
        "caused by the ceiling"
    )
    data = formats.for_csv(pd.concat([dids, scales], ignore_index=True))
    return study.table(Table(title, name="scales", data=data), dids, columns)


def further_measure(study: Study, name: str) -> Section:
    """Return the contrasts of one more measure, which was asked for by name, in its unit."""
    measure = named(name)
    unit = formats.unit_name(measure.unit)
    found = analysis.contrasts(study.frame, measure=measure)
    # Empty contrasts are in the CSV file only.
    known = found[found["n"] > 0]
    bounds = f", in {measure.bounds[0]:g} to {measure.bounds[1]:g}" if measure.bounds else ""
    parts: list[ReportPart] = [
        Paragraph(f"{measure.meaning[0].upper()}{measure.meaning[1:]} ({unit}{bounds}).")
    ]
    if known.empty:
        parts.append(Paragraph("No two answers that are compared have a value of this measure."))
    else:
        columns = {
            **CONTRAST_COLUMNS,
            f"{unit} [95 %]": lambda row: formats.interval(row, measure.unit),
            **P_COLUMNS,
            "left out": "left_out",
        }
        title = f"Contrasts of {name}; left out: items without a value on one side"
        data = formats.for_csv(found)
        table = Table(title, words=6, name=f"measure-{name}", data=data)
        parts.append(study.table(table, known, columns))
    return Section(f"measure-{name}", f"Gains, drops and DiD of {name}", tuple(parts))


def arms(study: Study) -> Section:
    """Return a figure of all arms, block by block."""
    parts: list[ReportPart] = []
    for block, suffix in study.each_block():
        records = where(study.frame, block)
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
        records = where(study.frame, block)
        if records["frames"].nunique() > 1 and records["correct"].notna().any():
            title = f"Accuracy by number of frames: {heading(block)}"
            parts.append(FigurePart(f"frames{suffix}", title, figures.frames_figure(records)))
    if not parts:
        parts.append(Paragraph(f"Items were shown at one number of frames only ({counts[0]})."))
    parts.append(_by_frames(study, counts))
    return Section("frames", "Accuracy by frame count", tuple(parts))


def _by_frames(study: Study, counts: list[int]) -> Table:
    found = study.accuracies_over_all
    rows: list[dict[str, Any]] = []
    for head, part in groups(found, (*BLOCK, "role", "arm")):
        by_count = {row["frames"]: formats.accuracy(row) for row in rows_of(part)}
        rows.append({**head, **{f"{n} frames": by_count.get(n, "-") for n in counts}})
    title = "Accuracy [95 %] by number of frames"
    columns = {name: name for name in ("role", "arm", *(f"{count} frames" for count in counts))}
    return study.table(Table(title, name="frames", data=found), rows, columns)
