"""Made run folders that are compared with baselines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_records import cell, record, write_run

from probes import regression
from probes.cli import main
from probes.records import schema
from probes.records.schema import ItemRow, Record

ARMS = ("baseline", "vcot")
CONFIG: dict[str, Any] = {
    "pair": {
        "name": "tiny",
        "answer_prefix": "",
        "members": [{"role": "image", "frame_as": "video"}, {"role": "video", "frame_as": "video"}],
    },
    "suite": [
        {"name": "baseline", "frames": "own", "infills": "none", "reference": ""},
        {"name": "vcot", "frames": "own", "infills": "own", "reference": "baseline"},
    ],
    "prompts": {"name": "tiny", "cloze": "{context} {question}"},
    "task": {"name": "egoworld", "layout": "sequence", "videos": 100},
    "infill": {"source": "shared", "generator": "image", "file": None},
    "scoring": "cloze",
}
PLATFORM = {"system": "Linux", "machine": "x86_64", "cpu": "avx2", "gpu": ""}
PACKAGES = {
    "torch": "2.0",
    "torchvision": "0.2",
    "transformers": "5.0",
    "tokenizers": "0.2",
    "numpy": "2.0",
}

Out = pytest.CaptureFixture[str]


def answers(items: int = 100, arms: Sequence[str] = ARMS, **changes: Any) -> list[Record]:
    """Both members under some arms; every second answer is right, every item its own cluster."""
    right = [i % 2 == 0 for i in range(items)]
    return [
        one
        for role in ("image", "video")
        for arm in arms
        for one in cell(right, arm, role, cluster="", **changes)
    ]


def flip(
    records: list[Record], items: Sequence[int], arm: str = "vcot", role: str = "image"
) -> list[Record]:
    """Turn right into wrong and wrong into right."""
    names = {f"q{i}" for i in items}
    return [
        record(int(one.item_id[1:]), arm, role, not one.correct, cluster="", donor_id=one.donor_id)
        if (one.item_id, one.arm, one.role) in {(name, arm, role) for name in names}
        else one
        for one in records
    ]


def edit(
    records: list[Record], item: int, arm: str = "vcot", role: str = "image", **changes: Any
) -> list[Record]:
    """Change fields of one record."""
    return [
        dataclasses.replace(one, **changes)
        if (one.item_id, one.arm, one.role) == (f"q{item}", arm, role)
        else one
        for one in records
    ]


def put(
    folder: Path,
    records: list[Record],
    config: dict[str, Any] = CONFIG,
    manifest: dict[str, Any] | None = None,
    question: str = "what?",
    frames: str = "f",
) -> Path:
    """Write a run folder with manifest and items."""
    write_run(folder, records)
    first = {(one.task, one.item_id): one for one in records}
    rows = [
        {
            "id": one.item_id,
            "task": one.task,
            "question": question,
            "options": list("abcde"),
            "answer": one.answer,
            "stratum": one.stratum,
            "cluster": one.cluster,
            "media_path": "m",
            "media_sha256": "m",
            "frame_hashes": [("5", [frames])],
            "meta": [],
        }
        for one in first.values()
    ]
    pq.write_table(
        pa.Table.from_pylist(rows, schema.arrow_schema(ItemRow)), folder / "items.parquet"
    )
    content = {
        "config": config,
        "git": "abc",
        "created": "2026-01-01",
        "platform": PLATFORM,
        "packages": PACKAGES,
        "members": {"tiny-image": {"fingerprint": "f1", "dtype": "float32"}},
    } | (manifest or {})
    (folder / "manifest.json").write_text(json.dumps(content), "utf-8")
    return folder


def check(run: Path, file: Path, *more: str) -> int:
    return main.main(["check", str(run), "--against", str(file), *more])


def changes(file: Path, run: Path) -> dict[str, regression.MetricChange]:
    found = regression.check(regression.read(file), regression.capture(run))
    return {one.metric.label: one for one in found.metric_changes}


def near_tie(gap: float, choice: int) -> dict[str, Any]:
    """Item 6 has its right answer at 1; option `choice` leads options 1 and 2 by `gap`."""
    scores = [-3.0, -1.0, -1.0, -3.0, -3.0]
    scores[choice] += gap
    return {"option_logprobs": tuple(scores), "choice": choice, "correct": choice == 1}


def changed_config(name: str, value: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    node = config
    *path, last = name.split(".")
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    return config
