"""What records can resolve: plans from a run, equivalence, the published figures."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from made_records import bad, cell, study

from probes import analysis, stats
from probes.analysis import published
from probes.config import paths
from probes.core.errors import ProbesError


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return analysis.from_records(study(items=200, frames=(5,), arms=("baseline", "vcot")))


@pytest.fixture(scope="module")
def planned(frame: pd.DataFrame) -> pd.DataFrame:
    found = analysis.contrasts(frame, names=["gain", "did"], by_stratum=True)
    return analysis.planning(found, effects=[0.02, 0.05])


def test_planning_is_the_formula_at_the_runs_discordance(planned):
    row = planned[(planned["name"] == "gain") & (planned["role"] == "image")].iloc[0]
    assert row["discordance"] == row["discordant"] / 200
    common = {"design_effect": row["design_effect"], "per_cluster": 2.0}
    spread = stats.sd_gain(row["discordance"])
    expected = stats.minimum_effect(200, spread, most=row["discordance"], **common)
    assert row["minimum_effect"] == pytest.approx(expected, rel=1e-6)
    assert row["items_for_5"] == stats.items_needed(0.05, spread, **common)
    assert row["items_needed"] == stats.items_needed(row["estimate"], spread, **common)


def test_planning_is_done_per_stratum(planned):
    least = planned[planned["name"] == "did"].set_index("stratum")["minimum_effect"]
    assert list(least.index) == ["", "s0", "s1", "s2"]
    assert (least[["s0", "s1", "s2"]] > least[""]).all()


def test_the_least_effect_is_found_as_often_as_wanted(frame, planned):
    found = analysis.simulated(planned, frame, draws=1500, seed=1)
    assert list(found.index) == list(planned.index)
    assert found[planned["stratum"] == ""].to_numpy() == pytest.approx(0.8, abs=0.06)
    assert found.equals(analysis.simulated(planned, frame, draws=1500, seed=1))


def test_planning_of_arms_that_do_not_differ_at_all():
    same = analysis.from_records(cell([1, 0] * 50) + cell([1, 0] * 50, arm="vcot"))
    found = analysis.contrasts(same, names=["gain"], policies=["strict"])
    planned = analysis.planning(found)
    row = planned.iloc[0]
    # Then the effect itself is all the discordance there is.
    expected = stats.minimum_effect(100, stats.sd_square(0.0), per_cluster=2.0)
    assert row["minimum_effect"] == pytest.approx(expected)
    assert row["items_needed"] == np.inf
    assert np.isnan(analysis.simulated(planned, same).iloc[0])


def test_planning_of_a_single_item_is_undefined():
    frame = analysis.from_records(cell([1]) + cell([0], arm="vcot"))
    found = analysis.contrasts(frame, names=["gain"], policies=["strict"])
    row = analysis.planning(found, effects=[0.02]).iloc[0]
    assert np.isnan([row["minimum_effect"], row["items_needed"], row["items_for_2"]]).all()


# Equivalence


def test_a_member_that_gains_nothing_is_equivalent_with_enough_items():
    rng = np.random.default_rng(0)
    base = rng.random(600) < 0.6
    vcot = base ^ (rng.random(600) < 0.02)
    records = cell(base) + cell(vcot, arm="vcot")
    row = analysis.equivalences(analysis.from_records(records), 0.03).iloc[0]
    expected = stats.equivalence(
        vcot * 1.0 - base, 0.03, np.arange(600) // 2, bounds=(-1, 1), step=1
    )
    assert row["equivalent"] and expected.equivalent
    assert (row["p"], row["low"], row["high"]) == (expected.p, expected.low, expected.high)
    few = analysis.equivalences(analysis.from_records(records[:40] + records[600:640]), 0.03)
    assert not few["equivalent"].any()


def test_equivalence_keeps_both_policies():
    vcot = [*cell([1] * 39, arm="vcot"), bad(39, "unparsed", arm="vcot")]
    found = analysis.equivalences(analysis.from_records(cell([1] * 40) + vcot), 0.1)
    assert list(found["policy"]) == ["strict", "complete"]
    assert list(found["n"]) == [40, 39]


@pytest.mark.parametrize(("margin", "alpha"), [(0.0, 0.05), (2.0, 0.05), (0.1, 0.7)])
def test_equivalence_without_meaning_is_refused(frame, margin, alpha):
    with pytest.raises(ProbesError, match="between 0 and"):
        analysis.equivalences(frame, margin, alpha=alpha)


# Published figures


def of_egoschema(**settings):
    return {(r.family, r.name, r.what): r for r in analysis.resolved("egoschema", **settings)}


def test_published_gains_are_those_of_the_table():
    with (paths.reference_dir() / "egoschema.csv").open() as file:
        rows = {(r["family"], r["role"], r["frames"], r["arm"]): r for r in csv.DictReader(file)}
    found = of_egoschema()
    gain = found["LLaVA-NeXT", "gain", "image, 5 frames"]
    two = [
        float(rows["LLaVA-NeXT", "image", "5", arm]["accuracy"]) / 100
        for arm in ("vcot", "baseline")
    ]
    assert gain.estimate == pytest.approx(two[0] - two[1])
    assert (gain.least, gain.independent) == pytest.approx(stats.discordance_range(*two)[:2])
    did = found["LLaVA-NeXT", "did", "5 frames"]
    other = found["LLaVA-NeXT", "gain", "video, 5 frames"]
    assert did.estimate == pytest.approx(gain.estimate - other.estimate)
    assert sum(name == "drop" for _, name, _ in found) == 8


def answers(estimate, discordance, n):
    """Per-item differences with this mean and discordance, as near as whole items allow."""
    gained = round(n * (discordance + estimate) / 2)
    lost = round(n * (discordance - estimate) / 2)
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost])


def test_a_published_gain_is_significant_below_its_limit_and_not_above():
    row = of_egoschema()["InternVL", "gain", "video, 10 frames"]
    for share, significant in ((0.008, False), (-0.008, True)):
        values = answers(row.estimate, row.significant_below + share, 500)
        assert values.mean() == pytest.approx(row.estimate)
        assert (stats.clustered_mean(values).p < 0.05) == significant
    edge = stats.power(row.estimate, stats.sd_gain(row.found_below), 500)
    assert edge == pytest.approx(0.8, abs=1e-6)


def test_a_did_has_the_noise_of_both_members():
    did = of_egoschema()["LLaVA-NeXT", "did", "5 frames"]
    q = did.significant_below
    variance = sum(answers(gain, q, 500_000).var() for gain in (0.074, 0.016))
    assert did.estimate / np.sqrt(variance / 499) == pytest.approx(1.9647, abs=0.002)


def test_recordings_make_published_gains_harder_to_resolve():
    independent, alike = of_egoschema(), of_egoschema(icc=0.3)
    for name, one in independent.items():
        assert not alike[name].significant_below > one.significant_below
    assert sum(size * count for size, count in published.RECORDINGS) == 500
    assert sum(count for _, count in published.RECORDINGS) == 347


def test_iraven_is_resolved_per_configuration_and_over_all():
    rows = analysis.resolved("iraven")
    assert [r.n for r in rows] == [100] * 7 + [700] + [500] * 7 + [3500]
    assert rows[7].estimate == pytest.approx(np.mean([r.estimate for r in rows[:7]]))
    with pytest.raises(ProbesError, match="no published table"):
        analysis.resolved("raven")
