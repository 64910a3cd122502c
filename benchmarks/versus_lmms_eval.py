"""The whole default suite against the same questions through lmms-eval's own command line.

    python benchmarks/versus_lmms_eval.py [--items 12] [--repeat 2] [--work DIR] [--out FILE]

Two random Qwen2.5-VL (a class that both can run; their answers mean nothing, and differ for every
stimulus) answer by `generate` on three-minute clips of 840 x 476 pixels, 30 frames a second, H.264
with keyframes 250 frames apart. Both sides show the same frames and the same text in the same
order: infills are written beforehand and counted on neither side; the stimuli that lmms-eval's
tasks show are those of a finished run of ours. lmms-eval decodes inside `doc_to_messages`, as its
tasks do. Three ways, one after the other, in every repetition:

- probes: one `probes run` from an empty cache;
- lmms-eval, normal use: one run per arm, member and number of frames;
- lmms-eval, most favourable: one run per member, with all tasks in it, in batches.

Ratios are of wall and of CPU seconds within one repetition. Replies are compared one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "versus_lmms_eval.json"
WIDTH, HEIGHT, FPS, SECONDS, GOP = 840, 476, 30, 180, 250
FRAMES = (5, 10)
TOKENS = 8
"""Tokens of a reply: random models would go on for ever."""
BATCH = 4

UTILS = '''
import json
from functools import lru_cache
from pathlib import Path

import datasets
import decord
from PIL import Image

HERE = Path(__file__).parent


def docs(_):
    return datasets.Dataset.from_list(json.loads((HERE / "docs.json").read_text()))


def messages(doc, arm):
    """Frames and text in order; every video of the question is opened and decoded once."""
    parts = json.loads(doc[arm])
    wanted = {}
    for part in parts:
        if "video" in part:
            wanted.setdefault(part["video"], []).append(part["frame"])
    decoded = {
        path: dict(zip(numbers, decord.VideoReader(path).get_batch(numbers).asnumpy()))
        for path, numbers in wanted.items()
    }
    content = []
    for part in parts:
        if "video" in part:
            picture = Image.fromarray(decoded[part["video"]][part["frame"]])
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


def film(path: Path, seed: int) -> None:
    """Film a clip whose stretches between keyframes differ; one stretch is encoded and repeated."""
    rng = np.random.default_rng(seed)
    still = (
        rng.integers(0, 256, (HEIGHT // 14, WIDTH // 14, 3), np.uint8).repeat(14, 0).repeat(14, 1)
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={
            "preset": "veryfast", "g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0",
        })  # fmt: skip
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for t in range(FPS * SECONDS):
            frame = np.roll(still, (t // 3 % HEIGHT, 2 * t % WIDTH), (0, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def world(root: Path, items: int) -> Path:
    """Make a folder in EgoSchema's layout."""
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
                "question": f"What happens in {number}?",
            }
            | {f"option {i}": f"Someone does thing {i} of {number}." for i in range(5)}
        )
    answers = {one["q_uid"]: number % 5 for number, one in enumerate(questions)}
    (root / "subset_answers.json").write_text(json.dumps(answers))
    (root / "uid_to_ego4d.json").write_text(json.dumps({uid: uid for uid in answers}))
    (root / "questions.json").write_text(json.dumps(questions))
    return root


def infills(path: Path, items: int) -> Path:
    """Write infills as another program would, for both members and all gaps."""
    rows = [
        {"item_id": f"clip{n}", "frames": k, "gap": g, "text": f"In {n} part {g} of {k} moves on."}
        for n in range(items) for k in FRAMES for g in range(k - 1)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def members(root: Path) -> dict[str, Path]:
    """Make the two checkpoints."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_models

    return {
        role: root / role if (root / role).is_dir() else tiny_models.qwen2_5_vl(root / role, seed)
        for seed, role in enumerate(("image", "video"))
    }


def timed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> dict[str, float]:
    """Run a command to its end; wall and CPU seconds, children included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("w") as out:
        subprocess.run(
            command, check=True, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
            env=os.environ | dict(environment),
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.perf_counter() - start, "cpu": cpu}


def ours(work: Path, out: Path, home: Path, models: Mapping[str, Path]) -> dict[str, float]:
    """One `probes run` of the study's arms."""
    command = [
        sys.executable, "-m", "probes", "run", "pair=own", "task=egoschema", "suite=study",
        f"task.root={work / 'world'}", f"pair.image.repo={models['image']}",
        f"pair.video.repo={models['video']}", "pair.frame_as=image", "scoring=generate",
        f"max_new_tokens={TOKENS}", "infill=file", f"infill.file={work / 'infills.jsonl'}",
        f"frames=[{','.join(map(str, FRAMES))}]", f"hydra.run.dir={out}",
    ]  # fmt: skip
    environment = {"PROBES_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return timed(command, environment, out.with_suffix(".log"))


def tasks(folder: Path, written: Path, root: Path, models: Mapping[str, Path]) -> dict[str, str]:
    """Write lmms-eval tasks that show what a run of ours shows, made by the same functions.

    Returns:
        Name of the task by (arm, number of frames), as "arm-frames".
    """
    from probes.arms import build, find_donor
    from probes.frames import indices
    from probes.infills import load_file
    from probes.launch import compose
    from probes.types import Clip, FrameRef
    from tasks.egoschema import reader

    cfg = compose([
        *(f"pair.{role}.repo={model}" for role, model in models.items()),
        "task=egoschema", f"task.root={root}", "scoring=generate",
    ])  # fmt: skip
    every = reader.load(root)
    count = FPS * SECONDS
    clips = {
        (item.id, k): Clip(numbers, (0.0,) * k, tuple(f"{item.media.path}#{n}" for n in numbers))
        for item in every for k in FRAMES for numbers in [indices(count, k)]
    }  # fmt: skip
    texts = load_file(written, clips, [item.id for item in every])
    rows: list[dict[str, Any]] = []
    names = {}
    for item in every:
        row = {"id": item.id, "question": item.question, "target": "ABCDE"[item.answer or 0]}
        for arm in cfg.suite:
            donor = (
                find_donor(item, every, arm, same_stratum=False)
                if "donor" in (arm.frames, arm.infills) else None
            )  # fmt: skip
            for k in FRAMES:
                borrowed = (donor.id, k) if donor else None
                stimulus = build(
                    item, arm, clips[item.id, k], texts[item.id, k], cfg.prompts, "generate",
                    donor=donor, donor_clip=clips[borrowed] if borrowed else None,
                    donor_infills=texts[borrowed] if borrowed else None,
                )  # fmt: skip
                parts = [
                    {"video": part.sha256.split("#")[0], "frame": int(part.sha256.split("#")[1])}
                    if isinstance(part, FrameRef) else {"text": part}
                    for part in stimulus.parts
                ]  # fmt: skip
                name = f"{arm.name}-{k}"
                names[name] = f"bench_{arm.name}_{k}"
                row[name] = json.dumps(parts)
        rows.append(row)
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
    return names


def theirs(
    work: Path, out: Path, model: Path, names: Sequence[str], batch: int
) -> dict[str, float]:
    """One run of lmms-eval's command line over some tasks."""
    command = [
        sys.executable, "-m", "lmms_eval", "--model", "qwen2_5_vl", "--model_args",
        f"pretrained={model},device_map=cpu,device=cpu,attn_implementation=sdpa,system_prompt=",
        "--include_path", str(work / "tasks"), "--tasks", ",".join(names), "--batch_size",
        str(batch), "--output_path", str(out), "--log_samples",
    ]  # fmt: skip
    caches = {
        "HF_HOME": str(work / "hf"), "HF_DATASETS_CACHE": str(work / "datasets"),
        "LMMS_EVAL_DATASETS_CACHE": str(work / "datasets"), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    return timed(command, caches, out.with_suffix(".log"))


def replies(out: Path) -> dict[tuple[str, int], str]:
    """Read what lmms-eval's model replied, by (task, number of the question)."""
    found = {}
    for path in out.rglob("*samples*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            reply = row["filtered_resps"]
            while isinstance(reply, list):
                reply = reply[0]
            name = path.stem.split("samples_")[-1]
            found[name, int(row["doc_id"])] = str(reply)
    return found


def compare(run: Path, roles: Mapping[str, Path], names: Mapping[str, str]) -> dict[str, Any]:
    """Count equal replies of our run and of lmms-eval's, by arm and number of frames."""
    import pandas as pd

    records = pd.read_parquet(run / "records.parquet")
    records["name"] = records["arm"] + "-" + records["frames"].astype(str)
    equal, differ, absent = 0, [], 0
    for role, out in roles.items():
        said = replies(out)
        for row in records[records["role"] == role].itertuples():
            reply = said.get((names[row.name], int(row.item_id.removeprefix("clip"))))
            if reply is None:
                absent += 1
            elif reply.strip() == row.text.strip():
                equal += 1
            else:
                differ.append([role, row.name, row.item_id, row.text, reply])
    return {"equal": equal, "absent": absent, "differing": differ}


def main() -> int:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("/tmp/probes-versus"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    work = given.work / f"items{given.items}"
    work.mkdir(parents=True, exist_ok=True)
    models = members(work / "models")
    root = world(work / "world", given.items)
    written = infills(work / "infills.jsonl", given.items)
    names = tasks(work / "tasks", written, root, models)
    rounds = []
    for number in range(given.repeat):
        base = work / f"round-{time.strftime('%H%M%S')}"
        base.mkdir()
        probes = ours(work, base / "probes", base / "home", models)
        print(f"round {number + 1}: probes {probes}", file=sys.stderr)
        normal, outs = {"wall": 0.0, "cpu": 0.0}, {}
        for role, model in models.items():
            outs[role] = base / f"normal-{role}"
            outs[role].mkdir()
            for task in names.values():
                took = theirs(work, outs[role] / task, model, [task], 1)
                normal = {kind: normal[kind] + took[kind] for kind in normal}
                print(f"  {role} {task} {took}", file=sys.stderr)
        kind, best = {"wall": 0.0, "cpu": 0.0}, {}
        for role, model in models.items():
            best[role] = base / f"best-{role}"
            best[role].mkdir()
            took = theirs(work, best[role] / "all", model, list(names.values()), BATCH)
            kind = {name: kind[name] + took[name] for name in kind}
        rounds.append({
            "probes": probes, "normal": normal, "favourable": kind,
            "ratio": {name: normal[name] / probes[name] for name in normal},
            "ratio_favourable": {name: kind[name] / probes[name] for name in kind},
            "answers": compare(base / "probes", outs, names),
            "answers_favourable": compare(base / "probes", best, names),
        })  # fmt: skip
        show(rounds[-1])
    described = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(), "items": given.items, "frames": FRAMES,
        "tasks": len(names), "members": len(models), "rounds": rounds,
    }  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(described, indent=1) + "\n")
    return 0


def show(one: Mapping[str, Any]) -> None:
    """Print one round."""
    print(f"{'':28}{'wall s':>10}{'CPU s':>10}{'x wall':>8}{'x CPU':>8}  equal replies")
    for name, key, ratio, answers in (
        ("probes", "probes", None, None),
        ("lmms-eval, normal use", "normal", "ratio", "answers"),
        ("lmms-eval, most favourable", "favourable", "ratio_favourable", "answers_favourable"),
    ):
        line = f"{name:28}{one[key]['wall']:10.1f}{one[key]['cpu']:10.1f}"
        if ratio and answers:
            found = one[answers]
            total = found["equal"] + len(found["differing"]) + found["absent"]
            line += f"{one[ratio]['wall']:8.1f}{one[ratio]['cpu']:8.1f}  {found['equal']}/{total}"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
