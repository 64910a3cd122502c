"""Drawing the rules of a component, directly from their exact distribution.

The original draws one rule for each of four slots (Number/Position, Type, Size, Color), uniformly
from the slot's menu, then one of its parameters, and starts again until every rule is feasible.
Slots do not interact, so the accepted sets are distributed as: independent slots, P(rule)
proportional to the share of its parameters that are feasible, the parameter uniform over those.
`distribution` lists these probabilities, and `draw` draws from them.
"""

from __future__ import annotations

import functools
from bisect import bisect
from fractions import Fraction
from itertools import accumulate

from probes.tasks.iraven.problem import Rule, RuleAttribute, RuleName, Rules
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.space import COLOR, SIZE, TYPE, Component

PARAMETERS: dict[RuleName, tuple[int, ...]] = {
    "Progression": (-2, -1, 1, 2),
    "Arithmetic": (1, -1),
    "Distribute_Three": (0,),
    "Constant": (0,),
}

Menu = tuple[tuple[RuleName, RuleAttribute], ...]


def _menu(attribute: RuleAttribute, *names: RuleName) -> Menu:
    return tuple((name, attribute) for name in names)


MENUS: tuple[Menu, Menu, Menu, Menu] = (
    (
        ("Progression", "Number"),
        ("Progression", "Position"),
        ("Arithmetic", "Number"),
        ("Arithmetic", "Position"),
        ("Distribute_Three", "Number"),
        ("Distribute_Three", "Position"),
        ("Constant", "Number/Position"),
    ),
    _menu("Type", "Progression", "Distribute_Three", "Constant"),
    _menu("Size", "Progression", "Arithmetic", "Distribute_Three", "Constant"),
    _menu("Color", "Progression", "Arithmetic", "Distribute_Three", "Constant"),
)
"""The menus of the four rule slots. Number and Position never both have a rule."""

_NONE = range(0)


def first_levels(rule: Rule, component: Component) -> range:
    """Return the levels that the first panel of a row may take under a rule; empty: infeasible.

    They are levels of the rule's attribute, and of Number for every Number/Position rule.
    """
    top = len(component.slots) - 1
    if rule.attribute == "Position":
        return _first_numbers_of_position(rule, top)
    whole = component.numbers
    if rule.attribute in ("Type", "Size", "Color"):
        whole = component.levels({"Type": TYPE, "Size": SIZE, "Color": COLOR}[rule.attribute])
    low, high, step = whole[0], whole[-1], rule.value
    match rule.name, rule.attribute:
        case "Progression", _:
            # Two steps have to stay within the range.
            if step > 0:
                return range(low, high - 2 * step + 1)
            return range(low + 2 * -step, high + 1)
        case "Arithmetic", "Number":
            return range(top) if step > 0 else range(1, top + 1)
        case "Arithmetic", "Size":  # adds as ranks from 1
            return range(low, high - low) if step > 0 else range(2 * low + 1, high + 1)
        case "Arithmetic", "Color":  # adds as levels from 0
            if high - low < 1:
                return _NONE
            return range(low, high - low + 1) if step > 0 else range(2 * low, high + 1)
        case "Distribute_Three", _:
            return whole if len(whole) >= 3 else _NONE
        case _:
            return whole


def _first_numbers_of_position(rule: Rule, top: int) -> range:
    """Return the Number levels of the first panel under a Position rule on top + 1 slots."""
    if rule.name == "Progression":
        return range(top - 2 * abs(rule.value) + 1)
    # To be subtracted from, the first set holds half of the slots or more.
    if rule.name == "Arithmetic":
        return range(top) if rule.value > 0 else range((top + 2) // 2 - 1, top)
    return range(top) if top + 1 >= 3 else _NONE


RuleWeights = tuple[tuple[Rule, Fraction], ...]


@functools.cache
def distribution(component: Component) -> tuple[RuleWeights, ...]:
    """Return the exact probability of every feasible (rule, parameter) of the four slots."""
    return tuple(_weights(menu, component) for menu in MENUS)


def _weights(menu: Menu, component: Component) -> RuleWeights:
    weights = {}
    for name, attribute in menu:
        for value in PARAMETERS[name]:
            rule = Rule(name, attribute, value)
            if first_levels(rule, component):
                # Split over all parameters, the infeasible ones too: the original draws a rule
                # first, and rejects it where its parameter does not fit.
                weights[rule] = Fraction(1, len(PARAMETERS[name]))
    total = sum(weights.values())
    return tuple((rule, weight / total) for rule, weight in weights.items())


@functools.cache
def _ladders(component: Component) -> tuple[tuple[list[Rule], list[float]], ...]:
    """Return per slot the rules and their cumulative probabilities, the last one left out."""
    ladders = []
    for weights in distribution(component):
        sums = [float(total) for total in accumulate(weight for _, weight in weights)]
        # Rounded, the last sum may be below 1, and a number between the two would find no rule.
        ladders.append(([rule for rule, _ in weights], sums[:-1]))
    return tuple(ladders)


def draw(component: Component, rng: RandomStream) -> Rules:
    """Draw a component's four rules."""
    ladders = _ladders(component)
    drawn = [rules[bisect(sums, rng.uniform())] if sums else rules[0] for rules, sums in ladders]
    return tuple(drawn)
