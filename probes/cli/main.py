"""The `probes` command: a table of subcommands, each a module of `probes.cli`."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import probes
from probes.core.errors import ProbesError, machine_error
from probes.core.logs import to_screen
from probes.core.signals import exit_code, stop_reason, terminable
from probes.core.text import nearest

_log = logging.getLogger(__name__)
# CLOSED is 128 + SIGPIPE: what a shell reports of a command whose reader has left.
DONE, USAGE, CLOSED = 0, 2, 141

HELP = """\
usage: probes COMMAND ...

What does a model do between the frames? Matched pairs of multimodal LLMs, an image model and its
video-finetuned version, answer multiple-choice questions under several arms.

Commands (each explains itself with --help):
{commands}

Examples:
  probes run experiment=demo
  probes run -m frames=5,10 scoring=letter,cloze limit=100
  probes data egoworld /tmp/world --videos 500 --seed 7

Exit codes: 0 done, 1 the run finished but records failed (or a check failed), 2 wrong usage, or the
machine failed (disk, access), 130 interrupted and 143 terminated (the same command goes on from
there).
"""


class Command(NamedTuple):
    """One subcommand."""

    words: tuple[str, ...]
    """What is typed after `probes`."""
    summary: str
    entry: str
    """`module:function` that takes the remaining arguments and returns the exit code; it is
    imported when the command is chosen."""

    def main(self, arguments: Sequence[str]) -> int:
        """Run the subcommand."""
        module, _, function = self.entry.partition(":")
        code: int = getattr(import_module(f"probes.cli.{module}"), function)(arguments)
        return code


COMMANDS = (
    Command(("run",), "ask a pair the items of a task under the arms of a suite", "run:main"),
    Command(("merge",), "join runs of the same settings, e.g. shards, in one folder", "merge:main"),
    Command(("report",), "one HTML page with tables, figures and all items of runs", "report:main"),
    Command(("plan",), "what a run would ask, cost and show, before it is started", "plan:main"),
    Command(("doctor",), "whether a pair's members can be compared", "doctor:main"),
    Command(
        ("power",),
        "items that a gain or difference in differences needs, or what a run could find",
        "power:main",
    ),
    Command(("check",), "compare a run with a baseline, exactly or within bands", "check:main"),
    Command(("compare-published",), "a run next to the study's tables", "compare_published:main"),
    # The first that fits is taken: two words come before the one that they begin with.
    Command(("tasks", "lmms"), "which of lmms-eval's tasks can be run, and why not", "tasks:lmms"),
    Command(("tasks",), "--path prints the folder of the task definitions", "tasks:main"),
    Command(
        ("models",), "which model classes can be run, how, and which are checked", "models:main"
    ),
    Command(
        ("plugins",), "what installed packages add, and what of it cannot be loaded", "plugins:main"
    ),
    Command(("data", "egoworld"), "make clips and questions of the small world", "data:egoworld"),
    Command(("data", "iraven"), "make i-RAVEN problems", "data:iraven"),
    Command(("convert",), "a checkpoint in its authors' layout for transformers", "convert:main"),
    Command(("train", "tiny"), "train the embedded pair from scratch", "train:main"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: what follows `probes`; the process's own by default.
    """
    to_screen()
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments))
        # While it can be caught: at exit Python would report a closed pipe by itself.
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of the output, e.g. head, has closed it
        # Python writes what is left once more as it ends: to nowhere, or it would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED


def _main(words: Sequence[str]) -> int:
    if words == ["--version"]:
        print(f"probes {probes.__version__}")
        return DONE
    for command in COMMANDS:
        size = len(command.words)
        if tuple(words[:size]) == command.words:
            return _guarded(command, words[size:])
    if not words or words[0] in ("-h", "--help") or words[-1] in ("-h", "--help"):
        print(_help())
        return DONE if words else USAGE
    _log.error("%s", _unknown(words))
    return USAGE


def _guarded(command: Command, arguments: Sequence[str]) -> int:
    try:
        # SIGTERM as an interrupt: blocks are left in order, and the command to go on is printed.
        with terminable():
            return command.main(arguments)
    except ProbesError as error:
        _log.error("%s", error)
        return USAGE
    except OSError as error:
        # Anything else is a fault of the program, and shows its traceback.
        if (refusal := machine_error(error)) is None:
            raise
        _log.error("%s", refusal)
        return USAGE
    except SystemExit as stop:  # argparse has printed what is wrong
        return stop.code if isinstance(stop.code, int) else USAGE if stop.code else DONE
    except KeyboardInterrupt as stop:
        line = shlex.join(["probes", *command.words, *arguments])
        _log.error("\n%s; to go on:\n  %s", stop_reason(stop), line)
        return exit_code(stop)


def _help() -> str:
    rows = [(" ".join(command.words), command.summary) for command in COMMANDS]
    rows.append(("--version", "print the version"))
    width = max(len(words) for words, _ in rows) + 2
    lines = [f"  {words:<{width}}{summary}" for words, summary in rows]
    return HELP.format(commands="\n".join(lines)).rstrip()


def _unknown(words: Sequence[str]) -> ProbesError:
    names = [" ".join(command.words) for command in COMMANDS]
    first = {command.words[0] for command in COMMANDS}
    given = " ".join(words[: 2 if words[0] in first else 1])
    begun = [name for name in names if name.startswith(f"{given} ")]
    fix = f"use one of {', '.join(begun)}" if begun else nearest(given, names)
    what = f"there is no command {given!r}"
    return ProbesError(what, "probes", f"{fix} (`probes --help` explains them)")
