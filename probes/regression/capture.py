"""Run folders -> snapshot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis.columns import rows_of
from probes.config.settings import MOST_FAILED
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.origins import major_minor
from probes.core.text import flat
from probes.records import schema
from probes.records.manifest import REWRITE, read_manifest
from probes.records.schema import ItemRow
from probes.regression.snapshot import (
    DIGITS,
    UNKNOWN,
    AnswerKey,
    BaselineAnswer,
    CellAnswers,
    CellName,
    ItemFacts,
    Snapshot,
)

# Versions that decide the arithmetic of a forward pass, and what a frame or a prompt becomes.
_ARITHMETIC = ("torch", "torchvision", "transformers", "tokenizers", "numpy")
# What records and items hold themselves, and what may change under test.
_NOT_OF_THE_QUESTION = {
    *"answers backend frames limit most_failed out overwrite primary scoring seed".split(),
    *"shard shards".split(),
    *"infill.file prompts.name".split(),
    *"task.name task.reader task.root task.include_path task.scoring task.frames".split(),
    *"task.unanswered task.videos task.per_config task.seed task.height".split(),
    *"task.width task.fps task.seconds".split(),
}
_ITEM_COLUMNS = "task id question options answer cluster stratum meta frame_hashes".split()


def capture(path: str | Path, *, edited: bool = False, partial: bool = False) -> Snapshot:
    """Take from a run what a check needs.

    Args:
        path: a run folder, or a folder above the run folders of a sweep or of shards.
        edited: whether tables that are not those that the run wrote are read as they are.
        partial: take it although shards are missing.

    Raises:
        ProbesError: nothing found, unreadable files, no manifest or items next to the records,
            missing shards, runs that differ in settings other than those that name their cells, or
            answers to items that the run's own table of items does not have.
    """
    frame = analysis.load(path, edited=edited, partial=partial)
    if settings := sorted({str(setting) for setting in frame["setting"]} - {""}):
        raise ProbesError(
            f"the runs differ in their settings: {'; '.join(settings)}",
            str(path),
            "check runs of one setting at a time",
        )
    if frame["infill_draw"].any():
        raise ProbesError(
            "a check takes one answer to a question, and this run has several texts per gap",
            str(path),
            "check a run without infill_draws",
        )
    folders = [Path(run) for run in dict.fromkeys(frame["run"].astype(str))]
    manifests = [_manifest(folder) for folder in folders]
    configs = [manifest["config"] for manifest in manifests]
    settings_of_question = {k: v for config in configs for k, v in _settings(config).items()}
    items = _items(folders)
    _check_items(frame, items)
    computed = [count for manifest in manifests for count in _computed(manifest)]
    return Snapshot(
        created=max(str(manifest.get("created", "")) for manifest in manifests),
        git=" + ".join(sorted({str(manifest.get("git", ""))[:DIGITS] for manifest in manifests})),
        platform=_joined([_platform(manifest) for manifest in manifests]),
        settings=dict(sorted(settings_of_question.items())),
        origins=_origins(manifests),
        members=_joined([_fingerprints(manifest) for manifest in manifests]),
        references=dict(sorted(frame.attrs.get("references", {}).items())),
        infill_sources=tuple(frame.attrs.get("infill_sources", ())),
        items=items,
        cells=_cells(frame),
        primary=_primary(configs),
        most_failed=frame.attrs.get("most_failed", MOST_FAILED),
        # A manifest without counts says nothing, and nothing is claimed.
        cached=bool(computed) and not any(computed),
        edited=tuple(frame.attrs.get("edited", ())),
        partial=tuple(frame.attrs.get("partial", ())),
    )


def _check_items(frame: pd.DataFrame, items: Sequence[ItemFacts]) -> None:
    known = {(item.task, item.id) for item in items}
    for row in rows_of(frame[["run", "task", "item_id"]].drop_duplicates()):
        if (str(row["task"]), str(row["item_id"])) not in known:
            raise ProbesError(
                f"the records have an answer to item {row['item_id']} of task {row['task']}, and "
                "the run's items do not have that item: the tables are of two runs",
                str(Path(row["run"]) / "items.parquet"),
                REWRITE,
            )


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if not isinstance(manifest.get("config"), dict):
        raise ProbesError(
            "the run has no manifest with a configuration",
            str(folder / "manifest.json"),
            "name a folder that `probes run` finished",
        )
    return manifest


def _items(folders: Sequence[Path]) -> tuple[ItemFacts, ...]:
    """Return the items of several runs once each, with the frames of all frame counts."""
    items: dict[tuple[str, str], ItemFacts] = {}
    for folder in folders:
        for item in _items_of(folder / "items.parquet"):
            known = items.get((item.task, item.id))
            frames = {**(known.frames if known else {}), **item.frames}
            items[item.task, item.id] = replace(item, frames=dict(sorted(frames.items())))
    return tuple(items[name] for name in sorted(items))


def _items_of(file: Path) -> Iterator[ItemFacts]:
    for row in schema.read(file, ItemRow, _ITEM_COLUMNS).to_pylist():
        content = [row["question"], row["options"], row["meta"]]
        yield ItemFacts(
            str(row["task"]),
            str(row["id"]),
            str(row["cluster"] or ""),
            str(row["stratum"] or ""),
            row["answer"],
            sha256_json(content)[:DIGITS],
            {str(k): sha256_json(v)[:DIGITS] for k, v in row["frame_hashes"] or ()},
        )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are part of the question, by pair and dotted name.

    Left out are those that records and items hold themselves, and what may change under test:
    checkpoints, arithmetic, backend, batches.
    """
    pair = config.get("pair") or {}
    kept: dict[str, Any] = {k: v for k, v in config.items() if k not in ("pair", "suite")}
    # By name, since another order of arms is no other question.
    kept["suite"] = {str(arm.get("name")): dict(arm) for arm in config.get("suite") or ()}
    kept["pair"] = {"answer_prefix": pair.get("answer_prefix", "")}
    for name in ("answer_prefix", "chat_template_kwargs"):
        # One value each: so a member that has none differs from one that has some.
        own = {one.get("role"): one.get(name) for one in pair.get("members") or ()}
        kept[f"member {name}"] = {k: repr(v) if v is not None else None for k, v in own.items()}
    kept["frame_as"] = {
        member.get("role"): member.get("frame_as") for member in pair.get("members") or ()
    }
    for name in ("min_pixels", "max_pixels"):
        # Only where they are set: baselines of older versions know of none.
        own = {one.get("role"): one.get(name) for one in pair.get("members") or ()}
        kept |= {f"member {name}": own} if any(own.values()) else {}
    # How long a reply may be matters only where replies are what is scored.
    reply = set() if config.get("scoring") == "generate" else {"max_new_tokens"}
    left_out = _NOT_OF_THE_QUESTION | reply
    return {
        f"{pair.get('name', '')}: {name}": value
        for name, value in flat(kept).items()
        if name not in left_out and name.split(".")[0] not in left_out
    }


def _primary(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    declared = (config.get("primary") for config in configs)
    known = (one for one in declared if isinstance(one, list | tuple))
    return tuple(dict.fromkeys(str(name) for names in known for name in names))


def _platform(manifest: Mapping[str, Any]) -> dict[str, str]:
    facts = manifest.get("platform") or {}
    found = {name: str(facts.get(name, UNKNOWN)) for name in ("system", "machine", "cpu", "gpu")}
    packages = manifest.get("packages") or {}
    found |= {name: str(packages.get(name, UNKNOWN)) for name in _ARITHMETIC}
    found |= _computed_elsewhere(manifest, found)
    for name, member in (manifest.get("members") or {}).items():
        for fact in ("backend", "dtype", "attention"):
            if fact in member:
                found[f"{name} {fact}"] = str(member[fact])
    return found


def _computed_elsewhere(manifest: Mapping[str, Any], here: Mapping[str, str]) -> dict[str, str]:
    """Return the facts in which what computed answers differs from who wrote the manifest."""
    origins = {text for texts in (manifest.get("origins") or {}).values() for text in texts}
    versions: dict[str, set[str]] = {}
    for text in origins:
        libraries, _, rest = text.partition("; ")
        for name, _, version in (one.rpartition(" ") for one in libraries.split(", ")):
            versions.setdefault(name, set()).add(version)
        kind, _, name = rest.partition("; ")[0].partition(" ")
        if kind in ("cpu", "cuda"):
            versions.setdefault("cpu" if kind == "cpu" else "gpu", set()).add(name)
    return {
        name: " + ".join(sorted(found))
        for name, found in versions.items()
        if name in here and found - {here[name], major_minor(here[name])}
    }


def _origins(manifests: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return what computed the answers of several runs, by member."""
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, texts in (manifest.get("origins") or {}).items():
            found.setdefault(str(name), set()).update(map(str, texts))
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def _fingerprints(manifest: Mapping[str, Any]) -> dict[str, str]:
    members = manifest.get("members") or {}
    return {
        str(name): str(facts.get("fingerprint", UNKNOWN))[:DIGITS]
        for name, facts in members.items()
    }


def _computed(manifest: Mapping[str, Any]) -> list[int]:
    """Return how many prompts each member computed in a run."""
    # A merged run states what each of its runs has computed.
    parts = manifest.get("merged") or [manifest]
    prompts = [(part.get("counts") or {}).get("prompts") or {} for part in parts]
    return [int(counts.get("computed", 0)) for one in prompts for counts in one.values()]


def _joined(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Merge the facts of several runs; where they differ, all values are named."""
    names = sorted({name for part in parts for name in part})
    return {
        name: " + ".join(sorted({part[name] for part in parts if name in part})) for name in names
    }


def _cells(frame: pd.DataFrame) -> tuple[CellAnswers, ...]:
    cells: dict[CellName, dict[AnswerKey, BaselineAnswer]] = {}
    members: dict[CellName, str] = {}
    for row in rows_of(frame):
        name = CellName(*(row[field] for field in CellName._fields))
        answer = _answer(row)
        cells.setdefault(name, {})[answer.answer_key] = answer
        members[name] = str(row["member"])
    return tuple(
        CellAnswers(name, members[name], tuple(cells[name][key] for key in sorted(cells[name])))
        for name in sorted(cells)
    )


def _answer(row: Mapping[str, Any]) -> BaselineAnswer:
    choice = row["choice"]
    return BaselineAnswer(
        item_id=str(row["item_id"]),
        donor_id=_text(row["donor_id"]),
        status=row["status"],
        choice=None if pd.isna(choice) else int(choice),
        # Six places: far below the tolerance of the exact gate, and a third of the bytes.
        logprobs=tuple(
            round(value, 6) if math.isfinite(value) else math.nan
            for value in row["option_logprobs"]
        ),
        tokens=tuple(int(count) for count in row["option_tokens"]),
        key=str(row["key"])[:DIGITS],
        stimulus=str(row["stimulus_sha"])[:DIGITS],
        rotation=int(row["rotation"]),
        donor_task=_text(row["donor_task"]),
    )


def _text(value: Any) -> str | None:
    return None if value is None or pd.isna(value) else str(value)
