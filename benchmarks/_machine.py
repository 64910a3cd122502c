"""Shared by the benchmarks: the machine's description, times, and a reference workload."""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"


def described() -> dict[str, Any]:
    """Return the machine, its load, and the seconds that a fixed workload takes on it now."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} CPUs",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "reference": reference(),
    }


def reference() -> dict[str, float]:
    """Return wall and CPU seconds of sorting 20 times a million numbers."""
    numbers = np.random.default_rng(0).random(1_000_000)
    return timed(lambda: [np.sort(numbers) for _ in range(20)])[1]


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return the result of some work, and its wall and CPU seconds, ended children included."""
    wall, cpu = time.perf_counter(), _cpu()
    result = work()
    return result, {"wall": time.perf_counter() - wall, "cpu": _cpu() - cpu}


def peak_mb() -> float:
    """Return the greatest resident set of this process so far, in MB.

    Not by `getrusage`, whose value starts from that of the process that started this one.
    """
    text = Path("/proc/self/status").read_text("utf-8")
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def write(path: Path, content: Any) -> None:
    """Write JSON whose numbers have four significant digits."""
    short = json.loads(json.dumps(content), parse_float=lambda text: float(f"{float(text):.4g}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(short, indent=1) + "\n", "utf-8")


def _cpu() -> float:
    own, ended = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    print(json.dumps(described(), indent=1))
