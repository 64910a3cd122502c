import numpy as np
import pytest
import statsmodels.api as sm

from probes.stats import DID_WEIGHTS, clustered_mean, did_logit, headroom


def did(columns, clusters=None):
    return clustered_mean(np.stack(columns, 1) @ DID_WEIGHTS, clusters, bounds=(-2, 2))


@pytest.fixture
def cells():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 5)
    ability = rng.standard_normal(40)[clusters]
    columns = [(ability + rng.standard_normal(200) < cut) * 1.0 for cut in (0.6, -0.2, 0.7, 0.5)]
    return np.stack(columns, 1), clusters


def test_did_of_a_hand_computed_table():
    columns = ([1, 1, 1, 0], [0, 0, 1, 0], [1, 0, 1, 1], [1, 0, 0, 1])
    found = did(columns)
    # Per item: 1-0, 1-0, 0-1, 0-0.
    assert found.estimate == pytest.approx(0.25)
    assert found.discordant == 3
    assert found.se == pytest.approx(np.std([1, 1, -1, 0], ddof=1) / 2)


def test_means_over_three_donors_that_cancel_are_no_change():
    columns = ([1.0] * 6, [1 / 3] * 6, [2 / 3] * 6, [0.0] * 6)
    assert 1 - 1 / 3 - 2 / 3 != 0
    found = did(columns)
    assert (found.estimate, found.discordant, found.p) == (0.0, 0, 1.0)


def test_did_without_any_change_is_a_score_interval():
    same = np.ones(30)
    found = did([same] * 4)
    assert found.p == 1.0
    assert -2 < found.low < 0 < found.high < 2


def test_logit_did_equals_a_saturated_logistic_regression(cells):
    columns, clusters = cells
    y = np.concatenate(columns.T)
    image, arm = np.repeat([1, 1, 0, 0], 200), np.repeat([1, 0, 1, 0], 200)
    x = np.stack([np.ones(800), image, arm, image * arm], axis=1)
    fit = sm.Logit(y, x).fit(
        disp=0,
        cov_type="cluster",
        cov_kwds={"groups": np.tile(clusters, 4)},
        method="newton",
        tol=1e-14,
    )
    found = did_logit(columns, clusters, jackknife=False)
    assert found.estimate == pytest.approx(fit.params[3], rel=1e-9)
    # statsmodels counts the four parameters of 800 rows; the rest is the same formula.
    assert found.se == pytest.approx(fit.bse[3] / np.sqrt(799 / 796), rel=1e-9)


def test_logit_jackknife_agrees_with_the_delta_method(cells):
    columns, clusters = cells
    delta, jackknife = did_logit(columns, clusters, jackknife=False), did_logit(columns, clusters)
    assert jackknife.estimate == delta.estimate
    assert jackknife.se == pytest.approx(delta.se, rel=0.08)


def test_logit_jackknife_is_leaving_out_clusters(cells):
    columns, clusters = cells
    out = []
    for one in range(40):
        p = [np.mean(column[clusters != one]) for column in columns.T]
        out.append(np.log(np.array(p) / (1 - np.array(p))) @ [1, -1, -1, 1])
    expected = np.sqrt(39 / 40 * ((out - np.mean(out)) ** 2).sum())
    assert did_logit(columns, clusters).se == pytest.approx(expected, rel=1e-9)


def test_logit_did_at_a_ceiling_is_defined_and_says_what_was_added():
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 2, 50) * 1.0 for _ in range(3)]
    found = did_logit(np.stack([np.ones(50), *columns], 1))
    assert np.isfinite(found.estimate) and np.isnan([found.low, found.high, found.p]).all()
    assert "a cell has 0 right or wrong answers, fewer than 3" in found.reason
    assert "half an answer" in found.reason
    nearly = np.r_[np.zeros(3), np.ones(47)]
    assert np.isfinite(did_logit(np.stack([nearly, *columns], 1)).se)


def test_logit_did_of_one_cluster_has_a_reason(cells):
    columns, _ = cells
    found = did_logit(columns, np.zeros(200))
    assert np.isfinite(found.estimate) and np.isnan(found.low)
    assert found.reason == "one cluster only"


def test_headroom_is_what_is_left():
    assert headroom([1, 1, 1, 0]) == 0.25
    # Of five options a fifth is right by chance: a drop takes no more than the rest.
    assert headroom([1, 1, 1, 0], chance=0.2) == pytest.approx(0.55)
    assert headroom([0, 0, 0, 1], chance=0.5) == 0.0
