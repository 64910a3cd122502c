import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.proportion import proportion_confint

from probes.stats import accuracy, tango, wilson


@pytest.mark.parametrize("n", [1, 7, 100, 500])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_statsmodels(n, level):
    for successes in {0, 1, n // 3, n - 1, n}:
        expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_of_a_hand_computed_case():
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def score(gained, lost, n, delta):
    """Score statistic with the constrained maximum of the likelihood found numerically."""

    def minus_likelihood(only_lost):
        only_gained = only_lost + delta
        same = 1 - only_lost - only_gained
        if min(only_lost, only_gained, same) <= 0:
            return np.inf
        same_count = n - gained - lost
        return -(
            gained * np.log(only_gained) + lost * np.log(only_lost) + same_count * np.log(same)
        )

    low, high = max(0.0, -delta), (1 - delta) / 2
    best = optimize.minimize_scalar(
        minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    return (gained - lost - n * delta) / np.sqrt(n * (2 * best + delta - delta**2))


@pytest.mark.parametrize(("gained", "lost", "n"), [(8, 3, 50), (30, 12, 100), (1, 1, 20)])
def test_tango_ends_where_the_score_statistic_reaches_its_critical_value(gained, lost, n):
    low, high = tango(gained, lost, n)
    z = stats.norm.ppf(0.975)
    assert score(gained, lost, n, low) == pytest.approx(z, abs=1e-4)
    assert score(gained, lost, n, high) == pytest.approx(-z, abs=1e-4)


def test_tango_without_discordant_pairs_has_width():
    z2 = stats.norm.ppf(0.975) ** 2
    expected = z2 / (100 + z2)
    assert tango(0, 0, 100) == pytest.approx((-expected, expected), abs=1e-9)


def test_tango_is_antisymmetric_and_reaches_the_ends():
    low, high = tango(9, 2, 40)
    assert tango(2, 9, 40) == pytest.approx((-high, -low), abs=1e-9)
    assert tango(40, 0, 40)[1] == 1.0
    assert tango(0, 40, 40)[0] == -1.0


def test_accuracy_is_wilson_without_clusters():
    correct = np.array([1] * 30 + [0] * 70)
    found = accuracy(correct, np.arange(100))
    assert (found.low, found.high) == wilson(30, 100)
    assert found.method == "Wilson"
    assert np.isnan(found.p)


def test_accuracy_counts_clusters_of_alike_answers_as_fewer_items():
    correct = np.repeat([1, 0, 0, 1, 0, 1, 0, 0, 0, 1], 10)
    clusters = np.repeat(np.arange(10), 10)
    found = accuracy(correct, clusters)
    # Identical in a cluster: ten answers, less a tenth by the factor G/(G-1); t has G - 1 degrees.
    t, n = stats.t.ppf(0.975, 9), 9
    centre, half = 0.4 + t * t / (2 * n), t * np.sqrt(0.24 / n + t * t / (4 * n * n))
    ends = (centre - half) / (1 + t * t / n), (centre + half) / (1 + t * t / n)
    assert (found.low, found.high) == pytest.approx(ends)
    assert found.estimate == 0.4


def test_accuracy_of_strata_is_their_mean_and_never_of_more_items_than_there_are():
    correct, strata = np.r_[np.ones(30), np.zeros(10)], np.r_[np.zeros(30), np.ones(10)]
    mixed = np.r_[correct[:-1], 1.0]
    found = accuracy(mixed, strata=strata, weights="strata")
    assert found.estimate == pytest.approx((1 + 0.1) / 2)
    assert found.low < found.estimate < found.high
    # Clusters that balance each other out are no better than independent items.
    pairs = np.tile([1, 0], 20)
    apart, alone = accuracy(pairs, np.arange(40) // 2), accuracy(pairs)
    assert apart.high - apart.low >= alone.high - alone.low


def test_accuracy_of_nothing_is_undefined_with_a_reason():
    found = accuracy([])
    assert np.isnan(found.estimate) and found.reason == "no items"
    assert accuracy([1, 1], ["a", "a"]).reason
