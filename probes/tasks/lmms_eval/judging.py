"""A task's own scorer as the judge of how its docs were read.

On sample docs it must credit a reply that names the right answer and none that names another
option. Whether it credits nonsense is noted: such a scorer guesses where it cannot read a reply.
"""

from __future__ import annotations

import functools
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from probes.tasks.lmms_eval.adapter import (
    FORMS,
    READINGS,
    Doc,
    DocQuestion,
    RefusedError,
    Stage,
    plain,
    question,
    single,
)

TRIES = 8
"""How often a scorer gets each nonsense reply: one that guesses among five options credits none of
eight in one case of six, and several docs are tried."""
NONSENSE = ("zzz", "", "Hard to tell from what is shown.")

_CREDITS = ("score", "correct", "is_correct", "accuracy", "acc", "rating", "hit", "match")
# Fields for what was read from the reply; where there is none, for the reply itself.
_READ = re.compile(r"parsed_pred\w*|(?:pred|predicted|prediction)_(?:ans|answer|option)")
_REPLY = re.compile(r"(?:parsed_|model_)?(?:pred|prediction|predicted)(?:_ans|_answer|_option)?")
_GOLD = re.compile(
    r"(?:gt|gold|ground_?truth|target|correct|answer|label)(?:_ans|_answer|_option)?"
)


@dataclass(frozen=True, slots=True)
class ReadingRule:
    """How a task's docs are read; found by `find`."""

    reading: str
    """Name of the reading of the target, one of `READINGS`."""
    form: str
    """Name of the form of reply that its scorer credits, one of `FORMS`."""
    metric: str
    """Name of the metric that credits the right answer and nothing else."""
    guesses: bool = False
    """Whether its scorer credited a nonsense reply."""


def credits(task: Any, doc: Doc, reply: str) -> dict[str, bool]:
    """Return, by metric, whether the task's own scorer credits a reply.

    Metrics that cannot be read per question (submissions, records for a judge) are left out.
    lmms-eval repeats a failing scorer five times, two seconds apart; here it is called once.
    """
    scorer = type(task).process_results
    # Below the decorator that repeats; from the class, as a bound method would pass `task` twice.
    values = getattr(scorer, "__wrapped__", scorer)(task, doc, [reply])
    if not isinstance(values, Mapping):
        return {}
    read = {str(name): _credit(value) for name, value in values.items()}
    return {name: value for name, value in read.items() if value is not None}


def _credit(value: Any) -> bool | None:
    """Read one metric of one question; None where it has no value by itself."""
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:
        value = value.item()
    # Any credit counts: some metrics give parts of a point.
    if isinstance(value, bool | int | float):
        return value > 0
    if isinstance(value, list | tuple) and len(value) == 1:
        return _credit(value[0])
    if not isinstance(value, Mapping):
        return None
    for name in _CREDITS:
        if isinstance(value.get(name), bool | int | float):
            return bool(value[name] > 0)
    predicted = [one for name, one in value.items() if _READ.fullmatch(str(name))]
    predicted = predicted or [one for name, one in value.items() if _REPLY.fullmatch(str(name))]
    gold = [one for name, one in value.items() if _GOLD.fullmatch(str(name))]
    if len(predicted) == 1 and len(gold) == 1:
        return plain(single(predicted[0])) == plain(single(gold[0]))
    return None


def find(task: Any, docs: Sequence[Doc]) -> ReadingRule:
    """Find out how a task's docs are read, and let its own scorer confirm it on all of them.

    No other machine is reached during this, and no random state changes.

    Args:
        task: a task of lmms-eval.
        docs: a sample of docs with a right answer.

    Raises:
        RefusedError: why the task cannot be used.
    """
    if task.OUTPUT_TYPE != "generate_until":
        raise RefusedError(f"its output type is {task.OUTPUT_TYPE}, not generate_until")
    if not docs:
        raise RefusedError("it has no docs")
    asked = [question(task, doc) for doc in docs]
    samples = [_sample(doc, one) for doc, one in zip(docs, asked, strict=True)]
    with unchanged_random_state(), cut_off() as calls:
        scores: list[_Score] = []
        for form in FORMS:
            for reading, metric in _exact(task, samples, form, scores):
                rule = ReadingRule(reading, form, metric)
                return replace(rule, guesses=_guesses(task, docs, metric))
            # After one form: a scorer that asks a judge does so for the other forms as well.
            if calls:
                raise RefusedError(f"its scorer asks a judge ({calls[0]})", Stage.JUDGE)
        raise _refusal(scores)


@dataclass(frozen=True, slots=True)
class _AskedDoc:
    """A doc on which the scorer is tried."""

    doc: Doc
    asked: DocQuestion
    answers: Mapping[str, int | None]
    """Index of the right answer by name of the reading."""


def _sample(doc: Doc, asked: DocQuestion) -> _AskedDoc:
    answers = {name: read(asked.target, asked.options) for name, read in READINGS.items()}
    if all(answer is None for answer in answers.values()):
        raise RefusedError(f"its target {asked.target!r} is none of the options", Stage.ANSWER)
    return _AskedDoc(doc, asked, answers)


@dataclass(frozen=True, slots=True)
class _Score:
    """How the scorer scored a reply."""

    credited: Mapping[str, bool]
    """By metric."""
    failure: str = ""
    """How the scorer failed."""


def _exact(
    task: Any, samples: Sequence[_AskedDoc], form: str, scores: list[_Score]
) -> list[tuple[str, str]]:
    """Return readings and metrics under which exactly the right answer of every doc is credited.

    The scores of all replies are added to `scores`.
    """
    left: list[tuple[str, str]] | None = None
    for sample in samples:
        options = sample.asked.options
        found = [_score(task, sample.doc, FORMS[form](i, options)) for i in range(len(options))]
        scores += found
        if left is None:
            metrics = dict.fromkeys(name for score in found for name in score.credited)
            # All combinations at first; each doc strikes out those that it contradicts.
            left = [(reading, metric) for reading in READINGS for metric in metrics]
        left = [
            (reading, metric)
            for reading, metric in left
            if (answer := sample.answers[reading]) is not None
            # Both ways: a metric that credits every reply would confirm any reading.
            and all(score.credited.get(metric) == (i == answer) for i, score in enumerate(found))
        ]
        if not left:
            return []
    return left or []


def _score(task: Any, doc: Doc, reply: str) -> _Score:
    try:
        return _Score(credits(task, doc, reply))
    # SystemExit is no Exception: a scorer that calls exit() would end the run.
    except (Exception, SystemExit) as error:
        return _Score({}, f"{type(error).__name__}: {error}")


def _refusal(scores: Sequence[_Score]) -> RefusedError:
    if all(score.failure for score in scores):
        return RefusedError(f"its scorer fails ({scores[0].failure})", Stage.SCORER_FAILS)
    if not any(score.credited for score in scores):
        reason = "its scorer says nothing about a single reply"
    elif not any(value for score in scores for value in score.credited.values()):
        reason = "its scorer credits no reply that names an option"
    else:
        reason = "its scorer credits other replies than those that name the right answer"
    return RefusedError(reason, Stage.SCORER_DIFFERS)


def _guesses(task: Any, docs: Sequence[Doc], metric: str) -> bool:
    for doc in docs:
        for reply in NONSENSE:
            for _ in range(TRIES):
                with suppress(Exception, SystemExit):  # a scorer that gives up does not guess
                    if credits(task, doc, reply).get(metric, False):
                        return True
    return False


_thread = threading.local()
"""`calls`, where this thread is cut off: what it tried to reach."""


@contextmanager
def cut_off() -> Iterator[list[str]]:
    """Let this thread reach no other machine and never sleep; yield what it tried to reach.

    A scorer that asks a judge would cost money, and one without an API token retries for minutes.
    """
    _listen()
    calls: list[str] = []
    around, _thread.calls = getattr(_thread, "calls", None), calls
    thread, sleep = threading.get_ident(), time.sleep
    # Replaced, as Python announces a sleep to audit hooks only from 3.13 on, and an error instead
    # of a pause would keep a scorer from what it does without a judge. Other threads do sleep.
    time.sleep = lambda seconds: None if threading.get_ident() == thread else sleep(seconds)
    try:
        yield calls
    finally:
        time.sleep, _thread.calls = sleep, around


@functools.cache  # once in a process: a hook stays, and does nothing where no thread is cut off
def _listen() -> None:
    sys.addaudithook(_refuse)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """Refuse a connection that Python announces: no function of sockets has to be replaced."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        calls = getattr(_thread, "calls", None)
        # A socket file leads to no other machine.
        local = event == "socket.connect" and args[0].family == getattr(socket, "AF_UNIX", None)
        if calls is not None and not local:
            host = args[1][0] if event == "socket.connect" else args[0]
            calls.append(str(host))
            raise ConnectionRefusedError(f"cut off from {host}")


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the state of Python's and numpy's global generators, which scorers draw from."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
