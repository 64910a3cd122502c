"""Solving a problem from what its panels show, knowing the generator but not its choices.

For every component, the solver weighs all rules by their prior probability and by how likely they
make the eight context panels with a candidate as the ninth, and takes the candidate with the
greatest total. It sees slots and Type, Size and Color levels: no rule, no Uniformity, no Angle, no
order of entities, and nothing about how distractors are made.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from probes.tasks.iraven import rules as drawing
from probes.tasks.iraven.likelihood import (
    PanelRow,
    Seen,
    kept_likelihood,
    levels_likelihood,
    see,
    slots_likelihood,
    triple,
)
from probes.tasks.iraven.problem import Panel, Rule
from probes.tasks.iraven.space import COLOR, SIZE, TYPE, Component, Configuration

_RULED = (TYPE, SIZE, COLOR)
_P_UNIFORM = 0.25


@dataclass(frozen=True, slots=True)
class Solution:
    """The solver's answer to a problem."""

    choice: int
    """Index of the most probable candidate, 0..7; the first of equals."""
    posterior: tuple[float, ...]
    """Probability of each candidate; all 0 where no candidate completes the context."""

    @property
    def explained(self) -> bool:
        """Whether some candidate completes the context under some rules."""
        return any(self.posterior)


def solve(
    configuration: Configuration, context: Sequence[Panel], candidates: Sequence[Panel]
) -> Solution:
    """Choose one of the candidates.

    Args:
        configuration: which of the seven.
        context: eight panels, in reading order.
        candidates: panels to choose from.
    """
    # Components are made independently, so that their likelihoods multiply.
    scores = [1.0] * len(candidates)
    for index, component in enumerate(configuration.components):
        given = [see(panel[index]) for panel in context]
        belief = Belief(component, given[:3], given[3:6])
        known: dict[Seen, float] = {}
        for place, candidate in enumerate(candidates):
            seen = see(candidate[index])
            # Many candidates show the same of a component: only some changed it.
            if seen not in known:
                known[seen] = belief.likelihood([*given[6:], seen])
            scores[place] *= known[seen]
    total = sum(scores)
    posterior = tuple(score / total if total else 0.0 for score in scores)
    return Solution(scores.index(max(scores)), posterior)


class Belief:
    """The rules of one component that the first two rows leave possible.

    Given the slot rule and whether the component is uniform, the three attributes are independent
    up to one thing: which of them are Constant, because those are carried together. So the
    hypotheses are (slot rule, uniform or not, set of constant attributes); the rules of the other
    attributes are summed over on their own.
    """

    def __init__(self, component: Component, first: PanelRow, second: PanelRow) -> None:
        self._component = component
        self._rows = (first, second)
        weights = drawing.distribution(component)
        self._ruled = [self._alive(weights[1 + attribute], attribute) for attribute in _RULED]
        constant = [
            float(next((p for rule, p in weights[1 + a] if rule.name == "Constant"), 0))
            for a in _RULED
        ]
        self._hypotheses: list[tuple[float, Rule, bool, tuple[int, ...]]] = []
        for rule, prior in weights[0]:
            # Row by row: the likelihood of a later row takes it for granted that those before fit.
            placed = float(prior) * slots_likelihood(component, rule, [first])
            placed = placed and placed * slots_likelihood(component, rule, [first, second])
            if not placed:
                continue
            for uniform, kept in itertools.product((True, False), _subsets()):
                weight = placed * (_P_UNIFORM if uniform else 1 - _P_UNIFORM)
                weight *= prod([constant[attribute] for attribute in kept])
                if (
                    weight
                    and all(self._ruled[a] for a in _RULED if a not in kept)
                    and kept_likelihood(component, rule, uniform, kept, self._rows)
                ):
                    self._hypotheses.append((weight, rule, uniform, kept))

    def _alive(self, weights: drawing.RuleWeights, attribute: int) -> list[tuple[float, Rule]]:
        """Return the rules other than Constant that fit an attribute in the first two rows."""
        first, second = (triple(row, attribute) for row in self._rows)
        if None in first or None in second:
            return []
        alive = []
        for rule, prior in weights:
            if rule.name != "Constant":
                weight = float(prior) * levels_likelihood(self._component, attribute, rule, [first])
                weight = weight and weight * levels_likelihood(
                    self._component, attribute, rule, [first, second]
                )
                if weight:
                    alive.append((weight, rule))
        return alive

    def likelihood(self, third: PanelRow) -> float:
        """Return the likelihood of all three rows under all rules."""
        rows = (*self._rows, third)
        ruled = [self._ruled_likelihood(attribute, rows) for attribute in _RULED]
        placed = functools.cache(lambda rule: slots_likelihood(self._component, rule, rows))
        total = 0.0
        for weight, rule, uniform, kept in self._hypotheses:
            weight *= prod([ruled[attribute] for attribute in _RULED if attribute not in kept])
            weight = weight and weight * placed(rule)
            total += weight and weight * kept_likelihood(self._component, rule, uniform, kept, rows)
        return total

    def _ruled_likelihood(self, attribute: int, rows: Sequence[PanelRow]) -> float:
        if not self._ruled[attribute]:
            return 0.0
        triples = [triple(row, attribute) for row in rows]
        if None in triples[2]:
            return 0.0
        return sum(
            weight * levels_likelihood(self._component, attribute, rule, triples)
            for weight, rule in self._ruled[attribute]
        )


@functools.cache
def _subsets() -> list[tuple[int, ...]]:
    return [kept for n in range(4) for kept in itertools.combinations(_RULED, n)]
