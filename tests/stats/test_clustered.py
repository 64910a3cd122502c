import numpy as np
import pytest
import statsmodels.api as sm
from scipy import linalg, stats

from probes.stats import clustered_mean, tango
from probes.stats.permutation import mcnemar_p


def difference(a, b, clusters=None):
    return clustered_mean(np.subtract(a, b), clusters, bounds=(-1, 1))


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 10, 30)
    clusters = np.repeat(np.arange(30), sizes)
    values = rng.choice([-1.0, 0.0, 1.0], len(clusters), p=[0.1, 0.6, 0.3])
    values += 0.3 * rng.standard_normal(30)[clusters]
    return values, clusters


def test_cr1_equals_statsmodels(data):
    values, clusters = data
    found = clustered_mean(values, clusters, kind="cr1")
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
    )
    low, high = fit.conf_int()[0]
    expected = (fit.params[0], low, high, fit.bse[0], fit.pvalues[0])
    got = (found.estimate, found.low, found.high, found.se, found.p)
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weights", ["items", "strata"])
def test_strata_equal_statsmodels_dummies(data, weights):
    values, clusters = data
    strata = np.random.default_rng(2).integers(0, 4, len(values))
    found = clustered_mean(values, clusters, strata=strata, weights=weights, kind="cr1")
    fit = sm.OLS(values, (strata[:, None] == np.arange(4)).astype(float)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
    )
    share = np.full(4, 0.25) if weights == "strata" else np.bincount(strata) / len(strata)
    test = fit.t_test(share)
    assert found.estimate == pytest.approx(test.effect[0], rel=1e-9)
    assert found.se == pytest.approx(test.sd[0, 0], rel=1e-9)
    assert found.df == 30 - 4


def test_cr2_and_its_degrees_of_freedom_equal_the_matrix_formulas(data):
    values, clusters = data
    n = len(values)
    x = np.ones((n, 1))
    residuals = values - values.mean()
    projection = np.eye(n) - x @ x.T / n
    variance, columns = 0.0, []
    for cluster in np.unique(clusters):
        own = np.flatnonzero(clusters == cluster)
        block = np.eye(len(own)) - np.full((len(own), len(own)), 1 / n)
        root = linalg.inv(linalg.sqrtm(block).real)
        variance += (np.ones(len(own)) @ root @ residuals[own]) ** 2 / n**2
        columns.append(projection[:, own] @ root @ np.ones(len(own)) / n)
    spread = linalg.eigvalsh(np.stack(columns, 1).T @ np.stack(columns, 1))
    found = clustered_mean(values, clusters)
    assert found.se == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert found.df == pytest.approx(spread.sum() ** 2 / (spread**2).sum(), rel=1e-9)


@pytest.mark.parametrize("weights", ["items", "strata"])
@pytest.mark.parametrize("nested", [True, False])
def test_stratified_cr2_equals_the_matrix_formulas(data, weights, nested):
    values, clusters = data
    drawn = np.random.default_rng(3).integers(0, 4, len(values))
    strata = clusters % 4 if nested else drawn  # recordings within strata, or across them
    n, x = len(values), (strata[:, None] == np.arange(4)).astype(float)
    bread = linalg.inv(x.T @ x)
    share = np.full(4, 0.25) if weights == "strata" else x.mean(axis=0)
    left = np.eye(n) - x @ bread @ x.T
    variance, columns = 0.0, []
    for cluster in np.unique(clusters):
        own = np.flatnonzero(clusters == cluster)
        root = linalg.inv(linalg.sqrtm(left[np.ix_(own, own)]).real)
        weight = share @ bread @ x[own].T @ root
        variance += (weight @ (left @ values)[own]) ** 2
        columns.append(left[:, own] @ weight)
    spread = linalg.eigvalsh(np.stack(columns, 1).T @ np.stack(columns, 1))
    found = clustered_mean(values, clusters, strata=strata, weights=weights)
    assert found.se == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert found.df == pytest.approx(spread.sum() ** 2 / (spread**2).sum(), rel=1e-9)
    jackknife = clustered_mean(values, clusters, strata=strata, weights=weights, kind="cr3")
    assert jackknife.se > found.se


@pytest.mark.parametrize("weights", ["items", "strata"])
def test_independent_items_in_strata_have_the_textbook_variance(weights):
    rng = np.random.default_rng(4)
    strata = np.repeat(np.arange(4), [24, 2, 31, 15])
    values = rng.choice([-1.0, 0.0, 1.0], len(strata))
    share = np.bincount(strata) / len(strata) if weights == "items" else np.full(4, 0.25)
    expected = sum(
        share[h] ** 2 * values[strata == h].var(ddof=1) / (strata == h).sum() for h in range(4)
    )
    found = clustered_mean(values, strata=strata, weights=weights)
    assert found.se == pytest.approx(np.sqrt(expected), rel=1e-12)


def test_a_stratum_of_one_cluster_is_named_and_leaves_the_estimate():
    values, strata = [1, 0, 1, -1, 0, 1, 1], ["a", "a", "a", "a", "a", "b", "b"]
    of_one = clustered_mean(values, [0, 1, 2, 3, 4, 5, 5], strata=strata, weights="strata")
    assert of_one.estimate == pytest.approx(0.6)
    assert np.isnan([of_one.low, of_one.high, of_one.p]).all()
    assert of_one.reason == "one cluster only in stratum b"
    two = clustered_mean([*values[:-1], 0], strata=strata, weights="strata")
    assert np.isfinite([two.low, two.high, two.p]).all()


def test_cr3_is_the_cluster_jackknife(data):
    values, clusters = data
    out = np.array([values[clusters != one].mean() for one in range(30)])
    # Around the estimate itself, not around the mean of the left-out values.
    expected = np.sqrt(29 / 30 * ((out - values.mean()) ** 2).sum())
    assert clustered_mean(values, clusters, kind="cr3").se == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["cr1", "cr2", "cr3"])
def test_without_clusters_every_kind_is_the_paired_t_test(data, kind):
    values, _ = data
    found = clustered_mean(values, kind=kind)
    expected = stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval()
    got = (found.low, found.high, found.p, found.df)
    assert got == pytest.approx((*interval, expected.pvalue, len(values) - 1), rel=1e-9)
    assert found.method == "paired t"


def test_gain_of_a_hand_computed_table():
    # 30 right in both, 20 only under a, 8 only under b, 42 in neither.
    a = np.repeat([1, 1, 0, 0], [30, 20, 8, 42])
    b = np.repeat([1, 0, 1, 0], [30, 20, 8, 42])
    found = difference(a, b)
    assert found.estimate == pytest.approx(0.12)
    assert found.discordant == 28
    # variance of an item's difference: 28/100 - 0.12^2 = 0.2656; of the mean: / 99.
    assert found.se == pytest.approx(np.sqrt(0.2656 / 99))
    assert (found.n, found.clusters) == (100, 100)


def test_cluster_labels_of_any_kind_give_the_same(data):
    values, clusters = data
    names = np.array([f"recording {one}" for one in clusters], dtype=object)
    expected = clustered_mean(values, clusters)
    for labels in (names, clusters * 1_000_003, clusters - 50):
        found = clustered_mean(values, labels)
        assert (found.se, found.df) == pytest.approx((expected.se, expected.df), rel=1e-12)
        assert found.clusters == 30
    order = np.random.default_rng(0).permutation(len(values))
    shuffled = clustered_mean(values[order], clusters[order])
    assert shuffled.se == pytest.approx(clustered_mean(values, clusters).se, rel=1e-12)


def test_no_discordant_pairs_give_p_one_and_a_score_interval():
    same = np.array([1, 0, 1, 1, 0] * 20)
    found = difference(same, same)
    assert (found.estimate, found.p) == (0.0, 1.0)
    z2 = stats.norm.ppf(0.975) ** 2
    assert (found.low, found.high) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))
    clustered = difference(same, same, np.repeat(np.arange(20), 5))
    assert clustered.high == pytest.approx(z2 / (20 + z2))
    assert "no item differs" in clustered.reason


def test_all_pairs_discordant_one_way_is_no_zero_width_either():
    found = difference(np.ones(50), np.zeros(50))
    assert (found.low, found.high) == pytest.approx(tango(50, 0, 50), abs=1e-9)
    assert 0 < found.p < 1e-9


def test_one_cluster_keeps_the_estimate_and_says_why_there_is_no_interval():
    found = difference([1, 1, 0], [0, 1, 0], ["a", "a", "a"])
    assert found.estimate == pytest.approx(1 / 3)
    assert np.isnan([found.low, found.high, found.p]).all()
    assert found.reason == "one cluster only"


@pytest.mark.parametrize("clusters", [None, ["a"] * 4])
def test_one_cluster_without_a_discordant_pair_is_one_item(clusters):
    n = 1 if clusters is None else 4
    found = difference([1, 0, 1, 1][:n], [1, 0, 1, 1][:n], clusters)
    z2 = stats.norm.ppf(0.975) ** 2
    assert (found.p, found.high) == pytest.approx((1.0, z2 / (1 + z2)))
    assert found.low == -found.high


def test_an_interval_ends_where_the_possible_does():
    found = difference([1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1])
    assert (found.low, found.high) == (-1.0, 1.0)
    assert clustered_mean([1.0, 1, -1, 1], [0, 0, 1, 1]).low < -1


def test_no_items_are_undefined():
    found = difference([], [])
    assert np.isnan(found.estimate) and found.reason == "no items"


def test_equal_cluster_sums_do_not_pretend_certainty():
    values = np.array([1.0, -1.0] * 10)
    found = clustered_mean(values, np.repeat(np.arange(10), 2))
    assert found.high - found.low > 0.5
    assert "cluster sums are equal" in found.reason


def test_values_that_do_not_vary_and_have_no_bounds_have_no_interval():
    found = clustered_mean(np.zeros(5))
    assert found.p == 1.0 and np.isnan(found.low) and found.reason
    assert np.isnan(clustered_mean(np.full(5, 2.0)).p)


def test_values_without_spread_within_strata_still_have_width():
    values = np.repeat([1.0, 0.0], 20)
    found = clustered_mean(
        values, strata=np.repeat(["x", "y"], 20), weights="strata", bounds=(-1, 1)
    )
    assert found.estimate == 0.5
    assert found.low < 0.4 and found.high > 0.55


def test_missing_values_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        clustered_mean([1.0, np.nan])


def test_mcnemar_equals_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar as oracle

    for gained, lost in [(20, 8), (3, 0), (5, 5), (0, 0)]:
        expected = oracle([[10, gained], [lost, 10]], exact=True).pvalue if gained + lost else 1.0
        assert mcnemar_p(gained, lost) == pytest.approx(min(expected, 1.0), abs=1e-12)
