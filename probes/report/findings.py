"""What was found, contrast by contrast: the numbers behind the answer, each in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from probes import analysis
from probes.analysis import comparisons, formats
from probes.analysis.columns import CONTRAST, heading, rows_of, where
from probes.analysis.formats import compared, p_value, percent, points, with_interval
from probes.report.parts import BulletList, Paragraph, ReportPart, Section, counted
from probes.report.study import Study
from probes.report.summary import dids, outcome

_ARM = "vcot"


def section(study: Study) -> Section:
    """Return the findings, block by block."""
    parts: list[ReportPart] = []
    for block, _ in study.each_block():
        parts.append(Paragraph(_question(study, block)))
        if findings := tuple(_findings(study, block)):
            parts.append(BulletList(findings))
            texts = [comparisons.of_text_alone(row) for row in dids(study, block)]
            parts += [Paragraph(text) for text in (*texts, *_text_alone(study, block)) if text]
    return Section("findings", "What was found", tuple(parts))


def _question(study: Study, block: Mapping[str, Any]) -> str:
    frame = where(study.frame, block)
    members = dict.fromkeys(zip(frame["role"], frame["member"], strict=True))
    names = " and ".join(f"{member} ({role})" for role, member in members)
    counts = " and ".join(str(count) for count in sorted(frame["frames"].unique()))
    arms = ", ".join(dict.fromkeys(str(arm) for arm in frame["arm"]))
    items = counted(frame["item_id"].nunique(), "item")
    title = heading(block)
    return (
        f"{title[0].upper()}{title[1:]}: {names} answered {items} at {counts} frames under {arms}"
        f"{study.by_writer(block)}."
    )


def _findings(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Yield every DiD of a block in one sentence each, or the gains where there is no DiD."""
    frame = where(study.frame, block)
    if frame["correct"].isna().all() or (frame["status"] != "ok").all():
        return
    found = dids(study, block)
    for row in found:
        text = f"{row['frames']} frames: the image member gained {points(row['mean_a'])} points"
        text += f" from {row['arm']}, the {row['role']} member {points(row['mean_b'])}"
        if (counted_tokens := comparisons.tokens(row)) != "-":
            text += f" (median input tokens {counted_tokens}, {row['reference']}/{row['arm']})"
        text += f"; DiD {with_interval(row)}"
        if isfinite(row["p"]):
            text += f", p {_p(row['p'])}, adjusted (Holm) {_p(row['p_adjusted'])} in the family "
            text += f"{formats.family(str(row['family']))}"
        yield text + _meaning(study, row) + _room(row) + _scales(study, row)
    yield from _transfers(study, block)
    yield from _of_no_gain(study, block)
    if found:
        return
    gains = where(study.contrasts, block, name="gain", policy="strict", arm=_ARM)
    for row in rows_of(gains):
        gain = with_interval(row)
        yield f"{row['frames']} frames: {row['role']} member, gain from {_ARM} {gain}."


def _transfers(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Yield how members differ in baseline: half of what the study claims."""
    found = where(study.contrasts, block, policy="strict", arm="baseline")
    found = found[found["name"].isin(["transfer", "control"])]
    for row in rows_of(found):
        members = compared(row["name"], row["role"])
        text = f"{row['frames']} frames, baseline: {members} {with_interval(row)}{_refused(row)}"
        if isfinite(row["p_adjusted"]):
            text += f", adjusted (Holm) p {_p(row['p_adjusted'])} in the family "
            text += formats.family(str(row["family"]))
        yield f"{text}."


def _of_no_gain(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether "the other member gains nothing" is shown, which needs a test of its own."""
    margin = points(study.margin)[1:]
    for row in rows_of(where(study.equivalences, block)):
        if row["role"] == "image":
            continue
        who = f"{row['frames']} frames: that the {row['role']} member gains nothing from {_ARM}"
        shown = "is shown" if row["equivalent"] else "is not shown at this n"
        if not isfinite(row["p"]):
            shown = "cannot be tested here"
        text = f"{who}, that is less than {margin} points either way, {shown}"
        if isfinite(row["low"]):
            ends = f"{points(row['low'])} to {points(row['high'])}"
            text += f" (90 % interval {ends}, TOST p {_p(row['p'])})"
        yield f"{text}."


def _text_alone(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Yield what vcot has beyond its text alone, or that this was not asked."""
    found = where(study.contrasts, block, policy="strict", name="against")
    each = [
        f"{row['arm']} - {row['reference']}, {row['role']} member, {row['frames']} frames: "
        f"{with_interval(row)}{_refused(row)}"
        for row in rows_of(found)
    ]
    if each:
        yield f"Beyond text alone: {'; '.join(each)}."
    elif dids(study, block):
        yield "Whether frames matter beside the text was not asked: run the arm infills_only too."


def _refused(row: Mapping[str, Any]) -> str:
    """Return that a row has no verdict, and why; empty where it has one."""
    share = f"{100 * row['failed_share']:.1f} % of the items of {row['failed_in']}"
    return "" if row["verdict"] else f" (no verdict: a machine failed at {share})"


def _p(value: float) -> str:
    text = p_value(value)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def _meaning(study: Study, row: Mapping[str, Any]) -> str:
    found = outcome(row)
    if found == "failed":
        text = f"{100 * row['failed_share']:.1f} % of the items of {row['failed_in']}"
        return f". No verdict: a machine failed at {text}."
    if found == "open":
        least = least_effect(study, row)
        text = ". The interval contains 0: at this n the DiD cannot be told from 0"
        if isfinite(least):
            size = points(least)[1:]
            text += f"; a true DiD of {size} points would have been found in 4 of 5 such runs"
        return f"{text}."
    if found == "uncorrected":
        return ". The interval excludes 0, but not after correction."
    return "."


def least_effect(study: Study, row: Mapping[str, Any]) -> float:
    """Return the least true effect that a contrast finds with 80 % power; NaN where unknown."""
    same = {name: row[name] for name in CONTRAST}
    planned = analysis.planning(where(study.contrasts, same, policy="strict"))
    return float(planned["minimum_effect"].iloc[0]) if len(planned) else float("nan")


def _room(row: Mapping[str, Any]) -> str:
    image, other = row["headroom_image"], row["headroom_other"]
    if not (isfinite(image) and isfinite(other)):
        return ""
    text = f" Room to gain: image {percent(image)}, {row['role']} {percent(other)}"
    shares = comparisons.shares_of_room(row)
    text += f"; gained of it: {shares}." if shares else "."
    # Even with every answer right, the other member would have gained less.
    if row["mean_a"] > other:
        text += (
            f" The {row['role']} member had less room than the image member gained: part of this "
            "DiD is forced by the ceiling."
        )
    return text


def _scales(study: Study, row: Mapping[str, Any]) -> str:
    """Return a sentence where the DiD of log-odds or of margins has the other sign."""
    same = where(study.did_on_other_scales, {name: row[name] for name in CONTRAST})
    opposite = [
        {"logit": "log-odds", "margin": "the right answer's margin"}[str(one["measure"])]
        for one in rows_of(same)
        if isfinite(one["estimate"]) and one["estimate"] * row["estimate"] < 0
    ]
    if not opposite:
        return ""
    return f" On the scale of {' and of '.join(opposite)} the DiD has the other sign."
