"""The eight candidates: the attribute bisection tree.

Three attributes of the answer are chosen; each gets a new value, and the candidates are the answer
with every subset of the three changed. Counting which values are most frequent among the eight then
finds no candidate, because every value of a changed attribute is on four of them. Grids with fewer
than three modifiable attributes need other constructions; see `BisectionTree.grow`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

from probes.tasks.iraven.problem import Entities, Levels, Modification, Panel, Rules
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.space import VALUES, Component

AttributeChange = Callable[[Entities], Entities]
"""What a new value does to a component; the value itself was computed from the answer."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the eight."""

    panel: Panel
    modified: tuple[Modification, ...] = ()
    """What was changed, in order of application; empty for the answer."""

    def changed(self, modification: Modification, change: AttributeChange) -> Candidate:
        """Return a copy with one more change."""
        index = modification[0]
        entities = change(self.panel[index])
        panel = (*self.panel[:index], entities, *self.panel[index + 1 :])
        return Candidate(panel, (*self.modified, modification))


def candidates(
    components: Sequence[Component], rules: Sequence[Rules], answer: Panel, rng: RandomStream
) -> list[Candidate]:
    """Return the eight candidates in shuffled order."""
    picks = chosen(modifiable(components, rules, answer), rng)
    grown = BisectionTree(components, rules, answer, rng).grow(picks)
    # The answer grows first: without the shuffle its place alone would give it away.
    return [grown[i] for i in rng.sample(8, 8)]


def modifiable(
    components: Sequence[Component], rules: Sequence[Rules], answer: Panel
) -> list[Modification]:
    """Return the attributes that distractors may change, in list order.

    - Number: if the component has more than one level of it (grids), whatever the rule.
    - Position: unless the rule is about Number, and if the answer's slot set has an alternative.
    - Type, Size, Color: if the original range has another level, and, under a Constant rule, only
      where the value is not noise: the component is uniform or its entities are carried.
    """
    found: list[Modification] = []
    for index, (component, rule, entities) in enumerate(
        zip(components, rules, answer, strict=True)
    ):
        slots = len(component.slots)
        if slots > 1:
            found.append((index, "Number"))
        # A Number rule leaves slots to chance: a candidate with other slots would be right as well.
        if rule[0].attribute != "Number" and comb(slots, len(entities.slots)) > 1:
            found.append((index, "Position"))
        for attribute in range(3):
            ruled = rule[1 + attribute].name != "Constant"
            # A noise attribute has no right value: who differs in it alone would be right as well.
            if len(component.levels(attribute)) > 1 and (
                ruled or entities.uniform or rule[0].carrying
            ):
                found.append((index, VALUES[attribute]))
    return found


def chosen(modifications: Sequence[Modification], rng: RandomStream) -> list[Modification]:
    """Choose three, in random order, or take all where there are fewer; Number comes last."""
    picks = list(modifications)
    if len(picks) >= 3:
        picks = [modifications[i] for i in rng.sample(len(modifications), 3)]
    for place, (_, attribute) in enumerate(picks):
        if attribute == "Number":
            # Last, as new levels and slots fit the answer's number of entities only.
            picks[place], picks[-1] = picks[-1], picks[place]
            break
    return picks


@dataclass(frozen=True, slots=True)
class BisectionTree:
    """Candidates by changes of the answer; new values are always computed from the answer."""

    components: Sequence[Component]
    rules: Sequence[Rules]
    answer: Panel
    rng: RandomStream

    def grow(self, picks: Sequence[Modification]) -> list[Candidate]:
        """Return eight candidates, the answer first.

        | picks | construction |
        |---|---|
        | three | each change on every candidate so far: 2, 4, 8 |
        | X, Number | X once; three Number values, each on the answer and on X |
        | Position, Number | Position once; six Number values, on the answer only |
        | Number | seven Number values, on the answer |
        """
        grown = [Candidate(self.answer)]
        if len(picks) == 3:
            for pick in picks:
                grown += self._copies(pick, grown)
            return grown
        number = picks[-1]
        values = number_changes(self.components[number[0]], self.answer[number[0]], self.rng)
        bases = grown[:]
        if len(picks) == 2:
            grown.append(grown[0].changed(picks[0], self._new_value(picks[0])))
            # Number sets the slots too: from a displaced copy it would make the same picture again.
            bases = grown[:1] if picks[0][1] == "Position" else grown[:]
        while len(grown) < 8:
            change = next(values)
            grown += [base.changed(number, change) for base in bases]
        return grown

    def _copies(self, pick: Modification, grown: Sequence[Candidate]) -> list[Candidate]:
        """Return a modified copy of every candidate so far.

        Where both Position and Number of a grid are changed, Number hides the change of Position,
        so Number gets two slot sets: one for candidates with the answer's Position, one for the
        others.
        """
        index, attribute = pick
        component, answer, moved = self.components[index], self.answer[index], (index, "Position")
        if attribute != "Number":
            unmoved = displaced = self._new_value(pick)
        elif any(moved in candidate.modified for candidate in grown):
            unmoved, displaced = _number_change_twice(component, answer, self.rng)
        else:
            unmoved = displaced = next(number_changes(component, answer, self.rng))
        return [
            candidate.changed(pick, displaced if moved in candidate.modified else unmoved)
            for candidate in grown
        ]

    def _new_value(self, pick: Modification) -> AttributeChange:
        """Return the change of Position, Type, Size or Color."""
        index, name = pick
        component, entities, rng = self.components[index], self.answer[index], self.rng
        if name == "Position":
            slots = _other_slots(component, entities.slots, rng)
            return lambda given: given.at(slots)
        attribute = VALUES.index(name)
        shared = entities.uniform or self.rules[index][1 + attribute].name != "Constant"
        present = entities.values[attribute]
        if shared:
            # Here all entities have one level, so the first speaks for all.
            levels = (_other_level(component, attribute, present[0], rng),) * len(present)
        else:
            levels = tuple([_other_level(component, attribute, level, rng) for level in present])
        return lambda given: given.with_levels(attribute, levels)


# --- new values -----------------------------------------------------------------------------------


def _other_level(component: Component, attribute: int, present: int, rng: RandomStream) -> int:
    """Return a uniformly drawn level of the original range other than the present one."""
    return rng.choice([level for level in component.levels(attribute) if level != present])


def _other_slots(component: Component, present: Levels, rng: RandomStream) -> Levels:
    """Return as many uniformly drawn slots that differ as a set."""
    while True:
        slots = rng.sample(len(component.slots), len(present))
        # As sets: which entity stands in which slot is no part of Position.
        if set(slots) != set(present):
            return slots


def number_changes(
    component: Component, answer: Entities, rng: RandomStream
) -> Iterator[AttributeChange]:
    """Yield changes of Number, each a level other than the answer's with its slots and entities.

    Each level is used once before any is used again; a level is skipped once all its slot sets are
    used. Slots are a uniformly drawn set not yet used with this level.
    """
    count = len(component.slots)
    used: dict[int, set[frozenset[int]]] = {
        level: set() for level in component.numbers if level != answer.number
    }
    while True:
        # Used sets count: without them a level would give two candidates in the same slots.
        left = [level for level, sets in used.items() if len(sets) < comb(count, level + 1)]
        for place in rng.sample(len(left), len(left)):
            level = left[place]
            slots = rng.sample(count, level + 1)
            while frozenset(slots) in used[level]:
                slots = rng.sample(count, level + 1)
            used[level].add(frozenset(slots))
            yield _number_change(slots, _picks(len(answer.slots), level + 1, rng))


def _number_change_twice(
    component: Component, answer: Entities, rng: RandomStream
) -> tuple[AttributeChange, AttributeChange]:
    """Return one change of Number with two different slot sets, holding the same entities."""
    count = len(component.slots)
    level = rng.choice(
        # A level that fills all slots has no second slot set.
        [level for level in component.numbers if level != answer.number and level + 1 < count]
    )
    slots = rng.sample(count, level + 1)
    others = _other_slots(component, slots, rng)
    picks = _picks(len(answer.slots), level + 1, rng)
    return _number_change(slots, picks), _number_change(others, picks)


def _number_change(slots: Levels, picks: Levels) -> AttributeChange:
    return lambda given: given.picked(slots, picks)


def _picks(present: int, wanted: int, rng: RandomStream) -> Levels:
    """Return list places of the answer's entities for a new count.

    Fewer: a random choice. More: the whole list while more than its length is missing, then a
    random choice without replacement for the rest.
    """
    whole = range(present)
    copies = (wanted - 1) // present
    return (
        *itertools.chain.from_iterable([whole] * copies),
        *rng.sample(present, wanted - copies * present),
    )
