"""The summary: the answer of every block in two sentences and one figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from probes import stats
from probes.analysis.artefacts import one_letter_lines
from probes.analysis.columns import NO_MODEL, heading, rows_of, where, without_model
from probes.analysis.formats import compared, interval, points, span, with_interval
from probes.core.text import listed
from probes.records.binding import edited_line
from probes.report import figures
from probes.report.parts import FigurePart, Paragraph, ReportPart, Section
from probes.report.study import Study

_ARM = "vcot"
_OUTCOMES = {
    "image": "the image member gained more",
    "other": "the other member gained more",
    "open": "cannot be told from 0 at this n",
    "undefined": "undefined",
    "failed": "no verdict, since a machine failed too often",
    "uncorrected": "not beyond what so many comparisons give by chance",
}
_TOLD = 4
"""Most comparisons whose numbers the answer spells out."""


def summary(study: Study) -> Section:
    """Return what was found, block by block, in words and in one figure each."""
    parts: list[ReportPart] = list(_first_of_all(study))
    for block, suffix in study.each_block():
        if len(study.blocks) > 1:
            title = heading(block)
            parts.append(Paragraph(f"{title[0].upper()}{title[1:]}{study.by_writer(block)}:"))
        parts.append(Paragraph(_answer(study, block), "verdict"))
        if dids(study, block):
            title = f"Accuracy in baseline and under {_ARM}, and the DiD: {heading(block)}"
            title += study.by_writer(block)
            figure = figures.answer_figure(where(study.contrasts, block), _ARM)
            parts.append(FigurePart(f"answer{suffix}", title, figure, narrow=True))
    return Section("summary", "Answer", tuple(parts))


def _first_of_all(study: Study) -> Iterator[ReportPart]:
    """Yield what makes the answer one of less than the whole run, or of other than it wrote."""
    for one in study.frame.attrs.get("partial", ()):
        yield Paragraph(f"Partial data: {one}.", "caveat")
    if mark := without_model(study.frame):
        text = f"{mark[0].upper()}{mark[1:]}. Nothing here is about a model."
        yield Paragraph(text, "caveat")
    if edited := edited_line(study.frame.attrs.get("edited", ())):
        yield Paragraph(edited, "caveat")


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


def _answer(study: Study, block: Mapping[str, Any]) -> str:
    """Return the answer: a sentence of words, one of numbers, and who always says one letter."""
    found = dids(study, block)
    text = _no_verdict(study, block)
    if not text:
        text = f"{_verdict(found)} {_numbers(found)}".strip()
    elif not found and (gains := _gains(study, block)):
        text += f" {gains}"
    for line in one_letter_lines(where(study.frame, block)):
        text += f" {line[0].upper()}{line[1:]}."
    return text


def _gains(study: Study, block: Mapping[str, Any]) -> str:
    """Return the gains of a block without a DiD in one sentence; empty where there are none."""
    found = where(study.contrasts, block, name="gain", policy="strict", arm=_ARM)
    known = [row for row in rows_of(found) if isfinite(row["estimate"]) and row["verdict"]]
    frame = where(study.frame, block)
    shown = (frame["status"] == "ok").any() and without_model(frame) != NO_MODEL
    if not (shown and 0 < len(known) <= _TOLD):
        return ""
    each = [f"{row['role']} {interval(row)} at {row['frames']} frames" for row in known]
    n = span(int(row["n"]) for row in known)
    return f"Gain from {_ARM} in points with 95 % interval (n = {n}): {', '.join(each)}."


def _verdict(found: Sequence[Mapping[str, Any]]) -> str:
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
    if set(outcomes) == {"undefined"}:
        return f"The DiD of {_ARM} is undefined on these items."
    if set(outcomes) <= {"open", "undefined"}:
        return (
            f"The DiD of {_ARM} cannot be told from 0 at this n, which is no evidence that the "
            "members gain the same."
        )
    each = [
        f"image - {row['role']} at {row['frames']} frames: {_OUTCOMES[one]}"
        for row, one in zip(found, outcomes, strict=True)
    ]
    return f"Mixed: {'; '.join(each)}."


def _numbers(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the numbers in one sentence: with both gains where there is a single comparison."""
    known = [row for row in found if isfinite(row["estimate"]) and row["verdict"]]
    if not known:
        return ""
    if len(known) == 1:
        (row,) = known
        return (
            f"At {row['frames']} frames, n = {row['n']}, the image member gained "
            f"{points(row['mean_a'])} points and the {row['role']} member {points(row['mean_b'])}, "
            f"DiD {with_interval(row)}."
        )
    n = span(int(row["n"]) for row in known)
    if len(known) > _TOLD:
        ends = [points(pick(row["estimate"] for row in known)) for pick in (min, max)]
        return f"The {len(known)} DiD (n = {n}) are between {ends[0]} and {ends[1]} points."
    by_role: dict[str, list[str]] = {}
    for row in known:
        text = f"{interval(row)} at {row['frames']} frames"
        by_role.setdefault(compared("did", str(row["role"])), []).append(text)
    each = "; ".join(f"{members} {', '.join(texts)}" for members, texts in by_role.items())
    return f"The DiD in points with 95 % intervals (n = {n}) are {each}."


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
