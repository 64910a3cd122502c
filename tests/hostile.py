"""A folder whose files have the names of our rooms: importing any of them ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NAMES = ("tasks", "conf", "stats", "records", "core", "media", "models", "config", "cli", "report")
TRAP = 'raise SystemExit("the wrong module was imported")\n'
SMALL = ["backend=scripted", "frames=2", "task.videos=6", "task.height=32", "task.fps=1"]


def make_hostile(folder: Path) -> Path:
    """Fill a folder with one such file per name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.py").write_text(TRAP)
    return folder


def python(*words: str, folder: Path, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments in a folder, with `path` as the only place of our package."""
    environment = os.environ | {
        "PYTHONPATH": str(path),
        "PROBES_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PROBES_RUNS", None)
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def embedded(folder: Path, path: Path, home: Path) -> Path:
    """Return where a process in a folder finds the embedded image member."""
    code = (
        "from probes.core.types import ModelSpec; from probes.models.checkpoint import find; "
        "print(find(ModelSpec('m', 'image', 'embedded:image')).folder)"
    )
    done = python("-c", code, folder=folder, path=path, home=home)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def new_files(folder: Path) -> set[str]:
    """Return the names in a folder that are not those of its hostile files."""
    hostile = {f"{name}.py" for name in NAMES}
    return {path.name for path in folder.iterdir()} - hostile
