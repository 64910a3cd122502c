"""How many i-RAVEN problems a second one process makes.

    python benchmarks/iraven.py [--per-config 300] [--check] [--out FILE]

Two rates per configuration: made and drawn in memory, and with files written (solver included:
`predict` is filled in the same pass). Both start cold: sprites are drawn on the way. As machines
are seldom idle, a fixed numpy workload is timed before and after, and CPU seconds are shown next to
wall seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _machine import RESULTS, described, reference, timed, write

from probes.tasks.iraven import generate
from probes.tasks.iraven.space import CONFIGURATIONS

DRAWN, WRITTEN = 400, 150
"""The rates (problems a second) that `--check` demands."""


def _rates(rates: np.ndarray) -> dict[str, dict[str, float]]:
    """Return a table [drawn and written, wall and CPU] of problems a second by name."""
    return {
        way: {"wall": float(wall), "cpu": float(cpu)}
        for way, (wall, cpu) in zip(("drawn", "written"), rates, strict=True)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-config", type=int, default=300)
    parser.add_argument("--check", action="store_true", help="fail below these rates")
    parser.add_argument("--out", type=Path, default=RESULTS / "iraven.json")
    options = parser.parse_args()
    n, about, each = options.per_config, described(), {}
    print(f"reference workload: {reference()['wall']:.2f} s")
    totals = np.zeros((2, 2))
    print(f"{'problems a second (by CPU time)':42}{'drawn':>16}{'written':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for name in CONFIGURATIONS:

            def draw(name: str = name) -> None:
                for k in range(n):
                    generate.images(generate.problem(0, name, k))

            def save(name: str = name) -> None:
                generate.make(Path(folder), n, 1, [name])

            times = np.array([list(timed(work)[1].values()) for work in (draw, save)])
            totals += times
            each[name] = _rates(n / times)
            print(f"{name:42}" + "".join(f"{n / w:8.0f} ({n / c:5.0f})" for w, c in times))
    rates = len(CONFIGURATIONS) * n / totals
    print(f"{'all seven':42}" + "".join(f"{wall:8.0f} ({cpu:5.0f})" for wall, cpu in rates))
    print(f"reference workload: {reference()['wall']:.2f} s")
    write(options.out, about | {"each": n, "by_configuration": each, "all": _rates(rates)})
    slow = rates[0, 0] < DRAWN or rates[1, 0] < WRITTEN
    return int(options.check and slow)


if __name__ == "__main__":
    sys.exit(main())
