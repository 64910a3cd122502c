"""Progress of a run: bars on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

ReportProgress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

EVERY_S = 10.0
"""Seconds between two plain lines of one phase."""


class Phase:
    """One named stretch of work.

    Args:
        update: shows (steps done, steps in all or None where that is unknown).
        total: steps in all.
    """

    def __init__(self, update: Callable[[int, int | None], None], total: int | None) -> None:
        self.done = 0
        self.total = total
        self._update = update

    def advance(self, steps: int = 1) -> None:
        """Add to the number of steps that are done."""
        self.report(self.done + steps, self.total)

    def expect(self, total: int) -> None:
        """Set how many steps there are in all."""
        self.report(self.done, total)

    def report(self, done: int, total: int | None) -> None:
        """Set how many steps are done, and how many there are in all."""
        self.done, self.total = done, total
        self._update(done, total)


class Progress:
    """Shows phases, one at a time, and keeps how long each took.

    Args:
        stream: where to show them; None for nowhere.
        live: bars instead of lines; None means bars if the stream is a terminal.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds: dict[str, float] = {}
        """Duration of every phase so far, by name."""
        self._stream = stream
        self._live = bool(stream and stream.isatty()) if live is None else live
        self._clock = clock

    @contextlib.contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """Show a phase while the `with` block runs.

        Args:
            name: the work, in a few words.
            total: number of steps; None while it is unknown.
        """
        began = self._clock()
        try:
            if self._stream is None:
                yield Phase(lambda done, total: None, total)
            elif self._live:
                with _bar(name, total, self._stream) as update:
                    yield Phase(update, total)
            else:
                phase = Phase(_PlainLines(name, self.say, self._clock).update, total)
                yield phase
                steps = f"{phase.done}, " if phase.done else ""
                self.say(f"{name}: done ({steps}{self._clock() - began:.1f} s)")
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - began

    def say(self, text: str) -> None:
        """Show one line."""
        if self._stream is not None:
            print(text, file=self._stream, flush=True)


class _PlainLines:
    """Shows a phase as a line of text now and then."""

    def __init__(self, name: str, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._name, self._say, self._clock = name, say, clock
        self._last = clock()
        self._first: tuple[float, int] | None = None
        """Time and number of the first steps done: loading a model, before, is not a step."""

    def update(self, done: int, total: int | None) -> None:
        now = self._clock()
        if self._first is None and done:
            self._first = (now, done)
        if now - self._last < EVERY_S:
            return
        self._last = now
        state = str(done)
        if total:
            state = f"{done}/{total} ({100 * done // total} %)"
        if total and self._first is not None and done > self._first[1]:
            began, before = self._first
            left = (now - began) / (done - before) * (total - done)
            state += f", {_minutes(left)} left"
        self._say(f"{self._name}: {state}")


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def _bar(name: str, total: int | None, stream: TextIO) -> Iterator[Callable[..., None]]:
    """Show a bar; yields the function that moves it."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description:<28}"),
        progress.BarColumn(bar_width=30),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(file=stream)) as shown:
        task = shown.add_task(name, total=total)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def on_terminal() -> Progress:
    """Return the display of a command: on standard error, as standard output has its tables."""
    return Progress(sys.stderr)
