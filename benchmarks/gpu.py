"""What do encoding frames once and sharing prompts gain on a GPU, and how much of it is used?

    python benchmarks/gpu.py --device cuda --size 7b [--items 24] [--repeat 2] [--work DIR]
    python benchmarks/gpu.py          # the same on a CPU with a model of 0.1 M parameters
    python benchmarks/gpu.py --checkpoint FOLDER  # LLaVA-NeXT(-Video) as it is on the hub

LLaVA-NeXT-Video in bfloat16 (float32 on a CPU), built from its configuration with random weights
(`7b`: the published sizes of vision tower and language model), answers the study's suite at 5 and
10 frames through the transformers backend: random pictures of 640 x 360 pixels, infills of twenty
words, without decoding or a store. Six ways:

- letter: all prompts at once; every frame is encoded once;
- letter, perceived anew: arm by arm and frame count by frame count with an empty feature cache;
- cloze: the options of a prompt share one pass over it;
- cloze, a row an option: each option follows a copy of its prompt;
- rotated: every prompt with each option in each place (`option_rotation`), by letter; the tokens
  that the rotations of a prompt have in common are read once;
- rotated, each read whole: every rotation is read by itself.

Tokens are those of the prompts as asked; operations are two per parameter and processed token
(frames, prompts with their options, padding), attention included. The peak that they are compared
with is that of a large matrix product on the same device in the same type.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, write

ROOT = Path(__file__).resolve().parent.parent
FRAMES = (5, 10)
HEIGHT, WIDTH = 360, 640
OPTIONS = 5
SIDE = {"tiny": 64, "7b": 336}
WORDS = (
    "a hand puts the red box on the left then opens it and takes the blue cup to the right".split()
)


@dataclass(frozen=True)
class Settings:
    """The settings of the configuration's backend section."""

    name: str = "hf"
    batch_size: int = 32
    feature_cache_mb: int = 4096
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """One way to ask the prompts."""

    scoring: str
    once: bool = True
    """All prompts at once; else arm by arm and count by count, each with an empty cache."""
    packed: bool = True
    """The options of a prompt share one pass."""
    rotations: int = 1
    shared_prefixes: bool = True
    """Tokens that prompts have in common at their beginning are read once."""


def checkpoint(folder: Path, size: str, device: str) -> Path:
    """Save a random checkpoint of a size, unless an earlier run of this benchmark saved it."""
    import transformers as t

    if (folder / "config.json").is_file():
        return folder
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_models

    tiny_models.llava_next_video(folder, side=SIDE[size], context=8192)
    if size == "tiny":
        return folder
    content = t.AutoConfig.from_pretrained(folder).to_dict()
    content["vision_config"] = t.CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    ).to_dict()
    content["text_config"] = t.LlamaConfig(
        vocab_size=32_064,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    ).to_dict()
    content["vision_feature_layer"] = -2
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            config = t.LlavaNextVideoConfig(**content)
            t.LlavaNextVideoForConditionalGeneration(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
    return folder


def stimuli(
    items: int, scoring: Any, rotations: int = 1
) -> tuple[list[list[Any]], dict[str, np.ndarray]]:
    """Return the suite's prompts, a list per arm and number of frames, and all frames by hash."""
    from probes.config.prompts import prompt_set
    from probes.core.hashing import array_sha256
    from probes.core.types import Arm, Clip, Infill, Item, Video
    from probes.engine.stimulus_builder import request_of
    from probes.stimuli.arms import StimulusForm, StimulusSources, build, needs_donor
    from probes.stimuli.donors import Donors
    from probes.stimuli.rotation import rotated

    rng = np.random.default_rng(0)
    frames: dict[str, np.ndarray] = {}
    clips: dict[tuple[str, int], Clip] = {}
    options = tuple(f"the hand takes box {number}" for number in range(OPTIONS))
    every = [
        Item(f"q{n}", "made", f"What happens in {n}?", options, 0, Video(Path("none")))
        for n in range(items)
    ]
    for item in every:
        # As with real clips: only the first and the last frame belong to both counts.
        pictures = rng.integers(0, 256, (sum(FRAMES) - 2, HEIGHT, WIDTH, 3), np.uint8)
        names = [array_sha256(picture) for picture in pictures]
        frames |= dict(zip(names, pictures, strict=True))
        few, many = FRAMES
        inner = names[2:many]
        clips[item.id, few] = _clip(Clip, [names[0], *names[many:], names[1]])
        clips[item.id, many] = _clip(Clip, [names[0], *inner, names[1]])
    form = StimulusForm(prompt_set("default"), scoring.kind)
    lenders = Donors(every, same_stratum=False)
    text = Infill(" ".join(WORDS), "", "", "made")
    arms = (
        Arm("baseline"),
        Arm("vcot", infills="own"),
        Arm("visual_perturbation", frames="donor", infills="own"),
        Arm("text_perturbation", infills="donor"),
        Arm("blind", frames="none"),
    )
    groups = []
    for arm in arms:
        for count in FRAMES:
            group = []
            for item in every:
                donor = lenders.find(item, arm) if needs_donor(arm) else None
                texts = [text] * (count - 1)
                for rotation in range(rotations):
                    sources = StimulusSources(
                        clips[item.id, count],
                        texts,
                        donor,
                        clips[donor.id, count] if donor else None,
                        texts,
                    )
                    made = build(rotated(item, rotation), arm, sources, form)
                    group.append(request_of(made, arm))
            groups.append(group)
    return groups, frames


def _clip(kind: Any, names: list[str]) -> Any:
    return kind(tuple(range(len(names))), (0.0,) * len(names), tuple(names))


def peak(device: str, dtype: torch.dtype) -> float:
    """Return the operations a second of a large product of matrices, the best of several."""
    size = 8192 if device.startswith("cuda") else 768
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(8):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def operations(model: Any, frames: int, passes: list[tuple[int, int]]) -> float:
    """Count the operations for a number of frames and for passes of (sequences, tokens of each)."""
    tower = sum(p.numel() for p in model.model.vision_tower.parameters())
    layers = sum(p.numel() for p in model.model.language_model.layers.parameters())
    text = model.config.get_text_config()
    vision = model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    done = 2.0 * tower * patches * frames
    attention = 2.0 * text.num_hidden_layers * text.hidden_size
    for sequences, tokens in passes:
        done += sequences * (2.0 * layers * tokens + attention * tokens**2)
    return done


def measure(
    backend: Any, groups: list[list[Any]], frames: dict[str, np.ndarray], scoring: Any, way: Way
) -> dict[str, float]:
    """Time one way through all prompts."""
    from probes.models.hf import forward, prefix_packing, vision_cache

    def renewed() -> None:
        """Empty the feature cache."""
        old = backend._ready.cache
        new = vision_cache.FeatureCache(
            old._encode_frames, old.capacity, int(backend._options["frame_batch"])
        )
        backend._ready = replace(backend._ready, packed=way.packed, cache=new)

    encoded, outputs = 0, []
    renewed()
    ready = backend._ready
    passes: list[tuple[int, int]] = []
    hidden = forward.hidden_states

    def recording(model: Any, ids: np.ndarray, *args: Any, **named: Any) -> Any:
        passes.append(ids.shape)
        return hidden(model, ids, *args, **named)

    least = prefix_packing.LEAST if way.shared_prefixes else math.inf
    with (
        mock.patch.object(forward, "hidden_states", recording),
        mock.patch.object(prefix_packing, "LEAST", least),
    ):
        _wait(str(ready.model.device))
        start = time.perf_counter()
        for some in [[p for group in groups for p in group]] if way.once else groups:
            if not way.once:
                encoded += backend.counters()["perceived"]
                renewed()
            outputs += [output for _, output in backend.score(some, frames, scoring)]
        seconds = time.perf_counter() - start
    if bad := [one.error for one in outputs if one.status == "error"]:
        raise SystemExit(f"{len(bad)} prompts failed: {bad[0]}")
    encoded += backend.counters()["perceived"]
    return {
        "seconds": seconds,
        "items_per_s": len(groups[0]) / way.rotations / seconds,
        "tokens_per_s": sum(one.input_tokens for one in outputs) / seconds,
        "tokens_put_through": sum(sequences * tokens for sequences, tokens in passes),
        "frames_perceived": encoded,
        "operations": operations(ready.model, encoded, passes),
    }


def main() -> int:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=sorted(SIDE), default="tiny")
    parser.add_argument("--checkpoint", type=Path, help="a folder, in place of --size")
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("/tmp/probes-gpu"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here: use --device cpu --size tiny")

    from probes.core.types import ModelSpec, ScoringSpec
    from probes.models.hf.backend import HfBackend

    folder = options.checkpoint
    if folder is None:
        folder = checkpoint(options.work / options.size, options.size, options.device)
    else:
        options.size = folder.name
    dtype = "float32" if options.device == "cpu" else "bfloat16"
    spec = ModelSpec("made", "video", str(folder), dtype=dtype, attention="sdpa", frame_as="video")
    backend = HfBackend(Settings(device=options.device), spec)
    ways = {
        "letter": Way("letter"),
        "letter, perceived anew": Way("letter", once=False),
        "cloze": Way("cloze"),
        "cloze, a row an option": Way("cloze", packed=False),
        "rotated": Way("letter", rotations=OPTIONS),
        "rotated, each read whole": Way("letter", rotations=OPTIONS, shared_prefixes=False),
    }
    kinds = {way.scoring: ScoringSpec(way.scoring) for way in ways.values()}
    asked = {
        (way.scoring, way.rotations): stimuli(options.items, kinds[way.scoring], way.rotations)
        for way in ways.values()
    }
    first, shown = asked["letter", 1]
    list(backend.score(first[1][:2], shown, kinds["letter"]))  # loads the model
    about = described()
    top = peak(options.device, getattr(torch, dtype))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(options.repeat):
        for name, way in ways.items():
            prompts = asked[way.scoring, way.rotations]
            found[name].append(measure(backend, *prompts, kinds[way.scoring], way))
    best = {name: min(runs, key=lambda one: one["seconds"]) for name, runs in found.items()}
    print(f"{options.size}, {options.device}, {options.items} items; peak {top / 1e12:.2f} TFLOP/s")
    print(f"{'':26}{'s':>8}{'items/s':>10}{'tokens/s':>10}{'frames':>8}{'of peak':>9}")
    for name, one in best.items():
        one["share_of_peak"] = one["operations"] / one["seconds"] / top
        print(
            f"{name:26}{one['seconds']:8.2f}{one['items_per_s']:10.2f}{one['tokens_per_s']:10.0f}"
            f"{one['frames_perceived']:8}{one['share_of_peak']:9.1%}"
        )
    content: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "size": options.size,
        "items": options.items,
        "peak_operations_per_s": top,
        "ways": best,
    }
    if options.device != "cpu":
        content["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    write(
        options.out or RESULTS / f"gpu_{options.size}_{options.device.split(':')[0]}.json",
        about | content,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
