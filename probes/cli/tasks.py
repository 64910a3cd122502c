"""`probes tasks`: tasks that can be run, the folder of their definitions, those of lmms-eval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes.config.paths import conf_dir, task_definitions
from probes.config.tasks import TASKS
from probes.core.errors import ProbesError


def main(arguments: Sequence[str]) -> int:
    """Run `probes tasks` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes tasks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="List the tasks of `probes run task=NAME`, built in and installed.\n"
        "`probes tasks lmms` lists which of lmms-eval's own tasks can be run.",
        epilog="example: python -m lmms_eval --tasks iraven --include_path $(probes tasks --path)",
    )
    parser.add_argument(
        "--path",
        action="store_true",
        help="print the folder of the task definitions, for lmms-eval's --include_path",
    )
    if parser.parse_args(arguments).path:
        print(task_definitions())
        return 0
    rows = {path.stem: _first_comment(path) for path in (conf_dir() / "task").glob("*.yaml")}
    for name, entry in TASKS.entries().items():
        if entry.distribution:
            # A file of the same name goes first, as where Hydra looks for it (`schema.register`).
            rows.setdefault(name, _meaning(name) + f"installed by {entry.distribution}")
    width = max(map(len, rows)) + 2
    print("\n".join(f"{name:<{width}}{rows[name]}" for name in sorted(rows)))
    return 0


def _meaning(name: str) -> str:
    try:
        meaning = TASKS.get(name, f"task={name}").meaning
    except ProbesError:  # `probes plugins` says why
        return ""
    return f"{meaning}; " if meaning else ""


def _first_comment(path: Path) -> str:
    # Every file in conf/task begins with what it is: a second list would go out of date.
    return path.read_text("utf-8").splitlines()[0].removeprefix("# ")


def lmms(arguments: Sequence[str]) -> int:
    """Run `probes tasks lmms` with these arguments and return the exit code.

    Raises:
        ProbesError: no such task, or no such run.
    """
    parser = argparse.ArgumentParser(
        prog="probes tasks lmms",
        description="List which of lmms-eval's multiple-choice tasks this harness can run, why not "
        "the others, and which scorers credit nonsense. No data is read, nothing is fetched.",
        epilog="example: probes tasks lmms nextqa_mc_test videomme; "
        "probes run task=lmms task.name=videomme",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="tasks (default: the families)")
    parser.add_argument("--include-path", metavar="DIR", help="look for YAML files there instead")
    parser.add_argument("--markdown", action="store_true", help="print a page, not lines")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        help="instead: the accuracies of a finished run of task=lmms, and those of the task's own "
        "scorer for the same answers",
    )
    given = parser.parse_args(arguments)
    from probes.tasks.lmms_eval import listing

    if given.run is not None:
        print("\n".join(listing.scores(given.run)))
        return 0
    findings = listing.classified(given.names, given.include_path)
    if given.markdown:
        print(listing.page(findings))
    else:
        print("\n".join(listing.lines(listing.COLUMNS, listing.rows(findings))))
    return 0
