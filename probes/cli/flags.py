"""Options that several commands share."""

from __future__ import annotations

import argparse

EDITED = "read tables that are not those that the run wrote, as they are; the output says so"


def add_edited(parser: argparse._ActionsContainer) -> None:
    """Add `--edited`."""
    parser.add_argument("--edited", action="store_true", help=EDITED)
