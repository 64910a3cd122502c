"""The section on how members received frames, and on what tells them apart beside their weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from probes.core.text import flat
from probes.report import cells
from probes.report.figures import style
from probes.report.parts import BulletList, DataTable, Paragraph, ReportPart, Section, listed
from probes.report.study import BLOCK, Study, pair_of, rows

# What names a checkpoint, and where it happened to run: these differ by nature.
_IDENTITY = ("fingerprint", "repo", "commit", "device")
_WORDS = {
    "config_sha256": "config.json", "tokenizer_sha256": "tokenizer",
    "processor_sha256": "processor", "chat_template_sha256": "chat template",
}  # fmt: skip
_WAYS = {"video": 0, "image": 1}  # in the order of the columns
_NAMED = re.compile(r"(^|, )[\w.]*frame_as=(video|image)(?=, |$)")


def frame_as(study: Study) -> Section:
    """Return the did under every way of receiving frames, and the members' differences."""
    parts: list[ReportPart] = [
        Paragraph(
            "Under frame_as=video a member receives every frame as a one-frame video, under "
            "frame_as=image by its native image path. Pooled one-frame video tokens are new to an "
            "image member: a did that holds under one of them only is a finding about tokens."
        )
    ]
    parts += _dids(study)
    parts += _differences(study)
    return Section("frame-as", "Frames as video or as image, and the members", tuple(parts))


def _dids(study: Study) -> Iterator[ReportPart]:
    ways = {tuple(b[name] for name in BLOCK): study.frame_as(b) for b in study.blocks}
    found = study.found[(study.found["name"] == "did") & (study.found["policy"] == "strict")]
    if found.empty:
        yield Paragraph("There is no did to compare.")
        return
    known = found.assign(
        frame_as=[ways[tuple(row[name] for name in BLOCK)] or "unknown" for row in rows(found)]
    )
    shown = sorted(set(known["frame_as"]), key=lambda way: (_WAYS.get(way, len(_WAYS)), way))
    if not {"video", "image"} <= set(shown):
        if shown == ["unknown"]:
            yield Paragraph("No manifest tells how frames were received.", "note")
        else:
            lacking = listed([way for way in ("video", "image") if way not in shown])
            yield Paragraph(
                f"Only frame_as={listed(shown)} was run. For the other, repeat the command with "
                f"pair.frame_as={lacking} and report on both folders.",
                "note",
            )
    table: dict[tuple[str, ...], dict[str, str]] = {}
    apart = tuple(name for name in study.told_apart if name != "setting")
    names = (*apart, "arm", "role", "frames")
    for row in rows(known):
        further = _NAMED.sub("", row["setting"]).strip(", ")
        key = (*(str(row[name]) for name in names), further)
        table.setdefault(key, {})[row["frame_as"]] = cells.interval(row)
    # Mostly nothing but the way itself sets the runs apart.
    rest = any(key[-1] for key in table)
    yield DataTable(
        "did-by-frame-as", "did by the way frames were received",
        (*apart, "arm", "other", "frames", *(["further setting"] if rest else []),
         *(f"frame_as={way} [95 %]" for way in shown)),
        tuple((*(key if rest else key[:-1]), *(found.get(way, "-") for way in shown))
              for key, found in table.items()),
        len(names) + rest, cells.plain(known),
    )  # fmt: skip


def _differences(study: Study) -> Iterator[ReportPart]:
    for at, pair in enumerate(dict.fromkeys(name for name, _ in study.members), 1):
        roles = style.in_order([role for name, role in study.members if name == pair])
        members = {role: study.members[pair, role] for role in roles}
        facts = {role: _facts(study, pair, role, name) for role, name in members.items()}
        if not all(facts.values()):
            lacking = listed([members[role] for role in roles if not facts[role]])
            yield Paragraph(f"Pair {pair}: no manifest holds the facts of {lacking}.", "note")
            continue
        names = list(dict.fromkeys(name for known in facts.values() for name in known))
        compared = [name for name in names if name not in _IDENTITY]
        differing = [n for n in compared if len({str(facts[r].get(n)) for r in roles}) > 1]
        if len(roles) > 1:
            yield Paragraph(
                f"Pair {pair}: {', '.join(f'{members[role]} ({role})' for role in roles)}."
            )
            yield BulletList(tuple(_told(compared, differing)))
        shown = [*differing, *(name for name in names if name not in differing)]
        yield DataTable(
            f"members-{at}", f"Pair {pair}: facts of the members, those that differ first",
            ("fact", "", *(f"{members[role]} ({role})" for role in roles)),
            tuple(
                (name, _mark(name, differing, len(roles)),
                 *(str(facts[role].get(name, "-")) for role in roles))
                for name in shown
            ),
            2 + len(roles), folded=True,
        )  # fmt: skip


def _mark(name: str, differing: list[str], members: int) -> str:
    if members < 2 or name in _IDENTITY:
        return ""
    return "differs" if name in differing else "same"


def _told(compared: list[str], differing: list[str]) -> Iterator[str]:
    """Say of config, tokenizer, processor and template whether they are the same; then the rest."""
    hashes = [name for name in _WORDS if name in compared]
    for word, names in (
        ("The same", [_WORDS[n] for n in hashes if n not in differing]),
        ("Not the same", [_WORDS[n] for n in hashes if n in differing]),
        ("Not known", [_WORDS[n] for n in _WORDS if n not in compared]),
    ):
        if names:
            yield f"{word} (by sha256): {', '.join(names)}."
    rest = [name for name in differing if name not in _WORDS]
    yield f"Further facts that differ: {', '.join(rest) if rest else 'none'}."


def _facts(study: Study, pair: str, role: str, name: str) -> dict[str, Any]:
    """Return what manifests tell of a member: of its checkpoint, and of how it was configured."""
    rows_of = study.frame[(study.frame["pair"] == pair) & (study.frame["role"] == role)]
    merged: dict[str, list[str]] = {}
    for run in (str(one) for one in pd.unique(rows_of["run"])):
        manifest = study.manifests[run]
        described = manifest.get("members")
        mine = described.get(name) if isinstance(described, Mapping) else None
        if not isinstance(mine, Mapping):
            continue
        configured = pair_of(manifest).get("members")
        for member in configured if isinstance(configured, list) else []:
            if isinstance(member, Mapping) and member.get("name") == name:
                mine = {**{k: v for k, v in member.items() if k not in ("name", "role")}, **mine}
        for fact, value in flat(mine).items():
            told = merged.setdefault(fact, [])
            if str(value) not in told:
                told.append(str(value))
    return {fact: " / ".join(told) for fact, told in merged.items()}
