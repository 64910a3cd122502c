import itertools
import random
from dataclasses import replace

import pytest
from problem_xml import read

from probes.tasks.iraven import generate, reader, rows
from probes.tasks.iraven.problem import Entities
from probes.tasks.iraven.solver import solve
from probes.tasks.iraven.space import CONFIGURATIONS


def solved(problem, context=None):
    tree = CONFIGURATIONS[problem.configuration]
    return solve(tree, context or problem.context, problem.candidates)


def test_right_on_at_least_999_of_1000_of_700_problems_and_all_explained(made):
    right = 0
    for problems in made.values():
        for problem in problems[:100]:
            solution = solved(problem)
            assert solution.explained
            assert solution.posterior[problem.target] > 0
            assert sum(solution.posterior) == pytest.approx(1)
            right += solution.choice == problem.target
    assert right >= 0.999 * 700


def test_right_on_the_originals(originals):
    for path in originals.glob("*/*.npz"):
        problem = read(path)
        solution = solved(problem)
        assert solution.choice == problem.target == reader.read_metadata(path).target
        assert solution.posterior[problem.target] > 0.9


def hidden(panel, rng):
    """Scramble what the solver must not see: Uniformity, Angle, and the order of the list."""
    found = []
    for entities in panel:
        order = list(range(len(entities.slots)))
        rng.shuffle(order)
        picked = entities.picked(
            tuple(entities.slots[place] for place in order), tuple(order)
        ).with_levels(3, tuple(rng.randrange(8) for _ in order))
        found.append(Entities(rng.randrange(4), picked.slots, picked.values))
    return tuple(found)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_sees_nothing_but_slots_types_sizes_and_colors(name, made):
    rng = random.Random(0)
    for problem in made[name][:60]:
        scrambled = replace(
            problem, panels=tuple(hidden(panel, rng) for panel in problem.panels), rules=()
        )
        assert solved(scrambled).posterior == pytest.approx(solved(problem).posterior)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_needs_its_own_context(name, made):
    """With another problem's context it is lost, so it does not read the candidates alone."""
    problems = made[name][:101]
    right = explained = 0
    for problem, other in itertools.pairwise(problems):
        solution = solved(problem, other.context)
        right += solution.choice == problem.target
        explained += solution.explained
    assert right < 40
    assert explained < 60


def test_a_row_that_breaks_its_rule_is_not_explained(made):
    broken = 0
    for problem in made["center_single"][:100]:
        first = problem.panels[0][0]
        levels = tuple(5 if level == 0 else level - 1 for level in first.values[1])
        panels = ((first.with_levels(1, levels),), *problem.context[1:])
        broken += not solved(problem, panels).explained
    assert broken > 80


def test_sizes_added_from_zero_are_not_explained(monkeypatch):
    def from_zero(sizes, firsts, sign, rng):
        a = rng.below(4)
        return a, 1, a + 1 if sign > 0 else a

    monkeypatch.setattr(rows, "_size_sum", from_zero)
    unexplained = wrong = 0
    for k in range(300):
        problem = generate.problem(0, "center_single", k)
        if problem.rules[0][2].name == "Arithmetic":
            wrong += 1
            unexplained += not solved(problem).posterior[problem.target]
    assert unexplained > 0.8 * wrong > 20
