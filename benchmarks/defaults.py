"""Does every default interval cover, and is it narrow? All of them, in every cell of a grid.

    OMP_NUM_THREADS=1 python benchmarks/defaults.py [--draws 4000] [--alike 0.3] [--out FILE]

For 30 to 500 items, alone and in clusters (EgoSchema's recordings; five of six; 20 uneven ones; one
with 40 % of all items): coverage and median width of 95 % intervals of a gain (a transfer is one,
of two members), of a difference in differences (DiD), of an accuracy and of the DiD of log-odds.
Gains and DiD at discordances of 1 to 40 %, in both directions, two to one, and in one only (of a
DiD also opposite ones). A default passes where its least coverage is at least 93 % and its median
width at most 1.25 times that of the narrowest method that covers in all cells of these items, for
nobody knows in which cell they are. `table` turns the result into the table of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from probes.stats.did import DID_WEIGHTS, FEWEST
from probes.stats.score import ScoreTest
from probes.stats.simulate import TrueEffect, draw, estimate_many, score_tests

sys.path.insert(0, str(Path(__file__).parent))
from _machine import described

DRAWS, ALIKE = 4000, 0.3
RESULT = Path(__file__).parent / "results/defaults.json"
COVERS, HARDLY, WIDEST = 93.0, 92.0, 1.25
DEFAULT = "default"
DISCORDANCES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.4)
ACCURACIES = (0.25, 0.5, 0.7, 0.85, 0.95, 0.98)
LOG_ODDS = {
    "one half": (0.51, 0.44, 0.49, 0.47),
    "70 %": (0.8, 0.6, 0.7, 0.65),
    "chance": (0.3, 0.2, 0.25, 0.22),
    "ceiling": (0.95, 0.85, 0.93, 0.9),
    "98 %": (0.98, 0.9, 0.97, 0.95),
}
HELD_OUT = (0.015, 0.025, 0.04, 0.06, 0.15, 0.3)
"""Discordances that no constant was chosen on."""
Ends = dict[str, tuple[np.ndarray, np.ndarray]]
Cell = tuple[str, float, Ends]
"""Name, truth and the ends of every method's intervals [draws]."""


def shaped(weights: np.ndarray, n: int) -> np.ndarray:
    """Return cluster sizes that sum to n, about in proportion to `weights`."""
    sizes = np.maximum(1, np.floor(weights * n / weights.sum())).astype(int)
    sizes[np.argsort(-weights, kind="stable")[: n - sizes.sum()]] += 1
    return sizes


def shapes() -> dict[tuple[str, int], np.ndarray]:
    """Return items per cluster, by name and number of items."""
    counts = [(1, 267), (2, 45), (3, 16), (4, 11), (5, 3), (6, 2), (7, 1), (8, 1), (9, 1)]
    recordings = np.random.default_rng(0).permutation(
        np.concatenate([[size] * count for size, count in counts])
    )
    few = recordings[: np.searchsorted(np.cumsum(recordings), 100) + 1].copy()
    few[-1] -= few.sum() - 100
    uneven = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9] * 2 + [9, 1])
    found = {("alone", n): np.ones(n, int) for n in (30, 60, 100, 250, 500)}
    found |= {("recordings", 100): few[few > 0], ("recordings", 500): recordings}
    found |= {("5 x 6", 30): np.full(5, 6)}
    found |= {("20 uneven", n): shaped(uneven, n) for n in (60, 100, 300)}
    for n in (30, 100, 500):
        rest = n - int(0.4 * n)
        sizes = [int(0.4 * n), *[3] * (rest // 3), rest % 3]
        found["one of 40 %", n] = np.array([size for size in sizes if size])
    return found


def held_out_shapes() -> dict[tuple[str, int], np.ndarray]:
    """Return items per cluster of shapes that no constant was chosen on."""
    rng = np.random.default_rng(20_261_128)
    some = {
        "alone": lambda n: np.ones(n),
        "pairs": lambda n: np.ones(n // 2),
        "8 equal": lambda _: np.ones(8),
        "12 halving": lambda _: 0.7 ** np.arange(12),
        "40 lognormal": lambda _: rng.lognormal(0.0, 1.0, 40),
        "two of 25 %": lambda n: np.array([n / 4, n / 4, *np.ones(n // 4)]),
    }
    return {
        (name, n): shaped(make(n).astype(float), n)
        for n in (48, 160, 400)
        for name, make in some.items()
    }


def tango_ends(test: ScoreTest, gained: np.ndarray, lost: np.ndarray, n: int) -> Any:
    """Return Tango's ends at the effective number of items, by bisection, for all draws at once."""
    limit = np.maximum(
        special.stdtrit(test.df_independent, 0.975) ** 2,
        special.stdtrit(test.df, 0.975) ** 2 * test.inflation,
    )

    def score(delta: np.ndarray) -> np.ndarray:
        b = -gained - lost + (2 * n - gained + lost) * delta
        only = np.sqrt(np.maximum(b * b + 8 * n * lost * delta * (1 - delta), 0)) - b
        variance = n * (only / (2 * n) + delta * (1 - delta))
        top = gained - lost - n * delta
        return np.where(variance > 0, top**2 / np.maximum(variance, 1e-300), np.inf)

    ends = []
    for edge in (-1.0, 1.0):
        outer, inner = np.full(len(gained), edge), (gained - lost) / n
        for _ in range(40):
            middle = (outer + inner) / 2
            out = score(middle) > limit
            outer, inner = np.where(out, middle, outer), np.where(out, inner, middle)
        ends.append((outer + inner) / 2)
    return ends[0], ends[1]


def of_changes(values: np.ndarray, sizes: np.ndarray) -> Ends:
    """Return the ends of intervals of the mean of changes [draws, n]."""
    n = int(sizes.sum())
    test, t = score_tests(values, sizes, 1.0), score_tests(values, sizes)
    by_cluster = estimate_many(values, sizes)
    half = special.stdtrit(by_cluster.df, 0.975) * by_cluster.se
    share = special.ndtri(0.975) ** 2
    unseen = np.where(half > 0, half, np.abs(values).max() * share / (len(sizes) + share))
    up, down = (np.maximum(sign * values, 0).sum(axis=1, dtype=float) for sign in (1, -1))
    # A DiD changes by 1 or 2: as changes of one size with the same mean and mean square.
    size = np.where(up + down > 0, (values.astype(float) ** 2).sum(1), 1) / np.maximum(up + down, 1)
    low, high = tango_ends(t, up / size, down / size, n)
    larger = np.maximum(t.robust, t.independent) + 2 * np.maximum(1, t.inflation) / n**2
    paired = special.stdtrit(t.df, 0.975) * np.sqrt(larger)
    return {
        DEFAULT: test.ends(),
        "CR2 t": (t.estimate - unseen, t.estimate + unseen),
        "Tango, effective n": (low * size, high * size),
        "t, two pseudo-pairs": (t.estimate - paired, t.estimate + paired),
    }


def of_shares(values: np.ndarray, sizes: np.ndarray) -> Ends:
    """Return the ends of intervals of an accuracy, for answers [draws, n]."""
    n, test = int(sizes.sum()), score_tests(values, sizes, 1.0)
    p, z2 = test.estimate, special.ndtri(0.975) ** 2
    binomial = p * (1 - p) / n
    some = np.where(binomial > 0, binomial, 1.0)
    larger = np.where(binomial > 0, np.maximum(test.robust, test.independent) / some, 1.0)
    t2 = special.stdtrit(test.df, 0.975) ** 2 if len(sizes) < n else z2

    def wilson(limit: Any) -> tuple[np.ndarray, np.ndarray]:
        centre, scale = p + limit / (2 * n), 1 + limit / n
        half = np.sqrt(limit * (p * (1 - p) / n + limit / (4 * n * n)))
        return np.maximum((centre - half) / scale, 0), np.minimum((centre + half) / scale, 1)

    few = np.clip(p, 0.5 / n, 1 - 0.5 / n)
    width = np.sqrt(t2 * np.maximum(test.robust, test.independent)) / (few * (1 - few))
    logit = special.expit(special.logit(few) - width), special.expit(special.logit(few) + width)
    alike = wilson(z2 * n / len(sizes))
    logit = tuple(np.where(binomial > 0, a, b) for a, b in zip(logit, alike, strict=True))
    return {
        DEFAULT: wilson(t2 * np.maximum(larger, 1.0)),
        "Wilson, effective n (z)": wilson(z2 * np.maximum(larger, 1.0)),
        "logit, CR2 t": (logit[0], logit[1]),
    }


def of_log_odds(sums: np.ndarray, sizes: np.ndarray) -> tuple[Ends, np.ndarray]:
    """Return the ends for right answers per cluster and cell [draws, G, 4], and which are given."""
    n, count = sizes.sum(), len(sizes)
    total = sums.sum(axis=1)
    given = np.minimum(total, n - total).min(axis=1) >= FEWEST
    sums, total = sums[given], total[given]
    estimate = special.logit(total / n) @ DID_WEIGHTS
    right, items = total[:, None] - sums, (n - sizes)[None, :, None]
    half = 0.5 * ((right <= 0) | (right >= items)).any(axis=2, keepdims=True)
    left = (np.log(right + half) - np.log(items - right + half)) @ DID_WEIGHTS
    jackknife = np.sqrt((count - 1) ** 2 / count * left.var(axis=1))
    p = total / n
    scores = (sums - p[:, None] * sizes[None, :, None]) / (n * p * (1 - p))[:, None] @ DID_WEIGHTS
    delta = np.sqrt(count / (count - 1) * (scores**2).sum(axis=1))
    df = float(np.ravel(estimate_many(np.ones((1, int(n))), sizes).df)[0])
    ends = {}
    for name, se, of_t in (
        (DEFAULT, jackknife, df),
        ("jackknife, df G - 1", jackknife, count - 1),
        ("delta method", delta, count - 1),
    ):
        width = special.stdtrit(of_t, 0.975) * se
        ends[name] = estimate - width, estimate + width
    return ends, given


def changes(
    sizes: np.ndarray,
    alike: float,
    draws: int,
    did: bool,
    discordances: tuple[float, ...] = DISCORDANCES,
) -> Iterator[Cell]:
    """Yield the cells of a gain or a DiD."""
    for discordance in discordances:
        d = discordance
        truths = {"both ways": (0.0, d, 0.0, d), "two to one": (d / 2, d, d / 4, d)}
        truths |= {"one way": (d, d, 0.0, d / 20)} | ({"opposite": (d, d, -d, d)} if did else {})
        for side, (gain, own, other, of_other) in truths.items():
            effects = (TrueEffect(gain, own), TrueEffect(other, of_other))[: 1 + did]
            rng = np.random.default_rng([len(sizes), int(sizes.sum()), round(1000 * d), len(side)])
            drawn = draw(rng, draws, sizes, effects, alike=alike, shared=0.3 if did else 0.0)
            values = drawn[0] - drawn[1] if did else drawn[0]
            truth = gain - other if did else gain
            yield f"{100 * discordance:g}%, {side}", truth, of_changes(values, sizes)


def latent(rng: np.random.Generator, draws: int, sizes: np.ndarray, alike: float) -> np.ndarray:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return alike**0.5 * rng.standard_normal((draws, len(sizes)))[:, codes]


def shares(sizes: np.ndarray, alike: float, draws: int) -> Iterator[Cell]:
    for share in ACCURACIES:
        rng = np.random.default_rng([len(sizes), round(100 * share)])
        own = (1 - alike) ** 0.5 * rng.standard_normal((draws, int(sizes.sum())))
        values = latent(rng, draws, sizes, alike) + own < special.ndtri(share)
        yield f"{share:.0%}", share, of_shares(values.astype(np.int8), sizes)


def log_odds(sizes: np.ndarray, alike: float, draws: int) -> Iterator[Cell]:
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    for name, four in LOG_ODDS.items():
        rng = np.random.default_rng([len(sizes), int(sizes.sum()), len(name)])
        truth = float(special.logit(four) @ DID_WEIGHTS)
        common = latent(rng, draws, sizes, alike)
        common = common + (0.7 - alike) ** 0.5 * rng.standard_normal(common.shape)
        columns = []
        for share in four:
            right = common + 0.3**0.5 * rng.standard_normal(common.shape) < special.ndtri(share)
            columns.append(np.add.reduceat(right, starts, axis=1, dtype=np.float64))
        ends, given = of_log_odds(np.stack(columns, axis=2), sizes)
        # Where few runs have an interval, those that have are no sample of runs.
        if given.mean() >= 0.2:
            yield f"{name} ({given.mean():.0%} of runs)", truth, ends


KINDS: dict[str, Callable[..., Iterator[Cell]]] = {
    "gain": lambda sizes, alike, draws, **more: changes(sizes, alike, draws, False, **more),
    "DiD": lambda sizes, alike, draws, **more: changes(sizes, alike, draws, True, **more),
    "accuracy": shares,
    "DiD of log-odds": log_odds,
}


def judged(cells: list[Cell]) -> dict[str, Any]:
    """Return least and most coverage and the greatest relative width of every method."""
    rows = []
    for name, truth, ends in cells:
        found = {}
        for method, (low, high) in ends.items():
            # Rounding must not decide where an end is the truth itself.
            inside = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
            found[method] = 100 * float(inside.mean()), float(np.median(high - low))
        rows.append((name, found))
    out: dict[str, Any] = {}
    methods = list(rows[0][1])
    least = {m: min((found[m][0], name) for name, found in rows) for m in methods}
    covering = [m for m in methods if least[m][0] >= COVERS] or methods
    for method in methods:
        width, where = max(
            (found[method][1] / min(found[m][1] for m in covering), name) for name, found in rows
        )
        out[method] = {
            "least": round(least[method][0], 1),
            "where": least[method][1],
            "most": round(max(found[method][0] for _, found in rows), 1),
            "below 93 %": sum(found[method][0] < COVERS for _, found in rows),
            "width": round(width, 2),
            "widest": where,
        }
    return out | {"cells": len(rows)}


def table(result: dict[str, Any]) -> str:
    """Return the table of docs/statistics.md as Markdown."""
    lines = [
        "| of | items | n | clusters | least coverage | in the cell | most | width | others: least "
        "coverage |",
        "|---|---|---:|---:|---:|---|---:|---:|---|",
    ]
    for row in result["rows"]:
        own = row["methods"][DEFAULT]
        others = ", ".join(
            f"{name} {found['least']:.1f}"
            for name, found in row["methods"].items()
            if name not in (DEFAULT, "cells")
        )
        lines.append(
            f"| {row['of']} | {row['items']} | {row['n']} | {row['clusters']} | "
            f"**{own['least']:.1f}** | {own['where']} | {own['most']:.1f} | {own['width']:.2f} | "
            f"{others} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--alike", type=float, default=ALIKE, help="latent correlation in clusters")
    parser.add_argument("--only", choices=KINDS, help="one kind of estimate")
    parser.add_argument(
        "--held-out", action="store_true", help="gains and DiD where no constant was chosen"
    )
    parser.add_argument("--out", type=Path, help="default: results/defaults.json, with all draws")
    options = parser.parse_args()
    rows = []
    for kind, cells in KINDS.items():
        if options.only not in (None, kind) or (options.held_out and kind not in ("gain", "DiD")):
            continue
        more = {"discordances": HELD_OUT} if options.held_out else {}
        for (items, n), sizes in (held_out_shapes() if options.held_out else shapes()).items():
            alike = 0.0 if items == "alone" else options.alike
            methods = judged(list(cells(sizes, alike, options.draws, **more)))
            row = {"of": kind, "items": items, "n": n, "clusters": len(sizes), "methods": methods}
            rows.append(row)
            own = methods[DEFAULT]
            print(
                f"{kind:15} {items:11} {n:4} {len(sizes):4} clusters: {own['least']:5.1f} to "
                f"{own['most']:5.1f} % (least at {own['where']}), width {own['width']:.2f} at "
                f"{own['widest']}",
                flush=True,
            )
    worst = min(row["methods"][DEFAULT]["least"] for row in rows)
    print(f"least coverage of a default: {worst:.1f} %")
    whole = options.draws == DRAWS and options.alike == ALIKE
    whole = whole and not options.only and not options.held_out
    out = options.out or (RESULT if whole else None)
    if out is not None:
        result = described() | {"draws": options.draws, "alike": options.alike, "rows": rows}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return int(worst < HARDLY)


if __name__ == "__main__":
    sys.exit(main())
