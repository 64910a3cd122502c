"""`probes merge`: join runs of the same settings, such as shards, in one run folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes.analysis.merge_runs import merge
from probes.cli import flags


def main(arguments: Sequence[str]) -> int:
    """Run `probes merge` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes merge",
        description="Join runs of the same settings, such as the shards of a sweep that ran on\n"
        "several machines, in one run folder. `probes report` also takes them unmerged. A merge\n"
        "that was stopped goes on by the same command.",
        epilog="example:\n"
        "  probes merge results/runs/2025-01-31/12-00-00-000000-sweep --out merged",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="a run's folder, a sweep's, or any folder above runs"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the merged run: new, or of a merge to go on with",
    )
    flags.add_partial(parser)
    given = parser.parse_args(arguments)
    done = merge(given.path, given.out, given.partial)
    flags.show_partial(done.partial)
    if done.written:
        print(f"{done.records} records: {given.out}")
    else:
        print(f"{given.out} holds the merge of these runs already: nothing was written")
    return 0
