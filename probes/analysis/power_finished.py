"""What a finished run could resolve, and what the study's published figures need to be resolved.

DiD is the difference in differences of two members.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis.columns import BLOCK, groups, rows_of
from probes.analysis.formats import PROPORTION, contrast_name, level, number, unit_name
from probes.analysis.measures import Measure
from probes.analysis.pairing import per_item
from probes.analysis.power import column_for
from probes.analysis.power_settings import PowerTarget, RunQuestion
from probes.core.errors import ProbesError
from probes.core.tables import Table, listing
from probes.records.binding import edited_line


def of_run(question: RunQuestion) -> list[str]:
    """Return the answer for a finished run: one row per contrast, role, arm and frame count."""
    target, simulation = question.target, question.simulation
    measure = per_item(question.measure)
    # Of points there are usual sizes; of nats or other units nobody knows them.
    given = question.effects or ((2.0, 5.0, 10.0) if measure.unit == PROPORTION else ())
    effects = [effect / (100 if measure.unit == PROPORTION else 1) for effect in given]
    planned, lacking = _planned(question, measure, effects)
    head = [
        *("contrast", "role", "arm"),
        *(["stratum"] if question.by_stratum else []),
        *("frames", "n", "clusters", "differ %", "design", "least"),
        *(["simul."] if simulation else []),
        *(f"n for {effect:g}" for effect in given),
    ]
    tables = []
    for block, part in groups(planned, BLOCK):
        which = ", ".join(f"{name} {value}" for name, value in block.items() if value != "")
        title = f"What this run could find with power {target.power:g}: {which}"
        rows = tuple(_row(row, measure, effects, question.by_stratum) for row in rows_of(part))
        tables.append(Table(title, tuple(head), rows, head.index("frames")))
    unit = unit_name(measure.unit)
    notes = [
        *(f"Partial data: {one}." for one in lacking),
        "differ: share of items whose difference is not 0 (the discordance). design: variance of "
        "the mean with clusters over that of independent items. least: the least true effect, in "
        f"{unit}, that this many items find. n for 5: items needed for a true effect of 5 {unit}.",
        f"Two-sided t test, alpha {target.level:g}. The mean square of an item's difference (of a "
        "gain: the discordance), design and sizes of clusters are taken from this run: they are "
        "estimates, and rough ones where items or clusters are few.",
    ]
    if edited := edited_line(planned.attrs["edited"]):
        notes.insert(0, edited)
    if simulation:
        notes.append(
            f"simul.: share of {simulation.draws} runs made of this run's clusters (seed "
            f"{simulation.seed}) in which the least effect was found."
        )
    return listing(tables, notes, 120)


def _planned(
    question: RunQuestion, measure: Measure, effects: list[float]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the run's contrasts with what `analysis.planning` adds, and what the run lacks."""
    target, simulation = question.target, question.simulation
    names = question.names or ("gain", "drop", "did")
    frame = analysis.load(question.run, edited=question.edited, partial=question.partial)
    found = analysis.contrasts(
        frame,
        names=names,
        measure=measure,
        policies=measure.policies[:1],
        by_stratum=question.by_stratum,
    )
    if found.empty:
        raise ProbesError(
            f"the run holds no {' or '.join(names)}",
            str(question.run),
            "it needs an arm and its reference; a DiD also needs both members",
        )
    planned = analysis.planning(
        found, measure=measure, power_wanted=target.power, alpha=target.level, effects=effects
    )
    if simulation:
        planned["simulated"] = analysis.simulated(
            planned,
            frame,
            measure=measure,
            alpha=target.level,
            draws=simulation.draws,
            seed=simulation.seed,
        )
    planned.attrs["edited"] = frame.attrs.get("edited", [])
    return planned, frame.attrs.get("partial", [])


def _row(
    row: dict[str, Any], measure: Measure, effects: list[float], by_stratum: bool
) -> tuple[str, ...]:
    return (
        *(contrast_name(row["name"]), row["role"], row["arm"]),
        *([row["stratum"] or "(all)"] if by_stratum else []),
        *(str(row[name]) for name in ("frames", "n", "clusters")),
        number(100 * row["discordance"]),
        number(row["design_effect"], 2),
        level(measure.unit)(row["minimum_effect"]),
        *([number(row["simulated"], 2)] if "simulated" in row else []),
        *(number(row[column_for(effect, measure.unit)], 0) for effect in effects),
    )


def of_published(task: str, icc: float, target: PowerTarget) -> list[str]:
    """Return what the discordance would have to be for the published differences to be resolved.

    Args:
        task: `egoschema` or `iraven`.
        icc: correlation of the differences of two items of one recording.
        target: what is asked of the test.
    """
    if icc and task != "egoschema":
        raise ProbesError("i-RAVEN's problems have no recordings", "--icc", "leave it out")
    resolved = analysis.resolved(task, power_wanted=target.power, alpha=target.level, icc=icc)
    rows = []
    for one in resolved:
        limits = (one.least, one.independent, one.significant_below, one.found_below)
        texts = (number(100 * value) for value in limits)
        # Adding 0.0 turns -0.0 into 0.0.
        estimate = f"{100 * one.estimate + 0.0:+.1f}"
        rows.append((one.family, contrast_name(one.name), one.what, str(one.n), estimate, *texts))
    limits_head = ("least", "indep.", f"p < {target.level:g}", f"power {target.power:g}")
    head = ("family", "contrast", "of", "n", "points", *limits_head)
    title = f"{task}: below which discordance (%) the published differences are resolved"
    notes = [
        "least: the least discordance that the two accuracies allow. indep.: the discordance if "
        "two answers to an item were independent. The true one, unpublished, is hardly outside.",
        f"p < {target.level:g}: the published difference reaches this if the discordance was below "
        f"this. power {target.power:g}: a true difference of this size is found that often "
        "if it is below this. -: never. Of a DiD (difference in differences): mean of the members' "
        "discordances, gains uncorrelated (if they correlate by r, the limits rise by about 1 / (1 "
        "- r)).",
    ]
    if task == "egoschema":
        notes.append(
            f"EgoSchema's 347 recordings with icc {icc:g}."
            if icc
            else "Items are taken as independent; --icc R allows for EgoSchema's 347 recordings."
        )
    return listing([Table(title, head, tuple(rows), 3)], notes, 120)
