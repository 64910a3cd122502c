"""`probes tasks`: the folder of the task definitions, and the tasks of lmms-eval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes.config.paths import task_definitions


def main(arguments: Sequence[str]) -> int:
    """Run `probes tasks` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes tasks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print the folder of the task definitions, for lmms-eval's --include_path.\n"
        "`probes tasks lmms` lists which of lmms-eval's own tasks can be run.",
        epilog="example: python -m lmms_eval --tasks iraven --include_path $(probes tasks --path)",
    )
    parser.add_argument("--path", action="store_true", required=True, help="print the folder")
    parser.parse_args(arguments)
    print(task_definitions())
    return 0


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
