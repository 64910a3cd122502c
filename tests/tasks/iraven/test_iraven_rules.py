from collections.abc import Sequence
from fractions import Fraction

import pytest
from iraven_checks import LEVEL, p_value

from probes.tasks.iraven import rules
from probes.tasks.iraven.problem import Rule
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.rules import MENUS, distribution, draw, first_levels
from probes.tasks.iraven.space import CONFIGURATIONS, Component

SINGLE = CONFIGURATIONS["center_single"].components[0]
FOUR = CONFIGURATIONS["distribute_four"].components[0]
NINE = CONFIGURATIONS["distribute_nine"].components[0]
OUT, IN_SINGLE = CONFIGURATIONS["in_center_single_out_center_single"].components
IN_FOUR = CONFIGURATIONS["in_distribute_four_out_center_single"].components[1]

# Rule probabilities as published, by rule and slot; parameters are even among the feasible ones.
ALONE = {("Constant", "Number/Position"): (1, (0,))}
ON_FOUR = {
    ("Progression", "Number"): (Fraction(1, 12), (-1, 1)),
    ("Progression", "Position"): (Fraction(1, 12), (-1, 1)),
    ("Arithmetic", "Number"): (Fraction(1, 6), (1, -1)),
    ("Arithmetic", "Position"): (Fraction(1, 6), (1, -1)),
    ("Distribute_Three", "Number"): (Fraction(1, 6), (0,)),
    ("Distribute_Three", "Position"): (Fraction(1, 6), (0,)),
    ("Constant", "Number/Position"): (Fraction(1, 6), (0,)),
}
STEPS = (-2, -1, 1, 2)
ON_NINE = {
    rule: (Fraction(1, 7), STEPS if rule[0] == "Progression" else values)
    for rule, (_, values) in ON_FOUR.items()
}
TYPE = {
    ("Progression", "Type"): (Fraction(1, 3), STEPS),
    ("Distribute_Three", "Type"): (Fraction(1, 3), (0,)),
    ("Constant", "Type"): (Fraction(1, 3), (0,)),
}


def quarter(attribute: str) -> dict:
    return {
        ("Progression", attribute): (Fraction(1, 4), STEPS),
        ("Arithmetic", attribute): (Fraction(1, 4), (1, -1)),
        ("Distribute_Three", attribute): (Fraction(1, 4), (0,)),
        ("Constant", attribute): (Fraction(1, 4), (0,)),
    }


OUT_SIZE = {
    ("Progression", "Size"): (Fraction(1, 5), (-1, 1)),
    ("Distribute_Three", "Size"): (Fraction(2, 5), (0,)),
    ("Constant", "Size"): (Fraction(2, 5), (0,)),
}
IN_SIZE = {
    ("Progression", "Size"): (Fraction(1, 7), (-1, 1)),
    ("Arithmetic", "Size"): (Fraction(2, 7), (1, -1)),
    ("Distribute_Three", "Size"): (Fraction(2, 7), (0,)),
    ("Constant", "Size"): (Fraction(2, 7), (0,)),
}
NO_COLOR = {("Constant", "Color"): (1, (0,))}
TABLE = {
    "single": (SINGLE, ALONE, TYPE, quarter("Size"), quarter("Color")),
    "in single": (IN_SINGLE, ALONE, TYPE, quarter("Size"), quarter("Color")),
    "out": (OUT, ALONE, TYPE, OUT_SIZE, NO_COLOR),
    "four": (FOUR, ON_FOUR, TYPE, quarter("Size"), quarter("Color")),
    "nine": (NINE, ON_NINE, TYPE, quarter("Size"), quarter("Color")),
    "in four": (IN_FOUR, ON_FOUR, TYPE, IN_SIZE, quarter("Color")),
}


def law(shares: dict) -> dict[Rule, Fraction]:
    return {
        Rule(*rule, value): Fraction(share) / len(values)
        for rule, (share, values) in shares.items()
        for value in values
    }


def frequencies(component: Component, tables: Sequence[dict], n: int = 3000) -> float:
    """Return the smallest p-value of drawn rules under the published law, over the four slots."""
    rng = RandomStream(5)
    sets = [draw(component, rng) for _ in range(n)]
    return min(
        p_value((four[slot] for four in sets), law(table)) for slot, table in enumerate(tables)
    )


@pytest.mark.parametrize("name", TABLE)
def test_distribution_is_the_published_one_exactly(name):
    component, *tables = TABLE[name]
    for weights, table in zip(distribution(component), tables, strict=True):
        assert dict(weights) == law(table)


@pytest.mark.parametrize("name", TABLE)
def test_drawn_rules_follow_it(name):
    component, *tables = TABLE[name]
    assert frequencies(component, tables) > LEVEL


def test_a_draw_that_ignores_feasible_shares_is_found_out(monkeypatch):
    def rule_first(menu, component):
        """Choose among feasible rules evenly, whatever the share of their parameters."""
        names = {}
        for name, attribute in menu:
            values = [
                value
                for value in rules.PARAMETERS[name]
                if first_levels(Rule(name, attribute, value), component)
            ]
            if values:
                names[name, attribute] = values
        return tuple(
            (Rule(*name, value), Fraction(1, len(names) * len(values)))
            for name, values in names.items()
            for value in values
        )

    monkeypatch.setattr(rules, "_weights", rule_first)
    rules.distribution.cache_clear()
    rules._ladders.cache_clear()
    try:
        component, *tables = TABLE["four"]
        assert frequencies(component, tables) < LEVEL
        component, *tables = TABLE["in four"]
        assert frequencies(component, tables) < LEVEL
    finally:
        rules.distribution.cache_clear()
        rules._ladders.cache_clear()


@pytest.mark.parametrize(
    ("component", "rule", "levels"),
    [
        (NINE, Rule("Progression", "Number", 2), range(5)),
        (NINE, Rule("Progression", "Number", -1), range(2, 9)),
        (FOUR, Rule("Progression", "Number", 1), range(2)),
        (FOUR, Rule("Progression", "Number", 2), range(0)),
        (NINE, Rule("Progression", "Position", -2), range(5)),
        (FOUR, Rule("Progression", "Position", 1), range(2)),
        (NINE, Rule("Arithmetic", "Number", 1), range(8)),
        (NINE, Rule("Arithmetic", "Number", -1), range(1, 9)),
        (FOUR, Rule("Arithmetic", "Position", 1), range(3)),
        (FOUR, Rule("Arithmetic", "Position", -1), range(1, 3)),
        (NINE, Rule("Arithmetic", "Position", -1), range(4, 8)),
        (FOUR, Rule("Distribute_Three", "Position"), range(3)),
        (FOUR, Rule("Distribute_Three", "Number"), range(4)),
        (SINGLE, Rule("Distribute_Three", "Number"), range(0)),
        (SINGLE, Rule("Arithmetic", "Position", -1), range(0)),
        (SINGLE, Rule("Arithmetic", "Size", 1), range(5)),
        (SINGLE, Rule("Arithmetic", "Size", -1), range(1, 6)),
        (IN_FOUR, Rule("Arithmetic", "Size", 1), range(2, 3)),
        (IN_FOUR, Rule("Arithmetic", "Size", -1), range(5, 6)),
        (OUT, Rule("Arithmetic", "Size", 1), range(0)),
        (OUT, Rule("Arithmetic", "Size", -1), range(0)),
        (OUT, Rule("Progression", "Size", -1), range(5, 6)),
        (OUT, Rule("Arithmetic", "Color", 1), range(0)),
        (SINGLE, Rule("Arithmetic", "Color", -1), range(10)),
        (SINGLE, Rule("Progression", "Type", 2), range(1, 2)),
        (SINGLE, Rule("Progression", "Type", -2), range(5, 6)),
        (SINGLE, Rule("Progression", "Color", -2), range(4, 10)),
        (SINGLE, Rule("Constant", "Type"), range(1, 6)),
    ],
)
def test_first_panel_levels(component, rule, levels):
    assert list(first_levels(rule, component)) == list(levels)


def test_menus_have_seven_three_four_four_rules():
    assert [len(menu) for menu in MENUS] == [7, 3, 4, 4]
