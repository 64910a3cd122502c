import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from probes.stats import equivalence


def test_equal_to_statsmodels_without_clusters():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    p, upper_of_minus, lower_of_plus = ttost_paired(a, b, -0.1, 0.1)
    found = equivalence(a - b, 0.1)
    assert found.p == pytest.approx(p, rel=1e-9)
    assert found.p_above == pytest.approx(upper_of_minus[1], rel=1e-9)
    assert found.p_below == pytest.approx(lower_of_plus[1], rel=1e-9)


def test_it_agrees_with_its_own_interval():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.choice([-1, 0, 1], 120, p=[0.1, 0.8, 0.1])
        found = equivalence(values, 0.08, np.repeat(np.arange(40), 3))
        assert found.equivalent == (found.low > -0.08 and found.high < 0.08)


def test_no_difference_at_all_is_equivalent_once_there_are_enough_items():
    few = equivalence(np.zeros(20), 0.05, bounds=(-1, 1))
    many = equivalence(np.zeros(200), 0.05, bounds=(-1, 1))
    assert not few.equivalent and few.high > 0.05
    assert many.equivalent and many.high < 0.05
    assert np.isnan(equivalence(np.zeros(200), 0.05).p)


def test_a_large_difference_is_never_equivalent():
    found = equivalence(np.ones(100), 0.05, bounds=(-1, 1))
    assert found.p_below == 1.0 and not found.equivalent
    with pytest.raises(ValueError, match="margin"):
        equivalence([1, 0], 0.0)
