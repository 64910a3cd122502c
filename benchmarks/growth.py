"""Do time and memory per item stay the same as a task grows?

    python benchmarks/growth.py [--items 100 300 1000 3000] [--models] [--repeat 2] [--out FILE]

Tasks of real, distinct clips (32 x 32 pixels, 12 frames), the study's suite at 5 and 10 frames,
from an empty cache; each run is a process of its own, and the sizes take turns. By default the
scripted backend answers, so that only the pipeline is measured: planning, decoding, frame cache,
infills, stimuli, store, records, files. With `--models` the embedded pair answers (100 and 300
items).

The frames and vision features that are kept in memory have limits of 512 MB each, which such small
frames would reach only after thousands of items, and real ones before the first hundred: here both
limits are 1 MB, to show what else grows. Seconds are those of a run from the configuration to the
last file, without imports; `more` is the cost of one further item between the previous size and
this one, without the constant cost of a run. Peak memory is the process's greatest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, write

ROOT = Path(__file__).resolve().parent.parent
SIDE, FRAMES = 32, 12
TIMED = """
import functools, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from _machine import peak_mb, timed
import av, cv2, hydra, numpy, pandas, PIL.Image, pyarrow.parquet, rich.progress
from probes.config.compose import compose
from probes.core.progress import Progress
from probes.engine import run
from probes.media.frame_store import FrameStore
if "backend=scripted" not in sys.argv:
    import torch, transformers

FrameStore.__init__ = functools.partialmethod(FrameStore.__init__, memory_mb=1)
cfg = compose(sys.argv[3:])
before, progress = peak_mb(), Progress()
result, seconds = timed(lambda: run.execute(cfg, Path(sys.argv[2]), progress))
print(json.dumps({
    "items": result.counts["items"], "records": result.counts["planned"], "errors": result.errors,
    **seconds, "phases": progress.seconds, "mb_before": before, "mb_peak": peak_mb(),
}))
"""


def film(path: Path, number: int) -> None:
    """Film a clip that differs from all others in every frame."""
    rng = np.random.default_rng(number)
    base, step = rng.integers(0, 256, (4, 4, 3)), rng.integers(1, 40, 3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"preset": "ultrafast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for t in range(FRAMES):
            picture = ((base + t * step) % 256).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def worlds(folder: Path, sizes: list[int]) -> dict[int, Path]:
    """Film the largest task, in EgoSchema's layout; the smaller ones link to its clips."""
    clips = folder / "clips"
    clips.mkdir()
    for number in range(max(sizes)):
        film(clips / f"clip{number}.mp4", number)
    made = {}
    for size in sizes:
        made[size] = root = folder / f"world{size}"
        (root / "videos").mkdir(parents=True)
        ids = [f"clip{number}" for number in range(size)]
        for uid in ids:
            os.link(clips / f"{uid}.mp4", root / "videos" / f"{uid}.mp4")
        questions = [
            {"q_uid": uid, "google_drive_id": uid, "question": f"What happens in {uid}?"}
            | {f"option {i}": f"someone does thing {i} of {uid}" for i in range(5)}
            for uid in ids
        ]
        (root / "questions.json").write_text(json.dumps(questions))
        answers = {uid: number % 5 for number, uid in enumerate(ids)}
        (root / "subset_answers.json").write_text(json.dumps(answers))
        recordings = {uid: f"recording{number // 3}" for number, uid in enumerate(ids)}
        (root / "uid_to_ego4d.json").write_text(json.dumps(recordings))
    return made


def run(folder: Path, world: Path, *, models: bool) -> dict[str, Any]:
    """Make one run in a process of its own, from an empty cache."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        settings = ["task=egoschema", f"task.root={world}", "pair=tiny", "frames=[5,10]"]
        settings += ["backend.feature_cache_mb=1"] if models else ["backend=scripted"]
        done = subprocess.run(
            [sys.executable, "-c", TIMED, str(Path(__file__).parent), f"{fresh}/out", *settings],
            env=os.environ | {"PROBES_HOME": f"{fresh}/home", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=ROOT,
        )
    return dict(json.loads(done.stdout))


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the least seconds and greatest memory of the runs of every size, and their growth."""
    rows: list[dict[str, Any]] = []
    for size in sorted({one["items"] for one in runs}):
        same = [one for one in runs if one["items"] == size]
        row = {"items": size, "runs": len(same), "mb_peak": max(one["mb_peak"] for one in same)}
        row["mb_before"] = min(one["mb_before"] for one in same)
        for kind in ("wall", "cpu"):
            row[kind] = min(one[kind] for one in same)
            row[f"{kind}_per_item"] = row[kind] / size
        if rows:
            last, more = rows[-1], size - rows[-1]["items"]
            for kind in ("wall", "cpu"):
                row[f"{kind}_more"] = (row[kind] - last[kind]) / more
            row["kb_more"] = 1024 * (row["mb_peak"] - last["mb_peak"]) / more
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print one line per size."""
    print(
        f"{'items':>6}{'CPU s':>9}{'ms an item':>12}{'ms more':>9}{'wall s':>9}{'ms an item':>12}"
        f"{'ms more':>9}{'peak MB':>9}{'kB more':>9}"
    )
    for row in rows:
        line = f"{row['items']:6}"
        for kind in ("cpu", "wall"):
            more = row.get(f"{kind}_more")
            line += f"{row[kind]:9.1f}{1000 * row[f'{kind}_per_item']:12.1f}"
            line += f"{1000 * more:9.1f}" if more is not None else f"{'':9}"
        line += f"{row['mb_peak']:9.0f}"
        print(line + (f"{row['kb_more']:9.1f}" if "kb_more" in row else ""))


def main() -> int:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", help="sizes of the tasks")
    parser.add_argument("--models", action="store_true", help="run the embedded pair")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each size")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = options.items or ([100, 300] if options.models else [100, 300, 1000, 3000])
    out = options.out or RESULTS / f"growth{'_models' if options.models else ''}.json"
    about, runs = described(), []
    with tempfile.TemporaryDirectory() as folder:
        made = worlds(Path(folder), sizes)
        for _ in range(options.repeat):
            for size, world in made.items():
                runs.append(run(Path(folder), world, models=options.models))
                print(f"{size} items: {runs[-1]['cpu']:.1f} s CPU", file=sys.stderr, flush=True)
    rows = summary(runs)
    show(rows)
    write(out, about | {"models": options.models, "sizes": rows, "all": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
