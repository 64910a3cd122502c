"""A task's own scorer as the judge of how its docs were read.

On sample docs it must credit a reply that names the key and none that names another option.
Whether it credits nonsense is told: such a scorer guesses where it cannot read a reply.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from probes.tasks.lmms_eval.adapter import (
    FORMS,
    KEYS,
    Doc,
    DocQuestion,
    RefusedError,
    plain,
    question,
    single,
)

TRIES = 8
"""How often each nonsense reply is put to a scorer: one that guesses among five options credits
none of eight in one case of six, and no doc is alone."""
NONSENSE = ("zzz", "", "Hard to tell from what is shown.")

JUDGE = 5
"""Stage of a refusal because of a judge."""
_CREDITS = ("score", "correct", "is_correct", "accuracy", "acc", "rating", "hit", "match")
# What was read from the reply, and where there is no such field, the reply itself.
_READ = re.compile(r"parsed_pred\w*|(?:pred|predicted|prediction)_(?:ans|answer|option)")
_SAID = re.compile(r"(?:parsed_|model_)?(?:pred|prediction|predicted)(?:_ans|_answer|_option)?")
_GOLD = re.compile(
    r"(?:gt|gold|ground_?truth|target|correct|answer|label)(?:_ans|_answer|_option)?"
)


@dataclass(frozen=True, slots=True)
class ReadingRule:
    """How a task's docs are read; found by `find`."""

    key: str
    """Name of the reading of the target, one of `KEYS`."""
    form: str
    """Name of the form of reply that its scorer credits, one of `FORMS`."""
    metric: str
    """Name of the metric that credits the key and nothing else."""
    guesses: bool = False
    """Its scorer credited a nonsense reply."""


def credits(task: Any, doc: Doc, reply: str) -> dict[str, bool]:
    """Return, by metric, whether the task's own scorer credits a reply.

    Metrics that cannot be read per question (submissions, records for a judge) are left out.
    lmms-eval repeats a failing scorer five times, two seconds apart; here it is called once.
    """
    scorer = type(task).process_results
    values = getattr(scorer, "__wrapped__", scorer)(task, doc, [reply])
    if not isinstance(values, Mapping):
        return {}
    read = {str(name): _credit(value) for name, value in values.items()}
    return {name: value for name, value in read.items() if value is not None}


def _credit(value: Any) -> bool | None:
    """Read one metric of one question; None where it says nothing by itself."""
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:
        value = value.item()
    if isinstance(value, bool | int | float):
        return value > 0
    if isinstance(value, list | tuple) and len(value) == 1:
        return _credit(value[0])
    if not isinstance(value, Mapping):
        return None
    for name in _CREDITS:
        if isinstance(value.get(name), bool | int | float):
            return bool(value[name] > 0)
    said = [one for name, one in value.items() if _READ.fullmatch(str(name))]
    said = said or [one for name, one in value.items() if _SAID.fullmatch(str(name))]
    gold = [one for name, one in value.items() if _GOLD.fullmatch(str(name))]
    if len(said) == 1 and len(gold) == 1:
        return plain(single(said[0])) == plain(single(gold[0]))
    return None


def find(task: Any, docs: Sequence[Doc]) -> ReadingRule:
    """Find out how a task's docs are read, and let its own scorer confirm it on all of them.

    Nothing outside this machine is reached meanwhile, and no random state changes.

    Args:
        task: a task of lmms-eval.
        docs: a sample, each with a key.

    Raises:
        RefusedError: why the task cannot be used.
    """
    if task.OUTPUT_TYPE != "generate_until":
        raise RefusedError(f"its output type is {task.OUTPUT_TYPE}, not generate_until")
    if not docs:
        raise RefusedError("it has no docs")
    asked = [question(task, doc) for doc in docs]
    keys = [{name: read(q.target, q.options) for name, read in KEYS.items()} for q in asked]
    for one, found in zip(asked, keys, strict=True):
        if all(key is None for key in found.values()):
            raise RefusedError(f"its target {one.target!r} is none of the options", 2)
    with unchanged_dice(), cut_off() as calls:
        said: list[_Reply] = []
        for form in FORMS:
            for key, metric in _exact(task, docs, asked, keys, form, said):
                rule = ReadingRule(key, form, metric)
                return replace(rule, guesses=_guesses(task, docs, metric))
            if calls:
                raise RefusedError(f"its scorer asks a judge ({calls[0]})", JUDGE)
        raise _refusal(said)


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a reply was credited with."""

    credited: Mapping[str, bool]
    """By metric."""
    failure: str = ""
    """How the scorer failed."""


def _exact(
    task: Any,
    docs: Sequence[Doc],
    asked: Sequence[DocQuestion],
    keys: Sequence[Mapping[str, int | None]],
    form: str,
    said: list[_Reply],
) -> list[tuple[str, str]]:
    """Return readings and metrics under which the key of every doc is credited, and nothing else.

    What was found is added to `said`.
    """
    left: list[tuple[str, str]] | None = None
    for doc, one, found in zip(docs, asked, keys, strict=True):
        replies = [_put(task, doc, FORMS[form](i, one.options)) for i in range(len(one.options))]
        said += replies
        if left is None:
            metrics = dict.fromkeys(name for reply in replies for name in reply.credited)
            left = [(key, metric) for key in KEYS for metric in metrics]
        left = [
            (key, metric)
            for key, metric in left
            if found[key] is not None
            and all(
                reply.credited.get(metric) == (index == found[key])
                for index, reply in enumerate(replies)
            )
        ]
        if not left:
            return []
    return left or []


def _put(task: Any, doc: Doc, reply: str) -> _Reply:
    try:
        return _Reply(credits(task, doc, reply))
    except (Exception, SystemExit) as error:
        return _Reply({}, f"{type(error).__name__}: {error}")


def _refusal(said: Sequence[_Reply]) -> RefusedError:
    if all(reply.failure for reply in said):
        return RefusedError(f"its scorer fails ({said[0].failure})", 3)
    if not any(reply.credited for reply in said):
        return RefusedError("its scorer tells nothing of a single reply", 4)
    if not any(value for reply in said for value in reply.credited.values()):
        return RefusedError("its scorer credits no reply that names an option", 4)
    return RefusedError("its scorer credits other replies than those that name the key", 4)


def _guesses(task: Any, docs: Sequence[Doc], metric: str) -> bool:
    for doc in docs:
        for reply in NONSENSE:
            for _ in range(TRIES):
                with suppress(Exception, SystemExit):  # a scorer that gives up does not guess
                    if credits(task, doc, reply).get(metric, False):
                        return True
    return False


@contextmanager
def cut_off() -> Iterator[list[str]]:
    """Let this thread reach no other machine and wait for nothing; yields what it tried to reach.

    A scorer that asks a judge would be billed, and one without a key retries for minutes.
    """
    calls: list[str] = []
    me = threading.get_ident()
    connect, look_up, sleep = socket.socket.connect, socket.getaddrinfo, time.sleep

    def refuse(place: object) -> None:
        calls.append(str(place))
        raise ConnectionRefusedError(f"cut off from {place}")

    def guarded_connect(one: socket.socket, address: Any) -> None:
        if threading.get_ident() == me and one.family != getattr(socket, "AF_UNIX", None):
            refuse(address[0])
        connect(one, address)

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == me:
            refuse(host)
        return look_up(host, *args, **kwargs)

    def guarded_sleep(seconds: Any) -> None:
        if threading.get_ident() != me:
            sleep(seconds)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign, assignment]
    socket.getaddrinfo, time.sleep = guarded_look_up, guarded_sleep
    try:
        yield calls
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.getaddrinfo, time.sleep = look_up, sleep


@contextmanager
def unchanged_dice() -> Iterator[None]:
    """Give back the state of Python's and numpy's global generators, which scorers draw from."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
