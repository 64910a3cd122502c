"""How long does it take to read a million records and contrast all their cells?

    python benchmarks/analysis.py [--records 1000000] [--repeat 3] [--check] [--out FILE]

Generated records of 500 items in 347 recordings under 5 arms, of two members at two frame counts,
with as many seeds as it takes. Every repetition is a process of its own. Measured are wall and CPU
seconds of `load`, of all gains, drops, transfers and differences in differences (DiD; strict and
complete-case), of the DiD on both other scales, and the greatest memory. As machines are seldom
idle, a fixed numpy workload is timed too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
import _machine

SECONDS, GIGABYTES = 10.0, 2.0
"""Limits of `--check` for load and all contrasts of accuracies together."""
ITEMS, RECORDINGS = 500, 347
ARMS = ("baseline", "vcot", "visual_perturbation", "text_perturbation", "blind")
TIMED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from _machine import peak_mb, reference, timed
from probes import analysis

fixed = reference()
frame, load = timed(lambda: analysis.load(sys.argv[2]))
found, contrasts = timed(lambda: analysis.contrasts(frame))
peak = peak_mb() / 1024
logit, did_logit = timed(lambda: analysis.contrasts(frame, names=["did"], measure="logit"))
margin, did_margin = timed(lambda: analysis.contrasts(frame, names=["did"], measure="margin"))
print(json.dumps({
    "records": len(frame), "contrasts": len(found), "gigabytes": peak,
    "seconds": {"reference": fixed, "load": load, "all contrasts": contrasts,
                "did, log-odds": did_logit, "did, margin": did_margin},
}))
"""


def write(folder: Path, records: int) -> int:
    """Write whole seeds of generated records, at least this many; return their number."""
    per_seed = ITEMS * len(ARMS) * 2 * 2
    cells = -(-records // per_seed) * per_seed // ITEMS
    n = cells * ITEMS
    item, cell = np.tile(np.arange(ITEMS), cells), np.repeat(np.arange(cells), ITEMS)
    role, shown = np.array(["image", "video"])[cell % 2], cell // 2
    answer, right = item % 5, np.random.default_rng(0).random(n) < 0.45
    starts = pa.array(np.arange(0, 5 * n + 1, 5), pa.int32())
    scores = np.random.default_rng(1).normal(size=5 * n)
    # Right answers are likelier, or no member would have a temperature to compare margins at.
    scores[5 * np.arange(n) + answer] += np.where(right, 1.0, 0.0)
    constant = {
        "task": "egoschema",
        "stratum": "",
        "pair": "llava",
        "scoring": "letter",
        "status": "ok",
        "text": "",
        "error": "",
        "input_tokens": 100,
        "output_tokens": 0,
        "seconds": 0.1,
        "rotation": 0,
    }
    columns = {
        "key": [f"{i:064x}" for i in range(n)],
        "item_id": np.char.add("q", item.astype(str)),
        "cluster": np.char.add("r", (item * RECORDINGS // ITEMS).astype(str)),
        "role": role,
        "member": np.char.add("llava-", role),
        "arm": np.array(ARMS)[shown % 5],
        "frames": np.array([5, 10])[shown // 5 % 2],
        "seed": shown // 10,
        "donor_id": pa.nulls(n, pa.string()),
        "choice": np.where(right, answer, (answer + 1) % 5),
        "answer": answer,
        "correct": right,
        "option_logprobs": pa.ListArray.from_arrays(starts, pa.array(scores)),
        "option_tokens": pa.ListArray.from_arrays(starts, pa.array(np.ones(5 * n, np.int64))),
        "stimulus_sha": [f"{a:08x}{b:056x}" for a, b in zip(shown, item, strict=True)],
    }
    columns |= {name: pa.repeat(pa.scalar(value), n) for name, value in constant.items()}
    pq.write_table(pa.table(columns), folder / "records.parquet")
    return n


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="fail above the limits")
    parser.add_argument("--out", type=Path, default=_machine.RESULTS / "analysis.json")
    options = parser.parse_args()
    about, runs = _machine.described(), []
    with tempfile.TemporaryDirectory() as folder:
        print(f"{write(Path(folder), options.records)} records; seconds: wall (CPU)")
        for repetition in range(options.repeat):
            time.sleep(1.0 if repetition else 0.0)
            done = subprocess.run(
                [sys.executable, "-c", TIMED, str(Path(__file__).parent), folder],
                capture_output=True,
                text=True,
                check=True,
            )
            runs.append(json.loads(done.stdout))
            seconds = "  ".join(
                f"{name} {took['wall']:.2f} ({took['cpu']:.2f})"
                for name, took in runs[-1]["seconds"].items()
            )
            print(f"{seconds}  {runs[-1]['gigabytes']:.2f} GB", flush=True)
    totals = [
        sum(run["seconds"][name]["wall"] for name in ("load", "all contrasts")) for run in runs
    ]
    memory = max(run["gigabytes"] for run in runs)
    print(
        f"load and all {runs[0]['contrasts']} contrasts: {min(totals):.1f} to {max(totals):.1f} s, "
        f"{memory:.2f} GB"
    )
    if options.records == 1_000_000:
        _machine.write(options.out, about | {"runs": runs})
    return int(options.check and (min(totals) > SECONDS or memory > GIGABYTES))


if __name__ == "__main__":
    sys.exit(main())
