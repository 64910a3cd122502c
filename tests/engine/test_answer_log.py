"""What became of every trial, in order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from probes.core.scratch import Scratch
from probes.engine.answer_log import AnswerLog, TrialRequest
from probes.engine.cached_model import RequestStats


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_log_keeps_the_order_of_trials(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    entries = [
        TrialRequest(problem="no frames") if n == 2 else TrialRequest(sha(n), sha(-n))
        for n in range(5)
    ]
    log, other = AnswerLog(scratch, "a"), AnswerLog(scratch, "b")
    log.extend(entries[:3])
    other.extend(entries[:1])
    log.extend(entries[3:])
    assert list(log) == entries
    assert [log[n] for n in range(5)] == entries
    assert list(other) == entries[:1]
    for number in (-1, 5):
        with pytest.raises(IndexError):
            log[number]


def test_requests_are_counted_once_each(tmp_path: Path) -> None:
    stats = RequestStats(Scratch(tmp_path), "requests")
    stats.meet([sha(1), sha(2), sha(3)])
    stats.meet([sha(3), sha(4)])
    stats.count(failed=False)
    stats.count(failed=True)
    assert stats.as_dict() == {"unique": 4, "cached": 2, "computed": 2, "failed": 1}
