"""`probes report`: one HTML page about finished runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes import report
from probes.cli import flags
from probes.core.errors import ProbesError

_DESCRIPTION = """\
Write a report of finished runs: one HTML file with tables, pictures and all items, which loads
nothing and can be sent to others; its tables as Markdown and CSV, its pictures as PNG and SVG. A
sweep writes its own report, into SWEEP/report.
"""
_EPILOG = """\
examples (the second: difference in differences with frames received as videos and as images):
  probes report results/runs/2025-01-31/12-00-00-000000-tiny-egoworld
  probes report RUN_AS_VIDEO RUN_AS_IMAGE --out both
"""


def main(arguments: Sequence[str]) -> int:
    """Run `probes report` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="a run's folder, a sweep's, or any folder above runs"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default, for one PATH: PATH/report)"
    )
    parser.add_argument(
        "--measure",
        action="append",
        metavar="NAME",
        help="adds a section on the gains, drops and DiD of this measure, e.g. margin; repeatable",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=2.0,
        metavar="POINTS",
        help='the smallest gain that would matter, against which "gains nothing" is tested '
        "(default: 2 points; to be fixed before looking)",
    )
    flags.add_edited(parser)
    flags.add_partial(parser)
    given = parser.parse_args(arguments)
    page = report.write(
        given.path,
        given.out or _default(given.path),
        given.measure or (),
        edited=given.edited,
        partial=given.partial,
        margin=given.margin / 100,
    )
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _default(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise ProbesError(
            "a report of several folders needs a new folder",
            "probes report",
            "name one with --out DIR",
        )
    path = paths[0]
    return (path.parent if path.is_file() else path) / report.FOLDER
