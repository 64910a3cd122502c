"""The verdict in words: what the numbers say, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from probes import analysis
from probes.analysis.tables import p_value, percent, points
from probes.report import leaks
from probes.report.parts import BulletList, Paragraph, ReportPart, Section, counted, listed
from probes.report.study import Study, heading, rows, within

_ALPHA = 0.05
_ARM = "vcot"


def summary(study: Study) -> Section:
    """Return what was found, block by block, and what limits it."""
    parts: list[ReportPart] = [Paragraph(caveat, "caveat") for caveat in study.caveats]
    if not study.caveats and not any(study.manifests.values()):
        parts.append(
            Paragraph(
                "No run has a manifest: whether a caveat belongs to this pair is not known.", "note"
            )
        )
    for block, _ in study.each_block():
        parts.append(Paragraph(_asked(study, block)))
        told = list(_found(study, block))
        parts.append(Paragraph(_verdict(study, block), "verdict"))
        if told:
            parts.append(BulletList(tuple(told)))
            parts.append(Paragraph("What stands against reading more into it:"))
            parts.append(BulletList(tuple(_limits(study, block))))
    if study.idle:
        names = listed([path.name for path in study.idle])
        parts.append(
            Paragraph(
                f"{counted(len(study.idle), 'run')} left no records and is not here: {names}.",
                "note",
            )
        )
    return Section("summary", "Summary", tuple(parts))


def _asked(study: Study, block: Mapping[str, Any]) -> str:
    frame = within(study.frame, block)
    members = dict.fromkeys(zip(frame["role"], frame["member"], strict=True))
    who = " and ".join(f"{member} ({role})" for role, member in members)
    counts = " and ".join(str(count) for count in sorted(frame["frames"].unique()))
    arms = ", ".join(dict.fromkeys(str(arm) for arm in frame["arm"]))
    said = f"{heading(block)[0].upper()}{heading(block)[1:]}: {who} answered "
    said += f"{counted(frame['item_id'].nunique(), 'item')} at {counts} frames under {arms}."
    return said


def dids(study: Study, block: Mapping[str, Any], arm: str = _ARM) -> list[dict[str, Any]]:
    """Return the strict did of an arm in a block, one row per frame count and other member."""
    found = within(study.found, block)
    chosen = (found["name"] == "did") & (found["policy"] == "strict") & (found["arm"] == arm)
    return rows(found[chosen].sort_values(["role", "frames"], ascending=[False, True]))


def outcome(row: Mapping[str, Any]) -> str:
    """Say in a word what a did's interval and adjusted p-value come to.

    Returns:
        `undefined`, `open` (the interval holds zero), `uncorrected` (it does not, but the adjusted
        p-value is above 0.05), `image` or `other` (which member gained more).
    """
    if not (isfinite(row["low"]) and isfinite(row["high"])):
        return "undefined"
    if row["low"] <= 0 <= row["high"]:
        return "open"
    # A p-value without an adjusted one cannot be: both come from one table.
    if not row["p_adjusted"] <= _ALPHA:
        return "uncorrected"
    return "image" if row["estimate"] > 0 else "other"


def _verdict(study: Study, block: Mapping[str, Any]) -> str:
    frame = within(study.frame, block)
    if frame["correct"].isna().all():
        return "No item here has a public key: nothing can be said about gains."
    roles = set(frame["role"])
    if _ARM not in set(frame["arm"]):
        return f"The arm {_ARM} was not run: there is no gain from text between frames to compare."
    if "image" not in roles or len(roles) == 1:
        return f"Only the {listed(sorted(roles))} member was run: gains can be told, no did."
    if (frame["status"] != "ok").all():
        return "No answer was parsed: these numbers say nothing about the members."
    found = dids(study, block)
    if not found:
        return f"No did: {_ARM} and its reference arm were not both put to both members."
    told = [outcome(row) for row in found]
    for name, who in (("image", "the image member"), ("other", "the other member")):
        if all(one == name for one in told):
            where = "" if len(told) == 1 else f" in all {len(told)} comparisons"
            return f"On these items {who} gained more from {_ARM}{where}."
    if all(one in ("open", "undefined") for one in told):
        return (
            f"This run cannot tell the members' gains from {_ARM} apart. That is no evidence that "
            "they are the same."
        )
    clear = [f"{_where(row)}: {_short(one)}" for row, one in zip(found, told, strict=True)]
    return "Mixed: " + "; ".join(clear) + "."


def _where(row: Mapping[str, Any]) -> str:
    return f"image - {row['role']} at {row['frames']} frames"


def _short(name: str) -> str:
    return {
        "image": "the image member gained more", "other": "the other member gained more",
        "open": "not told apart", "undefined": "undefined",
        "uncorrected": "not beyond what as many comparisons bring by chance",
    }[name]  # fmt: skip


def _found(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Tell every did of a block in one sentence each, or the gains where there is no did."""
    frame = within(study.frame, block)
    if frame["correct"].isna().all() or (frame["status"] != "ok").all():
        return
    found = dids(study, block)
    whole = study.found
    family = int(((whole["name"] == "did") & (whole["policy"] == "strict")).sum())
    for row in found:
        said = f"{row['frames']} frames: the image member gained {points(row['mean_a'])} points"
        said += f" from {row['arm']}, the {row['role']} member {points(row['mean_b'])}"
        said += f"; did {_estimate(row)}"
        if isfinite(row["p"]):
            said += f", p {_p(row['p'])}, adjusted (Holm) {_p(row['p_adjusted'])} over all "
            said += f"{family} did of this report"
        yield said + _meaning(study, row) + _room(row) + _scales(study, row)
    if found:
        return
    gains = within(whole, block)
    chosen = (gains["name"] == "gain") & (gains["policy"] == "strict") & (gains["arm"] == _ARM)
    for row in rows(gains[chosen]):
        yield f"{row['frames']} frames: {row['role']} member, gain from {_ARM} {_estimate(row)}."


def _estimate(row: Mapping[str, Any]) -> str:
    if not isfinite(row["estimate"]):
        return f"undefined ({row['reason'] or 'no item in common'})"
    said = f"{points(row['estimate'])} points"
    if not isfinite(row["low"]):
        return f"{said}, interval undefined ({row['reason']})"
    return f"{said} (95 % interval {points(row['low'])} to {points(row['high'])})"


def _p(value: float) -> str:
    said = p_value(value)
    return f"< {said[1:]}" if said.startswith("<") else f"= {said}"


def _meaning(study: Study, row: Mapping[str, Any]) -> str:
    told = outcome(row)
    if told == "open":
        least = least_effect(study, row)
        more = (
            f"; a true did of {points(least)[1:]} points would have been found in 4 of 5 such runs"
            if isfinite(least) else ""
        )  # fmt: skip
        return f". The interval holds zero: not told apart{more}."
    if told == "uncorrected":
        return ". The interval leaves zero out, but not after correction."
    return "."


def least_effect(study: Study, row: Mapping[str, Any]) -> float:
    """Return the least true effect that a contrast finds with 80 % power; NaN where unknown."""
    one = study.found[
        (study.found["policy"] == "strict")
        & (study.found[list(_KEY)] == [row[name] for name in _KEY]).all(axis=1)
    ]
    planned = analysis.planning(one)
    return float(planned["minimum_effect"].iloc[0]) if len(planned) else float("nan")


_KEY = ("task", "setting", "pair", "frames", "scoring", "seed", "name", "role", "arm")


def _room(row: Mapping[str, Any]) -> str:
    image, other = row["headroom_image"], row["headroom_other"]
    if not (isfinite(image) and isfinite(other)):
        return ""
    said = f" Room to gain: image {percent(image)}, {row['role']} {percent(other)}."
    if row["mean_a"] > other:
        said += (
            f" The {row['role']} member had less room than the image member gained: part of this "
            "did is forced by the ceiling."
        )
    return said


def _scales(study: Study, row: Mapping[str, Any]) -> str:
    """Say where the did on log-odds or margins points the other way."""
    scales = study.scales
    same = scales[(scales[list(_KEY)] == [row[name] for name in _KEY]).all(axis=1)]
    against = [
        {"logit": "log-odds", "margin": "the key's margin"}[str(one["measure"])]
        for one in rows(same)
        if isfinite(one["estimate"]) and one["estimate"] * row["estimate"] < 0
    ]
    if not against:
        return ""
    return f" On the scale of {' and of '.join(against)} the did has the other sign."


def _limits(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    frame = within(study.frame, block)
    roles = set(frame["role"])
    bad = frame["status"] != "ok"
    if bad.any():
        share = f"{100 * bad.mean():.1f} %"
        yield f"{share} of the records were not parsed or failed; they count as wrong."
    yield from _at_chance(study, block)
    yield from _blind(study, block)
    yield from _leaked(study, block)
    if "video" in roles and "control" not in roles:
        yield (
            "No control member was run in this block: what the video member has beyond the image "
            "member may be owed to more training of any kind."
        )
    if study.frame_as(block) == "video":
        others = [study.frame_as(other) for other in study.blocks if _alike(other, block)]
        if "image" not in others:
            yield (
                "Frames were received as one-frame videos only, which is new to an image member "
                "and may flatter the hypothesis; run the same with pair.frame_as=image."
            )
    if dids(study, block):
        yield "A did can tell that text helps one member more on these items, never why."


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[name] == b[name] for name in ("task", "pair", "scoring", "seed"))


def _at_chance(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    cells = within(study.cells, block)
    cells = cells[(cells["arm"] == "baseline") & (cells["stratum"] == "")]
    for role, part in cells.groupby("role", sort=False):
        told = [
            f"at {row['frames']} frames ({percent(row['accuracy'])}, "
            f"guessing {percent(row['chance'])})"
            for row in rows(part)
            if row["low"] <= row["chance"] <= row["high"]
        ]
        if told:
            yield f"The {role} member's baseline cannot be told from guessing {_and(told)}."


def _blind(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    found = within(study.found, block)
    found = found[(found["name"] == "gain") & (found["arm"] == "blind")]
    for role, part in found[found["policy"] == "strict"].groupby("role", sort=False):
        told = [
            f"at {row['frames']} frames (blind - {row['reference']} {_estimate(row)})"
            for row in rows(part)
            if row["high"] >= 0  # frames help where all of it lies below zero
        ]
        if told:
            yield f"The {role} member is not clearly better than without frames {_and(told)}."


def _and(told: list[str]) -> str:
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def _leaked(study: Study, block: Mapping[str, Any]) -> Iterator[str]:
    """Say in how many of a block's items an infill holds the key's text."""
    leaked = leaks.leaking(study.infills)
    same = [leaked[name] == block[name] for name in ("pair", "task", "setting")]
    mine = leaked[same[0] & same[1] & same[2]]
    frame = within(study.frame, block)
    told = []
    for count, part in mine.groupby("frames"):
        asked = set(frame.loc[frame["frames"] == count, "item_id"])
        if hit := len(asked & set(part["item_id"])):
            told.append(f"in {hit} of {counted(len(asked), 'item')} at {count} frames")
    if told:
        yield (
            f"An infill holds the whole text of the key {_and(told)}: some of a gain may be "
            "copying (see Infills and donors)."
        )
