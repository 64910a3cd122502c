"""How often does `probes check` err? Simulated re-runs of a baseline with a known truth.

    OMP_NUM_THREADS=1 python benchmarks/check.py [--baseline FILE] [--reruns 200] [--out FILE]

First every re-run as a whole, through the check itself: 1.5 % of the recorded answers are replaced
by another option at random, and then right answers of one cell turn wrong, item by item or whole
recordings at once, until its accuracy has fallen by 5 points. Then what the check says of itself
(`probes.regression.operating_characteristics`), by number of items and by share of random flips.
About eight minutes on one core, nearly all for the first part.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from probes import regression
from probes.regression.baseline import Baseline
from probes.regression.reruns import FLIPPED
from probes.regression.snapshot import BaselineAnswer, CellName, Snapshot

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, write

COMMITTED = Path(__file__).resolve().parents[1] / "results/baselines/tiny-egoworld.json"
FALL = 5.0
"""Percentage points."""


def replaced(one: BaselineAnswer, choice: int) -> BaselineAnswer:
    """Return an answer with another choice, which is far from a tie."""
    scores = tuple(0.0 if at == choice else -99.0 for at in range(len(one.logprobs)))
    return replace(one, choice=choice, logprobs=scores, status="ok")


def flipped(base: Snapshot, rng: np.random.Generator, rate: float) -> Snapshot:
    """Replace a share of all answers by another option at random."""

    def one_of(one: BaselineAnswer) -> BaselineAnswer:
        other = int(rng.integers(len(one.logprobs) - 1))
        return replaced(one, other + (one.choice is not None and other >= one.choice))

    return replace(
        base,
        cells=tuple(
            replace(c, answers=tuple(one_of(a) if rng.random() < rate else a for a in c.answers))
            for c in base.cells
        ),
    )


def fallen(
    base: Snapshot, now: Snapshot, cell: CellName, rng: np.random.Generator, whole: bool
) -> Snapshot:
    """Turn right answers of a cell wrong, each with one chance, or recording by recording."""
    items = base.items_by_id()
    before = base.cells_by_name()[cell].answers
    right = [one.choice == items[cell.task, one.item_id].answer for one in before]
    chance = FALL / 100 / float(np.mean(right))
    clusters = base.clusters(cell.task)
    names = sorted(set(clusters.values()))
    of_cluster = dict(zip(names, rng.random(len(names)), strict=True))

    def lost(one: BaselineAnswer) -> BaselineAnswer:
        answer = items[cell.task, one.item_id].answer
        draw = of_cluster[clusters[one.item_id]] if whole else rng.random()
        if one.choice != answer or answer is None or draw >= chance:
            return one
        return replaced(one, (answer + 1) % len(one.logprobs))

    return replace(
        now,
        cells=tuple(
            replace(c, answers=tuple(map(lost, c.answers))) if c.name == cell else c
            for c in now.cells
        ),
    )


def whole_checks(baseline: Baseline, reruns: int) -> Iterator[dict[str, Any]]:
    """Yield the shares of failing checks, and of the outcomes of the primary metric."""
    base = baseline.snapshot
    (primary, *_) = baseline.by_family()["primary"]
    cells = [c for c in primary.weights(base.references) if c.arm == primary.cell.arm]
    kinds = [("random flips alone", None, False)]
    kinds += [(f"{c.label} falls by {FALL:g} points", c, False) for c in cells]
    kinds += [(f"{c.label} falls by {FALL:g} points, whole recordings", c, True) for c in cells]
    for at, (name, cell, whole) in enumerate(kinds):
        outcomes: Counter[str] = Counter()
        for number in range(reruns):
            rng = np.random.default_rng([at, number])
            run = flipped(base, rng, FLIPPED)
            if cell is not None:
                run = fallen(base, run, cell, rng, whole)
            found = regression.check(baseline, run)
            outcomes["failed"] += not found.passed
            outcomes[found.metric_changes[0].outcome] += 1
        shares = {k: outcomes[k] / reruns for k in ("failed", "changed", "not excluded", "same")}
        print(f"{name:58}", *(f"{k} {100 * v:5.1f} %" for k, v in shares.items()), flush=True)
        yield {"what": name, **shares}


def of_items(baseline: Baseline, count: int, seed: int) -> Baseline:
    """Return a baseline of part of the items: whole recordings, drawn at random."""
    base = baseline.snapshot
    recordings: dict[str, list[tuple[str, str]]] = {}
    for item in base.items:
        recordings.setdefault(item.cluster or item.id, []).append((item.task, item.id))
    names = np.random.default_rng(seed).permutation(sorted(recordings))
    kept = [item for name in names for item in recordings[name]][:count]
    return replace(baseline, snapshot=base.restricted(set(kept)))


def rates(baseline: Baseline, seeds: int, **how: Any) -> dict[str, Any]:
    """Return the mean over seeds of what a check says of itself, and the worst of its errors."""
    found = [
        regression.operating_characteristics(baseline, reruns=500, seed=s, **how)
        for s in range(seeds)
    ]
    told = [one for one in found if one is not None]
    primary = [one.rates[0] for one in told]
    return {
        "failing": float(np.mean([one.failing for one in told])),
        "worst failing": max(one.failing for one in told),
        "same": float(np.mean([one.same for one in primary])),
        "caught": np.mean([one.caught for one in primary], axis=0).tolist(),
        "least caught": min(r.caught[-1] for one in told for r in one.rates if r.caught),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--baseline", type=Path, default=COMMITTED)
    parser.add_argument("--reruns", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "check.json")
    given = parser.parse_args()
    baseline = regression.read(given.baseline)
    whole = list(whole_checks(baseline, given.reruns))
    total = len(baseline.snapshot.items)
    by_items = [
        {"items": n, **rates(of_items(baseline, n, 0), given.seeds)}
        for n in (100, 200, 300, 400)
        if n <= total
    ]
    by_flips = [
        {"flipped": rate, **rates(baseline, given.seeds, rate=rate)}
        for rate in (0.005, FLIPPED, 0.03)
    ]
    for row in by_items + by_flips:
        print({k: np.round(v, 3).tolist() for k, v in row.items()})
    write(
        given.out,
        {
            "machine": described(),
            "reruns": given.reruns,
            "items": total,
            "whole": whole,
            "by_items": by_items,
            "by_flips": by_flips,
        },
    )


if __name__ == "__main__":
    main()
