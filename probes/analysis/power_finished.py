"""What a finished run could resolve, and what the study's published figures need to be resolved."""

from __future__ import annotations

import argparse
from typing import Any

from probes import analysis
from probes.analysis import power_text
from probes.analysis.power import column_for
from probes.core.errors import ProbesError

EFFECTS = (2.0, 5.0, 10.0)
"""Percentage points that a run is asked about unless the user says which."""
_BLOCK = ("task", "setting", "pair", "scoring", "seed")


def of_run(given: argparse.Namespace) -> list[str]:
    """Return the answer for a finished run: one row per contrast, role, arm and frame count."""
    frame = analysis.load(given.run)
    names = given.of or ["gain", "drop", "did"]
    effects = [one / 100 for one in given.effect or EFFECTS]
    alpha = given.alpha / given.family
    found = analysis.contrasts(frame, names=names, policies=["strict"], by_stratum=given.by_stratum)
    if found.empty:
        raise ProbesError(
            f"the run holds no {' or '.join(names)}", str(given.run),
            "it needs an arm and its reference; a did also needs both members",
        )  # fmt: skip
    planned = analysis.planning(found, power_wanted=given.power, alpha=alpha, effects=effects)
    if given.simulate:
        planned["simulated"] = analysis.simulated(
            planned, frame, alpha=alpha, draws=given.draws, seed=given.seed
        )
    head = ["contrast", "role", "arm", *(["stratum"] if given.by_stratum else []), "frames", "n",
            "clusters", "differ %", "design", "least", *(["simul."] if given.simulate else []),
            *(f"n for {100 * one:g}" for one in effects)]  # fmt: skip
    tables = []
    for values, part in planned.groupby(list(_BLOCK), sort=False):
        named = zip(_BLOCK, values, strict=True)
        where = ", ".join(f"{name} {value}" for name, value in named if value != "")
        tables.append(analysis.Table(
            f"What this run could find with power {given.power:g}: {where}", tuple(head),
            tuple(_row(row, effects, given.by_stratum) for row in part.to_dict("records")),
            head.index("frames"),
        ))  # fmt: skip
    notes = [
        "differ: share of items whose difference is not 0 (the discordance). design: variance of "
        "the mean with clusters over that of independent items. least: the least true effect, in "
        "points, that this many items find. n for 5: items needed for a true effect of 5 points.",
        f"Two-sided t test, alpha {alpha:g}. The mean square of an item's difference (of a gain: "
        "the discordance), design and sizes of clusters are taken as this run has them: estimates, "
        "and rough ones where items or clusters are few.",
    ]
    if given.simulate:
        notes.append(
            f"simul.: share of {given.draws} runs made of this run's clusters (seed {given.seed}) "
            "in which the least effect was found."
        )
    return list(power_text.lines(tables, notes))


def _row(row: dict[Any, Any], effects: list[float], by_stratum: bool) -> tuple[str, ...]:
    stratum = [row["stratum"] or "(all)"] if by_stratum else []
    simulated = [power_text.number(row["simulated"], 2)] if "simulated" in row else []
    return (
        row["name"], row["role"], row["arm"], *stratum, str(row["frames"]), str(row["n"]),
        str(row["clusters"]), power_text.number(100 * row["discordance"]),
        power_text.number(row["design_effect"], 2), power_text.number(100 * row["minimum_effect"]),
        *simulated,
        *(power_text.number(row[column_for(one)], 0) for one in effects),
    )  # fmt: skip


def of_published(given: argparse.Namespace) -> list[str]:
    """Return what the discordance would have to be for the published differences to be resolved."""
    alpha = given.alpha / given.family
    icc = given.icc or 0.0
    if icc and given.published != "egoschema":
        raise ProbesError("i-RAVEN's problems have no recordings", "--icc", "leave it out")
    rows = tuple(
        (one.family, one.name, one.what, str(one.n), f"{100 * one.estimate + 0.0:+.1f}",
         *(power_text.number(100 * value)
           for value in (one.least, one.independent, one.significant_below, one.found_below)))
        for one in analysis.resolved(
            given.published, power_wanted=given.power, alpha=alpha, icc=icc
        )
    )  # fmt: skip
    head = ("family", "contrast", "of", "n", "points", "least", "indep.", f"p < {alpha:g}",
            f"power {given.power:g}")  # fmt: skip
    title = f"{given.published}: below which discordance (%) the published differences are resolved"
    notes = [
        "least: what the two accuracies make the discordance at least. indep.: what it would be if "
        "two answers to an item had nothing in common. The true one, unpublished, hardly lies "
        "outside.",
        f"p < {alpha:g}: the published difference is significant if the discordance was below "
        f"this. power {given.power:g}: a true difference of this size is found that often if it is "
        "below this. -: never. Of a did: mean of the members' discordances, gains uncorrelated "
        "(if they correlate by r, the limits rise by about 1 / (1 - r)).",
    ]
    if given.published == "egoschema":
        notes.append(
            f"EgoSchema's 347 recordings with icc {icc:g}." if icc
            else "Items are taken as independent; --icc R allows for EgoSchema's 347 recordings."
        )  # fmt: skip
    return list(power_text.lines([analysis.Table(title, head, rows, 3)], notes))
