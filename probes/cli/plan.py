"""`probes plan`: counts, costs, and what members will see, before a run is started."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from probes.cli.plan_preview import preview
from probes.cli.plan_report import measured, report
from probes.config import compose
from probes.core.errors import ProbesError
from probes.core.progress import on_terminal
from probes.core.tables import listing
from probes.engine import costs
from probes.engine.dry_run import DryRun, dry_run

_DESCRIPTION = """\
Print what a configuration means before a GPU is spent on it: items, frames and prompts (and how
many of these are answered in the store already), tokens, arithmetic, memory and time of every
member. Takes the overrides of `probes run`. Processors are loaded, weights are not. Media are
decoded and made data are made, as in a run, which then finds them.
"""
_EPILOG = """\
examples:
  probes plan experiment=demo
  probes plan pair=llava_next_7b task=egoschema task.root=/data/egoschema --device A100
  probes plan pair.image.repo=/models/a pair.video.repo=/models/b --dry-run 1
  probes plan experiment=demo backend.device=cpu --measure
"""


def main(arguments: Sequence[str]) -> int:
    """Run `probes plan` with these arguments and return the exit code.

    Raises:
        ProbesError: a configuration or a number that makes no sense.
    """
    compose.quiet()
    # The overrides are taken out first: in `--dry-run pair=tiny` they are not the number of items.
    overrides = [a for a in arguments if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    given = parser().parse_args([a for a in arguments if a not in overrides])
    for name, value in (("--dry-run", given.dry_run), ("--measure", given.measure)):
        if value is not None and value < 1:
            raise ProbesError(f"{value} is too small", name, "give at least 1")
    folder = [f"--config-dir={given.config_dir}"] if given.config_dir else []
    cfg = compose.compose([*overrides, *folder])
    if given.dry_run is not None:
        # A smaller limit of the configuration holds.
        few = min(given.dry_run, cfg.limit or given.dry_run)
        with dry_run(replace(cfg, limit=few), on_terminal()) as planned:
            print("\n".join(preview(planned)))
            return _refused(planned)
    with dry_run(cfg, on_terminal(), keep=given.measure or 0) as planned:
        print("\n".join(report(planned, given.device)))
        if given.measure:
            print("\n".join(listing([measured(planned)])).rstrip())
        return _refused(planned)


def _refused(planned: DryRun) -> int:
    """Print why a run would be refused, and return the exit code."""
    for line in planned.refused:
        print(f"\nA run would be refused: {line}", file=sys.stderr)
    return 2 if planned.refused else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options; overrides are not among them."""
    parser = argparse.ArgumentParser(
        prog="probes plan",
        usage="probes plan [--dry-run [N]] [--measure [N]] [--device NAME] [--config-dir DIR]"
        " [group=option ...] [setting=value ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run",
        nargs="?",
        type=int,
        const=2,
        metavar="N",
        help="print exactly what each member will see in each arm, for N items (default: 2)",
    )
    parser.add_argument(
        "--measure",
        nargs="?",
        type=int,
        const=16,
        metavar="N",
        help="load each model, time N of its prompts of each kind (default: 16) on backend.device,"
        " and estimate the time of all from that; nothing is stored",
    )
    parser.add_argument(
        "--device",
        choices=sorted(costs.DEVICES),
        metavar="NAME",
        help=f"estimate for one of {', '.join(costs.DEVICES)} (default: all of them)",
    )
    parser.add_argument("--config-dir", metavar="DIR", help="as for `probes run`")
    return parser
