"""What a finished run could resolve, and what the study's published figures need to be resolved.

DiD is the difference in differences of two members.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from probes import analysis
from probes.analysis import power_text
from probes.analysis.cells import BLOCK, rows_of
from probes.analysis.power import column_for
from probes.analysis.power_settings import PublishedQuestion, RunQuestion
from probes.core.errors import ProbesError


def of_run(question: RunQuestion) -> list[str]:
    """Return the answer for a finished run: one row per contrast, role, arm and frame count."""
    planned = _planned(question)
    target, simulation = question.target, question.simulation
    effects = _effects(question)
    head = [
        "contrast", "role", "arm", *(["stratum"] if question.by_stratum else []), "frames", "n",
        "clusters", "differ %", "design", "least", *(["simul."] if simulation else []),
        *(f"n for {100 * effect:g}" for effect in effects),
    ]  # fmt: skip
    tables = []
    for values, part in planned.groupby(list(BLOCK), sort=False):
        named = zip(BLOCK, values, strict=True)
        where = ", ".join(f"{name} {value}" for name, value in named if value != "")
        title = f"What this run could find with power {target.power:g}: {where}"
        rows = tuple(_row(row, effects, question.by_stratum) for row in rows_of(part))
        tables.append(analysis.Table(title, tuple(head), rows, head.index("frames")))
    notes = [
        "differ: share of items whose difference is not 0 (the discordance). design: variance of "
        "the mean with clusters over that of independent items. least: the least true effect, in "
        "points, that this many items find. n for 5: items needed for a true effect of 5 points.",
        f"Two-sided t test, alpha {target.level:g}. The mean square of an item's difference (of a "
        "gain: the discordance), design and sizes of clusters are taken from this run: they are "
        "estimates, and rough ones where items or clusters are few.",
    ]
    if simulation:
        notes.append(
            f"simul.: share of {simulation.draws} runs made of this run's clusters (seed "
            f"{simulation.seed}) in which the least effect was found."
        )
    return list(power_text.lines(tables, notes))


def _planned(question: RunQuestion) -> pd.DataFrame:
    """Return the run's contrasts with what `analysis.planning` adds to them."""
    target, simulation, names = question.target, question.simulation, question.names
    frame = analysis.load(question.run)
    found = analysis.contrasts(
        frame, names=names, policies=["strict"], by_stratum=question.by_stratum
    )
    if found.empty:
        raise ProbesError(
            f"the run holds no {' or '.join(names)}",
            str(question.run),
            "it needs an arm and its reference; a DiD also needs both members",
        )
    planned = analysis.planning(
        found, power_wanted=target.power, alpha=target.level, effects=_effects(question)
    )
    if simulation:
        planned["simulated"] = analysis.simulated(
            planned, frame, alpha=target.level, draws=simulation.draws, seed=simulation.seed
        )
    return planned


def _effects(question: RunQuestion) -> list[float]:
    """Return the effects as proportions."""
    return [points / 100 for points in question.effects]


def _row(row: dict[str, Any], effects: list[float], by_stratum: bool) -> tuple[str, ...]:
    stratum = [row["stratum"] or "(all)"] if by_stratum else []
    simulated = [power_text.number(row["simulated"], 2)] if "simulated" in row else []
    return (
        row["name"], row["role"], row["arm"], *stratum, str(row["frames"]), str(row["n"]),
        str(row["clusters"]), power_text.number(100 * row["discordance"]),
        power_text.number(row["design_effect"], 2), power_text.number(100 * row["minimum_effect"]),
        *simulated,
        *(power_text.number(row[column_for(effect)], 0) for effect in effects),
    )  # fmt: skip


def of_published(question: PublishedQuestion) -> list[str]:
    """Return what the discordance would have to be for the published differences to be resolved."""
    task, icc, target = question.task, question.icc, question.target
    if icc and task != "egoschema":
        raise ProbesError("i-RAVEN's problems have no recordings", "--icc", "leave it out")
    resolved = analysis.resolved(task, power_wanted=target.power, alpha=target.level, icc=icc)
    rows = []
    for one in resolved:
        limits = (one.least, one.independent, one.significant_below, one.found_below)
        texts = (power_text.number(100 * value) for value in limits)
        estimate = f"{100 * one.estimate + 0.0:+.1f}"
        rows.append((one.family, one.name, one.what, str(one.n), estimate, *texts))
    head = ("family", "contrast", "of", "n", "points", "least", "indep.",
            f"p < {target.level:g}", f"power {target.power:g}")  # fmt: skip
    title = f"{task}: below which discordance (%) the published differences are resolved"
    notes = [
        "least: the least discordance that the two accuracies allow. indep.: the discordance if "
        "two answers to an item were independent. The true one, unpublished, is hardly outside.",
        f"p < {target.level:g}: the published difference is significant if the discordance was "
        f"below this. power {target.power:g}: a true difference of this size is found that often "
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
    return list(power_text.lines([analysis.Table(title, head, tuple(rows), 3)], notes))
