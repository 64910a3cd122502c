"""How near is the harness to its limit: decoding and the models' own arithmetic?

    python benchmarks/limit.py [--videos 24] [--repeat 3] [--root DIR] [--work DIR] [--out FILE]

The embedded pair answers the study's suite at 5 and 10 frames on one-minute clips of 854 x 480
pixels, 10 frames a second (made by `probes data egoworld`; or any folder in EgoSchema's layout).

- harness: `execute` from the configuration to the last file, from an empty cache, loading both
  members and starting the decoder included.
- limit: every clip decoded once (decord on one thread, which costs the least; only the frames that
  are shown), and every call that the harness makes of the vision tower and of the language model,
  repeated on the same models: the same batches, with pictures prepared and prompts tokenised
  before, and without plan, store or files.

Both run in one process with one thread of torch, one after the other in every round; imports are
left out. CPU seconds include the decoding process. `loading` is the harness's time for reading and
freeing checkpoints, which does not grow with the number of items.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, timed, write

ROOT = Path(__file__).resolve().parent.parent
WANTED = 0.7
"""Share of the harness's CPU time that `--check` demands."""
Call = Callable[[], Any]


def world(folder: Path, videos: int) -> Path:
    """Make the clips, unless an earlier run of this benchmark made them."""
    if not (folder / "questions.json").is_file():
        command = ["data", "egoworld", str(folder), "--videos", str(videos), "--seed", "5"]
        size = ["--height", "480", "--width", "854", "--fps", "10", "--seconds", "60"]
        subprocess.run([sys.executable, "-m", "probes", *command, *size], check=True, cwd=ROOT)
    return folder


def harness(cfg: Any, work: Path) -> Any:
    """Make the run from an empty cache."""
    from probes.core.progress import Progress
    from probes.engine.run import execute

    for name in ("home", "out"):
        shutil.rmtree(work / name, ignore_errors=True)
    os.environ["PROBES_HOME"] = str(work / "home")
    return execute(cfg, work / "out", Progress())


@contextmanager
def recorded(calls: list[Call]) -> Iterator[None]:
    """Record every call of the language model and of the vision tower."""
    import transformers

    from probes.models.hf import decoding, forward

    def recording(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            calls.append(partial(function, *args, **named))
            return function(*args, **named)

        return call

    towers = transformers.LlavaNextVideoForConditionalGeneration
    places = [(forward, "score_options"), (decoding, "write")]
    places += [(towers, "get_video_features"), (towers, "get_image_features")]
    with ExitStack() as patches:
        for place, name in places:
            patch = mock.patch.object(place, name, recording(getattr(place, name)))
            patches.enter_context(patch)
        yield


@contextmanager
def loading(seconds: dict[str, float]) -> Iterator[None]:
    """Sum up the seconds of loading and freeing members."""
    from probes.models.hf.backend import HfBackend

    def timing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            found, took = timed(lambda: function(*args))
            for kind, value in took.items():
                seconds[kind] = seconds.get(kind, 0.0) + value
            return found

        return call

    with ExitStack() as patches:
        for name in ("_load", "close"):
            timer = timing(getattr(HfBackend, name))
            patches.enter_context(mock.patch.object(HfBackend, name, timer))
        yield


def decode(clips: dict[str, list[int]]) -> None:
    """Decode only the frames that are shown."""
    import decord

    for path, numbers in clips.items():
        decord.VideoReader(path, num_threads=1).get_batch(numbers).asnumpy()


def forwards(calls: list[Call]) -> None:
    """Repeat every call on its model."""
    import torch

    with torch.inference_mode():
        for call in calls:
            call()


def shown(cfg: Any) -> dict[str, list[int]]:
    """Return the numbers of the frames that are shown, by video."""
    import av

    from probes.media.video_decoders import indices
    from probes.tasks import registry

    found = {}
    for item in registry.load(cfg.task):
        with av.open(str(item.media.path)) as container:
            count = sum(1 for packet in container.demux(video=0) if packet.size)
        found[str(item.media.path)] = sorted({i for k in cfg.frames for i in indices(count, k)})
    return found


def main() -> int:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=24, help="clips to make")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--root", type=Path, help="a folder in EgoSchema's layout instead")
    parser.add_argument("--work", type=Path, default=Path("/tmp/probes-limit"))
    parser.add_argument("--check", action="store_true", help="fail below this share")
    parser.add_argument("--out", type=Path, default=RESULTS / "limit.json")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    root = options.root or world(options.work / f"world{options.videos}", options.videos)

    import torch

    from probes.config.compose import compose

    torch.set_num_threads(1)
    cfg = compose(["pair=tiny", "task=egoschema", f"task.root={root}", "frames=[5,10]"])
    clips, calls, about = shown(cfg), list[Call](), described()
    with recorded(calls):
        result = harness(cfg, options.work)  # also the warm-up of both
    if result.errors:
        raise SystemExit(f"{result.errors} records are errors: see {result.out}")
    records = result.counts["planned"]
    forwards(calls)
    rounds = []
    for _ in range(options.repeat):
        loaded: dict[str, float] = {}
        with loading(loaded):
            _, whole = timed(lambda: harness(cfg, options.work))
        _, decoding = timed(lambda: decode(clips))
        _, passes = timed(lambda: forwards(calls))
        share = {kind: (decoding[kind] + passes[kind]) / whole[kind] for kind in whole}
        grown = {
            kind: (decoding[kind] + passes[kind]) / (whole[kind] - loaded[kind]) for kind in whole
        }
        rounds.append(
            {
                "harness": whole,
                "decoding": decoding,
                "forward": passes,
                "loading": loaded,
                "share": share,
                "share_without_loading": grown,
            }
        )
    print(f"{len(clips)} clips, {records} records, {len(calls)} calls of the models")
    print(
        f"{'seconds: CPU (wall)':24}"
        + "".join(f"{f'round {n + 1}':>16}" for n in range(len(rounds)))
    )
    for name in rounds[0]:
        columns = (f"{one[name]['cpu']:.2f} ({one[name]['wall']:.2f})" for one in rounds)
        print(f"{name.replace('_', ' '):24}" + "".join(f"{column:>16}" for column in columns))
    middle = sorted(one["share"]["cpu"] for one in rounds)[len(rounds) // 2]
    print(f"the limit is {middle:.2f} of the harness's CPU time (median)")
    write(
        options.out,
        about
        | {
            "clips": len(clips),
            "records": records,
            "calls": len(calls),
            "rounds": rounds,
            "median_share_cpu": middle,
        },
    )
    return int(options.check and middle < WANTED)


if __name__ == "__main__":
    sys.exit(main())
