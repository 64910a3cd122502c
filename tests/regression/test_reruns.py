"""Simulated re-runs: their rates are those of the gate, and the shipped baseline keeps its word."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from regression_runs import Out, answers, check, put

from benchmarks import check as benchmark
from probes import regression
from probes.core.tables import markdown
from probes.regression.flips import CellOdds, _hits
from probes.regression.reruns import (
    FALLS,
    MetricRates,
    OperatingCharacteristics,
    _RerunWorld,
    operating_characteristics,
    warnings,
)
from probes.regression.show import rates_notes, rates_table
from probes.regression.snapshot import Snapshot
from probes.regression.statistical import statistical

COMMITTED = Path(__file__).resolve().parents[2] / "results/baselines/tiny-egoworld.json"


def rerun(base: Snapshot, world: _RerunWorld, number: int) -> Snapshot:
    """Return one simulated re-run as a snapshot."""
    items, cells = base.items_by_id(), []
    for cell in base.cells:
        kept, flips = list(cell.answers), world.flips[cell.name]
        for at, change in zip(
            flips.answer[flips.rerun == number], flips.change[flips.rerun == number], strict=True
        ):
            one = kept[at]
            right = items[cell.name.task, one.item_id].answer
            assert right is not None
            kept[at] = dataclasses.replace(one, choice=right if change > 0 else (right + 1) % 4)
        cells.append(dataclasses.replace(cell, answers=tuple(kept)))
    return dataclasses.replace(base, cells=tuple(cells))


def with_donors(folder: Path) -> regression.Baseline:
    """A baseline of clusters of three items, with two donors of every item under vcot."""
    records = [
        dataclasses.replace(
            one, donor_id=donor, key=f"{one.key}{donor}", cluster=f"c{int(one.item_id[1:]) // 3}"
        )
        for one in answers(60)
        for donor in (("d1", "d2") if one.arm == "vcot" else (None,))
    ]
    run = regression.capture(put(folder / "run", records))
    return regression.renew(None, run, {"": 1.0})[0]


@pytest.mark.parametrize("which", ["committed", "donors"])
def test_a_simulated_rerun_is_judged_as_the_gate_judges_it(which: str, tmp_path: Path):
    declared = regression.read(COMMITTED) if which == "committed" else with_donors(tmp_path)
    reruns, seen = 3, set()
    world = _RerunWorld(declared, reruns, 0.05, 0)
    for number in range(reruns):
        found = statistical(declared.snapshot, rerun(declared.snapshot, world, number), declared)
        for family, metrics in world.families.items():
            judged = world.judged(family)
            of_family = [one for one in found if one.family == family]
            assert [one.metric for one in of_family] == metrics
            for at, one in enumerate(of_family):
                assert judged.estimate[number, at] == pytest.approx(100 * one.estimate, abs=1e-9)
                assert judged.reach[number, at] == pytest.approx(one.least_band, abs=1e-6)
                assert judged.changed[number, at] == (one.outcome == "changed")
                assert judged.same[number, at] == (one.outcome == "same")
                seen.add(one.outcome)
    assert "same" in seen
    assert len(seen) > 1


@pytest.mark.parametrize("seed", range(3))
def test_the_committed_baseline_errs_as_seldom_as_docs_say(seed: int):
    found = operating_characteristics(regression.read(COMMITTED), reruns=2000, seed=seed)
    assert found is not None
    assert found.failing <= 0.05
    told = [one for one in found.rates if one.caught]
    assert [one.metric.what for one in told] == ["did", "accuracy", "accuracy", "gain", "gain"]
    assert FALLS[-1] == 5
    assert min(one.caught[-1] for one in told) >= 0.8
    assert warnings(found) == []


def test_docs_show_the_rates_of_the_committed_baseline():
    declared = regression.read(COMMITTED)
    found = operating_characteristics(declared)
    assert found is not None
    text = (COMMITTED.parents[2] / "docs/ci.md").read_text("utf-8")
    for row in [*markdown(rates_table(declared, found))][2:]:
        assert row in text
    (failing, _) = rates_notes(found)
    assert failing in " ".join(text.split())


@pytest.mark.slow
def test_two_hundred_reruns_through_the_whole_check_fail_in_at_most_a_twentieth():
    rows = benchmark.whole_checks(regression.read(COMMITTED), 200)
    assert next(rows)["failed"] <= 0.05
    assert next(rows)["changed"] >= 0.8


def test_flips_and_falls_are_as_many_as_asked_for(made: Path):
    base = regression.read(made / "base.json").snapshot
    cell = base.cells[0]
    odds, rng = CellOdds(cell, base.items_by_id()), np.random.default_rng(0)
    flips = odds.flips(rng, 20_000, 0.1)
    right = odds.right[flips.answer]
    assert set(flips.change[right]) == {-1.0}
    assert set(flips.change[~right]) == {1.0}
    # Half of 100 answers are right; of five options a wrong answer has one right among four others.
    assert right.sum() / 20_000 / 50 == pytest.approx(0.1, abs=0.002)
    assert (~right).sum() / 20_000 / 50 == pytest.approx(0.1 / 4, abs=0.001)
    fallen = odds.fallen(odds.flips(rng, 20_000, 0.0), rng, 20_000, 5.0)
    assert fallen is not None
    assert fallen.change.sum() / 20_000 == pytest.approx(-5, abs=0.1)
    # A flip and a fall never take one right answer twice.
    both = odds.fallen(flips, rng, 20_000, 5.0)
    assert both is not None
    assert len(np.unique(both.rerun * 100 + both.answer)) == len(both.answer)
    assert odds.fallen(flips, rng, 20_000, 51.0) is None
    assert _hits(rng, 1000, 1.0).tolist() == list(range(1000))
    assert _hits(rng, 0, 0.5).size == _hits(rng, 9, 0.0).size == 0


def test_the_same_seed_gives_the_same_rates_and_the_table_is_printed(
    made: Path, tmp_path: Path, capsys: Out
):
    declared = regression.read(made / "base.json")
    assert operating_characteristics(declared) == operating_characteristics(declared)
    run = put(tmp_path / "run", answers())
    assert check(run, made / "base.json") == 0
    found = operating_characteristics(declared)
    assert found is not None
    out = capsys.readouterr().out
    assert "1000 simulated re-runs of 100 items, seed 0: 1.5 % of the answers replaced" in out
    did = next(line for line in out.splitlines() if line.startswith("did vcot") and "%" not in line)
    assert did.split()[-1] == "0"
    caught = [f"{100 * share:.1f}" for share in found.rates[0].caught]
    assert any(line.split()[-3:] == caught for line in out.splitlines())
    assert f"{100 * found.failing:.1f} % of these re-runs fail" in out


def test_update_warns_where_the_items_cannot_hold_the_band(tmp_path: Path, capsys: Out):
    run, file = put(tmp_path / "run", answers()), tmp_path / "base.json"
    assert check(run, file, "--update") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "note: 100 items cannot hold the band of 3 points of did vcot, image - video" in out
    assert "--band did=4.8" in out
    assert check(run, file, "--update", "--band", "did=4.9") == 0
    assert "cannot hold" not in capsys.readouterr().out


def test_more_than_a_twentieth_of_false_alarms_is_warned_of(made: Path):
    metric = next(iter(regression.read(made / "base.json").bands))
    one = MetricRates(metric, 3.0, 0.07, 0.9, (), 2.0, 50)
    assert warnings(OperatingCharacteristics((one,), 0.05, 0.1, 100, 500, 0, 0.015)) == []
    (told,) = warnings(OperatingCharacteristics((one,), 0.07, 0.1, 100, 500, 0, 0.015))
    assert told.startswith("7 % of re-runs fail by chance alone, with 1.5 % of the answers flipped")


def test_one_cluster_has_no_rates_to_tell(tmp_path: Path):
    run = put(tmp_path / "run", [dataclasses.replace(one, cluster="only") for one in answers(20)])
    declared, _ = regression.renew(None, regression.capture(run))
    found = operating_characteristics(declared)
    assert found is not None
    assert found.failing == 0
    assert {one.same for one in found.rates} == {0}
    assert "cannot hold the band" in warnings(found)[0]
