import itertools

import numpy as np
import pytest
from scipy import stats

from probes.stats import ContrastMethod, bootstrap, contrast, sign_flip
from probes.stats.bootstrap import bca_tails
from probes.stats.estimate import cluster_sums
from probes.stats.permutation import mcnemar_p


def test_sign_flip_without_clusters_is_the_exact_mcnemar_test():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
        p, name = sign_flip(a - b)
        assert p == pytest.approx(mcnemar_p(int((a > b).sum()), int((a < b).sum())), abs=1e-12)
        assert name == "sign-flip, exact"


def test_sign_flip_flips_whole_clusters():
    values = np.array([1.0, 1, 1, -1, 0, 1, 1, 0, 2, 1, -1, -1])
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    sums = cluster_sums(values, clusters, 6)
    signs = np.array(list(itertools.product([-1, 1], repeat=6)))
    expected = np.mean(np.abs(signs @ sums) >= abs(sums.sum()))
    assert sign_flip(values, clusters)[0] == pytest.approx(expected, abs=1e-12)
    # Fractions (means over donors) are enumerated instead of counted, with the same result.
    assert sign_flip(values / 3, clusters)[0] == pytest.approx(expected, abs=1e-12)


def test_sign_flip_equals_scipy():
    values = np.random.default_rng(7).choice([-1.0, 0.0, 1.0, 2.0], 14, p=[0.2, 0.3, 0.3, 0.2])
    oracle = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert sign_flip(values)[0] == pytest.approx(oracle.pvalue, abs=1e-9)


def test_random_flips_approximate_the_exact_test_and_are_seeded():
    rng = np.random.default_rng(1)
    whole = rng.choice([-1, 0, 1], 80, p=[0.2, 0.4, 0.4])
    exact, _ = sign_flip(whole)
    drawn, name = sign_flip(whole * 0.1, draws=20_000, seed=5)
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn > 0 and "seed 5" in name
    assert sign_flip(whole * 0.1, draws=20_000, seed=5)[0] == drawn


def test_sign_flip_of_nothing():
    assert sign_flip(np.zeros(10))[0] == 1.0
    assert np.isnan(sign_flip([])[0])


def test_bca_equals_scipy_on_the_same_samples():
    x = np.random.default_rng(2).exponential(size=40)
    oracle = stats.bootstrap((x,), np.mean, n_resamples=2000, method="BCa", rng=3)
    left_out = (x.sum() - x) / 39
    tails = bca_tails(oracle.bootstrap_distribution, x.mean(), left_out, np.array([0.025, 0.975]))
    got = np.quantile(oracle.bootstrap_distribution, tails)
    assert got == pytest.approx(list(oracle.confidence_interval), rel=1e-9)


def test_bootstrap_is_seeded_and_clustered():
    rng = np.random.default_rng(4)
    values = np.repeat(rng.choice([-1.0, 0.0, 1.0], 25), 8)
    clusters = np.repeat(np.arange(25), 8)
    by_item = bootstrap(values, kind="percentile", draws=999, seed=1)
    by_cluster = bootstrap(values, clusters, kind="percentile", draws=999, seed=1)
    assert by_cluster == bootstrap(values, clusters, kind="percentile", draws=999, seed=1)
    assert by_cluster != bootstrap(values, clusters, kind="percentile", draws=999, seed=2)
    # Identical items: standard errors differ by the root of the cluster's size.
    assert by_cluster.se / by_item.se == pytest.approx(np.sqrt(8), rel=0.15)


def test_bootstrap_says_why_it_is_undefined():
    assert bootstrap([0.0] * 9).reason == "all bootstrap samples give the same value"
    assert bootstrap([0.0, 1.0], ["a", "a"]).reason == "one cluster only"


def test_contrast_combines_interval_and_test():
    values = np.random.default_rng(6).choice([-1.0, 0, 1], 100, p=[0.1, 0.5, 0.4])
    plain = contrast(values, bounds=(-1, 1))
    method = ContrastMethod(interval="bca", test="mcnemar", draws=999)
    mixed = contrast(values, bounds=(-1, 1), method=method)
    assert mixed.estimate == plain.estimate
    assert mixed.p == mcnemar_p(int((values > 0).sum()), int((values < 0).sum()))
    assert mixed.low == bootstrap(values, kind="bca", draws=999).low
    assert "bca" in mixed.method and "McNemar" in mixed.method
    assert contrast(values, method=ContrastMethod(test="permutation")).p == sign_flip(values)[0]


def test_contrast_refuses_what_has_no_meaning():
    values = np.array([1.0, 0, -1, 1])
    mcnemar_test = ContrastMethod(test="mcnemar")
    assert "independent" in contrast(values, [0, 0, 1, 1], method=mcnemar_test).reason
    assert "single answers" in contrast(values * 2, method=mcnemar_test).reason
    with pytest.raises(ValueError, match="strata"):
        contrast(values, strata=[0, 0, 1, 1], method=ContrastMethod(interval="bca"))
    with pytest.raises(ValueError, match="interval"):
        ContrastMethod(interval="wald")
    with pytest.raises(ValueError, match="test"):
        ContrastMethod(test="wald")


def test_contrast_keeps_the_score_interval_where_nothing_differs():
    method = ContrastMethod(interval="percentile", test="permutation")
    found = contrast(np.zeros(50), bounds=(-1, 1), method=method)
    assert found.low < 0 < found.high and found.p == 1.0
