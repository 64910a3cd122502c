"""lmms-eval in tests: offline, its caches in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def caches(folder: Path) -> dict[str, str]:
    """Return the environment that keeps lmms-eval, datasets and the hub inside `folder`."""
    return {
        "HF_HOME": str(folder / "hf"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "LMMS_EVAL_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def load(folder: Path, name: str, kind: str = "chat", include: Path = ROOT / "tasks") -> Any:
    """Return a task by name, or a group's tasks by name, without lmms-eval's own.

    Args:
        folder: for caches.
        name: of a task or group below `include`.
        kind: `chat` or `simple`, the two kinds of lmms-eval's models.
        include: folder of YAML files.
    """
    os.environ |= caches(folder)
    import datasets
    from lmms_eval.api import task
    from lmms_eval.tasks import TaskManager

    task._resolve_hf_datasets_cache_dir.cache_clear()
    datasets.disable_progress_bars()
    manager = TaskManager("ERROR", include_path=str(include), include_defaults=False)
    ((found, value),) = manager.load_task_or_group([name], task_type=kind).items()
    return value if isinstance(value, dict) else {found: value}


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the plain command line from the root of the tree."""
    return subprocess.run(
        [sys.executable, "-m", "lmms_eval", *arguments],
        env=os.environ | caches(folder) | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
