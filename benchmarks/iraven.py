"""How many i-RAVEN problems a second one process makes.

    python -m benchmarks.iraven [--per-config 300] [--check] [--out FILE]

Two rates per configuration: made and drawn in memory, and with files written (solver included:
`predict` is filled in the same pass). Both start cold: sprites are drawn on the way. As machines
are seldom idle, a fixed numpy workload is timed before and after, and CPU seconds stand beside
wall seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, write

from probes.tasks.iraven import generate
from probes.tasks.iraven.space import CONFIGURATIONS

DRAWN, WRITTEN = 400, 150
"""The rates (problems a second) that `--check` asks for."""


def reference() -> float:
    """Return the seconds of a fixed workload: sorting 20 times a million numbers."""
    numbers = np.random.default_rng(0).random(1_000_000)
    start = time.perf_counter()
    for _ in range(20):
        np.sort(numbers)
    return time.perf_counter() - start


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _rates(rates: np.ndarray) -> dict[str, dict[str, float]]:
    """Name problems a second of a [drawn and written, wall and CPU] table."""
    return {
        way: {"wall": float(wall), "cpu": float(cpu)}
        for way, (wall, cpu) in zip(("drawn", "written"), rates, strict=True)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-config", type=int, default=300)
    parser.add_argument("--check", action="store_true", help="fail below the wanted rates")
    parser.add_argument("--out", type=Path, default=RESULTS / "iraven.json")
    given = parser.parse_args()
    n, about, each = given.per_config, described(), {}
    print(f"reference workload: {reference():.2f} s")
    totals = np.zeros((2, 2))
    print(f"{'problems a second (by CPU time)':42}{'drawn':>16}{'written':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for name in CONFIGURATIONS:

            def draw(name: str = name) -> None:
                for k in range(n):
                    generate.images(generate.problem(0, name, k))

            def save(name: str = name) -> None:
                generate.make(Path(folder), n, 1, [name])

            times = np.array([timed(draw), timed(save)])
            totals += times
            each[name] = _rates(n / times)
            print(f"{name:42}" + "".join(f"{n / w:8.0f} ({n / c:5.0f})" for w, c in times))
    rates = len(CONFIGURATIONS) * n / totals
    print(f"{'all seven':42}" + "".join(f"{wall:8.0f} ({cpu:5.0f})" for wall, cpu in rates))
    print(f"reference workload: {reference():.2f} s")
    write(given.out, about | {"each": n, "by_configuration": each, "all": _rates(rates)})
    slow = rates[0, 0] < DRAWN or rates[1, 0] < WRITTEN
    return int(given.check and slow)


if __name__ == "__main__":
    sys.exit(main())
