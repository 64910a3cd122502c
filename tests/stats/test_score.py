import numpy as np
import pytest

from probes.stats import clustered_mean, equivalence, score_test
from probes.stats.simulate import TrueEffect, draw, score_tests

SIZES = np.array([12, *[3] * 6])


def one_way(changed: int, n: int, other: int = 0) -> np.ndarray:
    return np.r_[np.ones(changed), -np.ones(other), np.zeros(n - changed - other)]


def test_without_a_change_it_ends_at_the_rule_of_three():
    found = clustered_mean(np.zeros(1000), step=1)
    assert (found.low, found.high, found.p) == (-found.high, pytest.approx(3.1e-3, abs=1e-4), 1.0)


def test_with_many_changes_it_is_the_t_interval():
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 4000, p=[0.2, 0.5, 0.3])
    score, t = clustered_mean(values, step=1), clustered_mean(values, kind="cr2")
    assert (score.low, score.high) == pytest.approx((t.low, t.high), abs=1e-4)
    assert score.se == pytest.approx(t.se) and score.df == t.df


def test_p_agrees_with_every_interval():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(7), SIZES)
    for values in draw(rng, 200, SIZES, (TrueEffect(0.2, 0.3), TrueEffect(0.05, 0.05))):
        for row in values.astype(float):
            for step in (1.0, None):
                found = clustered_mean(row, clusters, step=step)
                assert np.isnan(found.low) or (found.p < 0.05) != (found.low <= 0 <= found.high)
                if step and found.low > -1:
                    at = score_test(row, clusters, step=step).p(found.low)
                    assert at == pytest.approx(0.05, abs=1e-9)


def test_few_changes_in_one_direction_are_less_significant_than_by_a_t_test():
    # The t test says 0.045. (Exact McNemar says 0.125: it is more cautious than this one.)
    assert clustered_mean(one_way(4, 500), kind="cr2").p < 0.05
    assert clustered_mean(one_way(4, 500), step=1).p > 0.05
    # Far out it stays near the exact 1.9e-6, though its variance falls towards the estimate.
    assert 5e-7 < clustered_mean(one_way(20, 500), step=1).p < 2e-5


def test_simulated_runs_are_tested_as_one_is():
    (values,) = draw(np.random.default_rng(2), 20, SIZES, (TrueEffect(0.1, 0.2),), alike=0.3)
    clusters = np.repeat(np.arange(7), SIZES)
    for step in (1.0, None):
        many = score_tests(values, SIZES, step)
        low, high = many.ends()
        for at, row in enumerate(values):
            if row.any():
                found = clustered_mean(row.astype(float), clusters, step=step)
                assert (low[at], high[at]) == pytest.approx((found.low, found.high), rel=1e-9)
                assert many.p()[at] == pytest.approx(found.p, rel=1e-9)


def test_a_design_effect_below_one_counts_as_one():
    # Every cluster gains one and loses one or so: less spread than independent items have.
    values = np.tile([1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 0.0, 1.0, -1.0, 1.0], 12)
    clusters = np.arange(120) // 4
    raw = clustered_mean(values, clusters, kind="cr2")
    alone = clustered_mean(values)
    assert raw.se < alone.se
    assert clustered_mean(values, clusters).se == pytest.approx(alone.se)


def test_one_answer_changed_twice_is_counted_by_its_size():
    twice = clustered_mean(2 * one_way(3, 100), step=1)
    once = clustered_mean(one_way(3, 100), step=1)
    assert twice.high > 1.5 * once.high
    # Strata that all weigh the same as their items change nothing.
    strata = np.arange(100) % 4
    same = clustered_mean(one_way(20, 100), strata=strata, weights="strata", step=1)
    assert same.high == pytest.approx(clustered_mean(one_way(20, 100), step=1).high, rel=0.02)


def test_equivalence_rejects_where_its_interval_is_within_the_margin():
    for changed in range(12):
        found = equivalence(one_way(changed, 300, 2), 0.03, step=1)
        assert found.equivalent == (found.low > -0.03 and found.high < 0.03)


@pytest.mark.parametrize("discordance", [0.03, 0.05])
def test_few_changes_in_one_direction_are_covered(discordance: float):
    sizes = np.ones(100, int)
    truth = (TrueEffect(discordance, discordance),)
    (values,) = draw(np.random.default_rng(3), 4000, sizes, truth)
    low, high = score_tests(values, sizes, 1.0).ends()
    covered = np.mean((low <= discordance) & (discordance <= high))
    assert covered > 0.935
    by_t = np.mean([abs(row.mean() - discordance) < 1.98 * row.std() / 10 for row in values])
    assert by_t < 0.9
