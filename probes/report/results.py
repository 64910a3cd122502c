"""The sections that say what members gained and lost."""

from __future__ import annotations

import pandas as pd

from probes import analysis
from probes.analysis import published_comparison as beside
from probes.report import cells, figures
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
from probes.report.study import BLOCK, Study, heading, rows, within


def study_tables(study: Study) -> Section:
    """Return the study's tables, block by block, and every accuracy and contrast as CSV."""
    parts: list[ReportPart] = []
    tables = analysis.study_tables(study.frame)
    for block, (_, end) in zip(tables.blocks, study.each_block(), strict=True):
        parts.append(Paragraph(f"{block.title[0].upper()}{block.title[1:]}. Percent and points."))
        parts += [from_table(table, f"study-{at}{end}") for at, table in enumerate(block.tables, 1)]
        parts.append(BulletList(block.notes))
    flat = study.cells[study.cells["stratum"] == ""]
    parts.append(
        DataTable(
            "accuracies", "Every accuracy, unrounded in the CSV file",
            (*study.told_apart, "role", "arm", "frames", "n", "clusters", "accuracy [95 %]",
             "parsed only", "chance"),
            tuple(
                (*study.place(r), r["role"], r["arm"], str(r["frames"]), str(r["n"]),
                 str(r["clusters"]), cells.accuracy(r), cells.percent(r["complete_accuracy"]),
                 cells.percent(r["chance"]))
                for r in rows(flat)
            ),
            len(study.told_apart) + 2, flat, folded=True,
        )
    )  # fmt: skip
    return Section("tables", "The study's tables", tuple(parts))


def published(study: Study) -> Section:
    """Return the study's published cells beside those of the same pair, where there are such."""
    title = "Beside the published figures"
    compared = beside.compare(study.frame)
    if compared.empty:
        pairs = listed(sorted({str(block["pair"]) for block in study.blocks}))
        said = (
            f"The study published nothing of {pairs} on these tasks. If the pair is one of the "
            "study's under another name: `probes compare-published RUN --family NAME`."
        )
        return Section("published", title, (Paragraph(said),))
    grid = from_table(beside.table(compared), "published", compared)
    return Section("published", title, (grid, BulletList(tuple(beside.notes(compared)))))


def forests(study: Study) -> Section:
    """Return gains, drops and did with their intervals, drawn and listed, and the headroom."""
    parts: list[ReportPart] = []
    found = study.found
    strict = found[found["policy"] == "strict"]
    for block, end in study.each_block():
        mine, said = within(found, block), heading(block)
        names = set(mine["name"])
        if names & {"gain", "drop"}:
            figure = figures.forest_figure(mine)
            parts.append(
                FigurePart(f"gains{end}", f"Gains and drops of every member: {said}", figure)
            )
        if "did" in names:
            figure = figures.forest_figure(mine, ("did",))
            parts.append(FigurePart(f"did{end}", f"did of every arm: {said}", figure))
        if ((mine["name"] == "gain") & (mine["arm"] == "vcot")).any():
            figure = figures.headroom_figure(mine)
            parts.append(FigurePart(f"headroom{end}", f"Headroom and gain: {said}", figure))
    if not parts:
        parts.append(
            Paragraph(
                "No arm was run together with the arm that it is compared with: nothing to draw."
            )
        )
        return Section("contrasts", "Gains, drops and did", tuple(parts))
    parts.insert(0, Paragraph(
        "Points with 95 % intervals that know about clusters. did = gain(image) - gain(other): "
        "right of zero the image member gained more. Unparsed and failed answers count as wrong."
    ))  # fmt: skip
    parts.append(_contrasts(study))
    if (strict["name"] == "did").any():
        parts.append(_scales(study))
    return Section("contrasts", "Gains, drops and did", tuple(parts))


def _contrasts(study: Study) -> DataTable:
    found = study.found
    return DataTable(
        "contrasts", "Every contrast, unrounded in the CSV file",
        (*study.told_apart, "contrast", "role", "arm", "against", "policy", "method", "frames", "n",
         "points [95 %]", "p", "p adjusted", "discordant", "missing"),
        tuple(
            (*study.place(r), r["name"], r["role"], r["arm"], r["reference"] or "-", r["policy"],
             r["method"] + (f" ({r['reason']})" if r["reason"] else ""),
             str(r["frames"]), str(r["n"]), cells.interval(r), cells.p_value(r["p"]),
             cells.p_value(r["p_adjusted"]), str(r["discordant"]), str(r["n_missing"]))
            for r in rows(found)
        ),
        len(study.told_apart) + 6, cells.plain(found), folded=True,
    )  # fmt: skip


_SAME = (*BLOCK, "frames", "role", "arm")


def _scales(study: Study) -> DataTable:
    """Set the did on accuracies beside that on log-odds and on the key's margin."""
    found, scales = study.found, study.scales
    shown = found[(found["name"] == "did") & (found["policy"] == "strict")]
    other = {
        (str(row["measure"]), *(row[name] for name in _SAME)): row for row in rows(scales)
    }  # fmt: skip
    told = []
    for row in rows(shown):
        key = tuple(row[name] for name in _SAME)
        both = [other.get((measure, *key)) for measure in ("logit", "margin")]
        told.append(
            (*study.place(row), row["arm"], row["role"], str(row["frames"]), cells.interval(row),
             *(cells.nats(one) if one else "-" for one in both),
             cells.percent(row["headroom_image"]), cells.percent(row["headroom_other"]))
        )  # fmt: skip
    return DataTable(
        "scales", "did on three scales: at a ceiling, a did on accuracies is half forced",
        (*study.told_apart, "arm", "other", "frames", "points [95 %]", "log-odds [95 %]",
         "margin, nats [95 %]", "room image", "room other"),
        tuple(told), len(study.told_apart) + 2,
        cells.plain(pd.concat([shown, scales], ignore_index=True)),
    )  # fmt: skip


def arms(study: Study) -> Section:
    """Return a picture of all arms, block by block."""
    parts: list[ReportPart] = []
    for block, end in study.each_block():
        if within(study.frame, block)["correct"].notna().any():
            figure = figures.arms_figure(within(study.frame, block))
            title = f"Accuracy of every member under every arm: {heading(block)}"
            parts.append(FigurePart(f"arms{end}", title, figure))
    if not parts:
        parts.append(Paragraph("No item has a public key: there are no accuracies to draw."))
    return Section("arms", "Arms per member", tuple(parts))


def by_frames(study: Study) -> Section:
    """Return accuracies by the number of frames."""
    parts: list[ReportPart] = []
    flat = study.cells[study.cells["stratum"] == ""]
    counts = sorted({int(count) for count in flat["frames"]})
    grouped = flat.groupby([*BLOCK, "role", "arm"], sort=False)
    told = []
    for values, part in grouped:
        head = dict(zip((*BLOCK, "role", "arm"), values, strict=True))
        at = {int(row["frames"]): cells.accuracy(row) for row in rows(part)}
        told.append(
            (*study.place(head), str(head["role"]), str(head["arm"]),
             *(at.get(count, "-") for count in counts))
        )  # fmt: skip
    drawn = False
    for block, end in study.each_block():
        mine = within(study.frame, block)
        if mine["frames"].nunique() > 1 and mine["correct"].notna().any():
            title = f"Accuracy by number of frames: {heading(block)}"
            parts.append(FigurePart(f"frames{end}", title, figures.frames_figure(mine)))
            drawn = True
    if not drawn:
        parts.append(Paragraph(f"Items were shown at one number of frames only ({counts[0]})."))
    header = (*study.told_apart, "role", "arm", *(f"{count} frames" for count in counts))
    title = "Accuracy [95 %] by number of frames"
    parts.append(DataTable("frames", title, header, tuple(told), len(study.told_apart) + 2, flat))
    return Section("frames", "Accuracy by frame count", tuple(parts))
