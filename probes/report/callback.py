"""Hydra's end of a sweep -> the sweep's report."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from probes import report
from probes.core.errors import ProbesError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_log = logging.getLogger(__name__)


class SweepReport(Callback):  # type: ignore[misc]
    """Writes SWEEP/report when a sweep ends; an error there never fails the sweep."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report of all runs of the sweep."""
        folder = Path(config.hydra.sweep.dir)
        if not any(folder.rglob("records.parquet")):
            return  # every job has reported why it left nothing
        try:
            # Of what is there, where a job has failed: it says what is missing.
            page = report.write([folder], folder / report.FOLDER, partial=True)
        except Exception as error:  # answers are stored and runs complete: no reason to fail them
            kind = "" if isinstance(error, ProbesError) else f"{type(error).__name__}: "
            again = f"to try again: probes report {shlex.quote(str(folder))}"
            _log.error("the sweep's report was not written: %s%s\n  %s", kind, error, again)
            return
        print(f"\nreport: {page}")
