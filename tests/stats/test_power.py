import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from probes.stats import (
    TrueEffect,
    clustered_mean,
    design_effect,
    discordance_range,
    items_needed,
    largest_discordance,
    latent_alike,
    latent_shared,
    minimum_effect,
    power,
    power_by_resampling,
    power_by_simulation,
    sd_did,
    sd_gain,
    sd_square,
)
from probes.stats.simulate import draw, estimate_many


def test_power_equals_statsmodels():
    for effect, sd, n in [(0.06, 0.5, 500), (0.02, 0.45, 100), (0.1, 0.6, 50)]:
        expected = TTestPower().power(effect / sd, n, 0.05)
        assert power(effect, sd, n) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "expected"), [(500, 0.95), (200, 0.62)])
def test_paired_power_at_latent_correlation_of_nine_tenths(n, expected):
    cut, cov = [stats.norm.ppf(p) for p in (0.47, 0.53)], [[1, 0.9], [0.9, 1]]
    discordance = 0.47 + 0.53 - 2 * stats.multivariate_normal.cdf(cut, cov=cov)
    assert power(0.06, sd_gain(discordance), n) == pytest.approx(expected, abs=0.03)


def test_formula_and_simulation_agree():
    gain = TrueEffect(0.06, 0.2)
    simulated = power_by_simulation((gain,), np.ones(300), draws=2000, seed=1)
    assert simulated == pytest.approx(power(0.06, sd_gain(0.2), 300), abs=0.03)
    pair = (TrueEffect(0.08, 0.2), TrueEffect(0.02, 0.15))
    simulated = power_by_simulation(pair, np.ones(300), draws=2000, seed=2)
    formula = power(0.06, sd_did(0.2, 0.15, gain_other=0.02), 300)
    assert simulated == pytest.approx(formula, abs=0.03)


def test_clusters_cost_power_as_the_design_effect_says():
    rng = np.random.default_rng(0)
    sizes = np.full(60, 5)
    (values,) = draw(rng, 200, sizes, (TrueEffect(0.06, 0.2),), alike=0.5)
    codes = np.repeat(np.arange(60), 5)
    found = [clustered_mean(row, codes).se / clustered_mean(row).se for row in values]
    effect = float(np.mean(np.square(found)))
    assert effect > 1.3
    formula = power(0.06, sd_gain(0.2), 300, design_effect=effect, per_cluster=5)
    simulated = power_by_simulation((TrueEffect(0.06, 0.2),), sizes, draws=1500, seed=3, alike=0.5)
    assert simulated == pytest.approx(formula, abs=0.05)


def test_items_needed_is_the_least_number():
    n = int(items_needed(0.05, sd_gain(0.15)))
    assert power(0.05, sd_gain(0.15), n) >= 0.8 > power(0.05, sd_gain(0.15), n - 1)
    assert items_needed(0.0, 0.5) == np.inf


def test_minimum_effect_is_the_inverse_of_power():
    least = minimum_effect(500, sd_gain(0.2), most=0.2)
    assert power(least, sd_gain(0.2), 500) == pytest.approx(0.8, abs=1e-6)
    assert np.isnan(minimum_effect(10, sd_gain(0.05), most=0.05))
    did = minimum_effect(500, sd_did(0.2, 0.2), most=0.2)
    assert did > least


def test_a_shared_latent_makes_a_did_cheaper():
    assert sd_did(0.2, 0.2, correlation=0.5)(0.0) == pytest.approx(sd_gain(0.2)(0.0))


def test_published_accuracies_bound_the_discordance():
    assert discordance_range(0.44, 0.514) == pytest.approx((0.074, 0.50168, 0.954))


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="discordance of at least"):
        power(0.3, sd_gain(0.2), 100)
    with pytest.raises(ValueError, match="between"):
        draw(np.random.default_rng(0), 1, [1, 1], (TrueEffect(0.3, 0.2),))


@pytest.mark.parametrize("kind", ["cr1", "cr2", "cr3"])
def test_many_estimates_are_the_same_as_one_by_one(kind):
    sizes = np.array([1, 4, 9, 2, 2, 7, 1, 5])
    codes = np.repeat(np.arange(8), sizes)
    (values,) = draw(np.random.default_rng(1), 20, sizes, (TrueEffect(0.1, 0.4),), alike=0.4)
    many = estimate_many(values, sizes, kind)
    for i, row in enumerate(values.astype(float)):
        one = clustered_mean(row, codes, kind=kind)
        got = (many.estimate[i], many.se[i], many.df)
        assert got == pytest.approx((one.estimate, one.se, one.df), rel=1e-9)


def test_simulated_runs_have_the_truth_they_were_given():
    image, other = draw(
        np.random.default_rng(2),
        400,
        np.full(100, 5),
        (TrueEffect(0.1, 0.3), TrueEffect(-0.05, 0.2)),
        alike=0.3,
        shared=0.5,
    )
    assert image.mean() == pytest.approx(0.1, abs=0.01)
    assert np.abs(image).mean() == pytest.approx(0.3, abs=0.01)
    assert other.mean() == pytest.approx(-0.05, abs=0.01)
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] > 0.2


def test_items_needed_equals_statsmodels():
    sd = 0.45
    expected = TTestPower().solve_power(0.05 / sd, power=0.8, alpha=0.05)
    assert items_needed(0.05, sd) == np.ceil(expected)
    least = TTestPower().solve_power(nobs=500, power=0.8, alpha=0.05) * sd
    assert minimum_effect(500, sd) == pytest.approx(least, rel=1e-6)


def test_strata_cost_degrees_of_freedom():
    t, shift = stats.t.isf(0.025, 70 - 7), 0.1 / (0.3 / np.sqrt(70))
    expected = stats.nct.sf(t, 63, shift) + stats.nct.cdf(-t, 63, shift)
    assert power(0.1, 0.3, 70, strata=7) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(power(0.1, 0.3, 7, strata=7))
    assert minimum_effect(70, 0.4, strata=7) > minimum_effect(70, 0.4)
    assert items_needed(0.5, 0.1, strata=7) >= 8


def test_design_effect_of_clusters_by_hand():
    # Two items of ten have a cluster of one, eight have one of four: (2 * 1 + 8 * 4) / 10 = 3.4.
    assert design_effect([1, 1, 4, 4], 0.5) == pytest.approx(1 + 2.4 * 0.5)
    assert design_effect([1], 0.9) == 1.0
    with pytest.raises(ValueError, match="impossible"):
        design_effect([4, 4], -0.5)
    with pytest.raises(ValueError, match="at least one cluster"):
        design_effect([], 0.5)


def test_largest_discordance_is_the_inverse_of_power():
    most = largest_discordance(0.06, 500)
    assert power(0.06, sd_gain(most), 500) == pytest.approx(0.8, abs=1e-6)
    assert largest_discordance(0.3, 500) == 1.0
    assert np.isnan(largest_discordance(0.01, 100))
    # The variance of a did is 2 q - effect^2 where the other member gains nothing.
    both = largest_discordance(0.06, 500, lambda q: sd_did(q, q))
    assert both == pytest.approx(most / 2, abs=1e-6)


def test_the_spread_at_a_mean_square():
    # With single answers it is the spread at a discordance, as long as that allows the effect.
    assert sd_square(0.2)(0.06) == sd_gain(0.2)(0.06)
    assert sd_square(0.05)(0.1) == pytest.approx(np.sqrt(0.1 - 0.01))
    assert sd_square(0.0)(0.0) == 0.0
    with pytest.raises(ValueError, match="mean square"):
        sd_square(-1.0)


def test_latents_give_the_correlations_asked_for():
    gains = (TrueEffect(0.08, 0.3), TrueEffect(0.02, 0.2))
    shared = latent_shared(*gains, 0.3)
    alike = latent_alike(gains, 0.2, shared)
    image, other = draw(
        np.random.default_rng(0), 4000, np.full(40, 2), gains, alike=alike, shared=shared
    )
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] == pytest.approx(0.3, abs=0.01)
    pairs = (image - other).reshape(-1, 2).astype(float)
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(0.2, abs=0.01)
    of_one = latent_alike(gains[:1], 0.4)
    (values,) = draw(np.random.default_rng(1), 4000, np.full(40, 2), gains[:1], alike=of_one)
    pairs = values.reshape(-1, 2).astype(float)
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(0.4, abs=0.01)


def test_correlations_out_of_reach_are_refused():
    assert latent_shared(TrueEffect(0.0, 0.2), TrueEffect(0.0, 0.2), 0.0) == 0.0
    with pytest.raises(ValueError, match=r"correlation of -0\.2"):
        latent_shared(TrueEffect(0.0, 0.2), TrueEffect(0.0, 0.2), -0.2)
    # Two members of very different discordances cannot move together.
    with pytest.raises(ValueError, match=r"correlation of 0\.9"):
        latent_shared(TrueEffect(0.0, 0.05), TrueEffect(0.0, 0.8), 0.9)
    # All changes go one way: the other end of the latent is never reached.
    assert 0 < latent_alike((TrueEffect(0.2, 0.2),), 0.3) < 1


def test_resampled_runs_are_tested_as_runs_are():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    values = rng.choice([-1.0, 0.0, 1.0], len(clusters), p=[0.1, 0.6, 0.3])
    found = power_by_resampling(values, clusters, 0.15, draws=300, seed=4)
    chosen = np.random.default_rng(4).integers(0, 12, size=(300, 12))
    moved = values - values.mean() + 0.15
    hits = []
    for row in chosen:
        parts = [np.flatnonzero(clusters == one) for one in row]
        codes = np.repeat(np.arange(12), [len(part) for part in parts])
        hits.append(clustered_mean(moved[np.concatenate(parts)], codes).p <= 0.05)
    assert found == pytest.approx(np.mean(hits), abs=1e-12)


def test_resampled_runs_agree_with_the_formula():
    rng = np.random.default_rng(5)
    values = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.8, 0.1])
    effect = minimum_effect(400, float(values.std()))
    found = power_by_resampling(values, None, effect, draws=3000, seed=1)
    assert found == pytest.approx(0.8, abs=0.03)
    assert np.isnan(power_by_resampling([1.0, 0.0], ["a", "a"], 0.1))
