"""Progress of a run: bars on a terminal, elsewhere a line of the log now and then."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from probes.core.logs import to_screen

if TYPE_CHECKING:
    from rich import progress as rich_progress

ReportProgress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

EVERY_S = 10.0
"""Seconds between two lines of one phase."""
_WINDOW_S = 86_400.0  # of steps that the time left is estimated by: a batch alone can take minutes
_log = logging.getLogger(__name__)


class Phase:
    """One named stretch of work.

    Args:
        shown: counts its steps, estimates the time left, and draws them if it was started.
        name: the work, in a few words.
        total: steps in all, where that is known.
        lines: whether to write lines to the log.
    """

    def __init__(
        self, shown: rich_progress.Progress, name: str, total: int | None, lines: bool
    ) -> None:
        self._shown, self._lines = shown, lines
        shown.add_task(name, total=total)
        # `add_task` returns a number only; the display has this one task.
        (self._task,) = shown.tasks
        self._last_s = self.seconds

    @property
    def done(self) -> int:
        """Steps done."""
        return int(self._task.completed)

    @property
    def total(self) -> int | None:
        """Steps in all; None while that is unknown."""
        return None if self._task.total is None else int(self._task.total)

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return self._task.elapsed or 0.0

    def advance(self) -> None:
        """Count one step more."""
        self.report(self.done + 1, self.total)

    def expect(self, total: int) -> None:
        """Set how many steps there are in all."""
        self.report(self.done, total)

    def report(self, done: int, total: int | None) -> None:
        """Set how many steps are done, and how many there are in all."""
        # Not by `update`, which would begin anew to estimate the time left.
        self._task.total = total
        self._shown.update(self._task.id, completed=done)
        if self._lines and self.seconds - self._last_s >= EVERY_S:
            self._last_s = self.seconds
            state = f"{done}/{total} ({100 * done // total} %)" if total else f"{done}"
            left = self._task.time_remaining  # loading a model, before the first step, is no step
            shown = "" if left is None else f", {_minutes(left)} left"
            _log.info("%s: %s%s", self._task.description, state, shown)


class Progress:
    """Shows phases, one at a time, and keeps how long each took.

    Args:
        bars: the terminal to draw bars on; None = lines of the log (level INFO) instead.
        clock: seconds; for tests.
    """

    def __init__(
        self, bars: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds: dict[str, float] = {}
        """Duration of every phase so far, by name."""
        self._bars, self._clock = bars, clock

    @contextlib.contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """Show a phase while the `with` block runs.

        Args:
            name: the work, in a few words.
            total: number of steps; None while it is unknown.
        """
        from rich import progress
        from rich.console import Console

        shown = progress.Progress(
            progress.TextColumn("{task.description:<28}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=Console(file=self._bars),
            get_time=self._clock,
            speed_estimate_period=_WINDOW_S,
        )
        lines = self._bars is None
        phase = Phase(shown, name, total, lines)
        try:
            with contextlib.nullcontext() if lines else shown:
                yield phase
            if lines:
                steps = f"{phase.done}, " if phase.done else ""
                _log.info("%s: done (%s%.1f s)", name, steps, phase.seconds)
        finally:
            # A sum: several phases may have one name.
            self.seconds[name] = self.seconds.get(name, 0.0) + phase.seconds


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def on_terminal() -> Progress:
    """Return the display of a command: on standard error, as standard output has its tables."""
    to_screen()
    return Progress(sys.stderr if sys.stderr.isatty() else None)
