from collections import Counter, defaultdict
from math import comb

import pytest
from iraven_checks import (
    GRIDS,
    LEVEL,
    even,
    features,
    majority_z,
    mode,
    p_value,
    problems,
    same_shares,
)

from probes.tasks.iraven import candidates, generate
from probes.tasks.iraven.candidates import Candidate, modifiable, number_changes
from probes.tasks.iraven.problem import Entities, Rule
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.space import CONFIGURATIONS, VALUES

PUBLISHED = {  # shares, in the order of DISTANCES, among 3,000 problems of the original generator
    "distribute_four": (0.247, 0.507, 0.177, 0.057, 0.0013, 0.010),
    "distribute_nine": (0.260, 0.498, 0.175, 0.058, 0.0030, 0.0063),
    "in_distribute_four_out_center_single": (0.500, 0.421, 0.079, 0, 0, 0),
}
DISTANCES = {  # numbers of changed attributes, sorted
    "3 no Number": [0, 1, 1, 1, 2, 2, 2, 3],
    "3 Number": [0, 1, 1, 1, 2, 2, 2, 3],
    "3 Number+Position": [0, 1, 1, 1, 2, 2, 2, 3],
    "2 Number+X": [0, 1, 1, 1, 1, 2, 2, 2],
    "2 Number+Position": [0, 1, 1, 1, 1, 1, 1, 1],
    "1 Number": [0, 1, 1, 1, 1, 1, 1, 1],
}
FOUR = CONFIGURATIONS["distribute_four"].components[0]
NINE = CONFIGURATIONS["distribute_nine"].components[0]


def answer(problem):
    return problem.candidates[problem.target]


def looks(panel):
    """What is seen of a panel: the entity in every slot of every component."""
    return tuple(
        frozenset(zip(entities.slots, *entities.values, strict=True)) for entities in panel
    )


# --- which attributes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("center_single", {3}),
        ("left_center_single_right_center_single", {6}),
        ("up_center_single_down_center_single", {6}),
        ("in_center_single_out_center_single", {5}),
        ("distribute_four", {1, 2, 3, 4, 5}),
        ("distribute_nine", {1, 2, 3, 4, 5}),
        ("in_distribute_four_out_center_single", {3, 4, 5, 6, 7}),
    ],
)
def test_how_many_attributes_can_be_modified(name, sizes, made):
    tree = CONFIGURATIONS[name]
    found = {
        len(modifiable(tree.components, problem.rules, answer(problem))) for problem in made[name]
    }
    assert found == sizes


RULED = (Rule("Progression", "Type", 1), Rule("Constant", "Size"), Rule("Constant", "Color"))


@pytest.mark.parametrize(
    ("rule", "count", "uniformity", "names"),
    [
        (Rule("Constant", "Number/Position"), 2, 0, "Number Position Type Size Color"),
        (Rule("Constant", "Number/Position"), 4, 0, "Number Type Size Color"),
        (Rule("Progression", "Position", 1), 1, 0, "Number Position Type Size Color"),
        (Rule("Distribute_Three", "Position"), 1, 2, "Number Position Type Size Color"),
        (Rule("Arithmetic", "Position", 1), 2, 0, "Number Position Type"),
        (Rule("Arithmetic", "Position", 1), 4, 3, "Number Type Size Color"),
        (Rule("Arithmetic", "Number", 1), 2, 1, "Number Type"),
        (Rule("Progression", "Number", 1), 3, 3, "Number Type Size Color"),
        (Rule("Distribute_Three", "Number"), 4, 0, "Number Type"),
    ],
)
def test_which_attributes_can_be_modified(rule, count, uniformity, names):
    same = (1,) * count
    panel = (Entities(uniformity, tuple(range(count)), (same, same, same, same)),)
    found = modifiable([FOUR], [(rule, *RULED)], panel)
    assert found == [(0, name) for name in names.split()]


def test_number_comes_last_and_few_keep_their_order():
    three = [(0, "Number"), (0, "Type"), (0, "Size")]
    orders = Counter(tuple(candidates.chosen(three, RandomStream(seed))) for seed in range(400))
    assert {order[-1] for order in orders} == {(0, "Number")}
    assert p_value(orders.elements(), even(orders)) > LEVEL and len(orders) == 2
    assert candidates.chosen(three[:2], RandomStream(0)) == [(0, "Type"), (0, "Number")]
    assert candidates.chosen(three[:1], RandomStream(0)) == [(0, "Number")]


def test_three_of_many_are_even():
    many = [(index, name) for index in (0, 1) for name in ("Type", "Size", "Color")]
    draws = [tuple(candidates.chosen(many, RandomStream(seed))) for seed in range(3000)]
    law = even((a, b, c) for a in many for b in many for c in many if len({a, b, c}) == 3)
    assert p_value(draws, law) > LEVEL


# --- the eight ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_shares_of_the_constructions(name, made):
    counts = Counter(map(mode, made[name]))
    if name in GRIDS:
        assert same_shares([counts[name] for name in DISTANCES], PUBLISHED[name], 3000) > LEVEL
    else:
        assert set(counts) == {"3 no Number"}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_candidates_differ_where_they_say_and_nowhere_else(name, made):
    tree = CONFIGURATIONS[name]
    for problem in made[name]:
        right = answer(problem)
        assert len({looks(panel) for panel in problem.candidates}) == 8
        assert sorted(map(len, problem.modified)) == DISTANCES[mode(problem)]
        for panel, changes in zip(problem.candidates, problem.modified, strict=True):
            for index, component in enumerate(tree.components):
                check_component(component, right[index], panel[index], index, changes)


def check_component(component, right, found, index, changes):
    changed = {name for place, name in changes if place == index}
    assert found.uniformity == right.uniformity
    assert all(slot < len(component.slots) for slot in found.slots)
    assert len(set(found.slots)) == len(found.slots)
    assert ("Number" in changed) == (found.number != right.number)
    if "Number" not in changed:
        assert ("Position" in changed) == (set(found.slots) != set(right.slots))
        assert "Position" in changed or found.slots == right.slots
    for attribute, name in enumerate(VALUES):
        levels = component.levels(attribute)
        assert set(found.values[attribute]) <= set(levels)
        if name in changed and "Number" not in changed:
            pairs = zip(found.values[attribute], right.values[attribute], strict=True)
            assert all(new != old for new, old in pairs)
        elif "Number" not in changed:
            assert found.values[attribute] == right.values[attribute]
        elif name not in changed:
            assert set(found.values[attribute]) <= set(right.values[attribute])


@pytest.mark.parametrize("name", GRIDS)
def test_number_takes_entities_of_the_answer(name, made):
    """Fewer: a choice of them; more: every one at least as often as whole copies go."""
    seen = set()
    for problem in made[name]:
        right = answer(problem)
        for panel, changes in zip(problem.candidates, problem.modified, strict=True):
            if [attribute for _, attribute in changes] != ["Number"]:
                continue
            index = changes[0][0]
            had = Counter(zip(*right[index].values, strict=True))
            has = Counter(zip(*panel[index].values, strict=True))
            old, new = len(right[index].slots), len(panel[index].slots)
            copies = (new - 1) // old
            assert all(copies * had[look] <= has[look] <= (copies + 1) * had[look] for look in had)
            seen.add(new > old)
    assert seen == {True, False}


def test_number_and_position_of_a_grid_use_two_slot_sets(made):
    """One set for candidates with the answer's Position, another for the others; same entities."""
    for problem in made["distribute_nine"]:
        if mode(problem) != "3 Number+Position":
            continue
        places, levels = defaultdict(set), set()
        for panel, changes in zip(problem.candidates, problem.modified, strict=True):
            names = [name for _, name in changes]
            if "Number" in names:
                places["Position" in names].add(panel[0].slots)
                levels.add((panel[0].number, panel[0].values[3]))
        assert len(places[True]) == len(places[False]) == len(levels) == 1
        assert set(*places[True]) != set(*places[False])


@pytest.mark.parametrize(("component", "number"), [(FOUR, n) for n in range(4)] + [(NINE, 4)])
def test_number_levels_are_used_once_before_any_again(component, number):
    same = (1,) * (number + 1)
    right = Entities(0, tuple(range(number + 1)), (same, same, same, same))
    levels = [level for level in component.numbers if level != number]
    firsts = []
    for seed in range(300):
        changes = number_changes(component, right, RandomStream(seed))
        found = [next(changes)(right) for _ in range(7)]
        first = [entities.number for entities in found]
        assert sorted(first[: len(levels)]) == levels[:7] or component is NINE
        assert len({(len(e.slots), frozenset(e.slots)) for e in found}) == 7
        counts = Counter(first)
        for level in levels:
            used_up = counts[level] == comb(len(component.slots), level + 1)
            assert counts[level] >= max(counts.values()) - 1 or used_up
        firsts.append(first[0])
    assert p_value(firsts, even(levels)) > LEVEL


def values_check(made):
    """Return the smallest p-value of new levels being even over what is not the present level."""
    shifts = defaultdict(list)
    for problem in made:
        components = CONFIGURATIONS[problem.configuration].components
        right = answer(problem)
        for panel, changes in zip(problem.candidates, problem.modified, strict=True):
            if len(changes) == 1 and changes[0][1] in VALUES:
                index, name = changes[0]
                attribute = VALUES.index(name)
                levels = components[index].levels(attribute)
                old, new = (p[index].values[attribute][0] for p in (right, panel))
                shifts[levels].append((new - old) % len(levels))
    return min(p_value(found, even(range(1, len(levels)))) for levels, found in shifts.items())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_new_levels_are_even(name, made):
    assert values_check(made[name]) > LEVEL


def test_per_entity_levels_are_drawn_one_by_one(made):
    """Shared under a rule or uniformity, else independent: both occur, each in its place."""
    kinds = Counter()
    for problem in made["distribute_nine"]:
        right = answer(problem)[0]
        for panel, changes in zip(problem.candidates, problem.modified, strict=True):
            if len(changes) == 1 and changes[0][1] in VALUES and len(right.slots) > 2:
                attribute = VALUES.index(changes[0][1])
                ruled = problem.rules[0][1 + attribute].name != "Constant"
                shared = len(set(panel[0].values[attribute])) == 1
                kinds[ruled or right.uniform, shared] += 1
    assert kinds[True, False] == 0
    assert kinds[True, True] > 200
    assert kinds[False, False] > 20 * kinds[False, True]


# --- targets and blind choice ---------------------------------------------------------------------


def targets_check(made):
    return p_value((problem.target for problem in made), even(range(8)))


def test_targets_are_even(made):
    everything = [problem for found in made.values() for problem in found]
    assert targets_check(everything) > LEVEL
    assert min(targets_check(found) for found in made.values()) > LEVEL


def test_blind_majority_choice_is_chance(made):
    everything = [problem for found in made.values() for problem in found]
    assert abs(majority_z(everything)) < 3


def one_change_each(components, rules, right, rng):
    """Make candidates as the older RAVEN does: seven distractors, each with one change."""
    root, tree = Candidate(right), candidates.BisectionTree(components, rules, right, rng)
    options = [pick for pick in modifiable(components, rules, right) if pick[1] in VALUES]
    grown = [root]
    while options and len(grown) < 8:
        pick = rng.choice(options)
        grown.append(root.changed(pick, tree._new_value(pick)))
    return [grown[i] for i in rng.sample(len(grown), len(grown))]


def test_candidates_with_one_change_each_are_found_out(monkeypatch):
    monkeypatch.setattr(generate, "candidates", one_change_each)
    assert majority_z(problems("center_single", 200)) > 30


def test_unshuffled_candidates_are_found_out(monkeypatch):
    def unshuffled(components, rules, right, rng):
        picks = candidates.chosen(modifiable(components, rules, right), rng)
        return candidates.BisectionTree(components, rules, right, rng).grow(picks)

    monkeypatch.setattr(generate, "candidates", unshuffled)
    assert targets_check(problems("center_single", 100)) < LEVEL


def test_new_levels_near_the_old_are_found_out(monkeypatch):
    def near(component, attribute, present, rng):
        levels = component.levels(attribute)
        return rng.choice([x for x in levels if abs(x - present) in (1, 2)])

    monkeypatch.setattr(candidates, "_other_level", near)
    assert values_check(problems("center_single", 300)) < LEVEL


def test_modified_noise_is_found_out(monkeypatch):
    def noise_too(components, rules, right):
        listed = modifiable(components, rules, right)
        return [
            (index, name)
            for index, component in enumerate(components)
            for name in ("Number", "Position", *VALUES[:3])
            if (index, name) in listed
            or (name in VALUES and len(component.levels(VALUES.index(name))) > 1)
        ]

    monkeypatch.setattr(candidates, "modifiable", noise_too)
    counts = Counter(map(mode, problems("distribute_four", 400)))
    assert (
        same_shares([counts[name] for name in DISTANCES], PUBLISHED["distribute_four"], 3000)
        < LEVEL
    )


def test_a_single_slot_set_for_number_and_position_is_found_out(monkeypatch):
    def once(component, right, rng):
        change = next(number_changes(component, right, rng))
        return change, change

    monkeypatch.setattr(candidates, "_number_change_twice", once)
    doubled = [
        len({looks(panel) for panel in problem.candidates}) < 8
        for problem in problems("distribute_nine", 200)
    ]
    assert any(doubled)


def test_features_distinguish_panels(made):
    for problem in made["distribute_four"][:100]:
        assert len({tuple(features(panel)) for panel in problem.candidates}) == 8
