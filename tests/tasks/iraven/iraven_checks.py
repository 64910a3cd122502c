"""Statistics that a correct generator passes and a wrong one does not; shared by the tests.

Seeds are fixed, so a check passes always or never. A p-value below `LEVEL` fails: with fresh seeds,
one of the suite's about three hundred checks would fail for a correct generator in 1 run of 30.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction

import numpy as np
from scipy import stats

from probes.tasks.iraven import generate
from probes.tasks.iraven.problem import Panel, Problem

LEVEL = 1e-4
GRIDS = ("distribute_four", "distribute_nine", "in_distribute_four_out_center_single")


def p_value(seen: Iterable[Hashable], law: Mapping[Hashable, float | Fraction]) -> float:
    """Return the chi-square p-value of draws under a law; 0 for a draw that cannot be.

    Outcomes expected fewer than five times are taken together.
    """
    counts = Counter(seen)
    if any(not law.get(outcome) for outcome in counts):
        return 0.0
    total, whole = sum(counts.values()), sum(law.values())
    observed, expected, rare = [], [], [0.0, 0.0]
    for outcome, weight in law.items():
        due = float(weight / whole) * total
        if due < 5:
            rare = [rare[0] + counts[outcome], rare[1] + due]
        else:
            observed.append(counts[outcome])
            expected.append(due)
    if rare[1]:
        observed.append(rare[0])
        expected.append(rare[1])
    if len(observed) < 2:
        return 1.0
    return float(stats.chisquare(observed, expected).pvalue)


def even(outcomes: Iterable[Hashable]) -> dict[Hashable, float]:
    """Return the law under which all outcomes are equally likely."""
    return dict.fromkeys(outcomes, 1.0)


def same_shares(ours: Iterable[int], shares: Iterable[float], n: int) -> float:
    """Return the p-value of our counts and published shares of n draws having one source."""
    table = np.array([list(ours), [share * n for share in shares]])
    table = table[:, table.sum(axis=0) > 0]
    return float(stats.chi2_contingency(table).pvalue)


def problems(configuration: str, n: int, seed: int = 11) -> list[Problem]:
    """Make problems as the generator does, without drawing."""
    return [generate.problem(seed, configuration, k) for k in range(n)]


def mode(problem: Problem) -> str:
    """Name the construction of a problem's candidates."""
    names = {(index, name) for changes in problem.modified for index, name in changes}
    attributes = [name for _, name in names]
    if len(names) == 3:
        if "Number" not in attributes:
            return "3 no Number"
        return "3 Number+Position" if "Position" in attributes else "3 Number"
    if len(names) == 2:
        return "2 Number+Position" if "Position" in attributes else "2 Number+X"
    return "1 Number"


def features(panel: Panel) -> list[Hashable]:
    """Return what can be counted among candidates: five attributes per component."""
    found: list[Hashable] = []
    for index, entities in enumerate(panel):
        order = np.argsort(entities.slots)
        found += [
            (index, "Number", len(entities.slots)),
            (index, "Position", tuple(sorted(entities.slots))),
            *(
                (index, attribute, tuple(entities.values[attribute][i] for i in order))
                for attribute in range(3)
            ),
        ]
    return found


def majority_credit(problem: Problem) -> float:
    """Return the chance of picking the answer by its attribute values being the most frequent."""
    seen = [features(panel) for panel in problem.candidates]
    counts = Counter(feature for panel in seen for feature in panel)
    scores = [sum(counts[feature] for feature in panel) for panel in seen]
    best = [index for index, score in enumerate(scores) if score == max(scores)]
    return (problem.target in best) / len(best)


def majority_z(made: Iterable[Problem]) -> float:
    """Return how many standard errors context-blind majority choice is off 12.5 %."""
    credits = [majority_credit(problem) for problem in made]
    return float((np.mean(credits) - 1 / 8) / np.sqrt(1 / 8 * 7 / 8 / len(credits)))
