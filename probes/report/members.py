"""The section on how members received frames, and on how they differ in more than weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from probes.analysis import formats
from probes.analysis.columns import BLOCK, in_order, rows_of, where
from probes.analysis.comparability import IDENTITY, differing_facts
from probes.core.tables import Table
from probes.core.text import flat, listed
from probes.report.parts import BulletList, Paragraph, ReportPart, Section
from probes.report.study import Study, pair_of

_FILES = {
    "config_sha256": "config.json",
    "tokenizer_sha256": "tokenizer",
    "processor_sha256": "processor",
    "chat_template_sha256": "chat template",
}
_FRAME_AS = {"video": 0, "image": 1}  # in the order of the columns
_MOST_LINES = 5
"""Most lines of a verdict that a page shows without a click."""
_FRAME_AS_SETTING = re.compile(r"(^|, )[\w.]*frame_as=(video|image)(?=, |$)")


def frame_as(study: Study) -> Section:
    """Return the DiD under every way of receiving frames, and the members' differences."""
    parts: list[ReportPart] = [
        Paragraph(
            "Under frame_as=video a member receives every frame as a one-frame video, under "
            "frame_as=image by its native image path. Pooled one-frame video tokens are new to an "
            "image member: a DiD that holds under one of them only is a finding about tokens."
        )
    ]
    parts += _dids(study)
    parts += _differences(study)
    return Section("frame-as", "Frames as video or as image, and the members", tuple(parts))


def comparability(study: Study) -> Section | None:
    """Return whether the members of each pair can be compared."""
    found = {
        (str(pair_of(manifest).get("name", "")), str(verdict["verdict"]), *_lines(verdict))
        for manifest in study.manifests.values()
        if (verdict := manifest.get("comparability"))
    }
    parts: list[ReportPart] = []
    for number, (pair, verdict, faults, lines) in enumerate(sorted(found), 1):
        kind = {"not comparable": "caveat", "not checked": "note"}.get(verdict, "")
        text = f"Pair {pair}: {verdict}, by what probes doctor found of its members."
        parts.append(Paragraph(text, kind))
        # Of many, the first screen has room for the verdict and its faults only.
        shown, folded = (
            (lines[:faults], lines[faults:]) if len(lines) > _MOST_LINES else (lines, ())
        )
        parts += [BulletList(shown)] if shown else []
        if folded:
            rows, name = tuple((line,) for line in folded), f"comparability-{number}"
            title = f"Differences, and what could not be seen of the pair {pair}"
            parts.append(Table(title, ("found",), rows, words=1, name=name, folded=True))
    if not parts:
        return None
    return Section("comparability", "Can the members be compared?", tuple(parts))


def _lines(found: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return how many faults a verdict has, and its lines, faults first."""
    return len(found.get("faults", ())), tuple(_all_lines(found))


def _all_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults, differences and gaps of a verdict, and how the first answers compare."""
    yield from found.get("faults", ())
    yield from found.get("differences", ())
    yield from (f"not seen: {one}" for one in found.get("unseen", ()))
    for name, member in (found.get("members") or {}).items():
        passes = member.get("passes") or {}
        if passes.get("compared"):
            yield (
                f"{name}: {passes['compared']} prompts were put to its own class too; option "
                f"scores differ by at most {passes['largest']:.1e}"
            )


def _dids(study: Study) -> Iterator[ReportPart]:
    by_block = {tuple(b[name] for name in BLOCK): study.frame_as(b) for b in study.blocks}
    found = where(study.contrasts, name="did", policy="strict")
    if found.empty:
        yield Paragraph("There is no DiD to compare.")
        return
    known = found.assign(
        frame_as=[by_block[tuple(row[n] for n in BLOCK)] or "unknown" for row in rows_of(found)]
    )
    ways = sorted(set(known["frame_as"]), key=lambda way: (_FRAME_AS.get(way, len(_FRAME_AS)), way))
    if not {"video", "image"} <= set(ways):
        yield Paragraph(_only(ways), "note")
    yield _did_table(study, known, ways)


def _only(ways: Sequence[str]) -> str:
    if ways == ["unknown"]:
        return "No manifest states how frames were received."
    missing = listed([way for way in ("video", "image") if way not in ways])
    return (
        f"Only frame_as={listed(ways)} was run. For the other, repeat the command with "
        f"pair.frame_as={missing} and report on both folders."
    )


def _did_table(study: Study, dids: pd.DataFrame, ways: Sequence[str]) -> Table:
    """Return one row per comparison, with a column for each way of receiving frames."""
    differing = tuple(name for name in study.differing if name != "setting")
    names = (*differing, "arm", "role", "frames")
    table: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows_of(dids):
        # frame_as has columns here; what is left of the label makes the row.
        further = _FRAME_AS_SETTING.sub("", row["setting"]).strip(", ")
        head = (*(str(row[name]) for name in names), further)
        table.setdefault(head, {})[row["frame_as"]] = formats.interval(row)
    # Mostly the runs differ in nothing but frame_as itself.
    kept = len(names) + any(head[-1] for head in table)
    header = (*differing, "arm", "other", "frames", "further setting")
    return Table(
        "DiD by the way frames were received",
        header=(*header[:kept], *(f"frame_as={way} [95 %]" for way in ways)),
        rows=tuple(
            (*head[:kept], *(found.get(way, "-") for way in ways)) for head, found in table.items()
        ),
        words=kept,
        name="did-by-frame-as",
        data=formats.for_csv(dids),
    )


def _differences(study: Study) -> Iterator[ReportPart]:
    for number, pair in enumerate(dict.fromkeys(name for name, _ in study.members), 1):
        roles = in_order([role for name, role in study.members if name == pair])
        members = {role: study.members[pair, role] for role in roles}
        facts = {role: _facts(study, pair, role, name) for role, name in members.items()}
        if not all(facts.values()):
            missing = listed([members[role] for role in roles if not facts[role]])
            yield Paragraph(f"Pair {pair}: no manifest holds the facts of {missing}.", "note")
            continue
        names = list(dict.fromkeys(name for known in facts.values() for name in known))
        compared = [name for name in names if name not in IDENTITY]
        differing = differing_facts([facts[role] for role in roles])
        if len(roles) > 1:
            yield Paragraph(
                f"Pair {pair}: {', '.join(f'{members[role]} ({role})' for role in roles)}."
            )
            yield BulletList(tuple(_comparison(compared, differing)))
        others = [name for name in names if name not in differing]
        yield Table(
            f"Pair {pair}: facts of the members, those that differ first",
            header=("fact", "", *(f"{members[role]} ({role})" for role in roles)),
            rows=tuple(
                (
                    name,
                    _mark(name, differing, len(roles)),
                    *(str(facts[role].get(name, "-")) for role in roles),
                )
                for name in [*differing, *others]
            ),
            words=2 + len(roles),
            name=f"members-{number}",
            folded=True,
        )


def _mark(name: str, differing: Sequence[str], members: int) -> str:
    if members < 2 or name in IDENTITY:
        return ""
    return "differs" if name in differing else "same"


def _comparison(compared: Sequence[str], differing: Sequence[str]) -> Iterator[str]:
    """Yield which of config, tokenizer, processor and template are the same; then other facts."""
    hashes = [name for name in _FILES if name in compared]
    for text, names in (
        ("The same", [_FILES[n] for n in hashes if n not in differing]),
        ("Not the same", [_FILES[n] for n in hashes if n in differing]),
        ("Not known", [_FILES[n] for n in _FILES if n not in compared]),
    ):
        if names:
            yield f"{text} (by sha256): {', '.join(names)}."
    rest = [name for name in differing if name not in _FILES]
    yield f"Further facts that differ: {', '.join(rest) if rest else 'none'}."


def _facts(study: Study, pair: str, role: str, name: str) -> dict[str, Any]:
    """Return what manifests state about a member: its checkpoint, and how it was configured."""
    records = where(study.frame, pair=pair, role=role)
    merged: dict[str, list[str]] = {}
    for run in (str(one) for one in pd.unique(records["run"])):
        manifest = study.manifests[run]
        described = manifest.get("members")
        facts = described.get(name) if isinstance(described, Mapping) else None
        if not isinstance(facts, Mapping):
            continue
        configured = pair_of(manifest).get("members")
        for member in configured if isinstance(configured, list) else []:
            if isinstance(member, Mapping) and member.get("name") == name:
                # What was loaded outranks what was configured.
                facts = {**{k: v for k, v in member.items() if k not in ("name", "role")}, **facts}
        for fact, value in flat(facts).items():
            values = merged.setdefault(fact, [])
            if str(value) not in values:
                values.append(str(value))
    return {fact: " / ".join(values) for fact, values in merged.items()}
