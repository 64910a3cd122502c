"""Options that several commands share: to go on with runs that are not as they should be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from probes.core.tables import wrapped

EDITED = "read tables that are not those that the run wrote, as they are; the output says so"
PARTIAL = "go on although shards of a run are missing; the output says which"


def add_edited(parser: argparse._ActionsContainer) -> None:
    """Add `--edited`."""
    parser.add_argument("--edited", action="store_true", help=EDITED)


def add_partial(parser: argparse._ActionsContainer) -> None:
    """Add `--partial`."""
    parser.add_argument("--partial", action="store_true", help=PARTIAL)


def show_partial(lacking: Sequence[str]) -> None:
    """Print what is missing of runs, if something is."""
    for one in lacking:
        print("\n".join(wrapped(f"partial: {one}", indent="    ")))
