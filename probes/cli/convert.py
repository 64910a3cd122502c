"""`probes convert`: a checkpoint in its authors' layout as one that transformers' classes read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes.core.progress import on_terminal
from probes.models.hf.convert import LAYOUTS, convert


def main(arguments: Sequence[str]) -> int:
    """Run `probes convert` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes convert",
        description="Write a checkpoint that is in its authors' own layout as one that\n"
        "transformers' classes read; no weight changes. Layouts: "
        + ", ".join(layout.name for layout in LAYOUTS),
        epilog="example:\n"
        "  hf download byminji/LLaVA-NeXT-7B-Video-FT --local-dir source\n"
        "  probes convert source LLaVA-NeXT-7B-Video-FT",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="folder of the checkpoint")
    parser.add_argument("target", type=Path, help="new folder")
    given = parser.parse_args(arguments)
    with on_terminal().phase("weights") as phase:
        layout = convert(given.source, given.target, phase.report)
    print(f"{layout}: {given.target}")
    return 0
