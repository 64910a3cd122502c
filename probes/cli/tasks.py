"""`probes tasks`: where the task definitions lie, and which tasks of lmms-eval can be run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes.config.paths import task_definitions


def main(arguments: Sequence[str]) -> int:
    """Run `probes tasks`; see `probes tasks --help`."""
    if arguments[:1] == ["lmms"]:
        return lmms(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="probes tasks",
        description="Print the folder of the task definitions, for lmms-eval's --include_path; "
        "`probes tasks lmms` says which of lmms-eval's own tasks can be run, and why not.",
        epilog="example: python -m lmms_eval --tasks iraven --include_path $(probes tasks --path)",
    )
    parser.add_argument("--path", action="store_true", required=True, help="print the folder")
    parser.add_argument(
        "command", nargs="?", choices=["lmms"], help="see `probes tasks lmms --help`"
    )
    parser.parse_args(arguments)
    print(task_definitions())
    return 0


def lmms(arguments: Sequence[str]) -> int:
    """List tasks, or compare a run's scores with the task's own; see `probes tasks lmms --help`.

    Raises:
        ProbesError: no such task, or no such run.
    """
    parser = argparse.ArgumentParser(
        prog="probes tasks lmms",
        description="Say which of lmms-eval's multiple-choice tasks this harness takes, which not "
        "and why, and whose own scorer credits nonsense. No data is read and nothing is fetched.",
        epilog="example: probes tasks lmms nextqa_mc_test videomme; "
        "probes run task=lmms task.name=videomme",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="tasks (default: the families)")
    parser.add_argument("--include-path", metavar="DIR", help="look for YAML files there instead")
    parser.add_argument("--markdown", action="store_true", help="print a page, not lines")
    parser.add_argument(
        "--run", type=Path, metavar="RUN",
        help="instead: the accuracies of a finished run of task=lmms, and what the task's own "
        "scorer makes of the same answers",
    )  # fmt: skip
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
