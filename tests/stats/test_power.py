import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from probes.stats import (
    Gain,
    clustered_mean,
    discordance_range,
    items_needed,
    latent_discordance,
    minimum_effect,
    plan_from,
    power,
    power_by_simulation,
    sd_did,
    sd_gain,
)
from probes.stats.simulate import draw, estimate_many


def test_power_equals_statsmodels():
    for effect, sd, n in [(0.06, 0.5, 500), (0.02, 0.45, 100), (0.1, 0.6, 50)]:
        expected = TTestPower().power(effect / sd, n, 0.05)
        assert power(effect, sd, n) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "expected"), [(500, 0.95), (200, 0.62)])
def test_paired_power_at_latent_correlation_of_nine_tenths(n, expected):
    discordance = latent_discordance(0.47, 0.53, 0.9)
    assert power(0.06, sd_gain(discordance), n) == pytest.approx(expected, abs=0.03)


def test_formula_and_simulation_agree():
    gain = Gain(0.06, 0.2)
    simulated = power_by_simulation((gain,), np.ones(300), draws=2000, seed=1)
    assert simulated == pytest.approx(power(0.06, sd_gain(0.2), 300), abs=0.03)
    pair = (Gain(0.08, 0.2), Gain(0.02, 0.15))
    simulated = power_by_simulation(pair, np.ones(300), draws=2000, seed=2)
    formula = power(0.06, sd_did(0.2, 0.15, gain_other=0.02), 300)
    assert simulated == pytest.approx(formula, abs=0.03)


def test_clusters_cost_power_as_the_design_effect_says():
    rng = np.random.default_rng(0)
    sizes = np.full(60, 5)
    (values,) = draw(rng, 200, sizes, (Gain(0.06, 0.2),), alike=0.5)
    codes = np.repeat(np.arange(60), 5)
    plans = [plan_from(row, codes) for row in values.astype(float)]
    effect = float(np.mean([plan.design_effect for plan in plans]))
    assert effect > 1.3
    formula = power(0.06, sd_gain(0.2), 300, design_effect=effect, per_cluster=5)
    simulated = power_by_simulation((Gain(0.06, 0.2),), sizes, draws=1500, seed=3, alike=0.5)
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
    assert latent_discordance(0.44, 0.514, 0.0) == pytest.approx(0.50168, abs=1e-5)
    assert 0.074 < latent_discordance(0.44, 0.514, 0.9) < 0.50168


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="discordance of at least"):
        power(0.3, sd_gain(0.2), 100)
    with pytest.raises(ValueError, match="between"):
        draw(np.random.default_rng(0), 1, [1, 1], (Gain(0.3, 0.2),))


def test_plan_reads_off_a_run():
    values = np.repeat([1.0, 0.0, -1.0, 0.0], [20, 50, 10, 20])
    plan = plan_from(values)
    assert (plan.n, plan.discordance, plan.estimate) == (100, 0.3, 0.1)
    assert plan.design_effect == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["cr1", "cr2", "cr3"])
def test_many_estimates_are_the_same_as_one_by_one(kind):
    sizes = np.array([1, 4, 9, 2, 2, 7, 1, 5])
    codes = np.repeat(np.arange(8), sizes)
    (values,) = draw(np.random.default_rng(1), 20, sizes, (Gain(0.1, 0.4),), alike=0.4)
    many = estimate_many(values, sizes, kind)
    for i, row in enumerate(values.astype(float)):
        one = clustered_mean(row, codes, kind=kind)
        got = (many.estimate[i], many.se[i], many.df)
        assert got == pytest.approx((one.estimate, one.se, one.df), rel=1e-9)


def test_simulated_runs_have_the_truth_they_were_given():
    image, other = draw(
        np.random.default_rng(2), 400, np.full(100, 5), (Gain(0.1, 0.3), Gain(-0.05, 0.2)),
        alike=0.3, shared=0.5,
    )  # fmt: skip
    assert image.mean() == pytest.approx(0.1, abs=0.01)
    assert np.abs(image).mean() == pytest.approx(0.3, abs=0.01)
    assert other.mean() == pytest.approx(-0.05, abs=0.01)
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] > 0.2
