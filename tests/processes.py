"""Real `probes run` processes over a small generated world, which can be stopped at any moment."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["task.videos=10", "task.height=32", "task.fps=1", "frames=[2,4]"]
SCRIPTED = ["backend=scripted", *SMALL]
PHASES = ("members", "doctor", "items", "frames", "infills")
PHASES += ("answers 1", "answers 2", "files", "tables")
"""In the order of a run: as many as are reported as done come before the current one."""


@dataclass
class Place:
    """The home and the run folders of one run, however many processes it takes."""

    folder: Path
    overrides: list[str]
    kills: Counter[str] = field(default_factory=Counter)
    """Number of killed processes by phase."""
    started: int = 0

    def start(self) -> tuple[subprocess.Popen[bytes], Path]:
        self.started += 1
        self.folder.mkdir(exist_ok=True)
        log = self.folder / f"stderr-{self.started}.txt"
        environment = os.environ | {
            "PROBES_HOME": str(self.folder / "home"),
            "PROBES_RUNS": str(self.folder / "runs"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "probes", "run", *self.overrides]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self.folder,
                # A shell starts what it leaves in the background with SIGINT ignored, which all
                # processes below it inherit.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return process, log

    def run(self, code: int = 0) -> float:
        """Let a process run to its end; return the seconds it took."""
        began = time.monotonic()
        process, log = self.start()
        assert process.wait(300) == code, log.read_text()
        return time.monotonic() - began

    def run_and_kill(
        self, moment: float, phase: str | None, by: signal.Signals = signal.SIGKILL
    ) -> tuple[int, str]:
        """Start a process and stop it; return its exit code and its messages.

        Args:
            moment: seconds after the process or, if one is named, the phase began (or a later one).
            phase: one of `PHASES`.
            by: the signal; a process that ends before does not get it.
        """
        process, log = self.start()
        began = time.monotonic()
        if phase is not None:
            while process.poll() is None and PHASES.index(phase_of(log)) < PHASES.index(phase):
                time.sleep(0.002)
            began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < moment:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(by)
        code = process.wait(60)
        if code == -signal.SIGKILL:
            self.kills[phase_of(log)] += 1
        elif by == signal.SIGKILL:  # it had ended before
            assert code == 0, log.read_text()
        return code, log.read_text()

    @property
    def store(self) -> Path:
        return self.folder / "home" / "store"

    def finished(self) -> Path:
        """Return the folder of the run that ended last."""
        manifests = (self.folder / "runs").rglob("manifest.json")
        return max(manifests, key=lambda path: path.stat().st_mtime_ns).parent


def phase_of(log: Path) -> str:
    """Return the phase that a process is in, or was in when it ended."""
    return PHASES[log.read_text().count(": done")]


def table(folder: Path, name: str) -> pa.Table:
    found = pq.read_table(folder / f"{name}.parquet")
    return found.drop_columns(["seconds"]) if "seconds" in found.column_names else found


def rows_in_store(store: Path) -> Counter[str]:
    """Return how often each answer is in a store, over all of its files."""
    found: Counter[str] = Counter()
    for path in store.glob("*.sqlite"):
        connection = sqlite3.connect(path)
        found.update(key for (key,) in connection.execute("select key from outputs"))
        assert connection.execute("select count(*) from errors").fetchone() == (0,)
        connection.close()
    return found
