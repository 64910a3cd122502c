"""What limits the answer: caveats of the pairs, and of each block what was not ruled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from probes.analysis.columns import groups, heading, rows_of, where
from probes.analysis.formats import percent, with_interval
from probes.analysis.scored import scored_lines
from probes.core.text import listed
from probes.report.leaks import clips_with_leaked_answer
from probes.report.parts import BulletList, Paragraph, ReportPart, Section, counted
from probes.report.study import Study


def section(study: Study) -> Section:
    """Return the limits: of all runs first, then block by block."""
    parts: list[ReportPart] = [Paragraph(caveat, "caveat") for caveat in study.caveats]
    if not study.caveats and not any(study.manifests.values()):
        text = "No run has a manifest: whether a caveat belongs to this pair is not known."
        parts.append(Paragraph(text, "note"))
    if study.without_records:
        count = counted(len(study.without_records), "run")
        names = listed([path.name for path in study.without_records])
        verb = "is" if len(study.without_records) == 1 else "are"
        parts.append(Paragraph(f"{count} did not finish and {verb} not here: {names}.", "note"))
    for block, _ in study.each_block():
        frame = where(study.frame, block)
        with_did = len(where(study.contrasts, block, name="did", arm="vcot")) > 0
        told = [
            f"{line[0].upper()}{line[1:]}."
            for line in scored_lines(frame, study.frame.attrs.get("without_mass", ()))
        ]
        if len(study.blocks) > 1:
            title = heading(block)
            parts.append(Paragraph(f"{title[0].upper()}{title[1:]}:"))
        parts.append(BulletList((*limits(study, block, with_did), *told)))
    return Section("limits", "What limits it", tuple(parts))


def limits(study: Study, block: Mapping[str, Any], with_did: bool) -> Iterator[str]:
    """Yield one sentence for each limit of a block's findings.

    Args:
        study: all runs.
        block: settings of the block.
        with_did: whether the findings contain a difference in differences (DiD).
    """
    frame = where(study.frame, block)
    roles = set(frame["role"])
    for status, told in (
        ("unparsed", "could not be parsed; they count as wrong"),
        ("error", "failed by machine; their items are left out of what is compared"),
    ):
        if (share := (frame["status"] == status).mean()) > 0:
            yield f"{100 * share:.1f} % of the records {told}; {_most(frame, status)}."
    yield from _at_chance(study, block)
    yield from _blind(study, block)
    yield from _leaked(study, block)
    if "video" in roles and (names := study.controls(block)):
        yield (
            f"The video member's place was taken by {listed(names)}, which a pair of this package "
            "has as its control: no video member was run."
        )
    elif "video" in roles and "control" not in roles:
        yield (
            "No control member was run in this block: what the video member has beyond the image "
            "member may be due to more training of any kind."
        )
    if study.frame_as(block) == "video":
        # Without `setting`: the other way of receiving frames is another block of this report.
        same = {name: block[name] for name in ("task", "pair", "scoring", "seed")}
        if "image" not in [study.frame_as(b) for b in study.blocks if same.items() <= b.items()]:
            yield (
                "Frames were received as one-frame videos only, which is new to an image member "
                "and may favour the hypothesis; run the same with pair.frame_as=image."
            )
    if with_did:
        yield "A DiD can show that text helps one member more on these items, never why."


def _most(frame: pd.DataFrame, status: str) -> str:
    """Return the compared cell with the largest share of records of a status."""
    cells = {
        f"{head['arm']}, {head['role']} member, {head['frames']} frames": (
            part["status"] == status
        ).mean()
        for head, part in groups(frame, ("role", "arm", "frames"))
    }
    where_most = max(cells, key=lambda name: cells[name])
    return f"at most in one cell: {100 * cells[where_most]:.1f} % ({where_most})"


def _at_chance(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    cells = where(study.accuracies_over_all, block, arm="baseline")
    # A chance that is unknown is NaN, which compares false and drops out.
    cells = cells[(cells["low"] <= cells["chance"]) & (cells["chance"] <= cells["high"])]
    for head, part in groups(cells, ("role",)):
        places = [
            f"at {row['frames']} frames ({percent(row['accuracy'])}, "
            f"guessing {percent(row['chance'])})"
            for row in rows_of(part)
        ]
        who = f"The {head['role']} member's baseline"
        yield f"{who} cannot be told from guessing {_joined(places)}."


def _blind(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    found = where(study.contrasts, block, name="gain", arm="blind", policy="strict")
    # Frames help where the whole interval is below zero.
    for head, part in groups(found[found["high"] >= 0], ("role",)):
        places = [
            f"at {row['frames']} frames (blind - {row['reference']} {with_interval(row)})"
            for row in rows_of(part)
        ]
        who = f"The {head['role']} member"
        yield f"{who} is not clearly better than without frames {_joined(places)}."


def _leaked(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Yield in how many of a block's items an infill contains the right answer's text."""
    same = {name: block[name] for name in ("pair", "task", "setting")}
    clips = where(clips_with_leaked_answer(study.infills), same)
    frame = where(study.frame, block)
    places = []
    for count, part in clips.groupby("frames"):
        asked = set(frame.loc[frame["frames"] == count, "item_id"])
        if hit := len(asked & set(part["item_id"])):
            places.append(f"in {hit} of {counted(len(asked), 'item')} at {count} frames")
    if places:
        yield (
            f"An infill contains the whole text of the right answer {_joined(places)}: some of a "
            "gain may be copying (see Infills and donors)."
        )


def _joined(texts: Sequence[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
