import numpy as np
import pytest

from probes.stats import clustered_mean, leave_one_out, pooled


@pytest.fixture
def changes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    latent = rng.normal(size=60)[clusters] + rng.normal(size=len(clusters))
    return (latent > 0.8).astype(float) - (latent < -1.6), clusters


def test_one_part_is_its_own_mean(changes):
    values, clusters = changes
    found, alone = pooled([changes]), clustered_mean(values, clusters)
    for name in ("estimate", "low", "high", "p", "se", "df"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name))


def test_the_same_answers_twice_add_nothing(changes):
    once, twice = pooled([changes]), pooled([changes, changes])
    assert twice.se == pytest.approx(once.se) and twice.clusters == once.clusters


def test_other_items_count_by_the_inverse_of_their_variance(changes):
    values, clusters = changes
    rng = np.random.default_rng(1)
    other = rng.choice([-1.0, 0.0, 1.0], 900, p=[0.05, 0.9, 0.05]), 1000 + np.arange(900)
    first, second = clustered_mean(values, clusters), clustered_mean(*other)
    weights = np.array([first.se, second.se]) ** -2.0
    found = pooled([changes, other])
    expected = weights @ [first.estimate, second.estimate] / weights.sum()
    assert found.estimate == pytest.approx(expected)
    assert found.se == pytest.approx(weights.sum() ** -0.5, rel=0.01)
    assert found.n == len(values) + 900


def test_a_part_in_which_nothing_changed_does_not_decide_alone(changes):
    still = np.zeros(len(changes[0])), changes[1]
    assert pooled([changes, still]).reason
    found = pooled([changes, still], step=1)
    assert 0 < found.estimate < changes[0].mean() and found.se > 0
    assert pooled([]).reason == "no items"


def test_leaving_out_names_the_cluster_that_decides():
    values, clusters = [1.0, 1.0, 1.0, 0.0, 0.0, -1.0], ["a", "a", "a", "b", "b", "c"]
    found = leave_one_out(values, clusters)
    assert (found.low, found.low_cluster) == (pytest.approx(-1 / 3), "a")
    assert (found.high, found.high_cluster) == (pytest.approx(3 / 5), "c")
    assert np.isnan(leave_one_out([1.0, 0.0], ["a", "a"]).low)
    assert leave_one_out([1.0, 0.0]).high_cluster == 1
