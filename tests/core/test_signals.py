"""A pool's processes end with their parent, whenever that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import multiprocessing, os, sys, time
from probes.core import signals

def serve(log, wait):
    open(log, "a").write(f"{os.getpid()}\\n")
    time.sleep(wait)
    signals.serve_parent()
    time.sleep(60)

if __name__ == "__main__":
    method, log, wait = sys.argv[1:]
    context = multiprocessing.get_context(method)
    for _ in range(2):
        context.Process(target=serve, args=(log, float(wait))).start()
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_parent_that_died_first_end(tmp_path: Path, method: str) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)
    log.touch()
    # Killed while its processes have not yet begun to watch it.
    arguments = [sys.executable, str(script), method, str(log), "1.5"]
    parent = subprocess.Popen(
        arguments, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 30
    while len(log.read_text().split()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    children = [int(pid) for pid in log.read_text().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert len(children) == 2 and all(map(alive, children))
    while any(map(alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in children if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
