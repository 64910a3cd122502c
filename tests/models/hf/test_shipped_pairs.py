"""Every pair that ships runs in its hub layout, with the scores of its classes on its prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_layouts import build as layouts
from letter_scores import letter_scores
from own_arithmetic import NextAsVideo, PllavaArithmetic
from PIL import Image
from plain_classes import Plain
from safetensors.torch import load_file, save_file

from probes.cli import main
from probes.config.paths import conf_dir
from probes.core.types import FrameRef
from probes.models.hf.convert import convert
from probes.records import run_folder, schema
from probes.report.stimuli import Rebuilder, ShownTrial

ARMS = ["baseline", "vcot", "visual_perturbation", "text_perturbation", "blind"]
PAIRS = {
    "llava_next_7b": ("next", "next_video"),
    "llava_next_7b_video_ft": ("next", "pllava"),
    "llava_next_13b_video_ft": ("next_13b", "pllava_13b"),
    "llava_onevision_7b": ("onevision_si", "onevision"),
    "qwen2_5_vl_video_r1": ("qwen2_5_vl", "video_r1_old"),
    "qwen3_vl_8b_thinking": ("qwen3_vl", "qwen3_vl_thinking"),
    "internvl": ("internvl3", "internvl3_5"),
    "videollama3_7b": ("video_llama_3_image", "video_llama_3"),
}
"""By name of the pair: the layouts of its members."""
ONE_WAY = {"llava_next_7b_video_ft": "video", "llava_next_13b_video_ft": "video"}
ONE_WAY["qwen3_vl_8b_thinking"] = "image"
WAYS = [(p, w) for p in PAIRS for w in ("video", "image") if ONE_WAY.get(p, w) == w]
QUICK = ("llava_next_7b", "video")


def build(name: str, hub: Path) -> Path:
    """Write a checkpoint; the image member of VideoLLaMA 3 is the video member's, drawn anew."""
    if not name.endswith("_3_image"):
        return layouts.build(name, hub)
    folder = hub / "VideoLLaMA3-7B-Image-HF"
    if not folder.exists():
        shutil.copytree(layouts.build("video_llama_3", hub), folder)
        draw = torch.Generator().manual_seed(341)
        for file in folder.glob("*.safetensors"):
            weights = load_file(file)
            for tensor in weights.values():
                mixed = torch.randperm(tensor.numel(), generator=draw)
                tensor.copy_(tensor.flatten()[mixed].reshape(tensor.shape))
            save_file(weights, file, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def run_pair(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that runs a shipped pair with built folders; all share one home."""
    home = tmp_path_factory.mktemp("home")

    def run_one(pair: str, way: str, scoring: str, arms: list[str] = ARMS) -> Path:
        members = dict(zip(("image", "video"), (build(n, hub) for n in PAIRS[pair]), strict=True))
        for role, folder in members.items():
            if "-Video-FT" in folder.name:
                members[role] = folder.with_name(f"{folder.name}-converted")
                if not members[role].exists():
                    convert(folder, members[role])
        out = tmp_path_factory.mktemp("run")
        overrides = [f"pair={pair}", f"pair.frame_as={way}", "pair.dtype=float32"]
        overrides += [f"pair.{role}.repo={folder}" for role, folder in members.items()]
        overrides += ["task=egoworld", "task.videos=6", "limit=4", "frames=3"]
        overrides += [f"scoring={scoring}", "max_new_tokens=6", "infill.max_new_tokens=6"]
        overrides += ["backend.device=cpu", f"arms=[{','.join(arms)}]"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROBES_HOME", str(home))
            patch.chdir(out)
            assert main.main(["run", *overrides, f"hydra.run.dir={out}"]) == 0
        manifest = json.loads((out / "manifest.json").read_text())
        assert (manifest["counts"]["error"], manifest["failed_infills"]) == (0, 0)
        return out

    return run_one


def member(pair: str, role: str, way: str, hub: Path) -> Any:
    """Return the member as something else than probes runs it."""
    name = PAIRS[pair][role == "video"]
    folder = build(name, hub)
    if pair.endswith("_video_ft"):
        return PllavaArithmetic(folder)
    if name == "next":
        return NextAsVideo(folder) if way == "video" else Plain(folder, way)
    return Plain(folder, way)


def check_records(pair: str, way: str, out: Path, hub: Path) -> tuple[int, float]:
    """Compare the records of baseline and blind with the classes themselves.

    Returns:
        How many, and the greatest difference of an option's score.
    """
    files, compared, greatest = run_folder.read(out), 0, 0.0
    prefixes = json.loads((out / "manifest.json").read_text())["config"]["pair"]["members"]
    rebuilder = Rebuilder(files)
    for role in ("image", "video"):
        oracle = member(pair, role, way, hub)
        tokens = oracle.tokenizer if hasattr(oracle, "tokenizer") else oracle.processor.tokenizer
        prefix = next(one for one in prefixes if one["role"] == role).get("answer_prefix")
        for record in schema.read_records(out):
            if record.role != role or record.arm not in ("baseline", "blind"):
                continue
            trial = ShownTrial(
                record.task,
                record.item_id,
                record.arm,
                record.frames,
                role,
                record.donor_id,
                record.stimulus_sha,
            )
            shown = rebuilder.rebuild(trial)
            assert shown.problem is None
            prompt = [
                np.array(Image.open(files.frame(part.sha256)).convert("RGB"))
                if isinstance(part, FrameRef)
                else part
                for part in shown.parts
            ]
            letters = "ABCDE"[: len(record.option_logprobs)]
            logprobs = oracle.logprobs(prompt, prefix) if prefix else oracle.logprobs(prompt)
            expected = letter_scores(tokens, logprobs, letters)
            assert record.option_logprobs == pytest.approx(expected, abs=1e-3)
            apart = (abs(a - b) for a, b in zip(record.option_logprobs, expected, strict=True))
            greatest = max(greatest, *apart)
            compared += 1
    return compared, greatest


def test_the_records_of_a_pair_are_those_of_its_classes(
    run_pair: Callable[..., Path], hub: Path
) -> None:
    out = run_pair(*QUICK, "letter", ["baseline", "blind"])
    assert check_records(*QUICK, out, hub)[0] == 16


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "way"), WAYS, ids=lambda part: part)
def test_every_shipped_pair_runs(
    pair: str, way: str, run_pair: Callable[..., Path], hub: Path, record_property: Any
) -> None:
    out = run_pair(pair, way, "letter")
    assert {record.arm for record in schema.read_records(out)} == set(ARMS)
    compared, greatest = check_records(pair, way, out, hub)
    assert compared == 16
    record_property("greatest difference", f"{greatest:.1e}")
    written = schema.read_records(run_pair(pair, way, "generate"))
    assert all(record.status != "error" for record in written)
    assert len(written) == 40


def test_every_shipped_pair_of_repositories_has_a_builder() -> None:
    """But for the pair that names no repositories, and those that ship with the project."""
    shipped = {path.stem for path in (conf_dir() / "pair").glob("*.yaml")}
    assert shipped - set(PAIRS) == {"own", "tiny", "tiny_control", "tiny_three"}
