"""`--partial`: commands that go on although shards of a run are missing, and say so."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from probes.core.tables import wrapped


def add(parser: argparse._ActionsContainer) -> None:
    """Add the flag to a command that reads runs."""
    parser.add_argument(
        "--partial",
        action="store_true",
        help="go on although shards of a run are missing; the output says which",
    )


def show(lacking: Sequence[str]) -> None:
    """Print what is missing, if something is."""
    for one in lacking:
        print("\n".join(wrapped(f"partial: {one}", indent="    ")))
