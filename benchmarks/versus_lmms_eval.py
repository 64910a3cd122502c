"""The harness with the study's suite against lmms-eval's own command line, on the same questions.

Both sides show the same stimuli of every question (all arms, 5 and 10 frames, 2 members) to the
same two checkpoints and write their replies to files. Replies are compared one by one. Clips last
three minutes (840 x 476 pixels, 30 frames a second, H.264 at 1 Mbit/s, a keyframe every 250
frames). In every round, one after the other:

- probes: one `probes run` from an empty home. It decodes, answers, makes tables and plots.
- normal: lmms-eval's normal use, a run of its command line per arm, member and number of frames.
- favourable: one run of its command line for everything: all arms and both numbers of frames as
  tasks, both members by `--config`, in batches.
- kept: `favourable`, with a cache of decoded frames written into the tasks by hand. Its command
  line has no such cache; this is what a determined user can get.

Equal on both sides: the frames (by number, decoded by decord, within the measured time), the text,
float32, greedy decoding, the number of new tokens, the size of a frame as the model sees it.
Infills are written beforehand and counted on neither side. Clips, checkpoints and lmms-eval's data
sets are made before the first round, and each side runs once uncounted, so that neither side pays
for a cold disk. The checkpoints are Qwen2.5-VL with random weights, a class that both can run:
their replies mean nothing, and differ from stimulus to stimulus.

The ratio is lmms-eval's time over ours within a round; the result is the median of the rounds.
Every start of lmms-eval costs the same whatever the number of clips, so the ratio of its normal
use, with 20 starts, falls with more clips: compare two sizes to see what a further clip costs.
Run it on a quiet machine: wall seconds during other work cannot be compared.

    python benchmarks/versus_lmms_eval.py                       3 rounds of 4 clips, ~30 minutes
    python benchmarks/versus_lmms_eval.py --items 2 --rounds 1  does it work? ~9 minutes
    python benchmarks/versus_lmms_eval.py --dtype bfloat16      lmms-eval's wrapper untouched
    python benchmarks/versus_lmms_eval.py --check               exit 1 unless 8 times faster, equal
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import _versus
from _machine import RESULTS, described, timed, write
from _versus import FRAMES, ROLES, ROOT, TOKENS

WANTED = 8.0
"""Ratio of wall seconds to normal use that `--check` demands."""
WAYS = {
    "probes": "probes",
    "normal": "lmms-eval, normal use",
    "favourable": "lmms-eval, favourable",
    "kept": "the same, frames kept",
}


@dataclass
class Bench:
    """The folder and the settings of this benchmark, and its progress."""

    work: Path
    items: int
    dtype: str
    pixels: int
    batch: int
    total: int = 0
    """Runs of either side's command line, for the progress line."""
    done: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def models(self) -> dict[str, Path]:
        """Folder of every member's checkpoint."""
        return {role: self.work / f"models-{self.pixels}" / role for role in ROLES}

    def run(self, what: str, command: Sequence[str], log: Path, **more: str) -> dict[str, float]:
        """Run a command to its end; return wall and CPU seconds, children included."""
        environment = os.environ | {"HF_HUB_OFFLINE": "1"} | more
        with log.open("w") as out:
            ended, took = timed(
                lambda: subprocess.run(
                    command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
                )
            )
        if ended.returncode:
            raise SystemExit(f"{what} failed: see {log}")
        self.done += 1
        left = (time.perf_counter() - self.started) / self.done * (self.total - self.done) / 60
        print(
            f"  [{self.done}/{self.total}] {what}: {took['wall']:.1f} s wall,"
            f" {took['cpu']:.1f} s CPU; about {left:.0f} min left",
            file=sys.stderr,
        )
        return took


def ours(bench: Bench, out: Path, *more: str) -> dict[str, float]:
    """One `probes run` of the study's arms from an empty home."""
    home = out.with_name("home")
    shutil.rmtree(home, ignore_errors=True)
    settings = (
        "pair=own task=egoschema suite=study pair.frame_as=image scoring=generate infill=file "
        f"pair.dtype={bench.dtype} max_new_tokens={TOKENS} frames=[{','.join(map(str, FRAMES))}]"
    )
    paths = {"task.root": bench.work / "clips", "infill.file": bench.work / "infills.jsonl"}
    paths |= {f"pair.{role}.repo": folder for role, folder in bench.models.items()}
    named = [f"{name}={path}" for name, path in (paths | {"hydra.run.dir": out}).items()]
    command = [sys.executable, "-m", "probes", "run", *settings.split(), *named, *more]
    return bench.run("probes", command, out.with_suffix(".log"), PROBES_HOME=str(home))


def theirs(
    bench: Bench, what: str, out: Path, arguments: Sequence[str], keep: int = 0
) -> dict[str, float]:
    """One run of lmms-eval's command line."""
    # Replies go to files, as ours do; errors do not end the program, so replies are counted later.
    command = [sys.executable, "-m", "lmms_eval", "--log_samples", *arguments]
    caches = {
        "HF_HOME": str(bench.work / "hf"),
        "HF_DATASETS_CACHE": str(bench.work / "datasets"),
        "LMMS_EVAL_DATASETS_CACHE": str(bench.work / "datasets"),
        "CLIPS_KEPT": str(keep),
        "PYTHONPATH": str(bench.work / "plugin"),
    }
    return bench.run(what, command, out.with_suffix(".log"), **caches)


def settings(
    bench: Bench, role: str, names: Sequence[str], out: Path, batch: int
) -> dict[str, str]:
    """Return lmms-eval's settings, as a group of `--config`."""
    return {
        "model": "qwen2_5_vl" + ("_float32" if bench.dtype == "float32" else ""),
        # The bounds of a frame's size are the checkpoint's: the wrapper has others, under which
        # its model would see other pictures than ours.
        "model_args": f"pretrained={bench.models[role]},device_map=cpu,device=cpu,"
        f"attn_implementation=sdpa,min_pixels={28 * 28},max_pixels={bench.pixels}",
        "include_path": str(bench.work / "tasks"),
        "tasks": ",".join(names),
        "batch_size": str(batch),
        "output_path": str(out),
    }


def normal(bench: Bench, base: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """One run of lmms-eval per member, arm and number of frames."""
    runs = {}
    for role in ROLES:
        for name, task in names.items():
            options = settings(bench, role, [task], base / "normal" / role / name, 1)
            arguments = [text for flag, value in options.items() for text in (f"--{flag}", value)]
            runs[f"{role} {name}"] = theirs(
                bench, f"{WAYS['normal']}, {role} {name}", base / f"normal-{role}-{name}", arguments
            )
    total = {kind: sum(one[kind] for one in runs.values()) for kind in ("wall", "cpu")}
    return total | {"runs": runs}


def favourable(bench: Bench, base: Path, names: Mapping[str, str], way: str) -> dict[str, float]:
    """One run of lmms-eval for everything."""
    both = [
        settings(bench, role, list(names.values()), base / way / role, bench.batch)
        for role in ROLES
    ]
    config = base / f"{way}.yaml"
    config.write_text(json.dumps(both))  # JSON is YAML
    keep = len(FRAMES) * bench.items if way == "kept" else 0
    return theirs(bench, WAYS[way], base / way, ["--config", str(config)], keep)


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


def compare(run: Path, out: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Compare the replies of our run with those under `out/ROLE`, one by one.

    Returns:
        How many are equal, those that differ (role, arm and frames, item, ours, theirs), and the
        numbers of different stimuli and different replies, which show what equality means.

    Raises:
        SystemExit: lmms-eval did not answer everything.
    """
    import pandas as pd

    records = pd.read_parquet(run / "records.parquet")
    records["name"] = records["arm"] + "-" + records["frames"].astype(str)
    equal, differ = 0, []
    for role in ROLES:
        theirs_by_task = replies(out / role)
        for row in records[records["role"] == role].itertuples():
            reply = theirs_by_task.get((names[row.name], int(row.item_id.removeprefix("clip"))))
            if reply is None:
                raise SystemExit(f"{role}, {row.name}, {row.item_id}: no reply under {out}")
            if reply.strip() == row.text.strip():
                equal += 1
            else:
                differ.append([role, row.name, row.item_id, row.text, reply])
    distinct = records.drop_duplicates(["role", "stimulus_sha"])
    return {
        "replies": len(records),
        "equal": equal,
        "differing": differ,
        "stimuli": len(distinct),
        "different_replies": len(distinct[["role", "text"]].drop_duplicates()),
    }


def checked(bench: Bench, out: Path) -> None:
    """Make sure that a run of ours decoded every clip and asked every prompt itself."""
    manifest = json.loads((out / "manifest.json").read_text())
    prompts = manifest["counts"]["prompts"].values()
    if manifest["decode_passes"] != bench.items or any(one["cached"] for one in prompts):
        raise SystemExit(f"{out}: frames or answers came out of a cache")
    if manifest["counts"]["error"]:
        raise SystemExit(f"{out}: {manifest['counts']['error']} records are errors")


def one_round(bench: Bench, number: int, base: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Run all ways, in another order each round."""
    base.mkdir(parents=True)
    took: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    order = list(WAYS)
    for way in order[number % len(order) :] + order[: number % len(order)]:
        if way == "probes":
            took[way] = ours(bench, base / "probes")
            checked(bench, base / "probes")
        elif way == "normal":
            took[way] = normal(bench, base, names)
        else:
            took[way] = favourable(bench, base, names, way)
    for way in order[1:]:
        took[way]["ratio"] = {k: took[way][k] / took["probes"][k] for k in ("wall", "cpu")}
        took[way]["answers"] = compare(base / "probes", base / way, names)
    return took


def show(rounds: Sequence[Mapping[str, Any]], ratio: Mapping[str, Mapping[str, float]]) -> None:
    """Print all rounds and the median ratios."""
    for number, one in enumerate(rounds, 1):
        print(f"\nround {number:<20}{'wall s':>10}{'CPU s':>10}{'x wall':>8}{'x CPU':>8}  equal")
        for way, name in WAYS.items():
            line = f"{name:26}{one[way]['wall']:10.1f}{one[way]['cpu']:10.1f}"
            if way != "probes":
                found, times = one[way]["answers"], one[way]["ratio"]
                line += f"{times['wall']:8.1f}{times['cpu']:8.1f}"
                line += f"  {found['equal']} of {found['replies']} replies"
            print(line)
    found = rounds[0]["normal"]["answers"]
    stimuli, texts = found["stimuli"], found["different_replies"]
    print(f"\n{stimuli} different stimuli got {texts} different replies")
    for way, times in ratio.items():
        print(f"{WAYS[way]}: {times['wall']:.1f} x wall, {times['cpu']:.1f} x CPU (medians)")


def main() -> int:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=4, help="clips, one question each; 2 or more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="lmms-eval's, in favourable use")
    parser.add_argument(
        "--pixels",
        type=int,
        default=128 * 28 * 28,
        help="most pixels of a frame as the model sees it (default: %(default)s); 784 are a token",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--work", type=Path, default=Path("/tmp/probes-versus"), help="is kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "versus_lmms_eval.json")
    parser.add_argument("--check", action="store_true", help="fail below the demanded ratio")
    options = parser.parse_args()
    if options.items < 2:
        parser.error("--items: a question borrows frames from another one, so 2 are needed")
    about = described()
    bench = Bench(
        options.work / f"items{options.items}",
        options.items,
        options.dtype,
        options.pixels,
        options.batch,
    )
    root = _versus.world(bench.work / "clips", options.items)
    written = _versus.infills(bench.work / "infills.jsonl", options.items)
    for seed, folder in enumerate(bench.models.values()):
        _versus.checkpoint(folder, seed, options.pixels)
    _versus.plugin(bench.work / "plugin")
    names = _versus.tasks(bench.work / "tasks", written, root, bench.models)
    base = bench.work / "rounds"
    shutil.rmtree(base, ignore_errors=True)
    warm = base / "warm-up"
    warm.mkdir(parents=True)
    bench.total = 2 + options.rounds * (len(ROLES) * len(names) + 3)
    ours(bench, warm / "probes")
    favourable(bench, warm, names, "favourable")
    rounds = []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        rounds.append(one_round(bench, number, base / str(number + 1), names))
    ratio = {
        way: {k: statistics.median(one[way]["ratio"][k] for one in rounds) for k in ("wall", "cpu")}
        for way in list(WAYS)[1:]
    }
    show(rounds, ratio)
    write(
        options.out,
        about
        | {
            "versions": {n: metadata.version(n) for n in ("lmms-eval", "transformers", "torch")},
            "items": options.items,
            "frames": FRAMES,
            "tasks": len(names),
            "members": len(ROLES),
            "dtype": options.dtype,
            "pixels": options.pixels,
            "batch": options.batch,
            "median_ratio": ratio,
            "rounds": rounds,
        },
    )
    answers = [one[way]["answers"] for one in rounds for way in ratio]
    same = all(one["equal"] == one["replies"] for one in answers)
    return int(options.check and not (same and ratio["normal"]["wall"] >= WANTED))


if __name__ == "__main__":
    sys.exit(main())
