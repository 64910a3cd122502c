"""`probes power`: how many items a question needs, and what a number of items can resolve."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.core.errors import ProbesError

if TYPE_CHECKING:
    from probes.analysis.power_settings import (
        PlanQuestion,
        PowerTarget,
        PublishedQuestion,
        RunQuestion,
        Simulation,
    )

DONE = 0
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


def main(arguments: Sequence[str]) -> int:
    """Answer one question about power, print the answer and return the exit code.

    Args:
        arguments: what follows `probes power`.

    Raises:
        ProbesError: arguments that have no meaning, alone or together.
    """
    given = parser().parse_args(arguments)
    _check(given)
    if given.run is not None or given.published is not None:
        from probes.analysis import power_finished

        lines = (
            power_finished.of_run(_run_question(given))
            if given.run is not None
            else power_finished.of_published(_published_question(given))
        )
    else:
        from probes.analysis import power_plans

        lines = power_plans.answer(_plan_question(given))
    print("\n".join(lines))
    return DONE


def _run_question(given: argparse.Namespace) -> RunQuestion:
    from probes.analysis.power_settings import EFFECTS_OF_A_RUN, NAMES_OF_A_RUN, RunQuestion

    return RunQuestion(
        given.run,
        names=tuple(given.of or NAMES_OF_A_RUN),
        effects=given.effect or EFFECTS_OF_A_RUN,
        by_stratum=given.by_stratum,
        target=_target(given),
        simulation=_simulation(given),
    )


def _published_question(given: argparse.Namespace) -> PublishedQuestion:
    from probes.analysis.power_settings import PublishedQuestion

    return PublishedQuestion(given.published, given.icc or 0.0, _target(given))


def _plan_question(given: argparse.Namespace) -> PlanQuestion:
    from probes.analysis.power_settings import PlanQuestion

    return PlanQuestion(
        names=tuple(given.of or ("gain",)),
        effects=given.effect or (),
        items=given.items or (),
        discordances=given.discordance or (),
        other_discordance=given.other_discordance,
        other_gain=given.other_gain,
        correlation=given.correlation,
        cluster_sizes=given.cluster_sizes,
        icc=given.icc,
        strata=given.strata,
        target=_target(given),
        simulation=_simulation(given),
    )


def _target(given: argparse.Namespace) -> PowerTarget:
    from probes.analysis.power_settings import PowerTarget

    return PowerTarget(given.power, given.alpha, given.family)


def _simulation(given: argparse.Namespace) -> Simulation | None:
    from probes.analysis.power_settings import Simulation

    return Simulation(given.draws, given.seed) if given.simulate else None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="probes power", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EPILOG,
        description="How many items does it take to find a gain or a did, what is the least effect "
        "that a number\nof items finds, and how likely do they find a given one? For a plan, for a "
        "finished run, or for\nthe study's published figures.",
    )  # fmt: skip
    add = found.add_argument
    add("run", nargs="?", metavar="RUN", help="folder of a finished run: it tells the discordance")
    add("--published", choices=("egoschema", "iraven"), help="the study's published figures")
    add(
        "--of",
        action="append",
        choices=("gain", "drop", "transfer", "did"),
        help="which contrast (default: gain; of a RUN: gain, drop and did; may be repeated there)",
    )
    add(
        "--effect",
        type=_numbers,
        metavar="POINTS",
        help="true effect(s), e.g. 6 or 2,5,10 (of a RUN: 2,5,10)",
    )
    add(
        "--discordance",
        type=_numbers,
        metavar="PERCENT",
        help="share of items that differ: one or several, e.g. 10,20,40",
    )
    add("--items", type=_numbers, metavar="N", help="items (with --strata: of one stratum)")
    add("--power", type=float, default=0.8, help="chance of finding the effect (default: 0.8)")
    add("--alpha", type=float, default=0.05, help="level of the two-sided test (default: 0.05)")
    add(
        "--family",
        type=int,
        default=1,
        metavar="K",
        help="tests in the family: Holm's first step then asks for alpha / K (default: 1)",
    )
    add = found.add_argument_group("of a did").add_argument
    add(
        "--other-discordance",
        type=float,
        metavar="PERCENT",
        help="the other member's, where it is not the image member's",
    )
    add(
        "--other-gain",
        type=float,
        metavar="POINTS",
        help="the other member's true gain (default: 0)",
    )
    add(
        "--correlation",
        type=float,
        metavar="R",
        help="of the two members' gains over items (default: 0)",
    )
    add = found.add_argument_group("clusters and strata").add_argument
    add(
        "--cluster-sizes",
        metavar="SIZES",
        help="items of one recording: 5, or 1x267,2x45 (267 of one item, 45 of two), or egoschema "
        "(its 347 recordings)",
    )
    add(
        "--icc",
        type=float,
        metavar="R",
        help="correlation of the differences of two items of one recording",
    )
    add(
        "--strata",
        type=int,
        metavar="H",
        help="strata of equal size, e.g. i-RAVEN's 7 configurations",
    )
    add("--by-stratum", action="store_true", help="of a RUN: a row per stratum too")
    add = found.add_argument_group("check by simulation").add_argument
    add("--simulate", action="store_true", help="add the power found in simulated runs")
    add("--draws", type=int, default=2000, help="simulated runs (default: 2000)")
    add("--seed", type=int, default=0, help="of the simulation (default: 0)")
    return found  # fmt: skip


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or 1,2,3") from None


def _check(given: argparse.Namespace) -> None:
    """Raise ProbesError where the arguments have no meaning, whatever is asked."""
    if given.run is not None and given.published:
        raise ProbesError(
            "a run and published figures are two questions", "--published", "ask one at a time"
        )
    source = "a RUN" if given.run is not None else "--published" if given.published else ""
    power_plans = ["discordance", "items", "other_discordance", "other_gain", "correlation",
             "cluster_sizes", "strata"]  # fmt: skip
    power_plans += ["effect", "of"] if given.published else ["icc"]
    if extra := [name for name in power_plans if source and getattr(given, name) is not None]:
        option = "--" + extra[0].replace("_", "-")
        raise ProbesError(f"{option} is for plans: {source} settles it", option, "leave it out")
    if given.published and given.simulate:
        raise ProbesError("published figures cannot be simulated", "--simulate", "leave it out")
    if given.by_stratum and given.run is None:
        raise ProbesError(
            "only a run has strata of its own", "--by-stratum", "name a RUN, or use --strata H"
        )
    if not 0 < given.alpha < given.power < 1:
        raise ProbesError(
            f"alpha {given.alpha:g} and power {given.power:g}", "--alpha, --power",
            "both lie between 0 and 1, alpha below power",
        )  # fmt: skip
    for name in ("family", "draws"):
        if getattr(given, name) < 1:
            raise ProbesError(f"{name} {getattr(given, name)}", f"--{name}", "give at least 1")
    if given.seed < 0:
        raise ProbesError(f"a seed of {given.seed}", "--seed", "give a whole number from 0 on")
    for effect in given.effect or ():
        if not 0 < abs(effect) <= 200:
            raise ProbesError(
                f"an effect of {effect:g} points", "--effect", "6 is six points; it may not be 0"
            )
    for name in ("icc", "correlation"):
        value = getattr(given, name)
        if value is not None and not -1 <= value <= 1:
            raise ProbesError(
                f"a correlation of {value:g}", f"--{name}", "it lies between -1 and 1"
            )
