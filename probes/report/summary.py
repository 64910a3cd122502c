"""The summary: what the numbers show, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from probes import analysis, stats
from probes.analysis import comparisons
from probes.analysis.columns import CONTRAST, NO_MODEL, heading, rows_of, where, without_model
from probes.analysis.formats import compared, p_value, percent, points, with_interval
from probes.analysis.scored import frame_lines
from probes.core.text import listed
from probes.records.binding import edited_line
from probes.report.limits import limits
from probes.report.parts import BulletList, Paragraph, ReportPart, Section, counted
from probes.report.study import Study

_ARM = "vcot"
_OUTCOMES = {
    "image": "the image member gained more",
    "other": "the other member gained more",
    "open": "cannot be distinguished",
    "undefined": "undefined",
    "failed": "no verdict, since a machine failed too often",
    "uncorrected": "not beyond what so many comparisons give by chance",
}


def summary(study: Study) -> Section:
    """Return what was found, block by block, and what limits it."""
    # First of all: what follows is not about the whole run, or not about what it wrote.
    parts: list[ReportPart] = [
        Paragraph(f"Partial data: {one}.", "caveat") for one in study.frame.attrs.get("partial", ())
    ]
    if mark := without_model(study.frame):
        parts.append(
            Paragraph(f"{mark[0].upper()}{mark[1:]}. Nothing here is about a model.", "caveat")
        )
    if edited := edited_line(study.frame.attrs.get("edited", ())):
        parts.append(Paragraph(edited, "caveat"))
    parts += [Paragraph(caveat, "caveat") for caveat in study.caveats]
    if not study.caveats and not any(study.manifests.values()):
        parts.append(
            Paragraph(
                "No run has a manifest: whether a caveat belongs to this pair is not known.", "note"
            )
        )
    for block, _ in study.each_block():
        parts.append(Paragraph(_question(study, block)))
        parts.append(Paragraph(_verdict(study, block), "verdict"))
        told = frame_lines(where(study.frame, block), study.frame.attrs.get("without_mass", ()))
        parts += [Paragraph(f"{line[0].upper()}{line[1:]}.", "note") for line in told]
        if findings := tuple(_findings(study, block)):
            parts.append(BulletList(findings))
            texts = [comparisons.of_text_alone(row) for row in dids(study, block)]
            parts += [Paragraph(text) for text in texts if text]
            parts += [Paragraph(text) for text in _text_alone(study, block)]
            parts.append(Paragraph("What limits these findings:"))
            parts.append(BulletList(tuple(limits(study, block, bool(dids(study, block))))))
    if study.without_records:
        count = counted(len(study.without_records), "run")
        names = listed([path.name for path in study.without_records])
        parts.append(Paragraph(f"{count} did not finish and is not here: {names}.", "note"))
    return Section("summary", "Summary", tuple(parts))


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


def dids(study: Study, block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the strict difference in differences (DiD) of `vcot` in a block.

    Returns:
        One row per frame count and other member.
    """
    found = where(study.contrasts, block, name="did", policy="strict", arm=_ARM)
    # By name downwards, which puts video before control.
    return rows_of(found.sort_values(["role", "frames"], ascending=[False, True]))


def outcome(row: Mapping[str, Any]) -> str:
    """Return what a DiD's interval and adjusted p-value show.

    Returns:
        `failed` (a machine failed too often), `undefined`, `open` (the interval contains zero),
        `uncorrected` (it does not, but the adjusted p-value is above 0.05), `image` or `other`
        (which member gained more).
    """
    if not row["verdict"]:
        return "failed"
    if not (isfinite(row["low"]) and isfinite(row["high"])):
        return "undefined"
    # The interval first: a verdict must agree with what is printed next to it.
    if row["low"] <= 0 <= row["high"]:
        return "open"
    # A p-value without an adjusted one cannot be: both come from one table.
    if not row["p_adjusted"] <= stats.ALPHA:
        return "uncorrected"
    return "image" if row["estimate"] > 0 else "other"


def _verdict(study: Study, block: Mapping[str, Any]) -> str:
    if reason := _no_verdict(study, block):
        return reason
    found = dids(study, block)
    if not found:
        return f"No DiD: {_ARM} and its reference arm were not both put to both members."
    outcomes = [outcome(row) for row in found]
    # All comparisons or none: no single one is picked out.
    if set(outcomes) in ({"image"}, {"other"}):
        scope = "" if len(outcomes) == 1 else f" in all {len(outcomes)} comparisons"
        return f"On these items the {outcomes[0]} member gained more from {_ARM}{scope}."
    if set(outcomes) == {"failed"}:
        worst = max(found, key=lambda row: float(row["failed_share"]))
        return (
            f"No verdict: a machine failed at {100 * worst['failed_share']:.1f} % of the items of "
            f"{worst['failed_in']} at {worst['frames']} frames, and an error is no answer."
        )
    if set(outcomes) <= {"open", "undefined"}:
        return (
            f"In this run the members' gains from {_ARM} cannot be distinguished. That is not "
            "evidence that they are the same."
        )
    each = [
        f"image - {row['role']} at {row['frames']} frames: {_OUTCOMES[one]}"
        for row, one in zip(found, outcomes, strict=True)
    ]
    return f"Mixed: {'; '.join(each)}."


def _no_verdict(study: Study, block: Mapping[str, Any]) -> str:
    """Return why a block's records cannot give a DiD; empty where they may."""
    frame = where(study.frame, block)
    roles = set(frame["role"])
    if without_model(frame) == NO_MODEL:
        return f"No verdict. {NO_MODEL[0].upper()}{NO_MODEL[1:]}."
    if frame["correct"].isna().all():
        return "No item here has a public answer: nothing can be said about gains."
    if _ARM not in set(frame["arm"]):
        return f"The arm {_ARM} was not run: there is no gain from text between frames to compare."
    if "image" not in roles or len(roles) == 1:
        names = listed(sorted(roles))
        return f"Only the {names} member was run: there are gains, but no DiD."
    if (frame["status"] != "ok").all():
        return "No answer was parsed: these numbers show nothing about the members."
    return ""


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
            text += f"{row['family']}"
        yield text + _meaning(study, row) + _room(row) + _scales(study, row)
    yield from _transfers(study, block)
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
        text = f"{row['frames']} frames, baseline: {members} {with_interval(row)}"
        if isfinite(row["p_adjusted"]):
            text += f", adjusted (Holm) p {_p(row['p_adjusted'])} in the family {row['family']}"
        yield f"{text}."


def _text_alone(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Yield what vcot has beyond its text alone, or that this was not asked."""
    found = where(study.contrasts, block, policy="strict", name="against")
    each = [
        f"{row['arm']} - {row['reference']}, {row['role']} member, {row['frames']} frames: "
        f"{with_interval(row)}"
        for row in rows_of(found)
    ]
    if each:
        yield f"Beyond text alone: {'; '.join(each)}."
    elif dids(study, block):
        yield "Whether frames matter beside the text was not asked: run the arm infills_only too."


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
        text = ". The interval contains zero: the gains cannot be distinguished"
        if isfinite(least):
            size = points(least)[1:]
            text += f"; a true DiD of {size} points would have been found in 4 of 5 such runs"
        return f"{text}."
    if found == "uncorrected":
        return ". The interval excludes zero, but not after correction."
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
