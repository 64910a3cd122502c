"""A run in a process of its own, which is killed before one of its changes to the run's folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probes.config.settings import RunConfig
from probes.engine.run import execute

# Its children start from a clean process that has imported everything: a tenth of a second each.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["probes.engine.run", "probes.models.scripted", "pyarrow.parquet"])


def killed(cfg: RunConfig, step: int, count: Path | None = None) -> int:
    """Run until just before the change number `step` of the folder; return the exit code.

    Args:
        cfg: of a scripted run.
        step: from 0; beyond the last one, the run ends.
        count: a file for the number of changes that were made.
    """
    child = _CONTEXT.Process(target=_run, args=(cfg, step, count, os.environ["PROBES_HOME"]))
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def _run(cfg: RunConfig, step: int, count: Path | None, home: str) -> None:
    os.environ["PROBES_HOME"] = home
    done = 0

    def watch(owner: Any, name: str, target: Callable[..., Any]) -> None:
        real = getattr(owner, name)

        def change(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if cfg.out in Path(os.fspath(target(*args))).parents:
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
            return real(*args, **kwargs)

        setattr(owner, name, change)

    watch(Path, "replace", lambda _, new: new)
    watch(Path, "unlink", lambda path, **_: path)
    watch(Path, "mkdir", lambda path, **_: path)
    watch(Path, "rmdir", lambda path: path)
    watch(os, "link", lambda _, new: new)
    execute(cfg, cfg.out)
    if count is not None:
        count.write_text(str(done))
