"""`probes power`: how many items a question needs, and what a number of items can resolve."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from probes import stats
from probes.analysis import power_finished, power_plans
from probes.analysis.power_settings import PlanQuestion, PowerTarget, RunQuestion, Simulation
from probes.analysis.published import TABLES
from probes.cli import flags
from probes.core.errors import ProbesError
from probes.core.types import CONTRASTS

DONE = 0
_DESCRIPTION = """\
How many items does it take to find a gain or a difference in differences (DiD), what is the least
effect that a number of items finds, and how likely is it that they find a given effect? For a plan,
for a finished run, or for the study's published figures.
"""
_EPILOG = """\
examples:
  probes power --effect 2,5,10 --discordance 10,20,40      items needed for a gain
  probes power --of did --effect 6 --discordance 20 --correlation 0.2
  probes power --items 500 --discordance 20                least gain that 500 items find
  probes power --items 500 --discordance 20 --effect 4     the chance that they find 4 points
  probes power --items 500 --discordance 20 --cluster-sizes egoschema --icc 0.3 --simulate
  probes power --items 100 --discordance 20 --strata 7     i-RAVEN: one configuration, and all seven
  probes power results/runs/DAY/RUN                        the same, from a finished run
  probes power --published egoschema                       what the study's 500 items can resolve

Effects are percentage points, discordances percent: the share of items on which two answers differ.
"""
_OF_PLANS = (
    *("discordance", "items", "other_discordance", "other_gain"),
    *("correlation", "cluster_sizes", "strata"),
)
"""Options that only a plan takes."""


def main(arguments: Sequence[str]) -> int:
    """Answer one question about power, print the answer and return the exit code.

    Args:
        arguments: what follows `probes power`.

    Raises:
        ProbesError: arguments that have no meaning, alone or together.
    """
    given = parser().parse_args(arguments)
    _check(given)
    print("\n".join(_answer(given)))
    return DONE


def _answer(given: argparse.Namespace) -> list[str]:
    target = PowerTarget(given.power, given.alpha, given.family)
    simulation = Simulation(given.draws, given.seed) if given.simulate else None
    if given.published is not None:
        return power_finished.of_published(given.published, given.icc or 0.0, target)
    asked: dict[str, Any] = {
        "effects": given.effect or (),
        "target": target,
        "simulation": simulation,
    }
    if given.run is not None:
        of_run = {"measure": given.measure, "by_stratum": given.by_stratum, **asked}
        of_run["edited"] = given.edited
        of_run["partial"] = given.partial
        return power_finished.of_run(RunQuestion(given.run, tuple(given.of or ()), **of_run))
    same = "other_discordance other_gain correlation cluster_sizes icc strata".split()
    plan = PlanQuestion(
        names=tuple(given.of or ("gain",)),
        items=given.items or (),
        discordances=given.discordance or (),
        **{name: getattr(given, name) for name in same},
        **asked,
    )
    return power_plans.answer(plan)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="probes power",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
        description=_DESCRIPTION,
    )
    _add_question(parser)
    _add_did(parser.add_argument_group("of a DiD"))
    _add_clusters(parser.add_argument_group("clusters and strata"))
    _add_simulation(parser.add_argument_group("check by simulation"))
    return parser


_HELP = {
    "--measure": "of a RUN: what its contrasts are of, e.g. margin; effects are then in its unit",
    "--effect": "true effect(s), e.g. 6 or 2,5,10 (of a RUN: 2,5,10)",
    "--discordance": "share of items that differ: one or several, e.g. 10,20,40",
    "--items": "items (with --strata: of one stratum)",
    "--power": "chance of finding the effect (default: 0.8)",
    "--alpha": "level of the two-sided test (default: 0.05)",
    "--family": "tests in the family: Holm's first step then asks for alpha / K (default: 1)",
    "--other-discordance": "the other member's, where it is not the image member's",
    "--other-gain": "the other member's true gain (default: 0)",
    "--correlation": "of the two members' gains over items (default: 0)",
    "--cluster-sizes": "items of one recording: 5, or 1x267,2x45 (267 of one item, 45 of two), or "
    "egoschema (its 347 recordings)",
    "--icc": "correlation of the differences of two items of one recording",
    "--strata": "strata of equal size, e.g. i-RAVEN's 7 configurations",
    "--draws": "simulated runs (default: 2000)",
    "--seed": "of the simulation (default: 0)",
}
"""Options that take a value."""


def _add(
    group: argparse._ActionsContainer,
    name: str,
    kind: Callable[[str], Any],
    unit: str,
    usual: Any = None,
) -> None:
    """Add an option that takes a value: its name, type, unit and default."""
    group.add_argument(name, type=kind, metavar=unit, default=usual, help=_HELP[name])


def _add_question(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "run", nargs="?", metavar="RUN", help="folder of a finished run, which has the discordance"
    )
    flags.add_edited(group)
    group.add_argument("--published", choices=TABLES, help="the study's published figures")
    group.add_argument(
        "--of",
        action="append",
        choices=CONTRASTS,
        help="which contrast (default: gain; of a RUN: gain, drop and did; may be repeated there)",
    )
    flags.add_partial(group)
    _add(group, "--measure", str, "NAME", "accuracy")
    _add(group, "--effect", _numbers, "POINTS")
    _add(group, "--discordance", _numbers, "PERCENT")
    _add(group, "--items", _numbers, "N")
    _add(group, "--power", float, "POWER", stats.POWER)
    _add(group, "--alpha", float, "ALPHA", stats.ALPHA)
    _add(group, "--family", int, "K", 1)


def _add_did(group: argparse._ActionsContainer) -> None:
    _add(group, "--other-discordance", float, "PERCENT")
    _add(group, "--other-gain", float, "POINTS")
    _add(group, "--correlation", float, "R")


def _add_clusters(group: argparse._ActionsContainer) -> None:
    _add(group, "--cluster-sizes", str, "SIZES")
    _add(group, "--icc", float, "R")
    _add(group, "--strata", int, "H")
    group.add_argument("--by-stratum", action="store_true", help="of a RUN: a row per stratum too")


def _add_simulation(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--simulate", action="store_true", help="add the power found in simulated runs"
    )
    _add(group, "--draws", int, "DRAWS", 2000)
    _add(group, "--seed", int, "SEED", 0)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or 1,2,3") from None


def _check(given: argparse.Namespace) -> None:
    """Raise ProbesError where the arguments have no meaning, whatever is asked."""
    _check_together(given)
    # A power of alpha is what a test has without any effect: no number of items is asked for.
    if not 0 < given.alpha < given.power < 1:
        raise ProbesError(
            f"alpha {given.alpha:g} and power {given.power:g}",
            "--alpha, --power",
            "both are between 0 and 1, alpha below power",
        )
    for name in ("family", "draws"):
        if getattr(given, name) < 1:
            raise ProbesError(f"{name} {getattr(given, name)}", f"--{name}", "give at least 1")
    if given.seed < 0:
        raise ProbesError(f"a seed of {given.seed}", "--seed", "give a whole number from 0 on")
    for effect in given.effect or ():
        # A DiD is the difference of two gains, which are 100 points at most.
        if not 0 < abs(effect) <= 200:
            raise ProbesError(
                f"an effect of {effect:g} points", "--effect", "6 is six points; it may not be 0"
            )
    for name in ("icc", "correlation"):
        value = getattr(given, name)
        if value is not None and not -1 <= value <= 1:
            raise ProbesError(
                f"a correlation of {value:g}", f"--{name}", "give a number between -1 and 1"
            )


def _check_together(given: argparse.Namespace) -> None:
    """Raise ProbesError for options that do not go together."""
    if given.run is not None and given.published:
        raise ProbesError(
            "a run and published figures are two questions", "--published", "ask one at a time"
        )
    source = "a RUN" if given.run is not None else "--published" if given.published else ""
    of_plans = [*_OF_PLANS, *(("effect", "of") if given.published else ("icc",))]
    # Options of plans have no default, so that None means: not given.
    if extra := [name for name in of_plans if source and getattr(given, name) is not None]:
        option = "--" + extra[0].replace("_", "-")
        raise ProbesError(f"{option} is for plans: {source} settles it", option, "leave it out")
    if given.published and given.simulate:
        raise ProbesError("published figures cannot be simulated", "--simulate", "leave it out")
    if given.edited and given.run is None:
        raise ProbesError("only a run has tables", "--edited", "name a RUN")
    if given.partial and given.run is None:
        raise ProbesError("only a run has shards", "--partial", "name a RUN, or leave it out")
    if given.by_stratum and given.run is None:
        raise ProbesError(
            "only a run has strata of its own", "--by-stratum", "name a RUN, or use --strata H"
        )
    if given.measure != "accuracy" and given.run is None:
        raise ProbesError("only a run's answers can be measured", "--measure", "name a RUN")
