"""Real `probes run` processes over a small made world, which can be stopped at any moment."""

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
# In the order of a run; what is being done is what follows the last phase that is told as done.
PHASES = ("start", "members", "items", "frames", "infills", "answers 1", "answers 2", "files")


@dataclass
class Place:
    """Home and runs of one run, however many processes it takes."""

    folder: Path
    overrides: list[str]
    kills: Counter[str] = field(default_factory=Counter)
    """By the phase in which a process was killed."""
    started: int = 0

    def start(self) -> tuple[subprocess.Popen[bytes], Path]:
        self.started += 1
        self.folder.mkdir(exist_ok=True)
        told = self.folder / f"stderr-{self.started}.txt"
        environment = os.environ | {
            "PROBES_HOME": str(self.folder / "home"), "PROBES_RUNS": str(self.folder / "runs"),
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "probes", "run", *self.overrides]
        with told.open("wb") as errors:
            return subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=errors, cwd=self.folder
            ), told

    def run(self, code: int = 0) -> float:
        """Let a process come to its end; return the seconds it took."""
        began = time.monotonic()
        process, told = self.start()
        assert process.wait(300) == code, told.read_text()
        return time.monotonic() - began

    def run_and_kill(
        self, moment: float, phase: str | None, by: signal.Signals = signal.SIGKILL
    ) -> tuple[int, str]:
        """Start a process and stop it; return its exit code and what it said.

        Args:
            moment: seconds, counted from the beginning or, if one is named, from that of a phase.
            phase: one of `PHASES`.
            by: the signal; a process that ends first is not hit by it.
        """
        process, told = self.start()
        began = time.monotonic()
        if phase is not None:
            while process.poll() is None and phase_of(told) < PHASES.index(phase):
                time.sleep(0.002)
            began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < moment:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(by)
        code = process.wait(60)
        if code == -signal.SIGKILL:
            self.kills[PHASES[min(phase_of(told), len(PHASES) - 1)]] += 1
        elif by == signal.SIGKILL:  # it was done before
            assert code == 0, told.read_text()
        return code, told.read_text()

    @property
    def store(self) -> Path:
        return self.folder / "home" / "store"

    def finished(self) -> Path:
        """The folder of the run that ended last."""
        manifests = (self.folder / "runs").rglob("manifest.json")
        return max(manifests, key=lambda path: path.stat().st_mtime_ns).parent


def phase_of(told: Path) -> int:
    return told.read_text().count(": done")


def table(folder: Path, name: str) -> pa.Table:
    found = pq.read_table(folder / f"{name}.parquet")
    return found.drop_columns(["seconds"]) if "seconds" in found.column_names else found


def rows_in_store(store: Path) -> Counter[str]:
    """How often each answer lies in a store, over all of its files."""
    found: Counter[str] = Counter()
    for path in store.glob("*.sqlite"):
        connection = sqlite3.connect(path)
        found.update(key for (key,) in connection.execute("select key from outputs"))
        assert connection.execute("select count(*) from errors").fetchone() == (0,)
        connection.close()
    return found
