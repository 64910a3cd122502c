"""The inputs of `versus_lmms_eval.py`: clips, infills, checkpoints, lmms-eval's tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, FPS, GOP, BIT_RATE = 840, 476, 30, 250, 1_000_000
STRETCH, TIMES = 2 * GOP, 11
"""A clip is this many different frames, repeated so many times: 183 s, and encoded in seconds."""
FRAMES = (5, 10)
ROLES = ("image", "video")
TOKENS = 8
"""Tokens of a reply: random models would never stop."""

UTILS = '''
import json
from pathlib import Path

import datasets
from PIL import Image
from versus_frames import decoded

HERE = Path(__file__).parent


def docs(_):
    return datasets.Dataset.from_list(json.loads((HERE / "docs.json").read_text()))


def messages(doc, arm):
    """Frames and text in order; every video of the question is opened once."""
    parts = json.loads(doc[arm])
    wanted = {}
    for part in parts:
        if "video" in part:
            wanted.setdefault(part["video"], []).append(part["frame"])
    frames = {
        (path, number): frame
        for path, numbers in wanted.items()
        for number, frame in zip(numbers, decoded(path, tuple(numbers)))
    }
    content = []
    for part in parts:
        if "video" in part:
            picture = Image.fromarray(frames[part["video"], part["frame"]])
            content.append({"type": "image", "url": picture})
        else:
            content.append({"type": "text", "text": part["text"]})
    return [{"role": "user", "content": content}]


def visual(doc):
    return []


def text(doc):
    return doc["question"]


def target(doc):
    return doc["target"]


def process_results(doc, results):
    return {"accuracy": float(results[0].strip().startswith(doc["target"]))}
'''

DECODED = '''
"""Frames for the tasks: a module, as lmms-eval loads a task's utils anew for every function."""

import os
from functools import lru_cache

import decord


@lru_cache(maxsize=int(os.environ.get("CLIPS_KEPT", "0")))
def decoded(path, numbers):
    return decord.VideoReader(path).get_batch(list(numbers)).asnumpy()
'''

WRAPPER = '''
"""lmms-eval's Qwen2.5-VL chat wrapper, which always loads bfloat16, with float32 weights."""

from unittest import mock

from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.models.simple import qwen2_5_vl

LOADED = qwen2_5_vl.Qwen2_5_VLForConditionalGeneration


class Float32(Qwen2_5_VL):
    def __init__(self, **given):
        load = LOADED.from_pretrained

        def in_float32(*args, **named):
            return load(*args, **(named | {"torch_dtype": "float32"}))

        with mock.patch.object(LOADED, "from_pretrained", in_float32):
            super().__init__(**given)


def manifest():
    return ModelManifest("qwen2_5_vl_float32", chat_class_path="versus_wrapper.Float32")
'''


def film(path: Path, seed: int) -> None:
    """Film a clip: coloured blocks that pan under moving grain."""
    rng = np.random.default_rng(seed)
    tall, wide = HEIGHT // 14 + 20, WIDTH // 14 + 80
    luma = rng.integers(16, 235, (tall, wide), np.uint8).repeat(14, 0).repeat(14, 1)
    chroma = rng.integers(64, 192, (2, tall, wide), np.uint8).repeat(7, 1).repeat(7, 2)
    grain = rng.integers(-3, 4, (8, HEIGHT, WIDTH), np.int16)
    stretch = path.with_suffix(".part.mp4")
    with av.open(str(stretch), "w") as container:
        stream = container.add_stream(
            "libx264",
            rate=FPS,
            options={
                "preset": "veryfast",
                "g": str(GOP),
                "keyint_min": str(GOP),
                "sc_threshold": "0",
            },
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = BIT_RATE
        for t in range(STRETCH):
            y, x = t // 4 * 2, 2 * t
            shown = luma[y : y + HEIGHT, x : x + WIDTH] + grain[t // 2 % len(grain)]
            colours = chroma[:, y // 2 : (y + HEIGHT) // 2, x // 2 : (x + WIDTH) // 2]
            planes = [shown.clip(0, 255).astype(np.uint8), colours.reshape(-1, WIDTH)]
            frame = av.VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path), "w") as container:
        for time_over in range(TIMES):
            with av.open(str(stretch)) as source:
                if not time_over:
                    stream = container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is None:
                        continue
                    later = round(time_over * STRETCH / FPS / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = stream
                    container.mux(packet)
    stretch.unlink()


def world(root: Path, items: int) -> Path:
    """Make a folder in EgoSchema's layout, unless an earlier run of this benchmark made it."""
    if (root / "questions.json").is_file():
        return root
    (root / "videos").mkdir(parents=True, exist_ok=True)
    questions = []
    for number in range(items):
        print(f"filming {number + 1} of {items}", file=sys.stderr)
        film(root / "videos" / f"clip{number}.mp4", number)
        questions.append(
            {
                "q_uid": f"clip{number}",
                "google_drive_id": "",
                "question": f"Which is true of clip {number}?",
            }
            | {f"option {i}": event(number, i) for i in range(5)}
        )
    answers = {one["q_uid"]: number % 5 for number, one in enumerate(questions)}
    (root / "subset_answers.json").write_text(json.dumps(answers))
    (root / "uid_to_ego4d.json").write_text(json.dumps({uid: uid for uid in answers}))
    (root / "questions.json").write_text(json.dumps(questions))
    return root


def event(*seed: int) -> str:
    """Invent an event: other seeds give other events, so that replies differ."""
    who, does, colour, what = np.random.default_rng(seed).integers(0, 5, 4)
    return (
        f"{('A child', 'The cook', 'My friend', 'Nobody', 'One hand')[who]}"
        f" {('lifts', 'turns', 'opens', 'drops', 'hides')[does]} the"
        f" {('red', 'blue', 'old', 'wet', 'small')[colour]}"
        f" {('cup', 'box', 'door', 'rope', 'lamp')[what]}."
    )


def infills(path: Path, items: int) -> Path:
    """Write infills as another program would, for both members and all gaps."""
    rows = [
        {"item_id": f"clip{n}", "frames": k, "gap": g, "text": event(n, k, g)}
        for n in range(items)
        for k in FRAMES
        for g in range(k - 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def checkpoint(folder: Path, seed: int, pixels: int) -> Path:
    """Make a random Qwen2.5-VL that sees at most so many pixels of a frame and replies in ASCII."""
    if folder.is_dir():
        return folder
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_models
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    half = folder.with_suffix(".part")
    tiny_models.qwen2_5_vl(half, seed)
    for name, groups, change in (
        ("config.json", ("text_config",), {"max_position_embeddings": 8_192}),
        (
            "processor_config.json",
            ("image_processor", "video_processor"),
            {"size": {"shortest_edge": 28 * 28, "longest_edge": pixels}},
        ),
    ):
        settings = json.loads((half / name).read_text())
        for group in groups:
            settings[group] |= change
        (half / name).write_text(json.dumps(settings))
    # Half characters all read the same, and a special token is left out of a reply, so that a
    # difference could go unnoticed. These are never the likeliest.
    tokenizer = AutoTokenizer.from_pretrained(half)
    weights = load_file(half / "model.safetensors")
    for token in range(len(weights["lm_head.weight"])):
        text = tokenizer.decode([token], skip_special_tokens=True)
        if token != tokenizer.eos_token_id and not (text.isascii() and text.isprintable() and text):
            weights["lm_head.weight"][token] = 0
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    return half.rename(folder)


def plugin(folder: Path) -> None:
    """Write lmms-eval's plugin with the float32 wrapper.

    It has the name of this project, as lmms-eval would otherwise load our own plugin at every
    start: 0.4 s that are not its fault.
    """
    info = folder / "interframe_probes-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "versus_wrapper.py").write_text(WRAPPER)
    (folder / "versus_frames.py").write_text(DECODED)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: interframe-probes\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[lmms_eval.models]\nversus=versus_wrapper:manifest\n")


def tasks(folder: Path, written: Path, root: Path, models: Mapping[str, Path]) -> dict[str, str]:
    """Write lmms-eval tasks that show what a run of ours shows, made by the same functions.

    Returns:
        Name of the task by arm and number of frames, as "arm-frames".
    """
    from probes.config.compose import compose
    from probes.core.types import Clip, FrameRef
    from probes.media.video_decoders import indices
    from probes.stimuli.arms import StimulusForm, StimulusSources, build, needs_donor
    from probes.stimuli.donors import Donors
    from probes.stimuli.infill_file import load_file
    from probes.tasks.egoschema import reader

    cfg = compose(
        [
            *(f"pair.{role}.repo={model}" for role, model in models.items()),
            "task=egoschema",
            f"task.root={root}",
            "scoring=generate",
        ]
    )
    every = reader.load(root)
    lenders = Donors(every, same_stratum=False)
    count = STRETCH * TIMES
    clips = {
        (item.id, k): Clip(numbers, (0.0,) * k, tuple(f"{item.media.path}#{n}" for n in numbers))
        for item in every
        for k in FRAMES
        for numbers in [indices(count, k)]
    }
    texts = load_file(written, clips, [item.id for item in every])
    rows: list[dict[str, Any]] = []
    names = {}
    for item in every:
        row = {"id": item.id, "question": item.question, "target": "ABCDE"[item.answer or 0]}
        for arm in cfg.suite:
            donor = lenders.find(item, arm) if needs_donor(arm) else None
            for k in FRAMES:
                borrowed = (donor.id, k) if donor else None
                sources = StimulusSources(
                    clips[item.id, k],
                    texts[item.id, k],
                    donor,
                    clips[borrowed] if borrowed else None,
                    texts[borrowed] if borrowed else None,
                )
                stimulus = build(item, arm, sources, StimulusForm(cfg.prompts, "generate"))
                parts = [
                    {"video": part.sha256.split("#")[0], "frame": int(part.sha256.split("#")[1])}
                    if isinstance(part, FrameRef)
                    else {"text": part}
                    for part in stimulus.parts
                ]
                name = f"{arm.name}-{k}"
                names[name] = f"bench_{arm.name}_{k}"
                row[name] = json.dumps(parts)
        rows.append(row)
    _write_tasks(folder, rows, names)
    return names


def _write_tasks(folder: Path, rows: list[dict[str, Any]], names: Mapping[str, str]) -> None:
    """Write the data set, the functions and a YAML file per task."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "docs.json").write_text(json.dumps(rows))
    (folder / "one.json").write_text('[{"id": 0}]')
    wrappers = ""
    for name, task in names.items():
        function = task.removeprefix("bench_")
        wrappers += f"\n\ndef {function}(doc):\n    return messages(doc, {name!r})\n"
        (folder / f"{task}.yaml").write_text(
            f"task: {task}\ndataset_path: json\n"
            "dataset_kwargs: {data_files: {test: one.json}}\n"
            "test_split: test\nprocess_docs: !function utils.docs\noutput_type: generate_until\n"
            "doc_to_visual: !function utils.visual\ndoc_to_text: !function utils.text\n"
            f"doc_to_messages: !function utils.{function}\ndoc_to_target: !function utils.target\n"
            "process_results: !function utils.process_results\n"
            f"generation_kwargs: {{max_new_tokens: {TOKENS}, temperature: 0, do_sample: false}}\n"
            "metric_list: [{metric: accuracy, aggregation: mean, higher_is_better: true}]\n"
        )
    (folder / "utils.py").write_text(UTILS + wrappers)
