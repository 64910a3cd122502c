"""Filling the nine panels of a component under its rules.

Three things are drawn, in turn: where entities are (`slot_rows`, the Number/Position rule), what
they look like before any value rule (`_entities`), and the levels that the Type, Size and Color
rules impose (`level_rows`). A value rule other than Constant makes its attribute equal for all
entities of every panel, so what was drawn per entity is only seen in Angle and in attributes with a
Constant rule; their feasible range is the original one.
"""

from __future__ import annotations

from probes.tasks.iraven.problem import Entities, Levels, Rule, Rules
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.rules import first_levels
from probes.tasks.iraven.space import ANGLE, COLOR, SIZE, TYPE, UNIFORM, Component

SlotRow = tuple[Levels, ...]
"""Slots of the entities of a row's three panels, in list order."""
LevelRow = tuple[int, int, int]
"""One level for all entities of each of a row's three panels."""


def fill(component: Component, rules: Rules, rng: RandomStream) -> list[Entities]:
    """Return the entities of nine panels, in reading order.

    Uniformity is drawn once and holds for all of them. Everything else is drawn per row.
    """
    # One of four levels is uniform: a chance of 1/4, as `solver` assumes.
    uniformity = rng.below(4)
    rows = [
        _entities(component, uniformity, slots, rules[0].carrying, rng)
        for slots in slot_rows(component, rules[0], rng)
    ]
    # The order of all draws is part of what a seed means: changing it raises `generate.VERSION`.
    for attribute in (TYPE, SIZE, COLOR):
        rule = rules[1 + attribute]
        if rule.name == "Constant":
            continue  # `_entities` says what a Constant rule means
        for row, levels in zip(rows, level_rows(component, attribute, rule, rng), strict=True):
            for column, level in enumerate(levels):
                count = len(row[column].slots)
                row[column] = row[column].with_levels(attribute, (level,) * count)
    return [panel for row in rows for panel in row]


# --- where entities are ---------------------------------------------------------------------------


def slot_rows(component: Component, rule: Rule, rng: RandomStream) -> list[SlotRow]:
    """Return three rows of slots under a Number/Position rule."""
    if rule.name == "Distribute_Three":
        make = _three_numbers if rule.attribute == "Number" else _three_positions
        return make(component, rule, rng)
    make_row = {
        ("Constant", "Number/Position"): _constant,
        ("Progression", "Number"): _number_progression,
        ("Progression", "Position"): _position_progression,
        ("Arithmetic", "Number"): _number_arithmetic,
        ("Arithmetic", "Position"): _position_arithmetic,
    }[rule.name, rule.attribute]
    return [make_row(component, rule, rng) for _ in range(3)]


def _place(component: Component, number: int, rng: RandomStream) -> Levels:
    """Return uniformly drawn slots for number + 1 entities."""
    return rng.sample(len(component.slots), number + 1)


def _constant(component: Component, rule: Rule, rng: RandomStream) -> SlotRow:
    slots = _place(component, rng.choice(first_levels(rule, component)), rng)
    return slots, slots, slots


def _number_progression(component: Component, rule: Rule, rng: RandomStream) -> SlotRow:
    first = rng.choice(first_levels(rule, component))
    return _placed(component, (first, first + rule.value, first + 2 * rule.value), rng)


def _position_progression(component: Component, rule: Rule, rng: RandomStream) -> SlotRow:
    first = _place(component, rng.choice(first_levels(rule, component)), rng)
    count = len(component.slots)
    moves = [steps * rule.value for steps in range(3)]
    return tuple([tuple([(slot + move) % count for slot in first]) for move in moves])


def _number_arithmetic(component: Component, rule: Rule, rng: RandomStream) -> SlotRow:
    """Add or subtract counts (level + 1)."""
    top = len(component.slots) - 1
    first = rng.choice(first_levels(rule, component))
    if rule.value > 0:
        second = rng.below(top - first)  # 0..T-first-1
        third = (first + 1) + (second + 1) - 1
    else:
        second = rng.below(first)  # 0..first-1
        third = (first + 1) - (second + 1) - 1
    return _placed(component, (first, second, third), rng)


def _position_arithmetic(component: Component, rule: Rule, rng: RandomStream) -> SlotRow:
    """Unite or subtract slot sets; the second is redrawn until the third is not trivial."""
    numbers = first_levels(rule, component)
    first = _place(component, rng.choice(numbers), rng)
    while True:
        # Its number is drawn again too: kept, numbers whose sets mostly fail would be too frequent.
        second = _place(component, rng.choice(numbers), rng)
        if rule.value > 0 and not set(second) <= set(first):
            return first, second, first + tuple([slot for slot in second if slot not in first])
        if rule.value < 0 and not set(first) <= set(second):
            return first, second, tuple([slot for slot in first if slot not in second])


def _three_numbers(component: Component, rule: Rule, rng: RandomStream) -> list[SlotRow]:
    """Three Number levels, the same in all rows, placed again in every panel."""
    levels = first_levels(rule, component)
    a, b, c = (levels[i] for i in rng.sample(len(levels), 3))
    return [_placed(component, row, rng) for row in rotations(a, b, c, rng)]


def _three_positions(component: Component, rule: Rule, rng: RandomStream) -> list[SlotRow]:
    """Three slot sets of one size, all different as sets, the same in all rows."""
    number = rng.choice(first_levels(rule, component))
    found: list[Levels] = []
    while len(found) < 3:
        slots = _place(component, number, rng)
        if all(set(slots) != set(other) for other in found):
            found.append(slots)
    return [tuple([found[at] for at in row]) for row in rotations(0, 1, 2, rng)]


def _placed(component: Component, numbers: LevelRow, rng: RandomStream) -> SlotRow:
    return tuple([_place(component, number, rng) for number in numbers])


def rotations(a: int, b: int, c: int, rng: RandomStream) -> tuple[LevelRow, LevelRow, LevelRow]:
    """Return the three rows of a Distribute_Three rule, the first being (a, b, c)."""
    if rng.below(2):
        return (a, b, c), (b, c, a), (c, a, b)
    return (a, b, c), (c, a, b), (b, c, a)


# --- what they look like before any value rule ----------------------------------------------------


def _entities(
    component: Component, uniformity: int, slots: SlotRow, carrying: bool, rng: RandomStream
) -> list[Entities]:
    """Return a row's three panels, every entity drawn from the original ranges.

    This decides what a Constant rule (and Angle, which never has a rule) shows along the row:

    - uniform: one draw for the whole row (regenerated entities copy the panel before);
    - not uniform, carrying: one draw per entity, kept through the row, in list order;
    - not uniform, regenerating: a fresh draw for every entity of every panel, i.e. pure noise.
    """
    if uniformity == UNIFORM:
        one = _fresh(component, uniformity, (0,), rng)
        return [one.picked(place, (0,) * len(place)) for place in slots]
    first = _fresh(component, uniformity, slots[0], rng)
    if carrying:
        return [first, first.at(slots[1]), first.at(slots[2])]
    return [first, *(_fresh(component, uniformity, place, rng) for place in slots[1:])]


def _fresh(component: Component, uniformity: int, slots: Levels, rng: RandomStream) -> Entities:
    ranges = map(component.levels, (TYPE, SIZE, COLOR, ANGLE))
    values = tuple([tuple([rng.choice(levels) for _ in slots]) for levels in ranges])
    return Entities(uniformity, slots, values)


# --- what the Type, Size and Color rules impose ---------------------------------------------------


def level_rows(
    component: Component, attribute: int, rule: Rule, rng: RandomStream
) -> list[LevelRow]:
    """Return three rows of levels under a value rule other than Constant."""
    firsts = first_levels(rule, component)
    if rule.name == "Distribute_Three":
        a, b, c = (firsts[i] for i in rng.sample(len(firsts), 3))
        return list(rotations(a, b, c, rng))
    if rule.name == "Progression":
        starts = [rng.choice(firsts) for _ in range(3)]
        return [(x, x + rule.value, x + 2 * rule.value) for x in starts]
    if attribute == SIZE:
        return [_size_sum(component.sizes, firsts, rule.value, rng) for _ in range(3)]
    return _color_sums(component.colors, firsts, rule.value, rng)


def _size_sum(sizes: range, firsts: range, sign: int, rng: RandomStream) -> LevelRow:
    """Add or subtract sizes as ranks from 1."""
    low, high = sizes[0], sizes[-1]
    a = rng.choice(firsts)
    if sign > 0:
        b = rng.choice(range(low, high - a))  # low..high-a-1
        return a, b, a + b + 1
    b = rng.choice(range(low, a - low))  # low..a-low-1
    return a, b, a - b - 1


def _color_sums(colors: range, firsts: range, sign: int, rng: RandomStream) -> list[LevelRow]:
    """Add or subtract colours as levels from 0, with the guard of the second row.

    The second operand must not be 0 in both row 1 and row 2, where + and - would look alike. If it
    was 0 in row 1, then in row 2 a first operand that leaves only 0 is redrawn from the other nine
    levels, and a second operand of 0 is redrawn from its range without 0. Row 3 is not guarded.
    """
    high = colors[-1]
    rows: list[LevelRow] = []
    for row in range(3):
        a = rng.choice(firsts)
        guarded = row == 1 and rows[0][1] == 0
        if guarded and a == (high if sign > 0 else 0):
            a = rng.choice([level for level in firsts if level != a])
        seconds = range((high - a if sign > 0 else a) + 1)
        b = rng.choice(seconds)
        if guarded and b == 0:
            b = rng.choice(seconds[1:])
        rows.append((a, b, a + sign * b))
    return rows
