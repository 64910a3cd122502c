"""The `probes` command: a table of subcommands, each a thin door to a module that does the work."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from probes.provenance import atomic_write, machine_error
from probes.redaction import redact
from probes.signals import exit_code, said, terminable
from probes.types import ProbesError

DONE, USAGE, CLOSED = 0, 2, 141

HELP = """\
usage: probes COMMAND ...

What does a model do between the frames? Matched pairs of multimodal LLMs, an image model and its
video-finetuned twin, answer multiple-choice questions under several arms.

Commands (each explains itself with --help):
{commands}

Examples:
  probes run experiment=demo
  probes run -m frames=5,10 scoring=letter,cloze limit=100
  probes data egoworld /tmp/world --videos 500 --seed 7

Exit codes: 0 done, 1 the run finished but items failed (or a check failed), 2 wrong usage or a
machine that refuses, 130 interrupted and 143 terminated (the same command goes on from there).
"""


class Command(NamedTuple):
    """One subcommand."""

    words: tuple[str, ...]
    """What is typed after `probes`."""
    summary: str
    main: Callable[[Sequence[str]], int]
    """Takes the remaining arguments, returns the exit code."""


def run(arguments: Sequence[str]) -> int:
    """Run a pair on a task; see `probes run --help`."""
    from probes import launch

    return launch.main(arguments)


def tasks_lmms(arguments: Sequence[str]) -> int:
    """List lmms-eval's tasks; see `probes tasks lmms --help`."""
    from tasks.lmms import listing

    return listing.main(arguments)


def data_egoworld(arguments: Sequence[str]) -> int:
    """Make clips and questions of the small world."""
    from probes.progress import on_terminal
    from tasks.egoworld import generate

    parser = argparse.ArgumentParser(
        prog="probes data egoworld",
        description="Make first-person clips of the small world, with questions, in EgoSchema's "
        "layout. The same arguments make the same data; all scenarios are of the evaluation split.",
        epilog="example: probes data egoworld world --videos 500 --seed 7 && "
        "probes run task=egoschema task.root=world scoring=cloze",
    )
    parser.add_argument("dir", type=Path, help="folder for the data: new, empty, or begun before")
    parser.add_argument("--videos", type=int, required=True, help="clips, one question each")
    parser.add_argument("--seed", type=int, required=True, help="of everything that is drawn")
    parser.add_argument(
        "--height", type=int, default=128, help="pixels, even (default: %(default)s)"
    )
    parser.add_argument("--width", type=int, help="pixels, even (default: as --height)")
    parser.add_argument(
        "--fps", type=float, default=4.0, help="frames a second (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=18.0, help="length of a clip (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    settings = {name: value for name, value in vars(given).items() if name != "dir"}
    _claim_folder(given.dir, settings)
    if not (given.dir / "questions.json").exists():  # written last: the folder is not complete
        with on_terminal().phase("clips", given.videos) as phase:
            generate.make(
                given.dir, given.videos, given.seed, given.height, given.fps, given.seconds,
                phase.report, width=given.width,
            )  # fmt: skip
    print(f"{given.videos} clips with questions: {given.dir}")
    return DONE


def data_iraven(arguments: Sequence[str]) -> int:
    """Make i-RAVEN problems."""
    from probes.progress import on_terminal
    from tasks.iraven import generate

    parser = argparse.ArgumentParser(
        prog="probes data iraven",
        description="Make i-RAVEN problems, DIR/<configuration>/RAVEN_<k>_<split>.npz and .xml. A "
        "problem depends on the seed, its configuration and k only; files that exist are kept.",
        epilog="example: probes data iraven problems --per-config 100 --seed 0",
    )
    parser.add_argument("dir", type=Path, help="folder for the problems")
    parser.add_argument("--per-config", type=int, required=True, help="problems per configuration")
    parser.add_argument("--seed", type=int, required=True, help="of everything that is drawn")
    parser.add_argument(
        "--configs", help="configurations, separated by commas (default: all seven)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--no-twins", action="store_true",
        help="draw problems again that have a distractor which looks exactly like the answer",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    with on_terminal().phase("problems") as phase:
        written = generate.make(
            given.dir, given.per_config, given.seed,
            given.configs.split(",") if given.configs else None,
            given.workers, not given.no_twins, phase.report,
        )  # fmt: skip
    print(f"{written} problems written: {given.dir}")
    return DONE


def _claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in a new folder what it is going to hold; refuse one that holds something else."""
    note = folder / "egoworld.json"
    if folder.exists() and (not folder.is_dir() or any(path != note for path in folder.iterdir())):
        try:
            held = json.loads(note.read_bytes())
        except (OSError, ValueError):
            raise ProbesError(
                "the folder is not empty", str(folder), "name a new or an empty one"
            ) from None
        if held != settings:
            fix = "name another folder, or repeat the settings that it was made with"
            raise ProbesError(f"the folder holds other data ({held})", str(folder), fix)
    atomic_write(note, (json.dumps(settings, indent=1) + "\n").encode())


def train_tiny(arguments: Sequence[str]) -> int:
    """Train the embedded pair; see `probes train tiny --help`."""
    from tasks.egoworld.pair import train

    return train.main(arguments)


def plan(arguments: Sequence[str]) -> int:
    """Say what a configuration means before a run; see `probes plan --help`."""
    from probes import launch
    from probes.planning import command

    launch.quiet()
    return command.main(arguments, launch.compose)


def power(arguments: Sequence[str]) -> int:
    """Say how many items a question needs; see `probes power --help`."""
    from probes import power

    return power.main(arguments)


def check(arguments: Sequence[str]) -> int:
    """Hold a run against a baseline; see `probes check --help`."""
    from probes.regress import command

    return command.main(arguments)


def compare_published(arguments: Sequence[str]) -> int:
    """Set a run beside the study's tables; see `probes compare-published --help`."""
    from probes import published

    return published.main(arguments)


def merge(arguments: Sequence[str]) -> int:
    """Write several runs of one setting as one; see `probes merge --help`."""
    from probes import merging

    return merging.main(arguments)


def report(arguments: Sequence[str]) -> int:
    """Write a report of finished runs; see `probes report --help`."""
    from probes.report import command

    return command.main(arguments)


COMMANDS = (
    Command(("run",), "put a task to a pair under the arms of a suite", run),
    Command(("merge",), "runs of one setting, such as shards, as one run folder", merge),
    Command(("report",), "one HTML file with tables, pictures and all items of runs", report),
    Command(("plan",), "what a run would ask, cost and show, before it is started", plan),
    Command(("power",), "how many items a gain or a did needs, or what a run could find", power),
    Command(("check",), "hold a run against a baseline, exactly or within bands", check),
    Command(("compare-published",), "set a run beside the study's tables", compare_published),
    Command(("tasks", "lmms"), "which of lmms-eval's tasks can be run, and why not", tasks_lmms),
    Command(("data", "egoworld"), "make clips and questions of the small world", data_egoworld),
    Command(("data", "iraven"), "make i-RAVEN problems", data_iraven),
    Command(("train", "tiny"), "train the embedded pair from scratch", train_tiny),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: what follows `probes`; the process's own by default.
    """
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output (head, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED


def _main(words: Sequence[str]) -> int:
    if words == ["--version"]:
        print(f"probes {_version()}")
        return DONE
    for command in COMMANDS:
        size = len(command.words)
        if tuple(words[:size]) == command.words:
            return _guarded(command, words[size:])
    if not words or words[0] in ("-h", "--help") or words[-1] in ("-h", "--help"):
        print(_help())
        return DONE if words else USAGE
    print(_unknown(words), file=sys.stderr)
    return USAGE


def _guarded(command: Command, arguments: Sequence[str]) -> int:
    try:
        with terminable():
            return command.main(arguments)
    except ProbesError as error:
        print(redact(str(error)), file=sys.stderr)
        return USAGE
    except OSError as error:
        if (refusal := machine_error(error)) is None:
            raise
        print(redact(str(refusal)), file=sys.stderr)
        return USAGE
    except SystemExit as stop:  # argparse has said what is wrong
        return stop.code if isinstance(stop.code, int) else USAGE if stop.code else DONE
    except KeyboardInterrupt as stop:
        line = redact(shlex.join(["probes", *command.words, *arguments]))
        print(f"\n{said(stop)}; to go on:\n  {line}", file=sys.stderr)
        return exit_code(stop)


def _version() -> str:
    try:
        return metadata.version("interframe-probes")
    except metadata.PackageNotFoundError:
        return "(not installed)"


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
    near = difflib.get_close_matches(given, names, 1)
    fix = f"did you mean `probes {near[0]}`?" if near else f"commands are {', '.join(names)};"
    return ProbesError(f"there is no command {given!r}", "probes", f"{fix} see `probes --help`")
