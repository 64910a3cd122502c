"""How likely a row of one component is under a rule, given the rows before it.

Functions take rows in order and return the likelihood of the last one, except `kept_likelihood`,
which returns that of all of them.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial, prod

from probes.tasks.iraven.problem import Entities, Levels, Rule
from probes.tasks.iraven.rules import first_levels
from probes.tasks.iraven.space import SIZE, Component


@dataclass(frozen=True, slots=True)
class Seen:
    """What one component of one panel shows, in slot order."""

    slots: Levels
    values: tuple[Levels, ...]
    """Type, Size and Color levels."""


PanelRow = Sequence[Seen]
Triple = Sequence[int | None]
"""The one level of each of a row's panels; None where a panel shows several."""


def see(entities: Entities) -> Seen:
    """Return what is seen of a component: slots, Type, Size and Color, but no list order."""
    if len(entities.slots) == 1:
        return Seen(entities.slots, entities.values[:3])
    order = sorted(range(len(entities.slots)), key=entities.slots.__getitem__)
    slots, *values = (
        tuple([levels[place] for place in order])
        for levels in (entities.slots, *entities.values[:3])
    )
    return Seen(slots, tuple(values))


def triple(row: PanelRow, attribute: int) -> Triple:
    """Return a row's levels of a value attribute."""
    return [
        levels[0] if len(set(levels)) == 1 else None
        for levels in (seen.values[attribute] for seen in row)
    ]


def _turns(triples: Sequence[Sequence[object]]) -> float:
    """Return the likelihood of row 2 or 3 of a Distribute_Three rule, given the rows before."""
    a, b, c = triples[0]
    turns = [[b, c, a], [c, a, b]]
    last = list(triples[-1])
    # Row 3 is the rotation that row 2 left over.
    if last not in turns or (len(triples) == 3 and last == list(triples[1])):
        return 0.0
    return 0.5 if len(triples) == 2 else 1.0


def levels_likelihood(
    component: Component, attribute: int, rule: Rule, triples: Sequence[Triple]
) -> float:
    """Return the likelihood of the levels that a value rule imposes on a row."""
    if rule.name == "Distribute_Three" and len(triples) > 1:
        return _turns(triples)
    a, b, c = triples[-1]
    firsts = first_levels(rule, component)
    if a not in firsts or a is None or b is None or c is None:
        return 0.0
    if rule.name == "Distribute_Three":
        n = len(firsts)
        return 1 / (n * (n - 1) * (n - 2)) if len({a, b, c}) == 3 else 0.0
    if rule.name == "Progression":
        return 1 / len(firsts) if (b, c) == (a + rule.value, a + 2 * rule.value) else 0.0
    offset = 1 if attribute == SIZE else 0  # sizes add as ranks from 1
    if c + offset != a + offset + rule.value * (b + offset):
        return 0.0
    levels = component.levels(attribute)
    if attribute == SIZE:
        # How many `rows._size_sum` chooses from: lo..hi-a-1, or lo..a-lo-1.
        seconds = (levels[-1] - a if rule.value > 0 else a - levels[0]) - levels[0]
        return 1 / len(firsts) / seconds if b >= levels[0] else 0.0
    seconds = (levels[-1] - a if rule.value > 0 else a) + 1
    # Redrawing once is drawing from the rest: of ten, 1/10 + 1/10 * 1/9 is 1/9.
    if len(triples) == 2 and triples[0][1] == 0:  # the guard of the second row
        return 0.0 if b == 0 else 1 / (len(firsts) - 1) / (seconds - 1)
    return 1 / len(firsts) / seconds


def slots_likelihood(component: Component, rule: Rule, rows: Sequence[PanelRow]) -> float:
    """Return the likelihood of the slots of a row under a Number/Position rule."""
    slots = len(component.slots)
    sets = [seen.slots for seen in rows[-1]]
    counts = [len(place) for place in sets]
    if rule.name == "Distribute_Three" and len(rows) > 1:
        if rule.attribute == "Position":
            return _turns([[seen.slots for seen in row] for row in rows])
        # The counts recur, but slots are drawn anew in every panel: each set has its own chance.
        turned = _turns([[len(seen.slots) for seen in row] for row in rows])
        return turned / prod([comb(slots, count) for count in counts])
    firsts = first_levels(rule, component)
    first, second, third = counts
    if first - 1 not in firsts:
        return 0.0
    p = 1 / len(firsts) / comb(slots, first)
    if rule.attribute == "Position":
        return p * _move(component, rule, sets)
    if rule.name == "Constant":
        return p if sets[0] == sets[1] == sets[2] else 0.0
    # What is left are rules of Number, which place entities anew in panels 2 and 3.
    p /= comb(slots, second) * comb(slots, third)
    if rule.name == "Progression":
        return p if (second, third) == (first + rule.value, first + 2 * rule.value) else 0.0
    if rule.name == "Arithmetic":
        seconds = slots - first if rule.value > 0 else first - 1
        return p / seconds if third == first + rule.value * second else 0.0
    distinct = len({first, second, third}) == 3
    return p / ((slots - 1) * (slots - 2)) if distinct else 0.0


def _move(component: Component, rule: Rule, sets: Sequence[Levels]) -> float:
    """Return the likelihood of the second and third slot sets of a row under a Position rule."""
    slots = len(component.slots)
    first, second, third = (set(place) for place in sets)
    if rule.name == "Progression":
        fits = all(
            {(slot + steps * rule.value) % slots for slot in first} == place
            for steps, place in ((1, second), (2, third))
        )
        return float(fits)
    if rule.name == "Distribute_Three":
        ways = comb(slots, len(first))
        fits = len(first) == len(second) == len(third)
        fits = fits and first != second and second != third and first != third
        return 1 / ((ways - 1) * (ways - 2)) if fits else 0.0
    # What `rows._position_arithmetic` rejects; `_useful` is the share that it keeps.
    trivial = second <= first if rule.value > 0 else first <= second
    if trivial or third != (first | second if rule.value > 0 else first - second):
        return 0.0
    numbers = first_levels(rule, component)
    if len(second) - 1 not in numbers:
        return 0.0
    useful = _useful(component, numbers, len(first), rule.value)
    return 1 / comb(slots, len(second)) / len(numbers) / useful


@functools.cache
def _useful(component: Component, numbers: range, first: int, sign: int) -> float:
    """Return the share of second slot sets that an Arithmetic Position rule does not redraw."""
    slots, trivial = len(component.slots), 0.0
    for count in (number + 1 for number in numbers):
        if sign > 0:  # second sets within the first
            inside = comb(first, count)
        else:  # second sets around the first
            inside = comb(slots - first, count - first) if count >= first else 0
        trivial += inside / comb(slots, count) / len(numbers)
    return 1 - trivial


def kept_likelihood(
    component: Component, rule: Rule, uniform: bool, kept: tuple[int, ...], rows: Sequence[PanelRow]
) -> float:
    """Return the likelihood of the attributes with a Constant rule in all given rows."""
    if not kept:
        return 1.0
    looks_in_all = float(prod([len(component.levels(attribute)) for attribute in kept]))
    if uniform:
        same = all(
            len({level for seen in row for level in seen.values[attribute]}) == 1
            for row in rows
            for attribute in kept
        )
        return looks_in_all ** -(len(rows)) if same else 0.0
    if not rule.carrying:
        # Noise: every entity of every panel is a draw of its own, and none speaks against it.
        return looks_in_all ** -(sum(len(seen.slots) for row in rows for seen in row))
    # Carried: only the first panel of a row is drawn, the other two follow from it.
    p = looks_in_all ** -(sum(len(row[0].slots) for row in rows))
    looks = [[_looks(seen, kept) for seen in row] for row in rows]
    if rule.name == "Distribute_Three":
        return p * _pairings([[seen.slots for seen in row] for row in rows], looks)
    slots = len(component.slots)
    fits = all(
        at[step].get((slot + step * rule.value) % slots) == look
        for at in looks
        for slot, look in at[0].items()
        for step in (1, 2)
    )
    return p if fits else 0.0


def _looks(seen: Seen, kept: tuple[int, ...]) -> dict[int, Levels]:
    """Return the levels of some attributes by slot."""
    levels = zip(*[seen.values[attribute] for attribute in kept], strict=True)
    return dict(zip(seen.slots, levels, strict=True))


def _pairings(
    sets: Sequence[Sequence[Levels]], looks: Sequence[Sequence[dict[int, Levels]]]
) -> float:
    """Return the likelihood of carried levels under Distribute_Three Position.

    Which slot of one set an entity of another set moves to is random and is not seen, but it is the
    same in all rows. So each slot of a set shows one entity per row, and the three sets must show
    the same collection of entities.
    """
    tracks = [
        Counter(
            tuple([row[order.index(place)][slot] for order, row in zip(sets, looks, strict=True)])
            for slot in place
        )
        for place in sets[0]
    ]
    if not tracks[0] == tracks[1] == tracks[2]:
        return 0.0
    ways = prod([factorial(n) for n in tracks[0].values()]) / factorial(len(sets[0][0]))
    # Squared: two sets are each paired with the first, and both pairings are random.
    return ways**2
