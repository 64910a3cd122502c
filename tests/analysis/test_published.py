"""A run next to the study's tables: which figures are compared, and what their intervals are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_records import cell, study, write_run

from probes import analysis, stats
from probes.analysis import published_comparison
from probes.analysis.published_comparison import Figure, combined, compare
from probes.cli import main
from probes.core.errors import ProbesError
from probes.records.schema import Record

CONFIGURATIONS = (
    "center_single",
    "distribute_four",
    "distribute_nine",
    "in_center_single_out_center_single",
    "in_distribute_four_out_center_single",
    "left_center_single_right_center_single",
    "up_center_single_down_center_single",
)


def as_study(records: list[Record], task: str = "egoschema", pair: str = "llava_next_7b"):
    return [dataclasses.replace(one, task=task, pair=pair) for one in records]


def only(table: pd.DataFrame, **wanted: Any) -> pd.Series:
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1, table
    return table.iloc[0]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return analysis.from_records(as_study(study(100)))


@pytest.fixture(scope="module")
def compared(frame: pd.DataFrame) -> pd.DataFrame:
    return compare(frame)


def raven(
    items: int = 70, pair: str = "llava_next_7b", roles: tuple[str, ...] = ("image", "video")
):
    rng = np.random.default_rng(0)
    out = []
    for role in ("image", "video"):
        for one in cell(rng.random(70) < 0.3, role=role, frames=8, cluster=""):
            stratum = CONFIGURATIONS[int(one.item_id[1:]) % 7]
            out.append(dataclasses.replace(one, stratum=stratum))
    return as_study(out, "iraven", pair)


def test_every_published_cell_is_compared_with_ours(compared: pd.DataFrame):
    assert set(compared["family"]) == {"LLaVA-NeXT"}
    cells = compared[compared["name"] == "accuracy"]
    assert len(cells) == 16  # two members, two numbers of frames, four arms; blind is not published
    assert compared["name"].value_counts().to_dict() == {
        "accuracy": 16,
        "drop": 8,
        "transfer": 8,
        "did": 6,
        "gain": 4,
    }


def test_a_published_accuracy_has_the_interval_of_its_own_items(compared: pd.DataFrame):
    row = only(compared, name="accuracy", role="image", frames=5, arm="vcot")
    assert row["published"] == pytest.approx(0.514)
    assert row["published_n"] == 500
    # Wilson's interval of 257 of 500, by hand: centre 0.513893, half width 0.043637.
    z = 1.959963984540054
    centre = (0.514 + z * z / 1000) / (1 + z * z / 500)
    half = z / (1 + z * z / 500) * np.sqrt(0.514 * 0.486 / 500 + z * z / 1e6)
    assert row["published_low"] == pytest.approx(centre - half, abs=1e-12)
    assert row["published_high"] == pytest.approx(centre + half, abs=1e-12)


def test_ours_are_the_project_s_own_estimates(frame: pd.DataFrame, compared: pd.DataFrame):
    cells = analysis.accuracies(frame)
    ours = only(cells, role="video", frames=10, arm="baseline")
    row = only(compared, name="accuracy", role="video", frames=10, arm="baseline")
    assert tuple(row[["estimate", "low", "high", "n"]]) == tuple(
        ours[["accuracy", "low", "high", "n"]]
    )
    found = analysis.contrasts(frame, policies=["strict"])
    wanted = {"name": "did", "arm": "text_perturbation", "frames": 5}
    names = ["estimate", "low", "high", "n"]
    assert tuple(only(compared, **wanted)[names]) == tuple(only(found, **wanted)[names])


@pytest.mark.parametrize(
    ("wanted", "published_points"),
    [
        ({"name": "gain", "role": "image", "frames": 5}, 51.4 - 44.0),
        ({"name": "gain", "role": "video", "frames": 10}, 51.4 - 49.0),
        ({"name": "drop", "role": "image", "frames": 10, "arm": "text_perturbation"}, 45.0 - 55.4),
        ({"name": "transfer", "frames": 5, "arm": "baseline"}, 47.0 - 44.0),
        ({"name": "did", "frames": 5, "arm": "vcot"}, 7.4 - 1.6),
        (
            {"name": "did", "frames": 10, "arm": "visual_perturbation"},
            (51.8 - 55.4) - (46.4 - 51.4),
        ),
    ],
)
def test_published_contrasts_are_made_of_published_cells(
    wanted: dict[str, Any], published_points: float, compared: pd.DataFrame
):
    row = only(compared, **wanted)
    assert 100 * row["published"] == pytest.approx(published_points, abs=1e-9)
    assert row["published_low"] < row["published"] < row["published_high"]


def test_a_published_contrast_is_wider_than_its_cells_and_a_did_wider_still(
    compared: pd.DataFrame,
):
    def width(**wanted: Any) -> float:
        row = only(compared, **wanted)
        return float(row["published_high"] - row["published_low"])

    one = width(name="accuracy", role="image", frames=5, arm="vcot")
    two = width(name="gain", role="image", frames=5)
    four = width(name="did", frames=5, arm="vcot")
    assert two == pytest.approx(one * np.sqrt(2), rel=0.01)
    assert four == pytest.approx(one * 2, rel=0.01)


def test_the_difference_is_unpaired(compared: pd.DataFrame):
    for row in compared.to_dict("records"):
        ours = Figure(row["estimate"], row["low"], row["high"])
        theirs = Figure(row["published"], row["published_low"], row["published_high"])
        wanted = combined([ours, theirs], [1, -1])
        assert row["difference"] == pytest.approx(row["estimate"] - row["published"], abs=1e-12)
        assert (row["difference_low"], row["difference_high"]) == (wanted.low, wanted.high)


def test_combined_is_newcombe_s_interval_of_two_proportions():
    # 56 of 70 against 48 of 80, without continuity correction: the interval that Newcombe (1998)
    # gives for his method 10 is (0.0524, 0.3339).
    a, b = (Figure(k / n, *stats.wilson(k, n)) for k, n in ((56, 70), (48, 80)))
    found = combined([a, b], [1, -1])
    assert found.estimate == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_combined_swaps_the_ends_of_what_is_subtracted():
    asymmetric = Figure(0.5, 0.4, 0.8)
    found = combined([Figure(0.0, 0.0, 0.0), asymmetric], [1, -1])
    assert (found.low, found.high) == pytest.approx((-0.8, -0.4))
    mean = combined([asymmetric, asymmetric], [0.5, 0.5])
    assert (mean.low, mean.high) == pytest.approx((0.5 - 0.1 / np.sqrt(2), 0.5 + 0.3 / np.sqrt(2)))


def test_the_interval_of_a_difference_covers():
    """Ours on 100 items, theirs on 500, drawn from one truth: 0 is inside 95 times of 100."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        a, b = rng.binomial(100, 0.45), rng.binomial(500, 0.45)
        ours, theirs = (Figure(k / n, *stats.wilson(k, n)) for k, n in ((a, 100), (b, 500)))
        found = combined([ours, theirs], [1, -1])
        inside += found.low <= 0 <= found.high
    assert 0.935 < inside / 2000 < 0.965


def test_iraven_is_compared_configuration_by_configuration():
    table = compare(analysis.from_records(raven()))
    cells = table[(table["name"] == "accuracy") & (table["configuration"] != "all")]
    assert len(cells) == 14
    assert sorted(set(cells["configuration"])) == sorted(CONFIGURATIONS)
    row = only(cells, role="video", configuration="distribute_four")
    assert (row["published"], row["published_n"], row["n"]) == (0.14, 100, 10)
    each = table[(table["name"] == "transfer") & (table["configuration"] != "all")]
    assert len(each) == 7
    whole = only(table, name="transfer", configuration="all")
    assert whole["published_n"] == 700
    assert whole["published"] == pytest.approx(each["published"].mean())
    assert whole["estimate"] == pytest.approx(each["estimate"].mean())  # ten items in each
    mean = only(table, name="accuracy", configuration="all", role="video")
    # (7 + 14 + 16 + 8 + 13 + 14 + 21) / 7 percent.
    assert 100 * mean["published"] == pytest.approx(93 / 7)
    assert (mean["n"], mean["published_n"]) == (70, 700)
    assert (
        whole["published_high"] - whole["published"]
        < 0.5 * (each["published_high"] - each["published"]).min()
    )


def test_internvl_was_asked_500_problems_of_each_configuration():
    table = compare(analysis.from_records(raven(pair="own")), "InternVL")
    row = only(table, name="accuracy", role="image", configuration="center_single")
    assert (row["published"], row["published_n"]) == (pytest.approx(0.148), 500)


def test_without_all_configurations_there_is_no_whole():
    some = [one for one in raven() if one.stratum != "center_single"]
    table = compare(analysis.from_records(some))
    assert "all" not in set(table["configuration"])
    assert len(table[table["name"] == "accuracy"]) == 12


def test_what_is_not_published_is_left_out():
    records = as_study(study(40, frames=(7,)))
    assert compare(analysis.from_records(records)).empty
    one = as_study(study(40, frames=(5,), roles=("image",), arms=("baseline",)))
    table = compare(analysis.from_records(one))
    assert list(table["name"]) == ["accuracy"]
    assert compare(analysis.from_records(study(40))).empty  # the pair is not the study's
    assert list(compare(analysis.from_records(study(40))).columns) == list(
        published_comparison.COLUMNS
    )


def test_of_several_pairs_those_of_the_study_are_compared(frame: pd.DataFrame):
    both = as_study(study(40)) + as_study(study(40), pair="other")
    table = compare(analysis.from_records(both))
    assert set(table["pair"]) == {"llava_next_7b"}


def test_another_task_shows_the_layout_and_no_difference():
    table = compare(analysis.from_records(study(40)), "LLaVA-NeXT")
    assert len(table) == 42
    assert table["difference"].isna().all()
    assert table["published"].notna().all()
    assert any("shows the layout" in note for note in published_comparison.notes(table))


def test_an_unknown_family_is_named(frame: pd.DataFrame):
    with pytest.raises(ProbesError, match="no family 'LLaVA'"):
        compare(frame, "LLaVA")


def test_an_interval_that_we_do_not_have_leaves_none():
    records = as_study([dataclasses.replace(one, cluster="only") for one in study(40, frames=(5,))])
    table = compare(analysis.from_records(records))
    row = only(table, name="gain", role="image")
    assert np.isnan(row["low"])
    assert np.isnan(row["difference_low"])
    assert np.isfinite(row["difference"])
    text = [" ".join(line) for line in published_comparison.table(table).rows]
    assert any("[undefined]" in line for line in text)


def test_the_command_prints_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = write_run(tmp_path / "run", as_study(study(100)))
    assert main.main(["compare-published", str(run)]) == 0
    out = capsys.readouterr().out
    assert "51.4 [47.0, 55.8]" in out
    assert "arXiv 2511.12868" in out
    assert "unpaired" in out
    assert "conservative bound" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("records", "more", "message"),
    [
        (lambda: study(20), [], "the study reports nothing of the pair tiny"),
        (lambda: as_study(study(20, frames=(7,))), [], "no cell in common"),
        (lambda: as_study(study(20)), ["--family", "Qwen"], "choose LLaVA-NeXT or InternVL"),
    ],
)
def test_a_run_without_published_figures_says_so(
    records: Any, more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = write_run(tmp_path / "run", records())
    assert main.main(["compare-published", str(run), *more]) == 2
    assert message in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]):
    assert main.main(["compare-published", "--help"]) == 0
    out = capsys.readouterr().out
    assert "llava_next_7b is LLaVA" in " ".join(out.split())
    assert "example:" in out
