import itertools
from collections import Counter, defaultdict
from fractions import Fraction
from math import comb

import pytest
from iraven_checks import GRIDS, LEVEL, even, p_value, problems

from probes.tasks.iraven import rows
from probes.tasks.iraven.problem import Rule
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.rows import level_rows, slot_rows
from probes.tasks.iraven.space import ANGLE, COLOR, CONFIGURATIONS, SIZE, TYPE

SINGLE = CONFIGURATIONS["center_single"].components[0]
FOUR = CONFIGURATIONS["distribute_four"].components[0]
NINE = CONFIGURATIONS["distribute_nine"].components[0]
OUT = CONFIGURATIONS["in_center_single_out_center_single"].components[0]
IN_FOUR = CONFIGURATIONS["in_distribute_four_out_center_single"].components[1]


# --- slots ----------------------------------------------------------------------------------------


def drawn_rows(component, rule, n=1500):
    rng = RandomStream(3)
    return [row for _ in range(n) for row in slot_rows(component, rule, rng)]


def numbers(row):
    return tuple(len(slots) - 1 for slots in row)


def subsets(slots, counts):
    return [frozenset(chosen) for n in counts for chosen in itertools.combinations(range(slots), n)]


NUMBER_LAWS = {
    Rule("Progression", "Number", 1): even((x, x + 1, x + 2) for x in range(7)),
    Rule("Progression", "Number", -2): even((x, x - 2, x - 4) for x in range(4, 9)),
    Rule("Arithmetic", "Number", 1): {
        (a, b, a + b + 1): Fraction(1, 8 - a) for a in range(8) for b in range(8 - a)
    },
    Rule("Arithmetic", "Number", -1): {
        (a, b, a - b - 1): Fraction(1, a) for a in range(1, 9) for b in range(a)
    },
    Rule("Constant", "Number/Position"): even((x, x, x) for x in range(9)),
    Rule("Progression", "Position", 2): even((x, x, x) for x in range(5)),
    Rule("Progression", "Position", -1): even((x, x, x) for x in range(7)),
}


@pytest.mark.parametrize("rule", NUMBER_LAWS, ids=str)
def test_numbers_of_a_row_on_nine_slots(rule):
    assert p_value(map(numbers, drawn_rows(NINE, rule)), NUMBER_LAWS[rule]) > LEVEL


@pytest.mark.parametrize("rule", NUMBER_LAWS, ids=str)
def test_slots_are_even_whatever_the_count(rule):
    for column in range(3):
        slots = [slot for row in drawn_rows(NINE, rule) for slot in row[column]]
        # A sample without replacement varies less than independent draws: p leans towards 1.
        assert p_value(slots, even(range(9))) > LEVEL


@pytest.mark.parametrize("value", [-2, -1, 1, 2])
def test_position_progression_moves_every_entity(value):
    for first, second, third in drawn_rows(NINE, Rule("Progression", "Position", value), 100):
        assert second == tuple((slot + value) % 9 for slot in first)
        assert third == tuple((slot + 2 * value) % 9 for slot in first)


def position_arithmetic_law(sign):
    """First: even Number, then even set; second the same until it is not trivial."""
    counts = (1, 2, 3) if sign > 0 else (2, 3)
    weight = {chosen: Fraction(1, comb(4, len(chosen))) for chosen in subsets(4, counts)}
    law = {}
    for first, p in weight.items():
        allowed = {
            second: q
            for second, q in weight.items()
            if not (second <= first if sign > 0 else first <= second)
        }
        for second, q in allowed.items():
            third = first | second if sign > 0 else first - second
            law[first, second, third] = p * q / sum(allowed.values())
    return law


@pytest.mark.parametrize("sign", [1, -1])
def test_position_arithmetic_on_four_slots(sign):
    rows_ = drawn_rows(FOUR, Rule("Arithmetic", "Position", sign), 3000)
    sets = [tuple(map(frozenset, row)) for row in rows_]
    assert p_value(sets, position_arithmetic_law(sign)) > LEVEL
    assert all(len(slots) == len(set(slots)) > 0 for row in rows_ for slots in row)


def test_one_redraw_instead_of_many_is_found_out(monkeypatch):
    def once(component, rule, rng):
        first = rows._place(component, rng.below(3), rng)
        while True:  # only the set is redrawn, not the number
            number = rng.below(3)
            for _ in range(40):
                second = rows._place(component, number, rng)
                if not set(second) <= set(first):
                    return first, second, tuple({*first, *second})

    monkeypatch.setattr(rows, "_position_arithmetic", once)
    sets = [tuple(map(frozenset, r)) for r in drawn_rows(FOUR, Rule("Arithmetic", "Position", 1))]
    assert p_value(sets, position_arithmetic_law(1)) < LEVEL


def turned_both_ways(triple):
    a, b, c = triple
    return (b, c, a), (c, a, b)


def test_distribute_three_numbers():
    rule, rng = Rule("Distribute_Three", "Number"), RandomStream(8)
    draws = [tuple(map(numbers, slot_rows(NINE, rule, rng))) for _ in range(6000)]
    law = {
        (first, *order): 1.0
        for first in itertools.permutations(range(9), 3)
        for order in itertools.permutations(turned_both_ways(first))
    }
    assert p_value(draws, law) > LEVEL


def test_distribute_three_positions_recur_in_list_order():
    rule, rng = Rule("Distribute_Three", "Position"), RandomStream(8)
    firsts, turns = [], []
    for _ in range(6000):
        first, second, third = slot_rows(FOUR, rule, rng)
        assert sorted(first) == sorted(second) == sorted(third)
        assert {second, third} == set(turned_both_ways(first))
        firsts.append(tuple(map(frozenset, first)))
        turns.append(second == (first[1], first[2], first[0]))
    law = {
        triple: 1 / (comb(4, n) * (comb(4, n) - 1) * (comb(4, n) - 2))
        for n in (1, 2, 3)
        for triple in itertools.permutations(subsets(4, (n,)), 3)
    }
    assert p_value(firsts, law) > LEVEL
    assert p_value(turns, even([False, True])) > LEVEL


# --- levels ---------------------------------------------------------------------------------------


def drawn_levels(component, attribute, rule, n=3000):
    rng = RandomStream(4)
    return [tuple(level_rows(component, attribute, rule, rng)) for _ in range(n)]


LEVEL_LAWS = {
    "type +2": (SINGLE, TYPE, Rule("Progression", "Type", 2), {(1, 3, 5): 1.0}),
    "type -1": (
        SINGLE,
        TYPE,
        Rule("Progression", "Type", -1),
        even((x, x - 1, x - 2) for x in (3, 4, 5)),
    ),
    "color -2": (
        SINGLE,
        COLOR,
        Rule("Progression", "Color", -2),
        even((x, x - 2, x - 4) for x in range(4, 10)),
    ),
    "out size +1": (OUT, SIZE, Rule("Progression", "Size", 1), {(3, 4, 5): 1.0}),
    "out size -1": (OUT, SIZE, Rule("Progression", "Size", -1), {(5, 4, 3): 1.0}),
    "size +": (
        SINGLE,
        SIZE,
        Rule("Arithmetic", "Size", 1),
        {(a, b, a + b + 1): 1 / (5 - a) for a in range(5) for b in range(5 - a)},
    ),
    "size -": (
        SINGLE,
        SIZE,
        Rule("Arithmetic", "Size", -1),
        {(a, b, a - b - 1): 1 / a for a in range(1, 6) for b in range(a)},
    ),
    "in size +": (IN_FOUR, SIZE, Rule("Arithmetic", "Size", 1), {(2, 2, 5): 1.0}),
    "in size -": (IN_FOUR, SIZE, Rule("Arithmetic", "Size", -1), {(5, 2, 2): 1.0}),
}


@pytest.mark.parametrize("name", LEVEL_LAWS)
def test_levels_of_a_row(name):
    component, attribute, rule, law = LEVEL_LAWS[name]
    draws = drawn_levels(component, attribute, rule)
    for row in range(3):
        assert p_value((triple[row] for triple in draws), law) > LEVEL


@pytest.mark.parametrize(("attribute", "levels"), [(TYPE, 5), (SIZE, 6), (COLOR, 10)])
def test_distribute_three_levels(attribute, levels):
    low = 1 if attribute == TYPE else 0
    rule = Rule("Distribute_Three", ("Type", "Size", "Color")[attribute])
    draws = drawn_levels(SINGLE, attribute, rule, 6000)
    law = {
        (first, *order): 1.0
        for first in itertools.permutations(range(low, low + levels), 3)
        for order in itertools.permutations(turned_both_ways(first))
    }
    assert p_value(draws, law) > LEVEL


def plain_color_law(sign):
    return {
        (a, b, a + sign * b): 1 / (10 - a if sign > 0 else a + 1)
        for a in range(10)
        for b in range(10 - a if sign > 0 else a + 1)
    }


def guarded_color_law(sign):
    """Row 2 after a 0 in row 1: the first even over nine levels, the second without 0."""
    return {
        (a, b, a + sign * b): 1 / (9 - a if sign > 0 else a)
        for a in (range(9) if sign > 0 else range(1, 10))
        for b in range(1, 10 - a if sign > 0 else a + 1)
    }


def color_check(sign):
    draws = drawn_levels(SINGLE, COLOR, Rule("Arithmetic", "Color", sign), 6000)
    zero = [second for first, second, _ in draws if first[1] == 0]
    free = [second for first, second, _ in draws if first[1] != 0]
    return min(
        p_value((first for first, _, _ in draws), plain_color_law(sign)),
        p_value(zero, guarded_color_law(sign)),
        p_value(free, plain_color_law(sign)),
        p_value((third for _, _, third in draws), plain_color_law(sign)),
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_color_arithmetic_and_its_guard(sign):
    assert color_check(sign) > LEVEL


@pytest.mark.parametrize("sign", [1, -1])
def test_a_missing_guard_is_found_out(sign, monkeypatch):
    def unguarded(colors, firsts, sign, rng):
        found = []
        for _ in range(3):
            a = rng.choice(firsts)
            b = rng.below(10 - a if sign > 0 else a + 1)
            found.append((a, b, a + sign * b))
        return found

    monkeypatch.setattr(rows, "_color_sums", unguarded)
    assert color_check(sign) < LEVEL


def test_a_guard_on_row_three_too_is_found_out(monkeypatch):
    def thrice(colors, firsts, sign, rng):
        while True:
            found = [true(colors, firsts, sign, rng)[0] for _ in range(3)]
            if not any(one[1] == other[1] == 0 for one, other in itertools.pairwise(found)):
                return found

    true = rows._color_sums
    monkeypatch.setattr(rows, "_color_sums", thrice)
    assert color_check(1) < LEVEL


# --- entities -------------------------------------------------------------------------------------


def components(problem):
    """Yield (component, rules, nine panels of its entities)."""
    panels = (*problem.context, problem.candidates[problem.target])
    for index, component in enumerate(CONFIGURATIONS[problem.configuration].components):
        yield component, problem.rules[index], [panel[index] for panel in panels]


def constant_check(made):
    """Return the smallest p-value, 0 for what cannot be, of all that Constant rules and Angle do.

    Also what value rules do to entities (equal in every panel), and Uniformity.
    """
    fresh, noise, uniformity = defaultdict(list), defaultdict(list), []
    for problem in made:
        for component, rules, nine in components(problem):
            if len({panel.uniformity for panel in nine}) != 1:
                return 0.0
            uniformity.append(nine[0].uniformity)
            for attribute in range(4):
                constant = attribute == ANGLE or rules[1 + attribute].name == "Constant"
                for row in (nine[:3], nine[3:6], nine[6:]):
                    first, second, third = (panel.values[attribute] for panel in row)
                    levels = {*first, *second, *third}
                    group = attribute, len(component.slots), component.levels(attribute)
                    if not constant:
                        if not all(len(set(panel.values[attribute])) == 1 for panel in row):
                            return 0.0
                    elif nine[0].uniform:
                        if len(levels) != 1:
                            return 0.0
                        fresh[group].append(first[0])
                    elif rules[0].carrying:
                        if not first == second == third:
                            return 0.0
                        fresh[group].extend(first)
                    else:
                        fresh[group].extend(first)
                        noise[group].extend(zip(first, second, third, strict=False))
    ps = [p_value(uniformity, even(range(4)))]
    ps += [p_value(draws, even(levels)) for (_, _, levels), draws in fresh.items()]
    ps += [
        p_value(draws, even(itertools.product(levels, repeat=3)))
        for (_, _, levels), draws in noise.items()
    ]
    return min(ps)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_constant_rules_carry_or_are_noise(name, made):
    assert constant_check(made[name]) > LEVEL


def carry_always(component, uniformity, slots, carrying, rng):
    """Keep the first panel's entities under Number rules, too, as far as they go."""
    first = rows._fresh(component, uniformity, slots[0], rng)
    n = len(slots[0])
    return [first, *(first.picked(s, tuple(i % n for i in range(len(s)))) for s in slots[1:])]


def half_uniform(component, rules, rng, fill=rows.fill):
    return [
        type(panel)(3 if panel.uniformity in (2, 3) else panel.uniformity, *parts)
        for panel in fill(component, rules, rng)
        for parts in [(panel.slots, panel.values)]
    ]


def test_entities_carried_under_a_number_rule_are_found_out(monkeypatch):
    monkeypatch.setattr(rows, "_entities", carry_always)
    assert constant_check(problems("distribute_nine", 400)) < LEVEL


def test_too_many_uniform_components_are_found_out(monkeypatch):
    monkeypatch.setattr("probes.tasks.iraven.generate.fill", half_uniform)
    assert constant_check(problems("center_single", 400)) < LEVEL


NOISE = {  # P(regenerating) * P(not uniform) * P(some Constant among Type, Size, Color)
    "distribute_four": Fraction(7, 12) * Fraction(3, 4) * Fraction(5, 8),
    "distribute_nine": Fraction(4, 7) * Fraction(3, 4) * Fraction(5, 8),
    "in_distribute_four_out_center_single": Fraction(7, 12) * Fraction(3, 4) * Fraction(9, 14),
}


@pytest.mark.parametrize("name", GRIDS)
def test_share_of_problems_with_noise_labelled_constant(name, made):
    noisy = [
        any(
            not rules[0].carrying
            and not nine[0].uniform
            and any(rule.name == "Constant" for rule in rules[1:])
            for _, rules, nine in components(problem)
        )
        for problem in made[name]
    ]
    assert p_value(noisy, {True: NOISE[name], False: 1 - NOISE[name]}) > LEVEL


def test_rules_and_levels_meet_in_whole_problems(made):
    """Row by row, levels follow the problem's own rules."""
    checked = Counter()
    for name in CONFIGURATIONS:
        for problem in made[name][:200]:
            for _component, rules, nine in components(problem):
                for attribute in (TYPE, SIZE, COLOR):
                    rule = rules[1 + attribute]
                    triples = [
                        tuple(panel.values[attribute][0] for panel in nine[at : at + 3])
                        for at in (0, 3, 6)
                    ]
                    offset = 1 if attribute == SIZE else 0
                    for a, b, c in triples:
                        if rule.name == "Progression":
                            assert b - a == c - b == rule.value
                        elif rule.name == "Arithmetic":
                            assert c + offset == a + offset + rule.value * (b + offset)
                        elif rule.name == "Distribute_Three":
                            assert {a, b, c} == set(triples[0]) and len({a, b, c}) == 3
                    checked[rule.name, attribute] += 1
    assert len(checked) == 11 and min(checked.values()) > 50
