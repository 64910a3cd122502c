"""`probes train tiny`: train the embedded pair and its control."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run `probes train tiny` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes train tiny",
        description="Train the embedded image member, video member and control from scratch. "
        "If it is interrupted, the same command goes on from the last checkpoint.",
        epilog="example: probes train tiny my_pair seed=2 stages.image.steps=4000",
    )
    parser.add_argument("out", type=Path, help="folder for the members")
    parser.add_argument("overrides", nargs="*", help="setting=value for conf/train/tiny.yaml")
    given = parser.parse_args(arguments)
    from probes.tasks.egoworld.pair import train

    train.train(given.out, train.read_config(given.overrides))
    return 0
