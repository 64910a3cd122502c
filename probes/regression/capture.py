"""Run folders -> snapshot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from probes import analysis
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.text import flat
from probes.records import parquet
from probes.records.manifest import read_manifest
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
_REPLY = "max_new_tokens"
_NOT_ASKED = {
    "backend", "frames", "limit", "out", "scoring", "seed", "shard", "shards", "infill.file",
    "prompts.name", "task.name", "task.reader", "task.root", "task.include_path", "task.scoring",
    "task.frames", "task.unanswered", "task.videos", "task.per_config", "task.seed", "task.height",
    "task.width", "task.fps", "task.seconds",
}  # fmt: skip
_COLUMNS = (
    "task", "pair", "frames", "scoring", "seed", "role", "arm", "member", "item_id", "donor_id",
    "status", "choice", "option_logprobs", "option_tokens", "key", "stimulus_sha", "rotation",
)  # fmt: skip


def capture(path: str | Path) -> Snapshot:
    """Take what a check needs from a run.

    Args:
        path: a run folder, or a folder above the run folders of a sweep or of shards.

    Raises:
        ProbesError: nothing found, unreadable files, no manifest or items beside the records, or
            runs whose settings differ in more than cells.
    """
    frame = analysis.load(path)
    if settings := sorted({str(one) for one in frame["setting"]} - {""}):
        raise ProbesError(
            f"the runs differ in their settings: {'; '.join(settings)}", str(path),
            "check runs of one setting at a time",
        )  # fmt: skip
    folders = [Path(one) for one in dict.fromkeys(frame["run"].astype(str))]
    manifests = [_manifest(folder) for folder in folders]
    items: dict[tuple[str, str], ItemFacts] = {}
    for folder in folders:
        for item in _items(folder / "items.parquet"):
            known = items.get((item.task, item.id))
            frames = {**(known.frames if known else {}), **item.frames}
            items[item.task, item.id] = ItemFacts(
                item.task, item.id, item.cluster, item.stratum, item.answer, item.content,
                dict(sorted(frames.items())),
            )  # fmt: skip
    asked: dict[str, Any] = {}
    for manifest in manifests:
        asked |= _asked(manifest["config"])
    counts = [one for manifest in manifests for one in _counts(manifest)]
    return Snapshot(
        created=max(str(one.get("created", "")) for one in manifests),
        git=" + ".join(sorted({str(one.get("git", ""))[:DIGITS] for one in manifests})),
        platform=_joined([_platform(one) for one in manifests]),
        asked=dict(sorted(asked.items())),
        members=_joined([_fingerprints(one) for one in manifests]),
        references=dict(sorted(frame.attrs.get("references", {}).items())),
        infill_sources=tuple(frame.attrs.get("infill_sources", ())),
        items=tuple(items[place] for place in sorted(items)),
        cells=_cells(frame),
        cached=bool(counts) and not any(counts),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if not isinstance(manifest.get("config"), dict):
        raise ProbesError(
            "the run has no manifest with a configuration", str(folder / "manifest.json"),
            "name a folder that `probes run` finished",
        )  # fmt: skip
    return manifest


def _items(file: Path) -> Iterator[ItemFacts]:
    columns = ["task", "id", "question", "options", "answer", "cluster", "stratum", "meta",
               "frame_hashes"]  # fmt: skip
    for row in parquet.read(file, "run's items", columns).to_pylist():
        content = [row["question"], row["options"], row["meta"]]
        yield ItemFacts(
            str(row["task"]), str(row["id"]), str(row["cluster"] or ""),
            str(row["stratum"] or ""), row["answer"], sha256_json(content)[:DIGITS],
            {str(k): sha256_json(v)[:DIGITS] for k, v in row["frame_hashes"] or ()},
        )  # fmt: skip


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make the question, by dotted name behind the pair's name.

    Left out are those that records and items tell themselves, and what may change under test:
    checkpoints, arithmetic, backend, batches.
    """
    pair = config.get("pair") or {}
    chosen: dict[str, Any] = {k: v for k, v in config.items() if k not in ("pair", "suite")}
    chosen["suite"] = {str(arm.get("name")): dict(arm) for arm in config.get("suite") or ()}
    chosen["pair"] = {"answer_prefix": pair.get("answer_prefix", "")}
    chosen["frame_as"] = {one.get("role"): one.get("frame_as") for one in pair.get("members") or ()}
    left_out = _NOT_ASKED if config.get("scoring") == "generate" else _NOT_ASKED | {_REPLY}
    return {
        f"{pair.get('name', '')}: {name}": value
        for name, value in flat(chosen).items()
        if name not in left_out and name.split(".")[0] not in left_out
    }


def _platform(manifest: Mapping[str, Any]) -> dict[str, str]:
    facts = manifest.get("platform") or {}
    found = {name: str(facts.get(name, UNKNOWN)) for name in ("system", "machine", "cpu", "gpu")}
    packages = manifest.get("packages") or {}
    found |= {name: str(packages.get(name, UNKNOWN)) for name in _ARITHMETIC}
    for name, member in (manifest.get("members") or {}).items():
        for fact in ("backend", "dtype", "attention"):
            if fact in member:
                found[f"{name} {fact}"] = str(member[fact])
    return found


def _fingerprints(manifest: Mapping[str, Any]) -> dict[str, str]:
    members = manifest.get("members") or {}
    return {
        str(name): str(facts.get("fingerprint", UNKNOWN))[:DIGITS]
        for name, facts in members.items()
    }


def _counts(manifest: Mapping[str, Any]) -> list[int]:
    """Return how many prompts each member computed in this run."""
    prompts = (manifest.get("counts") or {}).get("prompts") or {}
    return [int(one.get("computed", 0)) for one in prompts.values()]


def _joined(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Merge the facts of several runs; where they differ, all are named."""
    names = sorted({name for part in parts for name in part})
    return {
        name: " + ".join(sorted({part[name] for part in parts if name in part})) for name in names
    }


def _cells(frame: pd.DataFrame) -> tuple[CellAnswers, ...]:
    cells: dict[CellName, dict[AnswerKey, BaselineAnswer]] = {}
    members: dict[CellName, str] = {}
    columns = (frame[name].tolist() for name in _COLUMNS)
    for row in zip(*columns, strict=True):
        task, pair, frames, scoring, seed, role, arm, member, item, donor, *rest = row
        status, choice, logprobs, tokens, key, stimulus, rotation = rest
        name = CellName(task, pair, int(frames), scoring, int(seed), role, arm)
        answer = BaselineAnswer(
            str(item),
            None if donor is None or pd.isna(donor) else str(donor),
            status,
            None if pd.isna(choice) else int(choice),
            # Six places: far below the tolerance of the exact gate, and a third of the bytes.
            tuple(round(one, 6) if math.isfinite(one) else math.nan for one in logprobs),
            tuple(int(one) for one in tokens),
            str(key)[:DIGITS],
            str(stimulus)[:DIGITS],
            int(rotation),
        )
        cells.setdefault(name, {})[answer.place] = answer
        members[name] = str(member)
    return tuple(
        CellAnswers(name, members[name], tuple(cells[name][place] for place in sorted(cells[name])))
        for name in sorted(cells)
    )
