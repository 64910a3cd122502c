"""How often do the intervals hold the truth? Simulated contrasts with a known answer.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py [--draws 10000] [--out FILE]

For n = 100 and 500 items, alone and in clusters of up to 9 (as EgoSchema's recordings, and evenly
1 to 9), at discordances of 10, 20 and 40 %: the share of simulated runs whose 95 % interval holds
the true gain or difference in differences (DiD). Then the level of the tests where there is no
gain. The defaults, also where changes are few: defaults.py. A few minutes on one core
(OMP_NUM_THREADS=1 keeps it to one). `tables` turns the result into the tables of
docs/statistics.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from probes.stats import sign_flip, tango
from probes.stats.permutation import mcnemar_p
from probes.stats.simulate import TrueEffect, draw, estimate_many

sys.path.insert(0, str(Path(__file__).parent))
from _machine import described

DRAWS = 10_000
RESULT = Path(__file__).parent / "results/coverage.json"
"""Kept under version control: docs/statistics.md shows it, and a test compares the two."""
ALIKE = 0.3
"""Latent correlation of two items of one cluster."""
HARD = ("1 to 9", 100, 0.1, False, 0.5)
"""Ten changed items in 20 uneven clusters of very similar items: a t interval covers less there."""
METHODS = {
    "t, items alone": "t alone",
    "CR1 t": "CR1",
    "CR2 t": "CR2",
    "CR3 t": "CR3",
    "cluster bootstrap, percentile": "percent.",
    "cluster bootstrap, BCa": "BCa",
    "Tango, items alone": "Tango",
}
RESAMPLES = 999
BLOCK = 1000
SIZES = {
    ("alone", 100): [(1, 100)],
    ("alone", 500): [(1, 500)],
    # 347 recordings of 500 questions, up to 9 each; and the same shape for 100.
    ("recordings", 500): [
        (1, 267),
        (2, 45),
        (3, 16),
        (4, 11),
        (5, 3),
        (6, 2),
        (7, 1),
        (8, 1),
        (9, 1),
    ],
    ("recordings", 100): [(1, 54), (2, 9), (3, 2), (4, 2), (5, 1), (9, 1)],
    ("1 to 9", 500): [*((size, 11) for size in range(1, 10)), (5, 1)],
    ("1 to 9", 100): [*((size, 2) for size in range(1, 10)), (9, 1), (1, 1)],
}


def cluster_sizes(kind: str, n: int) -> np.ndarray:
    sizes = np.concatenate([[size] * count for size, count in SIZES[kind, n]])
    assert sizes.sum() == n
    return np.random.default_rng(0).permutation(sizes)


def blocks(draws: int) -> Iterator[tuple[int, int]]:
    for at, start in enumerate(range(0, draws, BLOCK)):
        yield at, min(BLOCK, draws - start)


def coverage(
    kind: str, n: int, discordance: float, did: bool, alike: float, draws: int
) -> dict[str, float]:
    sizes = cluster_sizes(kind, n)
    gains = (TrueEffect(0.06, discordance), TrueEffect(0.02, discordance))[: 1 + did]
    truth = 0.04 if did else 0.06
    hits: dict[str, float] = {}
    resampled = discordance == 0.2
    times = np.random.default_rng(1).multinomial(
        len(sizes), [1 / len(sizes)] * len(sizes), RESAMPLES
    )
    for at, block in blocks(draws):
        rng = np.random.default_rng([n, round(100 * discordance), did, at])
        drawn = draw(rng, block, sizes, gains, alike=alike, shared=0.3 if did else 0.0)
        values = drawn[0] - drawn[1] if did else drawn[0]
        found = {
            "t, items alone": estimate_many(values, np.ones(n)).covered(truth),
            "CR1 t": estimate_many(values, sizes, "cr1").covered(truth),
            "CR2 t": estimate_many(values, sizes, "cr2").covered(truth),
            "CR3 t": estimate_many(values, sizes, "cr3").covered(truth),
        }
        if not did:
            found["Tango, items alone"] = np.mean([tango_holds(row, truth) for row in values])
        if resampled:
            found |= bootstrapped(values, sizes, times, truth)
        for name, share in found.items():
            hits[name] = hits.get(name, 0.0) + share * block
    return {name: 100 * count / draws for name, count in hits.items()}


def tango_holds(values: np.ndarray, truth: float) -> bool:
    low, high = tango_of(int((values > 0).sum()), int((values < 0).sum()), len(values))
    return low <= truth <= high


@functools.cache
def tango_of(gained: int, lost: int, n: int) -> tuple[float, float]:
    return tango(gained, lost, n)


def bootstrapped(
    values: np.ndarray, sizes: np.ndarray, times: np.ndarray, truth: float
) -> dict[str, float]:
    """Return the coverage of percentile and BCa intervals; rows share the resampled clusters."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = np.add.reduceat(values, starts, axis=1, dtype=np.float64)
    n = sizes.sum()
    estimate = sums.sum(axis=1) / n
    replicates = np.sort((sums @ times.T) / (times @ sizes), axis=1)
    tails = np.array([0.025, 0.975])
    rows = np.arange(len(values))[:, None]

    def holds(levels: np.ndarray) -> float:
        place = np.nan_to_num(levels, nan=0.5) * (RESAMPLES - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, RESAMPLES - 1)
        part = place - low
        ends = replicates[rows, low] * (1 - part) + replicates[rows, high] * part
        return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))

    below = (replicates < estimate[:, None]).mean(1) + (replicates <= estimate[:, None]).mean(1)
    shift = special.ndtri(below / 2)[:, None]
    left_out = (sums.sum(axis=1, keepdims=True) - sums) / (n - sizes)
    around = left_out.mean(axis=1, keepdims=True) - left_out
    pull = ((around**3).sum(1) / (6 * (around**2).sum(1) ** 1.5))[:, None]
    z = shift + special.ndtri(tails)
    return {
        "cluster bootstrap, percentile": holds(np.tile(tails, (len(values), 1))),
        "cluster bootstrap, BCa": holds(special.ndtr(shift + z / (1 - pull * z))),
    }


def levels(kind: str, n: int, draws: int) -> dict[str, float]:
    """Return the share (%) of runs without a gain in which a test at 5 % finds one."""
    sizes = cluster_sizes(kind, n)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    alike = 0.0 if kind == "alone" else ALIKE
    (values,) = draw(np.random.default_rng(7), draws, sizes, (TrueEffect(0.0, 0.2),), alike=alike)
    flips = [sign_flip(row, codes)[0] <= 0.05 for row in values]
    pairs = [mcnemar_p(int((row > 0).sum()), int((row < 0).sum())) <= 0.05 for row in values]
    return {
        "CR2 t": 100 * estimate_many(values, sizes).found(),
        "sign-flip of clusters": 100 * float(np.mean(flips)),
        "exact McNemar": 100 * float(np.mean(pairs)),
    }


def tables(result: dict[str, Any]) -> str:
    """Return the tables of docs/statistics.md as Markdown."""
    order = [name for name in METHODS if name != "CR3 t"] + ["CR3 t"]
    names = {
        "CR2 t": "**CR2 t**",
        "t, items alone": "t, no clusters",
        "Tango, items alone": "Tango, no clusters",
    }
    head = [names.get(name, name) for name in order]
    lines = [
        f"| items | n | clusters | {' | '.join(head)} |",
        f"|---|---:|---:|{'---:|' * len(head)}",
    ]
    middle = [row for row in result["coverage"] if row["discordance"] == 0.2]
    for gain in (row for row in middle if row["contrast"] == "gain"):
        (did,) = (
            row
            for row in middle
            if row["contrast"] == "did" and (row["items"], row["n"]) == (gain["items"], gain["n"])
        )
        both = [
            " / ".join(
                f"{row['coverage'][name]:.1f}" for row in (gain, did) if name in row["coverage"]
            )
            for name in order
        ]
        lines.append(f"| {gain['items']} | {gain['n']} | {gain['clusters']} | {' | '.join(both)} |")
    *usual, hard = result["coverage"]
    default = [row["coverage"]["CR2 t"] for row in usual]
    lines += [
        "",
        f"Over all {len(usual)} cases (discordance 10, 20 and 40 %) CR2 t covers "
        f"{min(default):.1f} to {max(default):.1f} %; with ten changed items in 20 uneven clusters "
        f"of very similar ones, where a t interval covers less, "
        f"{hard['coverage']['CR2 t']:.1f} %.",
        "",
        "| items | n | level: CR2 t | sign-flip | McNemar |",
        f"|---|---:|{'---:|' * 3}",
    ]
    for test in result["tests"]:
        level = [f"{share:.1f}" for share in test["level"].values()]
        lines.append(f"| {test['items']} | {test['n']} | {' | '.join(level)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, help="default: results/coverage.json, with all draws")
    options = parser.parse_args()
    about = described()
    rows: list[dict[str, Any]] = []
    print("coverage of 95 % intervals; alike: latent correlation within a cluster")
    print(f"{'items':12}{'n':>4}{'clusters':>9}{'alike':>6}{'discord.':>9}  contrast", end="")
    print("".join(f"{short:>9}" for short in METHODS.values()))
    cases = [
        (kind, n, discordance, did, 0.0 if kind == "alone" else ALIKE)
        for kind, n in sorted(SIZES, key=lambda one: (one[1], one[0]))
        for did in (False, True)
        for discordance in (0.1, 0.2, 0.4)
    ]
    for case in [*cases, HARD]:
        kind, n, discordance, did, alike = case
        found = coverage(*case, options.draws)
        clusters, contrast = len(cluster_sizes(kind, n)), "did" if did else "gain"
        rows.append(
            {
                "items": kind,
                "n": n,
                "clusters": clusters,
                "alike": alike,
                "discordance": discordance,
                "contrast": contrast,
                "coverage": {name: round(share, 2) for name, share in found.items()},
            }
        )
        print(f"{kind:12}{n:4}{clusters:9}{alike:6}{discordance:9.0%}  {contrast:8}", end="")
        shares = (f"{found[name]:9.1f}" if name in found else f"{'-':>9}" for name in METHODS)
        print("".join(shares), flush=True)
    tests = []
    for kind, n in sorted(SIZES, key=lambda one: (one[1], one[0])):
        found = levels(kind, n, options.draws)
        tests.append({"n": n, "items": kind, "level": {k: round(v, 2) for k, v in found.items()}})
        shown = "  ".join(f"{name} {share:.1f}" for name, share in found.items())
        print(f"level at 5 %, {kind}, n = {n}: {shown}", flush=True)
    default = [row["coverage"]["CR2 t"] for row in rows[:-1]]
    print(f"CR2 t interval: {min(default):.1f} to {max(default):.1f} %, without the hard case")
    result = about | {"draws": options.draws, "coverage": rows, "tests": tests}
    out = options.out or (RESULT if options.draws == DRAWS else None)
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
