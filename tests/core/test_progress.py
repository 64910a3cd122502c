"""Progress as lines of the log and as bars; durations in every case."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from probes.core.progress import EVERY_S, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Lines of the log, as they come."""
    found: list[str] = []
    logger = logging.getLogger("probes.core.progress")
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_plain_lines_come_rarely_and_at_the_end(lines: list[str]) -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    with progress.phase("answers", 100) as phase:
        for _ in range(50):
            clock.now += EVERY_S / 20
            phase.advance()
    assert lines == [
        "answers: 20/100 (20 %), 0:40 left",
        "answers: 40/100 (40 %), 0:30 left",
        "answers: done (50, 25.0 s)",
    ]
    assert progress.seconds == {"answers": 25.0}


def test_hours_are_shown_as_hours(lines: list[str]) -> None:
    clock = Clock()
    with Progress(clock=clock).phase("answers") as phase:
        phase.expect(1001)
        clock.now += 9 * EVERY_S  # until a model is loaded: not counted
        phase.advance()
        clock.now += EVERY_S
        phase.advance()
    assert lines[:2] == ["answers: 1/1001 (0 %)", "answers: 2/1001 (0 %), 2:46:30 left"]


def test_a_new_total_does_not_forget_how_fast_it_goes(lines: list[str]) -> None:
    clock = Clock()
    with Progress(clock=clock).phase("infills", 500) as phase:
        for done in (10, 20):
            clock.now += 60  # a batch
            phase.report(done, 500)
        phase.expect(40)  # the others are stored already
        clock.now += EVERY_S
        phase.expect(40)
    assert lines[-2:] == ["infills: 20/40 (50 %), 2:00 left", "infills: done (20, 130.0 s)"]


def test_a_phase_without_a_total_counts_its_steps(lines: list[str]) -> None:
    clock = Clock()
    with Progress(clock=clock).phase("problems") as phase:
        clock.now += EVERY_S
        phase.report(3, None)
    with Progress(clock=clock).phase("members"):
        pass
    assert lines == ["problems: 3", "problems: done (3, 10.0 s)", "members: done (0.0 s)"]


def test_phases_of_one_name_add_up_and_failures_count(lines: list[str]) -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    for _ in range(2):
        with pytest.raises(ValueError, match="stop"), progress.phase("frames", 3):
            clock.now += 1
            raise ValueError("stop")
    assert progress.seconds == {"frames": 2.0}
    assert lines == []


def test_bars_show_the_phase_and_its_steps(lines: list[str]) -> None:
    out = io.StringIO()
    progress = Progress(out)
    with progress.phase("infills", 4) as phase:
        phase.report(4, 4)
    assert "infills" in out.getvalue()
    assert "4/4" in out.getvalue()
    assert (lines, list(progress.seconds)) == ([], ["infills"])
