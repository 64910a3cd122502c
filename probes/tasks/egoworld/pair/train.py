"""`probes train tiny OUT`: train the embedded pair and its control from scratch.

OUT/work/<stage> holds resumable state, OUT/<member> the finished checkpoints, OUT/training.json
the cost and OUT/heldout.json how the members answer held-out stories.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from probes.config.paths import conf_dir
from probes.core.environment import packages
from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.tasks.made import claim

STAGES = ("image", "video", "control")
_SOURCE = {"video": "image", "control": "image"}
"""The member that a stage starts from; the image stage starts from random weights."""


def read_config(overrides: Sequence[str]) -> dict[str, Any]:
    """Read conf/train/tiny.yaml with `name=value` overrides; an unknown name is an error."""
    config = OmegaConf.load(conf_dir() / "train" / "tiny.yaml")
    # Without it, merging takes a mistyped name for a new setting.
    OmegaConf.set_struct(config, True)
    try:
        config = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        raise ProbesError(
            f"cannot set {', '.join(overrides)}: {str(error).splitlines()[0]}",
            where="probes train tiny",
            fix="see conf/train/tiny.yaml for the settings, e.g. stages.image.steps=100",
        ) from error
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return dict(settings)


def train(out: Path, config: Mapping[str, Any]) -> None:
    """Train every stage that is not finished, then write the held-out table."""
    import torch

    from probes.tasks.egoworld.pair.heldout import evaluate, render

    torch.set_num_threads(int(config["threads"]) or os.cpu_count() or 1)
    # What decides what is learnt: threads, device or save_every may change on the way.
    settings = {name: config[name] for name in ("seed", "model", "optimiser", "mix", "stages")}
    note = out / "work" / "settings.json"
    claim(note, settings, has_data=note.exists())
    record = out / "training.json"
    costs = json.loads(record.read_text()) if record.exists() else {}
    for stage in STAGES:
        if not (out / stage / "model.safetensors").exists():
            began = time.monotonic()
            _train_stage(stage, out, config)
            seconds = costs.get(stage, {}).get("seconds", 0.0) + time.monotonic() - began
            costs[stage] = {"seconds": round(seconds), "packages": packages()}
            atomic_write(record, json.dumps(costs, indent=2).encode())
    if int(config["evaluate"]):
        table = evaluate(out, int(config["evaluate"]))
        atomic_write(out / "heldout.json", json.dumps(table, indent=2).encode())
        print(render(table))


def _train_stage(stage: str, out: Path, config: Mapping[str, Any]) -> None:
    import torch

    from probes.tasks.egoworld.pair import model as pair
    from probes.tasks.egoworld.pair.curriculum import Curriculum
    from probes.tasks.egoworld.pair.learn import StageSettings, learn
    from probes.tasks.egoworld.pair.packing import Packer, Steps
    from probes.tasks.egoworld.pair.vocabulary import build_tokenizer
    from probes.tasks.egoworld.world import load_world

    seed, sizes, mix = int(config["seed"]), config["model"], config["mix"]
    name = "cuda" if config["device"] == "auto" and torch.cuda.is_available() else config["device"]
    tokenizer = build_tokenizer()
    # Before the model is built, whose first weights are drawn from it.
    torch.manual_seed(seed)
    if stage in _SOURCE:
        # Video and control start from the same weights: they differ in their data alone.
        model = pair.PairModel.from_pretrained(out / _SOURCE[stage], dtype=torch.float32)
    else:
        model = pair.build_model(sizes, tokenizer)
    model.to("cpu" if name == "auto" else name)
    # Of the training split: no story that is evaluated anywhere has been trained on.
    curriculum = Curriculum(load_world(), mix, int(sizes["image_size"]), "training")
    per_frame = pair.tokens_per_frame(int(sizes["image_size"]), int(sizes["patch_size"]))
    packer = Packer(tokenizer, per_frame, float(mix["letter_weight"]))
    settings = StageSettings(
        config["stages"][stage],
        config["optimiser"],
        int(config["save_every"]),
        # torch.compile needs the compiler, and would fail only at the first step.
        compiled=bool(config["compile"]) and shutil.which("c++") is not None,
    )
    # The stage's number too: the control sees new stories, not those of the image stage again.
    native_share, stage_seed = float(mix["native_share"]), (seed, STAGES.index(stage))
    learn(
        model,
        lambda first: Steps(curriculum, packer, settings.stage, native_share, stage_seed, first),
        settings,
        out / "work" / stage,
        _reporter(stage),
    )
    pair.save_member(model, pair.build_processor(sizes, tokenizer), out / stage)


def _reporter(stage: str) -> Any:
    """Return what shows progress: one changing line on a terminal, else a line every 30 s."""
    live, last = sys.stdout.isatty(), [0.0]

    def report(step: int, steps: int, losses: Mapping[str, float], seconds: float) -> None:
        now = time.monotonic()
        if step < steps and now - last[0] < (0.5 if live else 30):
            return
        last[0] = now
        left = (steps - step) * seconds / 60
        shown = " ".join(f"{source} {loss:.3f}" for source, loss in losses.items())
        text = f"{stage} {step}/{steps}  loss {shown}  {seconds:.2f} s/step, {left:.0f} min left"
        print(
            f"\r{text}  " if live else text, end="" if live and step < steps else "\n", flush=True
        )

    return report
