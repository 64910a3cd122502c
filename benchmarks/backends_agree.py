"""Whether two backends give the same answers to the same stimuli.

    python benchmarks/backends_agree.py [--items 100] [--suite controls]     makes the runs
    python benchmarks/backends_agree.py RUN_A RUN_B            compares two finished run folders

The runs show the embedded pair the arms of the study and the controls with `pair.frame_as=image`,
once in process (`hf`) and once through real servers on loopback (`server`): `letter` through
tests/chat_server.py, which has log-probabilities; `generate` through `transformers serve`, with the
pair's own wording and with one that makes the tiny members answer in words, as they answer every
question by letter with the same one. lmms-eval has no wrapper for the embedded members' class, so
`lmms` is compared on two random Qwen2.5-VL, whose texts mean nothing and differ for every stimulus.
Both runs write their infills themselves, so these are compared too. Trials are compared where both
runs showed the same stimulus; every difference is listed with the margin of the first run
(log-probability of its choice minus that of the next option; none for texts).
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

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, write

ROOT = Path(__file__).resolve().parent.parent
TRIAL = ["role", "arm", "frames", "task", "item_id"]
"""Columns that identify a trial."""
LEAST = 0.99
"""Share of equal choices below which the exit code is 1."""


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Compare the records and infills of two run folders, trial by trial."""
    left, right = (pd.read_parquet(run / "records.parquet") for run in (a, b))
    both = left.merge(right, on=TRIAL, suffixes=("_a", "_b"))
    same_stimulus = both.stimulus_sha_a == both.stimulus_sha_b
    both["equal"] = (both.status_a == both.status_b) & (
        both.choice_a.fillna(-1) == both.choice_b.fillna(-1)
    )
    both["equal_text"] = both.text_a == both.text_b
    shown = both[same_stimulus]
    written = set(shown.scoring_a) == {"generate"}
    gap = ["frames", "task", "item_id", "gap"]
    texts = (pd.read_parquet(run / "infills.parquet").drop_duplicates(gap) for run in (a, b))
    infills = next(texts).merge(next(texts), on=gap, suffixes=("_a", "_b"))
    arms = shown.groupby(["role", "arm"], sort=False)
    differences = [
        {
            **{name: row[name] for name in TRIAL},
            "status": [row.status_a, row.status_b],
            "choice": [None if pd.isna(c) else int(c) for c in (row.choice_a, row.choice_b)],
            "text": [row.text_a, row.text_b],
            "margin_nats": margin(row.option_logprobs_a),
        }
        for _, row in shown[~(shown.equal & (shown.equal_text | (not written)))].iterrows()
    ]
    return {
        "cells": len(both),
        "missing": len(left) + len(right) - 2 * len(both),
        "other_stimulus": int((~same_stimulus).sum()),
        "infills": len(infills),
        "equal_infills": int((infills.text_a == infills.text_b).sum()),
        "compared": len(shown),
        "equal": int(shown.equal.sum()),
        "equal_texts": int(shown.equal_text.sum()) if written else None,
        "different_texts": shown.text_a.nunique(),
        "choices": int(shown.choice_a.nunique()),
        "largest_logprob_difference": logprob_difference(shown),
        "by_arm": [
            {"role": role, "arm": arm, "compared": len(rows), "equal": int(rows.equal.sum())}
            for (role, arm), rows in arms
        ],
        "differences": differences,
    }


def margin(logprobs: Any) -> float | None:
    """Return the best option's log-probability minus the next one's, in nats; None without any."""
    best = sorted(logprobs, reverse=True)[:2] if logprobs is not None else []
    return round(float(best[0] - best[1]), 4) if len(best) == 2 else None


def logprob_difference(shown: pd.DataFrame) -> float | None:
    """Return the largest difference of a log-probability that both runs observed, in nats."""
    worst = [
        abs(x - y)
        for row in shown.itertuples()
        for x, y, seen in zip(
            row.option_logprobs_a, row.option_logprobs_b, row.option_tokens_b, strict=False
        )
        if seen and np.isfinite([x, y]).all()
    ]
    return float(max(worst)) if worst else None


def run(out: Path, *overrides: str) -> Path:
    """Make one run into a folder."""
    settings = [f"hydra.run.dir={out}", "pair.frame_as=image", *overrides]
    command = [sys.executable, "-m", "probes", "run", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return out


def in_words(folder: Path) -> Path:
    """Write the tiny pair's prompt set with the options first, which it answers in words."""
    folder.mkdir()
    for path in (ROOT / "conf" / "prompts" / "tiny").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "generate.txt").write_text("{options}\n{context} {question}\n", "utf-8")
    return folder


def made(items: int, suite: str, work: Path) -> dict[str, dict[str, Any]]:
    """Make the runs and compare them, by scenario."""
    sys.path.insert(0, str(ROOT / "tests"))
    import serving

    checkpoints = ROOT / "probes" / "tasks" / "egoworld" / "pair" / "checkpoints"
    folders = [str(checkpoints / role) for role in ("image", "video")]
    words = f"prompt_set={in_words(work / 'words')}"
    served = {
        "letter": (["scoring=letter"], lambda: serving.chat_server(*folders)),
        "generate": (["scoring=generate"], serving.transformers_serve),
        "generate in words": (["scoring=generate", words], serving.transformers_serve),
    }
    found = {}

    def both(name: str, settings: list[str], other: list[str]) -> None:
        slug = "_".join(name.split())
        settings = [f"limit={items}", f"suite={suite}", *settings]
        a = run(work / f"{slug}_a", *settings)
        compared = compare(a, run(work / f"{slug}_b", *settings, *other))
        found[name] = {"suite": suite, "items": items} | compared
        show({name: found[name]})

    for name, (settings, serve) in served.items():
        with serve() as url:
            server = ["backend=server", f"backend.options.base_url={url}"]
            both(f"{name} hf server", settings, server)
    wrapper = [
        "backend=lmms",
        "backend.options.model=qwen2_5_vl",
        "backend.options.args={min_pixels: 784, max_pixels: 12544}",
    ]
    both("random qwen2_5_vl generate hf lmms", random_pair(work / "random"), wrapper)
    return found


def random_pair(folder: Path) -> list[str]:
    """Make two random Qwen2.5-VL, for which lmms-eval has a wrapper; return the settings.

    The wrapper loads bfloat16, resizes pictures whose sides are not multiples of 28, and takes one
    request at a time: so does the other side, as bfloat16 rounds differently in a larger batch.
    """
    import tiny_models

    folder.mkdir()
    repos = [
        f"pair.{role}.repo={tiny_models.qwen2_5_vl(folder / role, seed)}"
        for seed, role in enumerate(("image", "video"))
    ]
    others = "pair.family=auto pair.dtype=bfloat16 task.height=112 scoring=generate"
    lengths = "max_new_tokens=8 infill.max_new_tokens=8 backend.batch_size=1"
    return [*repos, *others.split(), *lengths.split()]


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print a table of the comparisons, and every difference."""
    for name, one in found.items():
        print(f"{name}: {one['equal']} of {one['compared']} answers are equal")
        if one["equal_texts"] is not None:
            print(
                f"  texts: {one['equal_texts']} of {one['compared']} are equal"
                f" ({one['different_texts']} different ones)"
            )
        if one["largest_logprob_difference"] is not None:
            print(
                f"  largest difference of log-probability: {one['largest_logprob_difference']:.2e}"
            )
        print(
            f"  infills: {one['equal_infills']} of {one['infills']} are equal;"
            f" {one['other_stimulus']} trials showed another stimulus, {one['missing']} are missing"
        )
        for arm in one["by_arm"]:
            print(f"  {arm['role']:8} {arm['arm']:22} {arm['equal']:5} of {arm['compared']:5}")
        for difference in one["differences"]:
            print(f"  differs: {json.dumps(difference)}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, help="two run folders")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--suite", default="controls", help="whose arms (default: controls)")
    parser.add_argument("--out", type=Path, help="JSON file of the result")
    given = parser.parse_args()
    if len(given.runs) not in (0, 2):
        parser.error("give two run folders, or none")
    about = described()
    if given.runs:
        found = {"a, b": compare(*given.runs)}
        show(found)
    else:
        with tempfile.TemporaryDirectory() as work:
            found = made(given.items, given.suite, Path(work))
    out = given.out or (None if given.runs else RESULTS / "backends_agree.json")
    if out:
        write(out, about | {"comparisons": found})
    worst = min((one["equal"] / max(one["compared"], 1) for one in found.values()), default=0.0)
    return 0 if worst >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
