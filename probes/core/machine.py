"""The device that a run computes on, and what decides which kernels run there."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def device_name() -> str:
    """Return the device that the run computed on; torch is not imported for it."""
    device = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"{device}, {gpu}" if (gpu := _gpu()) else device


def platform_facts() -> dict[str, str]:
    """Return what decides which kernels run; where it differs, so may the last digits of answers.

    `cpu` is the vector extension by which torch chooses its kernels, read without torch.
    """
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _vector_extension(),
        "gpu": _gpu(),
    }


def device_kind(device: str) -> str:
    """Return the kind of a device of torch, e.g. `cpu avx2` of `cpu`, or a GPU with its name.

    Args:
        device: as torch names it; torch is loaded wherever it is not a CPU.
    """
    kind = device.partition(":")[0]
    if kind == "cpu":
        return f"cpu {_vector_extension()}"
    torch = sys.modules.get("torch")
    if kind == "cuda" and torch is not None and torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name(device)}"
    return kind


def _gpu() -> str:
    torch = sys.modules.get("torch")  # a run that never loaded it has computed nothing on a GPU
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


def _vector_extension() -> str:
    if chosen := os.environ.get("ATEN_CPU_CAPABILITY"):
        return chosen
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return "unknown"
    line = next((one for one in text.splitlines() if one.startswith(("flags", "Features"))), "")
    flags = set(line.partition(":")[2].split())
    # As torch decides: with fewer of these it takes the kernels of the extension before.
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "avx512"
    if {"avx2", "fma"} <= flags:
        return "avx2"
    return "sve" if "sve" in flags else "default"
