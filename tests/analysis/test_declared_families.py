"""Declared families, and answers that a machine failed at: what a verdict may rest on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_records import bad, cell, study, write_run

from probes import analysis, stats
from probes.core.errors import ProbesError
from probes.records.schema import Record
from probes.report import write
from probes.report.study import gather
from probes.report.summary import dids, outcome

KEY = ["task", "pair", "frames", "seed", "name", "role", "arm", "reference", "policy"]


def changed(records: list[Record], **changes: object) -> list[Record]:
    return [dataclasses.replace(one, key=f"{one.key}{changes}", **changes) for one in records]  # type: ignore[arg-type]


def own_p(records: list[Record], others: list[Record], **how: bool) -> pd.DataFrame:
    frame = analysis.from_records([*records, *others])
    found = analysis.contrasts(frame, policies=["strict"], **how)  # type: ignore[arg-type]
    own = found[(found["seed"] == 0) & (found["task"] == "egoworld") & (found["stratum"] == "")]
    return own.set_index(KEY)[["p", "p_adjusted", "family"]]


def test_the_same_records_have_the_same_adjusted_p_whatever_else_is_in_the_frame() -> None:
    records = study(items=40, arms=("baseline", "vcot", "blind"))
    alone = own_p(records, [])
    more = study(items=40, seed=5, arms=("filler", "text_perturbation"))
    frames = {
        "arms": own_p(records, more),
        "seeds": own_p(records, changed(study(items=40, seed=7), seed=1)),
        "tasks": own_p(records, changed(study(items=40, seed=8), task="iraven")),
        "members": own_p(records, [*cell([1, 0] * 20, role="control"), *more]),
        "strata": own_p(records, [], by_stratum=True),
        "pairs": own_p(records, changed(study(items=40, seed=9), pair="other")),
    }
    for what, found in frames.items():
        pd.testing.assert_frame_equal(found.loc[alone.index], alone, obj=what)


def test_the_primary_family_is_corrected_by_itself() -> None:
    found = analysis.contrasts(analysis.from_records(study(items=40)), policies=["strict"])
    primary = found[found["family"].str.startswith("primary")]
    assert set(zip(primary["name"], primary["arm"], strict=True)) == {("did", "vcot")}
    assert set(primary["family"]) == {"primary: did vcot (video), 5, 10 frames"}
    assert list(primary["p_adjusted"]) == pytest.approx(list(stats.holm(primary["p"])))
    drop = found[(found["name"] == "drop") & (found["role"] == "image")]
    drop = drop[drop["arm"] == "visual_perturbation"]
    assert list(drop["p_adjusted"]) == pytest.approx(list(stats.holm(drop["p"])))
    assert set(drop["family"]) == {
        "secondary: drop visual_perturbation - vcot (image), 5, 10 frames"
    }


def test_what_was_declared_counts_where_it_is_not_loaded(tmp_path: Path) -> None:
    records = study(items=40, frames=(5,))
    config = {"frames": [5, 10, 20], "primary": ["did vcot", "transfer baseline"]}
    frame = analysis.load(write_run(tmp_path / "run", records, config))
    found = analysis.contrasts(frame, policies=["strict"]).set_index(["name", "arm"])
    pair = found.loc[[("did", "vcot"), ("transfer", "baseline")]]
    expected = stats.holm([*pair["p"], 1, 1, 1, 1])[:2]  # six were declared
    assert list(pair["p_adjusted"]) == pytest.approx(list(expected))
    assert found.loc[("did", "blind"), "p_adjusted"] == pytest.approx(
        min(1, 3 * found.loc[("did", "blind"), "p"])
    )


def identical(share: float, items: int = 500) -> list[Record]:
    """Two members that answer alike; a machine failed at a share of one cell's items."""
    rng = np.random.default_rng(0)
    right = {arm: rng.random(items) < 0.6 for arm in ("baseline", "vcot")}
    out = [
        one for role in ("image", "video") for arm in right for one in cell(right[arm], arm, role)
    ]
    hit = {f"q{number}" for number in rng.choice(items, round(share * items), replace=False)}
    return [
        dataclasses.replace(
            bad(int(one.item_id[1:]), "error", arm=one.arm, role=one.role),
            error="CUDA out of memory",
        )
        if (one.role, one.arm) == ("image", "vcot") and one.item_id in hit
        else one
        for one in out
    ]


def test_errors_of_one_cell_make_no_effect(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", identical(0.08), {})
    found = analysis.contrasts(analysis.load(run), policies=["strict"])
    did = found[found["name"] == "did"].iloc[0]
    assert (did["estimate"], did["n"], did["left_out"]) == (0.0, 460, 40)
    assert (did["failed_share"], did["failed_in"]) == (pytest.approx(0.08), "image vcot")
    assert not did["verdict"]
    assert np.isnan(did["p"])
    assert "no verdict: a machine failed at 8.0 % of image vcot" in did["reason"]
    # Whatever those 40 answers had been; as wrong answers, they once made an effect.
    assert did["worst_low"] < -0.04 < 0 < did["worst_high"]
    untouched = found[(found["name"] == "gain") & (found["role"] == "video")].iloc[0]
    assert untouched["verdict"]
    assert np.isfinite(untouched["p"])
    made = gather([run])
    (row,) = dids(made, made.blocks[0])
    assert outcome(row) == "failed"
    report = (write([run], tmp_path / "report").parent / "report.md").read_text("utf-8")
    assert "No verdict: a machine failed at 8.0 % of the items of image vcot at 5 frames" in report
    assert "gained more from vcot" not in report
    assert "Failed answers of compared cells (no verdict above 2 %" in report


def test_a_few_errors_leave_a_verdict_and_the_share_is_a_setting(tmp_path: Path) -> None:
    frame = analysis.load(write_run(tmp_path / "few", identical(0.01), {}))
    assert analysis.contrasts(frame)["verdict"].all()
    strictest = analysis.contrasts(frame, most_failed=0.0)
    assert not strictest[strictest["name"] == "did"]["verdict"].any()
    run = write_run(tmp_path / "most", identical(0.08), {"most_failed": 0.1})
    assert analysis.contrasts(analysis.load(run))["verdict"].all()
    with pytest.raises(ProbesError, match="different shares of failed answers"):
        other = changed(identical(0.0), seed=1)
        analysis.load([run, write_run(tmp_path / "other", other, {"most_failed": 0.0})])
    with pytest.raises(ProbesError, match="2 is no share"):
        analysis.contrasts(frame, most_failed=2)


def test_accuracies_are_of_answers() -> None:
    found = analysis.accuracies(analysis.from_records(identical(0.08)))
    by_cell = found.set_index(["role", "arm"])
    image, video = by_cell.loc[("image", "vcot")], by_cell.loc[("video", "vcot")]
    assert (image["n"], image["failed"], video["n"]) == (460, 40, 500)
    assert image["accuracy"] == pytest.approx(video["accuracy"], abs=0.02)


def test_errors_in_one_cell_make_no_other_one_clearer() -> None:
    """A declared comparison without a verdict still counts in its family."""
    records = study(items=40)
    failing = [
        dataclasses.replace(one, status="error", choice=None, correct=False)
        if one.frames == 10 and one.arm == "vcot" and one.item_id in ("q0", "q1", "q2")
        else one
        for one in records
    ]
    found = analysis.contrasts(analysis.from_records(failing), policies=["strict"])
    primary = found[found["family"].str.startswith("primary")].set_index("frames")
    assert not primary.loc[10, "verdict"]
    assert np.isnan(primary.loc[10, "p_adjusted"])
    assert primary.loc[5, "p_adjusted"] == pytest.approx(min(1.0, 2 * primary.loc[5, "p"]))
