"""Measures: built-in ones, those of an installed package, and those of an answer's extras."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_records import bad, cell, record, study, write_run

from probes import analysis, stats
from probes.analysis import measures
from probes.analysis.cells import tables
from probes.analysis.measures import MEASURES, Measure
from probes.core import plugins
from probes.core.errors import ProbesError
from probes.core.plugins import Entry

HALVES = Measure(
    "halves", "half of a right answer", lambda frame: frame["correct"] / 2.0, "proportion", (0, 0.5)
)
ANOTHER = dataclasses.replace(HALVES, name="another")
BOUNDLESS = dataclasses.replace(HALVES, name="boundless", bounds=(1, 1))
NOPE = dataclasses.replace(HALVES, name="nope", contrasts=("gian",))  # type: ignore[arg-type]
MUTE = dataclasses.replace(HALVES, name="mute", meaning="")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that registers measures by entry points."""
    entries = tuple(
        Entry(name, f"{__name__}:{target}", "others 1.0")
        for name, target in (
            ("halves", "HALVES"),
            ("wrongly", "ANOTHER"),
            ("boundless", "BOUNDLESS"),
            ("nope", "NOPE"),
            ("mute", "MUTE"),
            ("nothing", "pd"),
            ("missing", "NO_SUCH"),
        )
    )
    monkeypatch.setattr(plugins, "installed", lambda group: entries)
    monkeypatch.setattr(MEASURES, "_loaded", {})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Both members under all arms; extras say how sure an answer is."""
    found = analysis.from_records(study(items=40, frames=(5,)))
    rng = np.random.default_rng(0)
    sure = np.where(found["correct"], 0.7, 0.4) + 0.1 * rng.random(len(found))
    return found.assign(extras=[{"sure": value, "n": 3.0} for value in sure])


def only(found: pd.DataFrame, **wanted: Any) -> Any:
    for name, value in wanted.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


def test_an_installed_measure_is_one_function_and_one_row(
    installed: None, frame: pd.DataFrame
) -> None:
    own = {"accuracy", "logit", "margin", "option_probability", "entropy"}
    assert own | {"halves"} <= set(MEASURES.names())
    # Of any other measure nobody knows what one changed answer is: its default is a t interval.
    accuracy = analysis.contrasts(frame, policies=["complete"], interval="cr2")
    halves = analysis.contrasts(frame, measure="halves", interval="cr2")
    assert list(halves["policy"].unique()) == ["complete"]
    assert set(halves["measure"]) == {"halves"}
    for name in ("estimate", "low", "high", "se"):
        assert halves[name].to_numpy() == pytest.approx(accuracy[name].to_numpy() / 2)
    assert halves["p"].to_numpy() == pytest.approx(accuracy["p"].to_numpy())
    # Headroom is that of accuracies, whatever the measure.
    assert halves["headroom_image"].equals(accuracy["headroom_image"])
    each = analysis.differences(frame, measure="halves", names=["did"])
    assert set(each["difference"]) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
    (table,) = tables(frame, MEASURES.get("halves", "here"))
    one = table.cells["image", "vcot"]
    assert one.values["complete"] == pytest.approx(one.right / 2)


def test_where_nothing_differs_the_interval_ends_as_the_bounds_say(installed: None) -> None:
    same = analysis.from_records(cell([1, 0] * 20) + cell([1, 0] * 20, arm="vcot"))
    half = analysis.contrasts(same, measure="halves").iloc[0]
    whole = analysis.contrasts(same, policies=["complete"], interval="cr2").iloc[0]
    assert whole["high"] > 0
    assert (half["low"], half["high"]) == (whole["low"] / 2, whole["high"] / 2)
    free = analysis.contrasts(same, measure="margin").iloc[0]
    assert np.isnan([free["low"], free["high"]]).all()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("marginn", "did you mean margin?"),
        ("wrongly", "calls itself another"),
        ("boundless", r"its bounds are \(1, 1\)"),
        ("nope", "there is no contrast 'gian': did you mean gain?"),
        ("mute", "or it has no `meaning`"),
        ("nothing", "others 1.0 cannot be loaded: TypeError: it is not a Measure"),
        ("missing", "others 1.0 cannot be loaded: AttributeError"),
    ],
    ids=["typo", "name", "bounds", "contrast", "meaning", "type", "target"],
)
def test_a_measure_that_is_none_is_refused(
    name: str, why: str, installed: None, frame: pd.DataFrame
) -> None:
    with pytest.raises(ProbesError, match=why):
        analysis.contrasts(frame, measure=name)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (lambda frame: np.full(len(frame), 1.5), r"1\.5 is beyond its bounds"),
        (lambda frame: np.full(len(frame), np.inf), "inf is beyond its bounds"),
        (lambda frame: np.zeros(3), r"shape \(3,\) instead of"),
        (lambda frame: frame["no such column"], "KeyError: 'no such column'"),
    ],
    ids=["bounds", "infinite", "shape", "raises"],
)
def test_a_measure_that_breaks_its_promises_is_named(
    values: Any, why: str, frame: pd.DataFrame
) -> None:
    with pytest.raises(ProbesError, match=f"the measure mine cannot be taken: .*{why}"):
        analysis.contrasts(frame, measure=Measure("mine", "", values, bounds=(0, 1)))


@pytest.mark.parametrize("value", [1e308, -1e308])
def test_values_too_large_to_compute_with_are_refused(value: float, frame: pd.DataFrame) -> None:
    def values(frame: pd.DataFrame) -> Any:
        return np.where(frame["item_id"] == "q1", value, 0.0)

    with pytest.raises(ProbesError, match=r"measure mine cannot be taken: .* too large to compute"):
        analysis.contrasts(frame, measure=Measure("mine", "huge", values))


def test_a_measure_cannot_change_the_records_and_cannot_end_the_program(
    frame: pd.DataFrame,
) -> None:
    before, accuracies = frame.copy(), analysis.accuracies(frame)

    def values(frame: pd.DataFrame) -> Any:
        frame["correct"] = True
        frame.loc[:, "choice"] = 0
        return np.ones(len(frame))

    analysis.contrasts(frame, measure=Measure("mine", "spoils", values))
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(analysis.accuracies(frame), accuracies)
    ends = Measure("mine", "ends", lambda frame: sys.exit(3))
    with pytest.raises(ProbesError, match="cannot be taken: SystemExit: 3"):
        analysis.contrasts(frame, measure=ends)


def test_extras_are_measures_of_one_line(frame: pd.DataFrame) -> None:
    sure = measures.of_extra("sure", unit="proportion", bounds=(0, 1))
    found = analysis.contrasts(frame, measure=sure, names=["gain"])
    row = only(found, role="image", arm="vcot")
    by = frame[frame["role"] == "image"].set_index(["arm", "item_id"])["extras"].str["sure"]
    changes = (by["vcot"] - by["baseline"]).to_numpy()
    expected = stats.clustered_mean(changes, np.arange(40) // 2)
    assert (row["n"], row["estimate"]) == (40, pytest.approx(expected.estimate))
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["mean_a"] == pytest.approx(by["vcot"].mean())


def test_extras_may_be_pairs_and_may_be_missing(frame: pd.DataFrame) -> None:
    values = frame["extras"].str["sure"].to_numpy()
    pairs = frame.assign(extras=[list(one.items()) for one in frame["extras"]])
    assert measures.extra(pairs, "sure") == pytest.approx(values)
    some = frame.assign(extras=[None, {}, {"n": 1.0}, *frame["extras"][3:]])
    got = measures.extra(some, "sure")
    assert np.isnan(got[:3]).all()
    assert got[3:] == pytest.approx(values[3:])
    older = frame.drop(columns="extras")
    row = analysis.contrasts(older, measure=measures.of_extra("sure")).iloc[0]
    assert (row["n"], row["left_out"], row["reason"]) == (0, 40, "no items")


def test_items_without_a_public_answer_have_extras_too() -> None:
    records = [
        record(i, arm, answer=None if i < 4 else 1)
        for i in range(6)
        for arm in ("baseline", "vcot")
    ]
    found = analysis.from_records(records)
    found = found.assign(extras=[{"sure": float(arm == "vcot")} for arm in found["arm"]])
    row = analysis.contrasts(found, measure=measures.of_extra("sure")).iloc[0]
    assert (row["n"], row["estimate"]) == (6, 1.0)
    assert analysis.contrasts(found).iloc[0]["n"] == 2
    margin = analysis.contrasts(found, measure="margin").iloc[0]
    assert (margin["n"], margin["left_out"], margin["n_missing"]) == (2, 0, 0)


def test_the_probability_of_the_right_option() -> None:
    scores = (-4.0, -3.0, -9.0, -9.0, -9.0)
    one = dataclasses.replace(record(0), option_logprobs=scores, option_tokens=(4, 1, 1, 1, 1))
    letter = dataclasses.replace(one, scoring="letter", option_tokens=(1,) * 5)
    withheld = dataclasses.replace(one, item_id="q2", answer=None, correct=None)
    far = dataclasses.replace(
        letter, item_id="q3", option_logprobs=(-2000.0, -1.0, -1.0, -1.0, -1.0)
    )
    frame = analysis.from_records([one, letter, bad(1, "error"), withheld, far])
    got = MEASURES.get("option_probability", "here").of(frame)
    # Of cloze options the mean per token counts, -1 for the first one.
    by_token = np.exp([-1.0, -3.0, -9.0, -9.0, -9.0])
    assert got[0] == pytest.approx(by_token[0] / by_token.sum())
    assert got[1] == pytest.approx(np.exp(-4) / np.exp(scores).sum())
    assert np.isnan(got[2:4]).all()
    assert got[4] == 0.0


def test_a_measure_that_compares_whole_cells_has_no_items(frame: pd.DataFrame) -> None:
    found = analysis.contrasts(frame, measure="logit")
    assert set(found["name"]) == {"did"}
    for wrong in (
        lambda: analysis.differences(frame, measure="logit"),
        lambda: analysis.planning(found, measure="logit"),
        lambda: analysis.equivalences(frame, 0.1, measure="logit"),
    ):
        with pytest.raises(ProbesError, match="logit compares whole cells"):
            wrong()
    with pytest.raises(ProbesError, match="DiD of logit has no stratified version"):
        analysis.contrasts(frame, measure="logit", stratify="items")


def test_power_of_a_measure_takes_its_spread_as_it_is(frame: pd.DataFrame) -> None:
    found = analysis.contrasts(frame, measure="margin", names=["gain"])
    planned = analysis.planning(found, measure="margin", effects=[0.5])
    row = only(planned, role="image", arm="vcot")
    options = {"design_effect": row["design_effect"], "per_cluster": 2.0}
    expected = stats.minimum_effect(40, float(row["sd"]), most=50.0, **options)
    assert row["minimum_effect"] == pytest.approx(expected, rel=1e-9)
    assert row["items_for_0.5"] == stats.items_needed(0.5, float(row["sd"]), **options)
    shares = analysis.simulated(planned, frame, measure="margin", draws=1500)
    assert shares[row.name] == pytest.approx(0.8, abs=0.06)
    assert analysis.planning(found).empty  # of accuracies there are none


def test_a_margin_can_be_equivalent_within_its_own_unit(frame: pd.DataFrame) -> None:
    rows = analysis.equivalences(frame, 3.0, measure="margin")
    row = only(rows, role="video", arm="vcot")
    assert (row["policy"], row["margin"]) == ("complete", 3.0)
    assert row["equivalent"]
    assert not only(analysis.equivalences(frame, 0.01, measure="margin"), role="video", arm="vcot")[
        "equivalent"
    ]


def test_arms_without_infills_are_those_that_the_manifest_names(tmp_path: Path) -> None:
    """Where members wrote infills themselves, only arms with text may differ between them."""
    suite = [
        {"name": "baseline", "infills": "none", "reference": ""},
        {"name": "twice", "infills": "none", "reference": "baseline"},
        {"name": "shuffled", "infills": "own", "reference": "baseline"},
    ]

    def loaded(arm: str) -> pd.DataFrame:
        other = [
            dataclasses.replace(one, stimulus_sha="own")
            for one in cell([1, 1], arm=arm, role="video")
        ]
        records = [*cell([1, 0]), *cell([1, 0], role="video"), *cell([1, 1], arm=arm), *other]
        config = {"infill": {"source": "self"}, "suite": suite}
        return analysis.load(write_run(tmp_path / arm, records, config))

    with pytest.raises(ProbesError, match="not shown the same under the arm twice"):
        analysis.contrasts(loaded("twice"))
    # The name alone says nothing: this suite's arm has text.
    assert "did" in set(analysis.contrasts(loaded("shuffled"))["name"])
    manifest = tmp_path / "shuffled" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["config"]["suite"]
    manifest.write_text(json.dumps(content))
    with pytest.raises(ProbesError, match="not shown the same under the arm shuffled"):
        analysis.contrasts(analysis.load(tmp_path / "shuffled"))
