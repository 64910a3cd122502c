"""Tasks of lmms-eval, or YAML files in its form, read into items.

lmms-eval is imported when a task is loaded, and its own downloads and caches are used. Every arm,
scoring and backend of this harness works on the items.
"""

from __future__ import annotations

import importlib.util
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.text import listed, nearest
from probes.core.types import Item, Panels
from probes.tasks.lmms_eval import visuals
from probes.tasks.lmms_eval.adapter import FORMS, READINGS, DocQuestion, RefusedError, question
from probes.tasks.lmms_eval.judging import (
    ReadingRule,
    credits,
    cut_off,
    find,
    unchanged_random_state,
)

SAMPLE = 16
"""Docs on which a task's own scorer has to confirm how they are read."""
_ID = ("id", "question_id", "qid", "q_uid", "uid", "doc_id", "index", "idx")
_CLUSTER = ("cluster", "recording")
_STRATUM = ("stratum", "question_type", "task_type", "type", "category")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that the adapter takes."""

    name: str
    task: Any
    """lmms-eval's task."""
    rule: ReadingRule
    asked: Mapping[int, DocQuestion]
    """What the multiple-choice docs ask, by index of the doc."""


def folder(include_path: str | None) -> Path:
    """Return the folder that a task's YAML is looked for in: the user's, else lmms-eval's own.

    Raises:
        ProbesError: there is no such folder, or no lmms-eval.
    """
    if include_path is not None:
        root = Path(include_path).expanduser().resolve()
        if not root.is_dir():
            fix = "name the folder that holds the task's YAML"
            raise ProbesError("there is no such folder", f"task.include_path={include_path}", fix)
        return root
    found = importlib.util.find_spec("lmms_eval")
    if found is None or found.origin is None:
        raise ProbesError("lmms-eval is not installed", "task=lmms", "pip install lmms-eval")
    return Path(found.origin).resolve().parent / "tasks"


def load(root: Path, name: str, *, unanswered: bool = False) -> list[Item]:
    """Read a task.

    Args:
        root: folder of YAML files (`folder`).
        name: the task's name.
        unanswered: also docs with a withheld answer.

    Returns:
        Items in the order of the docs. Docs that list no options are left out, with a warning.
        `cluster` is the recording where docs name one, else the video or the pictures; `stratum`
        is the kind of question where docs name one.

    Raises:
        ProbesError: the task cannot be loaded or used, or docs are not what they should be.
    """
    return list(items(accept(_task(root, name), name), unanswered=unanswered).values())


def items(accepted: Accepted, *, unanswered: bool = False) -> dict[int, Item]:
    """Return the items of a task by the index of their doc; see `load`.

    Raises:
        ProbesError: docs are not what they should be.
    """
    name, task, rule = accepted.name, accepted.task, accepted.rule
    names, strata, clusters = _ids(task), _column(task, _STRATUM), _column(task, _CLUSTER)
    found: dict[int, Item] = {}
    problems = []
    for at, asked in accepted.asked.items():
        answer = READINGS[rule.reading](asked.target, asked.options)
        # Distinct from a target that no reading understands: only that is an error of the data.
        withheld = _withheld(asked.target)
        if answer is None and not withheld:
            problems.append(f"{names[at]}: its answer {asked.target!r} is none of the options")
        if answer is None and not (withheld and unanswered):
            continue
        try:
            media = visuals.media(visuals.of(task, task.eval_docs[at]))
        except (RefusedError, OSError, SystemExit) as error:
            problems.append(f"{names[at]}: {error}")
            continue
        shown = media.path.stem if isinstance(media, Panels) else str(media.path)
        found[at] = Item(
            id=names[at],
            task=name,
            question=asked.text,
            options=asked.options,
            answer=answer,
            media=media,
            stratum=strata[at],
            # Docs about the same video or pictures are no independent observations.
            cluster=clusters[at] or shown,
        )
    if problems:
        raise ProbesError(
            f"{len(problems)} docs cannot be used: {listed(problems, separator='; ')}",
            f"task {name}",
            "complete the data (its media are under $HF_HOME), or correct it",
        )
    if not found:
        raise ProbesError("no doc has an answer", f"task {name}", "set task.unanswered=true")
    return found


def reply(accepted: Accepted, at: int, choice: int | None) -> str:
    """Return the reply that names an option to the task's own scorer; empty for no choice."""
    options = accepted.asked[at].options
    return "" if choice is None else FORMS[accepted.rule.form](choice, options)


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a task's own scorer gets of a record."""

    item_id: str
    choice: int | None
    """Index of the chosen option, where one was read."""
    reply: str | None = None
    """The generated reply; None where options were scored."""


def own_scores(root: Path, name: str, answers: Sequence[GivenAnswer]) -> list[bool]:
    """Return whether the task's own scorer credits each answer.

    It gets the reply where one was generated, else the chosen option in the form of reply that it
    credits. It may differ from this harness on an unparsed reply: by guessing.

    Args:
        root: folder of YAML files.
        name: the task's name.
        answers: to its items.

    Raises:
        ProbesError: the task cannot be loaded, or an answer does not belong to one of its items.
    """
    task = _task(root, name)
    accepted = accept(task, name)
    indices = {one: at for at, one in enumerate(_ids(task))}
    scores = []
    with unchanged_random_state(), cut_off():
        random.seed(0)  # scorers that guess give the same records the same scores
        for answer in answers:
            at = indices.get(answer.item_id)
            if at is None or at not in accepted.asked:
                what = f"task {name} has no item {answer.item_id!r}"
                raise ProbesError(what, str(root), "its data changed since the run; run again")
            text = reply(accepted, at, answer.choice) if answer.reply is None else answer.reply
            try:
                metrics = credits(task, task.eval_docs_no_media[at], text)
            except (Exception, SystemExit):  # a judge cannot be asked, or a reply cannot be read
                metrics = {}
            scores.append(metrics.get(accepted.rule.metric, False))
    return scores


def manager(root: Path) -> Any:
    """Return lmms-eval's TaskManager over a folder of YAML files, without its log lines."""
    # Some of its tasks read the variable on import, without a default.
    os.environ.setdefault("HF_HOME", str(Path("~/.cache/huggingface").expanduser()))
    from loguru import logger

    logger.disable("lmms_eval")
    logger.disable("utils")  # the name of its tasks' own files
    import datasets
    from lmms_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    # Without the defaults: the folder alone decides which tasks there are.
    return TaskManager("ERROR", include_path=str(root), include_defaults=False)


def accept(task: Any, name: str) -> Accepted:
    """Find out how the docs of a task are read.

    Args:
        task: lmms-eval's task, with its data.
        name: its name.

    Raises:
        ProbesError: why it cannot be used.
    """
    asked, others = {}, Counter[str]()
    # Without media, which are decoded where an item needs them.
    for at, doc in enumerate(task.eval_docs_no_media):
        try:
            asked[at] = question(task, doc)
        except RefusedError as refusal:
            others[str(refusal)] += 1
        except (Exception, SystemExit) as error:
            raise _failed(name, f"doc {at}: {type(error).__name__}: {error}") from error
    try:
        if not asked:
            raise RefusedError(others.most_common(1)[0][0] if others else "it has no docs")
        answered = [at for at, one in asked.items() if not _withheld(one.target)]
        # Spread over all docs: the first ones may all be of one kind.
        step = max(1, len(answered) // SAMPLE)
        rule = find(task, [task.eval_docs_no_media[at] for at in answered[::step][:SAMPLE]])
        # One doc shows whether media of this kind can be shown; `items` then reads all.
        visuals.kind(visuals.of(task, task.eval_docs[next(iter(asked))]))
    except RefusedError as refusal:
        fix = "name another task; docs/lmms_tasks.md lists those that are accepted"
        raise ProbesError(f"task {name} cannot be used: {refusal}", "task.name", fix) from refusal
    except SystemExit as stop:
        raise _failed(name, str(stop)) from stop
    if others:
        left = "; ".join(f"{count}: {reason}" for reason, count in others.items())
        warnings.warn(f"task {name}: docs left out ({left})", stacklevel=4)
    if rule.guesses:
        warnings.warn(
            f"task {name}: its own scorer credits replies that name nothing; here they are wrong",
            stacklevel=4,
        )
    return Accepted(name, task, rule, asked)


def _task(root: Path, name: str) -> Any:
    tasks = manager(root)
    known = tasks.task_index
    if name not in known:
        fix = nearest(name, known, count=3, otherwise=f"the folder has {len(known)} tasks")
        raise ProbesError(f"there is no task {name!r}", str(root), f"task.name=...; {fix}")
    if known[name]["type"] in ("group", "tag"):
        members = known[name]["task"]
        if members == -1:
            members = tasks._get_config(name)["task"]
        named = ", ".join(map(str, members))
        raise ProbesError(f"{name} is a group of tasks", str(root), f"name one of them: {named}")
    try:
        with _at_once():
            return tasks.load_task_or_group([name], task_type="chat")[name]
    except (Exception, SystemExit) as error:
        if isinstance(error.__context__, ProbesError):  # one of our own tasks
            raise error.__context__ from None
        raise _failed(name, f"{type(error).__name__}: {error}") from error


@contextmanager
def _at_once() -> Iterator[None]:
    """Let a download fail at once: lmms-eval would try it five times, within 8 seconds."""
    from lmms_eval.api.task import ConfigurableTask

    download: Callable[..., None] = ConfigurableTask.download
    ConfigurableTask.download = getattr(download, "__wrapped__", download)
    try:
        yield
    finally:
        ConfigurableTask.download = download


def _failed(name: str, why: str) -> ProbesError:
    reason = " ".join(why.split())[:400]
    fix = "check that plain lmms-eval can run it: python -m lmms_eval --tasks NAME --limit 1"
    return ProbesError(f"lmms-eval cannot load task {name}: {reason}", "task.name", fix)


def _withheld(target: Any) -> bool:
    return target is None or (isinstance(target, str) and target.strip() in ("", "?", "N/A"))


def _ids(task: Any) -> list[str]:
    """Return an id per doc: a field with another value in every doc, else the doc's index."""
    for values in _columns(task, _ID):
        names = list(map(str, values))
        # Two docs of one id would be one item.
        if len(set(names)) == len(names) and all(names):
            return names
    return [str(at) for at in range(len(task.eval_docs_no_media))]


def _column(task: Any, fields: Sequence[str]) -> list[str]:
    """Return the first of the fields that the docs have as text; empty texts where none is."""
    for values in _columns(task, fields):
        if all(isinstance(value, str) for value in values):
            return values
    return [""] * len(task.eval_docs_no_media)


def _columns(task: Any, fields: Sequence[str]) -> Iterator[list[Any]]:
    docs: Any = task.eval_docs_no_media
    return (list(docs[field]) for field in fields if field in docs.features)
