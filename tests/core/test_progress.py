"""Progress as plain lines, as bars, and not at all; durations in every case."""

from __future__ import annotations

import io

import pytest

from probes.core.progress import EVERY_S, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_rarely_and_at_the_end() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, clock=clock)
    with progress.phase("answers", 100) as phase:
        for _ in range(50):
            clock.now += EVERY_S / 20
            phase.advance()
    lines = out.getvalue().splitlines()
    assert lines == [
        "answers: 20/100 (20 %), 0:40 left",
        "answers: 40/100 (40 %), 0:30 left",
        "answers: done (50, 25.0 s)",
    ]
    assert progress.seconds == {"answers": 25.0}


def test_hours_are_shown_as_hours() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(out, clock=clock).phase("answers") as phase:
        phase.expect(1001)
        clock.now += 9 * EVERY_S  # until a model is loaded: not counted
        phase.advance()
        clock.now += EVERY_S
        phase.advance()
    assert out.getvalue().splitlines()[:2] == [
        "answers: 1/1001 (0 %)", "answers: 2/1001 (0 %), 2:46:30 left",
    ]  # fmt: skip


def test_phases_of_one_name_add_up_and_failures_count() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    for _ in range(2):
        with pytest.raises(ValueError, match="stop"), progress.phase("frames", 3):
            clock.now += 1
            raise ValueError("stop")
    assert progress.seconds == {"frames": 2.0}


def test_bars_show_the_phase_and_its_steps() -> None:
    out = io.StringIO()
    with Progress(out, live=True).phase("infills", 4) as phase:
        phase.report(4, 4)
    assert "infills" in out.getvalue()
    assert "4/4" in out.getvalue()
