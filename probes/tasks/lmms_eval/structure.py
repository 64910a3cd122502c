"""Which of lmms-eval's tasks the adapter takes, found without their data.

A task's own functions are run on invented docs (module `invented`) of many shapes. It is accepted
if the adapter's rule holds for some shape: the data is not known, but the code then works with this
harness. No data is fetched and nothing is asked over the network.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

from probes.tasks.lmms_eval import invented, visuals
from probes.tasks.lmms_eval.adapter import RefusedError, Stage, speaks_of_options
from probes.tasks.lmms_eval.judging import ReadingRule, cut_off, find, unchanged_random_state

DOCS = 3
"""Invented docs of each shape; their answers differ."""
UNLESS = "it is open-ended, unless the questions in its data list options"
KINDS = ("multiple-choice", "multi_choice", "mcq")
MOST_KINDS = 12
_HELPER = "lmms_eval.tasks._task_utils.video_loader"
_KIND_WORD = re.compile(r"\w*(?:choice|mcq?|object_rel|perception|option)[\w -]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one task."""

    name: str
    rule: ReadingRule | None
    """None where it is not accepted."""
    shown: str = ""
    """What its docs show: `video`, `image`, ...; empty where only the data shows it."""
    reason: str = ""
    """Why it is not accepted."""
    options: str = ""
    """Where options come from: `doc_to_choice`, `its text`, or `its data`: it asks to choose, and
    the questions in the data have to list the options."""
    settled: bool = True
    """Whether its functions could be run on invented docs."""

    @property
    def verdict(self) -> str:
        """`accepted`, `guessing` (its scorer also credits nonsense), `refused`, `unsettled`."""
        if self.rule is not None:
            return "guessing" if self.rule.guesses else "accepted"
        return "refused" if self.settled else "unsettled"


def classify(name: str, manager: Any) -> Finding:
    """Classify a task of lmms-eval.

    Args:
        name: of the task.
        manager: lmms-eval's TaskManager.
    """
    with _quiet(), unchanged_random_state(), cut_off() as calls:
        try:
            task = bare(name, manager)
        except RefusedError as refusal:
            return Finding(name, None, reason=str(refusal))
        except (Exception, SystemExit) as error:
            reason = f"it does not load ({type(error).__name__}: {str(error).splitlines()[0]})"
            if calls:
                reason = f"it fetches something as it is loaded ({calls[0]})"
            return Finding(name, None, reason=reason, settled=False)
        return _classify(name, task)


def _classify(name: str, task: Any) -> Finding:
    shown, reasons = "", Counter[tuple[Stage, str]]()
    for shape in invented.shapes(_kinds(task)):
        docs = [invented.Invented(shape, answer) for answer in range(DOCS)]
        rule = None
        try:
            shown = shown or _shown(task, docs[0])
            # Options in the question would suit open-ended tasks as well: the task's own words
            # have to ask for a choice.
            asks = not shape.inline or _asks_to_choose(task, shape)
            rule = find(task, docs)
        except RefusedError as refusal:
            stage, reason = refusal.stage, str(refusal)
        except (Exception, SystemExit) as error:
            stage, reason = Stage.UNKNOWN, _brief(error)
        if rule is not None:
            if asks:
                return Finding(name, rule, shown, options=_options(task, shape))
            return Finding(name, None, shown, UNLESS, settled=False)
        if shape.inline and stage == Stage.SCORER_FAILS:
            stage, reason = Stage.TEXT, UNLESS
        # UNLESS outweighs any count of other reasons of its stage.
        reasons[stage, reason] += sys.maxsize if reason == UNLESS else 1
        if stage == Stage.JUDGE and reasons[stage, reason] > 1:  # other shapes would take seconds
            break
    # The furthest stage says most: shapes that do not suit a task fail early.
    stage, reason = max(reasons, key=lambda one: (one[0], reasons[one]))
    # Where its functions fail on invented docs, they may still work on real ones.
    settled = stage not in (Stage.UNKNOWN, Stage.SCORER_FAILS) and reason != UNLESS
    return Finding(name, None, shown, reason, settled=settled)


def _brief(error: BaseException) -> str:
    message = str(error).replace(os.environ.get("HF_HOME", "$HF_HOME"), "$HF_HOME").strip()
    first = message.splitlines()[0][:100] if message else ""
    return f"its code fails on invented docs ({type(error).__name__}: {first})"


def bare(name: str, manager: Any) -> Any:
    """Return a task without data.

    Raises:
        RefusedError: it is a Python class of its own, which loads data when it is created.
    """
    from lmms_eval.api.task import ConfigurableMessagesTask, TaskConfig
    from lmms_eval.utils import load_yaml_config

    config = load_yaml_config(manager.task_index[name]["yaml_path"], mode="full")
    if "class" in config:
        raise RefusedError("it is a Python class of its own")
    # Past the constructor, which loads the data; what it sets and methods read is set below.
    task = ConfigurableMessagesTask.__new__(ConfigurableMessagesTask)
    task._config, task.model_name = TaskConfig(**config), None
    task._prepare_model_specific_config()
    task.OUTPUT_TYPE, task.features = task.config.output_type, _AnyField()
    task.multiple_input = task.multiple_target = 0
    if task.config.process_results is None:
        task._prepare_metric_and_aggregation()
    return task


class _AnyField:
    """The columns of a data set that is not there: every name is one."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.isidentifier()


def _kinds(task: Any) -> list[str]:
    """Return possible values of a field for the kind of question: those the code looks for."""
    kinds = list(KINDS)
    for function in (task.config.doc_to_text, task.config.process_results):
        path = getattr(function, "__globals__", {}).get("__file__")
        # Code that branches on a field's value is reached only by a value that it names.
        tree = ast.parse(Path(path).read_text("utf-8")) if path else ast.Module([], [])
        kinds += [
            one.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare | ast.List | ast.Tuple)
            for one in ast.walk(node)
            if isinstance(one, ast.Constant)
            and isinstance(one.value, str)
            and _KIND_WORD.fullmatch(one.value)
        ]
    return list(dict.fromkeys(kinds))[:MOST_KINDS]


def _shown(task: Any, doc: invented.Invented) -> str:
    with _everything_exists(task), cut_off() as calls:
        try:
            return visuals.kind(visuals.of(task, doc))
        except RefusedError as refusal:
            if refusal.stage is not Stage.UNKNOWN:
                raise
        except (Exception, SystemExit):
            return "a fetched file" if calls else ""
    return ""


def _asks_to_choose(task: Any, shape: invented.Shape) -> bool:
    """Return whether the text that the task adds to its questions asks to choose."""
    return speaks_of_options(task.doc_to_text(invented.Invented(replace(shape, inline=False), 0)))


def _options(task: Any, shape: invented.Shape) -> str:
    if task.config.doc_to_choice is not None:
        return "doc_to_choice"
    return "its data" if shape.inline else "its text"


_PATHS = SimpleNamespace(**vars(os.path) | {"exists": lambda path: True})
_FULL_DISK = SimpleNamespace(**vars(os) | {"path": _PATHS})
"""`os`, but that every path exists."""


@contextmanager
def _everything_exists(task: Any) -> Iterator[None]:
    """Let a task find its media files: it makes their paths from an invented doc.

    The task's own file, and the helper of many, get another `os`: the module stays as it is.
    """
    functions = (task.config.doc_to_visual, task.config.doc_to_messages)
    spaces = [one.__globals__ for one in functions if isinstance(one, FunctionType)]
    if _HELPER in sys.modules:
        spaces.append(vars(sys.modules[_HELPER]))
    # Only where `os` is the module: a file may use the name for something else.
    found = [space for space in spaces if space.get("os") is os]
    for space in found:
        space["os"] = _FULL_DISK
    try:
        yield
    finally:
        for space in found:
            space["os"] = os


@contextmanager
def _quiet() -> Iterator[None]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield
