"""Plain lmms-eval and `probes run` ask one checkpoint one task: the same replies, item by item."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import evaluating
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_models
from PIL import Image

from probes.cli import main

DOCS, FRAMES, SIDE, TOKENS = 24, 4, 112, 8
SETTINGS = {
    "scoring": "generate",
    "max_new_tokens": TOKENS,
    "infill.max_new_tokens": TOKENS,
    "pair.frame_as": "image",
    "pair.dtype": "bfloat16",
    "backend.device": "cpu",
}
# The task's own text after its pictures: what lmms-eval shows a model.
PROMPT = "{context}Question: {question}\n{options}\nAnswer with the option's letter.\n"
UTILS = """
    from PIL import Image

    def frames(doc):
        return [Image.open(path) for path in doc["frames"]]

    def text(doc, lmms_eval_specific_kwargs=None):
        options = "\\n".join(f"{a}. {o}" for a, o in zip("ABCD", doc["options"]))
        return f"Question: {doc['question']}\\n{options}\\nAnswer with the option's letter."

    def right(doc, results):
        return {"right": float(results[0].strip()[:1] == doc["letter"])}
"""
YAML = """
    task: pictured
    dataset_path: json
    dataset_kwargs: {data_files: {test: docs.json}}
    test_split: test
    output_type: generate_until
    doc_to_visual: !function utils.frames
    doc_to_text: !function utils.text
    doc_to_target: letter
    process_results: !function utils.right
    generation_kwargs: {max_new_tokens: 8}
    metric_list: [{metric: right, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of pictures of a size that no processor changes, and its own text as a prompt set."""
    folder = tmp_path_factory.mktemp("task")
    draw = np.random.default_rng(5)
    docs = []
    for n in range(DOCS):
        paths = []
        for k in range(FRAMES):
            path = folder / f"{n}_{k}.png"
            Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
            paths.append(str(path))
        options = [f"the hand opens box {n + k}" for k in range(4)]
        docs.append(
            {
                "id": f"q{n}",
                "question": f"what happens in clip {n}?",
                "options": options,
                "letter": "ABCD"[n % 4],
                "frames": paths,
            }
        )
    (folder / "docs.json").write_text(json.dumps(docs))
    (folder / "utils.py").write_text(textwrap.dedent(UTILS))
    (folder / "pictured.yaml").write_text(textwrap.dedent(YAML))
    prompts = folder / "prompts"
    prompts.mkdir()
    for path in (evaluating.ROOT / "conf" / "prompts" / "default").iterdir():
        (prompts / path.name).write_bytes(path.read_bytes())
    (prompts / "generate.txt").write_text(PROMPT)
    return folder


def plain(
    task: Path, folder: Path, model: str, arguments: dict[str, Any], **environment: str
) -> dict[str, str]:
    """Run lmms-eval's command on one of its models; returns the replies by item."""
    out = folder / "out"
    done = evaluating.command(
        folder,
        "--model",
        model,
        "--model_args",
        ",".join(f"{name}={value}" for name, value in arguments.items()),
        "--include_path",
        str(task),
        "--tasks",
        "pictured",
        "--output_path",
        str(out),
        "--log_samples",
        **environment,
    )
    found = list(out.rglob("*_samples_pictured.jsonl"))
    assert found, done.stderr  # lmms-eval's exit code is 0 after an error, too
    (path,) = found
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    return {f"q{one['doc_id']}": one["filtered_resps"].strip() for one in samples}


def ours(task: Path, folder: Path, model: Path) -> list[dict[str, Any]]:
    """Run `probes run` with the checkpoint in both roles; returns the records of one."""
    out = folder / "run"
    arguments = [
        "run",
        "task=lmms",
        f"task.include_path={task}",
        "task.name=pictured",
        f"frames={FRAMES}",
        f"pair.image.repo={model}",
        f"pair.video.repo={model}",
        "pair.image.name=one",
        "pair.video.name=other",
        f"prompt_set={task / 'prompts'}",
        "backend.batch_size=1",
        f"hydra.run.dir={out}",
        *(f"{name}={value}" for name, value in SETTINGS.items()),
    ]
    assert main.main(arguments) == 0
    rows: list[dict[str, Any]] = pq.read_table(out / "records.parquet").to_pylist()
    return [row for row in rows if row["role"] == "image"]


def texts(rows: list[dict[str, Any]], arm: str) -> dict[str, str]:
    return {row["item_id"]: row["text"] for row in rows if row["arm"] == arm}


@pytest.mark.slow  # lmms-eval's command twice, 20 s of imports each
def test_lmms_evals_command_and_a_run_reply_the_same(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own Qwen2.5-VL wrapper against our backend; then our arms in its command."""
    for name, value in evaluating.caches(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model = tiny_models.qwen2_5_vl(tmp_path / "model")
    rows = ours(task, tmp_path, model)

    wrapper = {
        "pretrained": model,
        "device": "cpu",
        "device_map": "cpu",
        "min_pixels": 28 * 28,
        "max_pixels": SIDE * SIDE,
    }
    theirs = plain(task, tmp_path / "wrapper", "qwen2_5_vl", wrapper)
    assert theirs == texts(rows, "baseline")
    assert len(set(theirs.values())) > DOCS // 2  # replies that differ between items

    site = tmp_path / "site" / "probes_plugin-0.dist-info"  # independent of the installation
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: probes_plugin\nVersion: 0\n")
    (site / "entry_points.txt").write_text(
        "[lmms_eval.models]\nprobes = probes.integrations.lmms_eval_entry:manifest\n"
    )
    arm = {"pretrained": model, "arm": "vcot", "frames": FRAMES} | SETTINGS
    arm |= {"prompt_set": task / "prompts"}
    own = {"PYTHONPATH": str(site.parent), "PROBES_HOME": str(tmp_path / "another_home")}
    assert plain(task, tmp_path / "arm", "probes", arm, **own) == texts(rows, "vcot")
    assert texts(rows, "vcot") != texts(rows, "baseline")
