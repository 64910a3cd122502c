"""The two gates: what passes, and which metrics a changed answer moves."""

from __future__ import annotations

import dataclasses
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from made_records import bad, record
from regression_runs import (
    PACKAGES,
    PLATFORM,
    Out,
    answers,
    changed_config,
    changes,
    check,
    edit,
    flip,
    put,
)

from probes import regression
from probes.analysis.measures import MEASURES, of_extra
from probes.records.schema import Record
from probes.regression.capture import capture
from probes.regression.gates import platform_differences


@pytest.mark.parametrize(
    ("now", "differs"),
    [
        ("tokenizers 0.22, torch 2.9; cpu avx2; float32; sdpa", False),
        ("peft 0.21, tokenizers 0.22, torch 2.9; cpu avx2; float32; sdpa", False),
        ("peft 0.21, tokenizers 0.22, torch 2.8; cpu avx2; float32; sdpa", True),
        ("tokenizers 0.22, torch 2.9; cuda NVIDIA L4; float32; sdpa", True),
        ("tokenizers 0.22, torch 2.9; cpu avx2; bfloat16; sdpa", True),
    ],
)
def test_a_library_of_one_side_makes_another_member_not_another_platform(
    now: str, differs: bool, made: Path
) -> None:
    run = dataclasses.replace(capture(made), origins={"image": (now,)})
    before = "tokenizers 0.22, torch 2.9; cpu avx2; float32; sdpa"
    base = dataclasses.replace(run, origins={"image": (before,)})
    assert bool(platform_differences(base, run)) == differs


@pytest.mark.parametrize("gate", ["exact", "statistical"])
def test_an_unchanged_run_passes_any_band(gate: str, base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    capsys.readouterr()
    assert check(run, base, "--gate", gate, "--band", "0") == 0
    out = capsys.readouterr().out
    assert f"{gate} gate: PASSED" in out
    assert "9 of 9 metrics: no item changed" in out


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--gate", "exact"], 1),
        (["--strict", "--band", "0"], 1),
        (["--strict", "--band", "2.97"], 1),
        (["--strict", "--band", "2.99"], 0),
        (["--band", "0"], 0),
        ([], 0),
        (["--strict", "--band", "1", "--band", "accuracy=5"], 1),
    ],
)
def test_one_answer_of_a_hundred_passes_or_fails_as_its_gate_says(
    more: list[str], code: int, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", flip(answers(), [6]))
    assert check(run, base, *more) == code
    out = capsys.readouterr().out
    assert "  q6  vcot, image, 5 frames  B right (+2.0000) -> C wrong (-2.0000)" in out


def test_the_interval_is_that_of_the_paired_differences(base: Path, tmp_path: Path):
    found = changes(base, put(tmp_path / "run", flip(answers(), [6])))
    one = found["accuracy vcot, image, 5 frames"]
    # One difference of -1 among 100: mean -0.01, sd 0.1, se 0.01, t(0.975; 99 df) = 1.98422.
    assert one.estimate == pytest.approx(-0.01)
    assert (one.low, one.high) == pytest.approx((-0.01 - 0.0198422, -0.01 + 0.0198422), abs=1e-6)
    assert one.least_band == pytest.approx(2.98422, abs=1e-4)
    assert (one.before, one.now, one.changed, one.n) == (0.5, 0.49, 1, 100)


def test_one_point_of_five_hundred_answers(tmp_path: Path):
    file = tmp_path / "base.json"
    check(put(tmp_path / "first", answers(500)), file, "--update")
    run = put(tmp_path / "run", flip(answers(500), [0, 2, 4, 6, 8]))
    # Five differences of -1: mean -0.01, se sqrt(5 / 500 - 0.0001) / sqrt(499), t(499) = 1.96473.
    assert check(run, file, "--strict", "--band", "1.8") == 1
    assert check(run, file, "--strict", "--band", "1.9") == 0
    one = changes(file, run)["gain vcot, image, 5 frames"]
    assert one.least_band == pytest.approx(100 * (0.01 + 1.96473 * math.sqrt(0.0099 / 499)), 1e-5)


def test_every_metric_that_a_cell_enters_moves_with_it(base: Path, tmp_path: Path):
    found = changes(base, put(tmp_path / "run", flip(answers(), [6])))
    moved = {name: round(100 * one.estimate, 6) for name, one in found.items() if one.changed}
    assert moved == {
        "accuracy vcot, image, 5 frames": -1.0,
        "gain vcot, image, 5 frames": -1.0,
        "transfer vcot, video - image, 5 frames": 1.0,
        "did vcot, image - video, 5 frames": -1.0,
    }
    assert len(found) == 9


def test_the_did_sees_both_members(base: Path, tmp_path: Path):
    records = flip(flip(answers(), [6]), [7], arm="baseline", role="video")
    found = changes(base, put(tmp_path / "run", records))
    # The image member lost a right answer under vcot; the video member gained one in the reference.
    assert found["did vcot, image - video, 5 frames"].estimate == pytest.approx(0.0)
    assert found["did vcot, image - video, 5 frames"].changed == 2
    assert found["gain vcot, video, 5 frames"].estimate == pytest.approx(-0.01)


def test_a_change_for_the_better_fails_too(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), range(1, 20, 2)))
    one = changes(base, run)["accuracy vcot, image, 5 frames"]
    assert one.estimate == pytest.approx(0.1)
    assert one.outcome == "changed"
    assert check(run, base) == 1


def test_changes_that_cancel_still_widen_the_interval(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), [0, 1]))
    one = changes(base, run)["accuracy vcot, image, 5 frames"]
    assert one.estimate == 0
    assert one.low < -0.02
    assert check(run, base, "--strict", "--band", "2") == 1
    assert check(run, base, "--strict", "--band", "3") == 0


def test_intervals_are_clustered(tmp_path: Path):
    file = tmp_path / "base.json"
    records = [
        dataclasses.replace(one, cluster=f"r{int(one.item_id[1:]) // 4}") for one in answers()
    ]
    check(put(tmp_path / "first", records), file, "--update")
    same_cluster, two_clusters = (
        [
            dataclasses.replace(one, cluster=f"r{int(one.item_id[1:]) // 4}")
            for one in flip(answers(), items)
        ]
        for items in ([0, 2], [0, 40])
    )
    name = "accuracy vcot, image, 5 frames"
    near = changes(file, put(tmp_path / "near", same_cluster))[name]
    far = changes(file, put(tmp_path / "far", two_clusters))[name]
    assert near.clusters == 25
    assert near.high - near.low > 1.3 * (far.high - far.low)


def test_a_metric_without_an_interval_does_not_pass(tmp_path: Path, capsys: Out):
    file = tmp_path / "base.json"
    one = [dataclasses.replace(row, cluster="only") for row in answers()]
    check(put(tmp_path / "first", one), file, "--update")
    run = put(
        tmp_path / "run", [dataclasses.replace(r, cluster="only") for r in flip(answers(), [6])]
    )
    assert check(run, file, "--strict", "--band", "100") == 1
    out = capsys.readouterr().out
    assert "[undefined: one cluster only]" in out
    assert "4 not excluded" in out
    assert check(run, file, "--band", "100") == 0


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"option_logprobs": (-3.0002, -1.0, -3.0, -3.0, -3.0)}, "log-probabilities in 1"),
        ({"option_logprobs": (-3.00005, -1.0, -3.0, -3.0, -3.0)}, ""),
        ({"option_logprobs": (-math.inf, -1.0, -3.0, -3.0, -3.0)}, "largest change inf nats"),
        ({"key": "other"}, "key in 1"),
        ({"option_tokens": (1, 1, 1, 1, 2)}, "tokens in 1"),
    ],
)
def test_the_exact_gate(
    edits: dict[str, Any], expected: str, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", edit(answers(), 6, **edits))
    assert check(run, base, "--gate", "exact") == bool(expected)
    out = capsys.readouterr().out
    assert expected in out
    if expected:
        assert "exact gate: FAILED, 1 of 400 records are not the same" in out
        assert "q6  vcot, image, 5 frames: " in out
    assert check(run, base) == 0  # no answer changed


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"platform": PLATFORM | {"cpu": "avx512"}}, "cpu is avx512, in the baseline avx2"),
        ({"packages": PACKAGES | {"torch": "2.1"}}, "torch is 2.1, in the baseline 2.0"),
        ({"members": {"tiny-image": {"dtype": "bfloat16"}}}, "tiny-image dtype is bfloat16"),
        ({"platform": {}}, "a manifest does not state cpu, gpu, machine, system"),
    ],
)
def test_elsewhere_the_exact_gate_cannot_judge_and_the_fallback_does(
    manifest: dict[str, Any], expected: str, base: Path, tmp_path: Path, capsys: Out
):
    moved = edit(flip(answers(), [6]), 8, key="other")
    run = put(tmp_path / "run", moved, manifest=manifest)
    file = tmp_path / "junit.xml"
    assert check(run, base, "--gate", "exact", "--junit", str(file)) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert (
        f"cannot judge this run, because it was not made on the baseline's platform: {expected}"
        in err
    )
    assert "--fallback statistical" in err
    assert not file.exists()
    more = ["--gate", "exact", "--fallback", "statistical"]
    assert check(run, base, *more, "--junit", str(file)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"exact gate: not on this platform ({expected}" in out
    assert "the statistical gate decides" in out
    skipped = ET.parse(file).find(".//testcase[@classname='probes.check.exact']/skipped")
    assert skipped is not None
    assert expected in skipped.attrib["message"]
    assert check(run, base, *more, "--band", "1", "--strict") == 1


@pytest.mark.parametrize(
    ("items", "band", "outcome"),
    [
        # Ten lost of 100: -10 +- t(99) * sqrt(0.09 / 99) = -10 [-15.98, -4.02].
        (range(0, 20, 2), 9.9, "changed"),
        (range(0, 20, 2), 10.0, "not excluded"),
        (range(0, 20, 2), 15.9, "not excluded"),
        (range(0, 20, 2), 16.0, "same"),
        # Two lost: -2 [-4.79, +0.79] does not exclude 0, however narrow the band.
        ([0, 2], 0.0, "not excluded"),
        ([0, 2], 4.8, "same"),
        ([], 0.0, "same"),
    ],
)
def test_the_three_outcomes(
    items: list[int], band: float, outcome: str, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", flip(answers(), items))
    more = ["--band", str(band)]
    found = regression.check(
        regression.checking.with_bands(regression.read(base), {"": band}), regression.capture(run)
    )
    by_label = {one.metric.label: one.outcome for one in found.metric_changes}
    assert by_label["accuracy vcot, image, 5 frames"] == outcome
    assert by_label["did vcot, image - video, 5 frames"] == outcome
    assert by_label["accuracy baseline, image, 5 frames"] == "same"
    capsys.readouterr()
    assert check(run, base, *more) == (outcome == "changed")
    verdict = capsys.readouterr().out.splitlines()[3]
    assert verdict.startswith(
        f"statistical gate: {'FAILED' if outcome == 'changed' else 'PASSED'}, "
    )
    assert check(run, base, *more, "--strict") == (outcome != "same")


def test_p_values_of_a_family_do_not_depend_on_what_else_is_guarded(base: Path, tmp_path: Path):
    run = regression.capture(put(tmp_path / "run", flip(answers(), range(0, 12, 2))))
    declared = regression.read(base)
    whole = regression.check(declared, run).metric_changes
    assert [one.family for one in whole] == ["primary"] + ["headline"] * 4 + ["other"] * 4
    did, *_ = whole
    # Alone in its family: nothing is corrected. Of four gains and accuracies one moved.
    assert did.adjusted == did.p == pytest.approx(0.013, abs=0.001)
    gain = next(one for one in whole if one.metric.label == "gain vcot, image, 5 frames")
    assert gain.adjusted == pytest.approx(4 * gain.p)
    kept = {m: band for m, band in declared.bands.items() if declared.family(m) != "other"}
    fewer = regression.check(dataclasses.replace(declared, bands=kept), run).metric_changes
    assert [one.adjusted for one in fewer] == [one.adjusted for one in whole[:5]]


def test_families_are_kept_and_an_older_file_has_the_usual_ones(base: Path, tmp_path: Path):
    content = json.loads(base.read_text())
    usual = regression.read(base).families
    assert {one.pop("family", "other") for one in content["metrics"]} == {
        "primary",
        "headline",
        "other",
    }
    base.write_text(json.dumps(content))
    assert regression.read(base).families == usual
    content["metrics"][-1]["family"] = "primary"
    base.write_text(json.dumps(content))
    marked = regression.read(base).by_family()
    assert [len(metrics) for metrics in marked.values()] == [1, 8]
    assert check(put(tmp_path / "run", answers()), base, "--update") == 0
    assert regression.read(base).by_family()["primary"] == marked["primary"]


@pytest.mark.parametrize(
    ("declared", "primary", "headline"),
    [
        (["did vcot"], {"did vcot"}, {"accuracy baseline", "gain vcot"}),
        (["gain mine"], {"gain mine"}, {"accuracy baseline", "did mine"}),
        (["transfer baseline"], {"transfer baseline"}, {"accuracy baseline"}),
        ([], {"did vcot"}, {"accuracy baseline", "gain vcot"}),
    ],
)
def test_primary_is_what_the_run_declares(
    declared: list[str], primary: set[str], headline: set[str], tmp_path: Path
):
    config = changed_config("primary", declared)
    config["suite"].append({"name": "mine", "frames": "own", "reference": "baseline"})
    file = tmp_path / "base.json"
    records = answers(arms=("baseline", "vcot", "mine"))
    assert check(put(tmp_path / "run", records, config), file, "--update") == 0
    found = regression.read(file).by_family()
    named = {name: {f"{m.name} {m.cell.arm}" for m in found[name]} for name in found}
    assert (named["primary"], named["headline"]) == (primary, headline)
    # What a run is made to compare is no part of what it asks.
    other = put(tmp_path / "other", records, config | {"primary": ["gain vcot"]})
    assert check(other, file) == 0


def test_a_run_that_allows_more_failures_is_judged(base: Path, tmp_path: Path, capsys: Out):
    records = [
        bad(int(one.item_id[1:]), "error", arm="vcot", cluster="")
        if (one.arm, one.role) == ("vcot", "image") and int(one.item_id[1:]) < 3
        else one
        for one in answers()
    ]
    assert check(put(tmp_path / "a", records, changed_config("most_failed", 0.03)), base) == 0
    capsys.readouterr()
    assert check(put(tmp_path / "b", records, changed_config("most_failed", 0.01)), base) == 2
    assert "above 1 % of a cell" in capsys.readouterr().err


@pytest.mark.parametrize(("failed", "code"), [(2, 0), (3, 2)])
def test_what_failed_by_machine_is_left_out_and_too_much_of_it_is_not_judged(
    failed: int, code: int, base: Path, tmp_path: Path, capsys: Out
):
    records = [
        bad(int(one.item_id[1:]), "error", arm="vcot", cluster="")
        if (one.arm, one.role) == ("vcot", "image") and int(one.item_id[1:]) < failed
        else one
        for one in answers()
    ]
    run = put(tmp_path / "run", records)
    # q0 was right: were it counted as wrong, band 0 would not hold.
    assert check(run, base, "--strict", "--band", "0") == code
    assert check(run, tmp_path / "new.json", "--update") == code
    said = capsys.readouterr()
    if code:
        assert "3 of 100 items in vcot, image, 5 frames" in said.err
    else:
        assert "note: 2 records failed by machine: their items are left out" in said.out
        assert "2 of 400 records failed; their items are left out of the metrics" in said.out


def test_several_donors_of_an_item_are_averaged(tmp_path: Path):
    def two() -> list[Record]:
        once = answers()
        return [
            dataclasses.replace(one, donor_id=donor, key=f"{one.key}{donor}")
            for one in once
            for donor in (("d1", "d2") if one.arm == "vcot" else (None,))
        ]

    file = tmp_path / "base.json"
    check(put(tmp_path / "first", two()), file, "--update")
    half = [
        dataclasses.replace(one, choice=2, correct=False)
        if (one.item_id, one.arm, one.role, one.donor_id) == ("q6", "vcot", "image", "d2")
        else one
        for one in two()
    ]
    one = changes(file, put(tmp_path / "run", half))["accuracy vcot, image, 5 frames"]
    assert (one.estimate, one.n, one.changed) == (pytest.approx(-0.005), 100, 1)


def test_rotations_of_an_item_are_averaged_and_distinguished(tmp_path: Path):
    def turned(wrong: int) -> list[Record]:
        return [
            dataclasses.replace(one, rotation=r, key=f"{one.key}{r}")
            if (r, one.item_id, one.arm, one.role) != (wrong, "q6", "vcot", "image")
            else dataclasses.replace(one, rotation=r, choice=2, correct=False)
            for one in answers()
            for r in range(5)
        ]

    file = tmp_path / "base.json"
    check(put(tmp_path / "first", turned(-1)), file, "--update")
    found = changes(file, put(tmp_path / "run", turned(3)))["accuracy vcot, image, 5 frames"]
    assert (found.estimate, found.changed) == (pytest.approx(-0.002), 1)


def test_withheld_items_have_no_metric_but_are_compared_exactly(tmp_path: Path, capsys: Out):
    def some(choice: int) -> list[Record]:
        withheld = record(100, "vcot", answer=None, cluster="", choice=choice)
        kept = [one for one in answers() if one.role == "image"]
        return [*kept, withheld, record(100, answer=None, cluster="")]

    file = tmp_path / "base.json"
    check(put(tmp_path / "first", some(0)), file, "--update")
    run = put(tmp_path / "run", some(3))
    assert check(run, file, "--band", "0") == 0
    assert "A -> D" in capsys.readouterr().out
    assert check(run, file, "--gate", "exact") == 1
    only = put(tmp_path / "only", [record(i, answer=None) for i in range(9)])
    assert check(only, tmp_path / "no.json", "--update") == 2
    assert "there is no metric to guard" in capsys.readouterr().err
    assert not (tmp_path / "no.json").exists()


# Other measures than accuracy


def shifted(by: float) -> list[Record]:
    """Every answer of the image member under vcot with its right option moved by `by` nats."""
    return [
        dataclasses.replace(
            one,
            option_logprobs=tuple(
                score + by * (at == one.answer) for at, score in enumerate(one.option_logprobs)
            ),
        )
        if (one.arm, one.role) == ("vcot", "image")
        else one
        for one in answers()
    ]


def test_a_margin_is_guarded_in_nats(tmp_path: Path, capsys: Out):
    file, first = tmp_path / "base.json", put(tmp_path / "first", answers())
    update = ["--update", "--measure", "margin", "--band", "margin=0.25", "--band", "2"]
    assert check(first, file, *update) == 0
    metrics = json.loads(file.read_text())["metrics"]
    of_margin = [one for one in metrics if one.get("measure") == "margin"]
    assert len(metrics) == 18
    assert [one["name"] for one in of_margin].count("mean") == 4
    assert {one["band"] for one in of_margin} == {0.25}
    assert {one["band"] for one in metrics if "measure" not in one} == {2.0}
    assert check(first, file, "--band", "0", "--band", "margin=0") == 0
    capsys.readouterr()
    # No answer changes, so no accuracy does; the margins of one cell do.
    run = put(tmp_path / "run", shifted(0.3))
    junit = tmp_path / "junit.xml"
    assert check(run, file, "--junit", str(junit)) == 1
    out = capsys.readouterr().out
    assert "statistical gate: FAILED, 4 of 18 metrics changed, 0 not excluded, 14 same" in out
    assert "Other metrics that moved (percentage points; margin: nats; p by Holm over 13;" in out
    squeezed = " ".join(out.split())
    # Every item moved by the same amount: there is no spread, and no doubt.
    assert "mean of margin vcot image 5 0.00 0.30 +0.30 [+0.30, +0.30] <0.001" in squeezed
    assert "gain of margin vcot image 5 +0.00 +0.30 +0.30 [+0.30, +0.30] <0.001" in squeezed
    failed = ET.parse(junit).findall(".//failure")
    assert len(failed) == 4
    assert all("nats, band +-0.25" in one.attrib["message"] for one in failed)
    assert check(run, file, "--strict", "--band", "margin=0.4") == 0


def test_the_interval_of_a_margin_is_that_of_its_changes(tmp_path: Path):
    file = tmp_path / "base.json"
    update = ["--update", "--measure", "margin", "--band", "margin=0.25"]
    check(put(tmp_path / "first", answers()), file, *update)
    # One right answer of a hundred turns wrong: its margin falls from 2 to -2 nats.
    found = changes(file, put(tmp_path / "run", flip(answers(), [6])))
    one = found["mean of margin vcot, image, 5 frames"]
    assert (one.before, one.now, one.changed) == (0.0, pytest.approx(-0.04), 1)
    assert (one.low, one.high) == pytest.approx((-0.04 - 0.0793691, -0.04 + 0.0793691), abs=1e-6)
    assert one.least_band == pytest.approx(0.1193691, abs=1e-6)
    assert found["accuracy vcot, image, 5 frames"].least_band == pytest.approx(2.98422, abs=1e-4)
    assert found["did of margin vcot, image - video, 5 frames"].estimate == pytest.approx(-0.04)


def test_failed_answers_are_left_out_of_every_metric(tmp_path: Path, capsys: Out):
    file = tmp_path / "base.json"
    update = ["--update", "--measure", "margin", "--band", "margin=9"]
    check(put(tmp_path / "first", answers()), file, *update)
    failing = [
        bad(int(one.item_id[1:]), "error", arm="vcot", cluster="")
        if (one.item_id, one.arm, one.role) == ("q6", "vcot", "image")
        else one
        for one in answers()
    ]
    found = changes(file, put(tmp_path / "run", failing))
    assert found["mean of margin vcot, image, 5 frames"].n == 99
    assert found["accuracy vcot, image, 5 frames"].n == 99
    assert found["accuracy baseline, image, 5 frames"].n == 100
    none = [bad(i, "error", arm="vcot", cluster="") for i in range(100)]
    rest = [one for one in answers() if (one.arm, one.role) != ("vcot", "image")]
    capsys.readouterr()
    assert check(put(tmp_path / "none", [*none, *rest]), file) == 2
    err = capsys.readouterr().err
    assert "cannot be judged: answers failed by machine, above 2 % of a cell" in err
    assert "100 of 100 items in vcot, image, 5 frames" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--update", "--measure", "margin"], "there is no usual band of margin"),
        (["--update", "--measure", "magin"], "did you mean margin?"),
        (["--update", "--measure", "logit", "--band", "logit=1"], "compares whole cells"),
        (["--measure", "margin"], "add --update"),
    ],
    ids=["band", "typo", "cells", "check"],
)
def test_a_measure_that_cannot_be_guarded_is_refused(
    more: list[str], message: str, base: Path, tmp_path: Path, capsys: Out
):
    before = base.read_bytes()
    assert check(put(tmp_path / "run", answers()), base, *more) == 2
    assert message in capsys.readouterr().err
    assert base.read_bytes() == before


def test_a_measure_that_a_baseline_does_not_keep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
):
    monkeypatch.setitem(MEASURES._loaded, "margin", of_extra("margin"))
    run = put(tmp_path / "run", answers())
    more = ["--update", "--measure", "margin", "--band", "margin=1"]
    assert check(run, tmp_path / "base.json", *more) == 2
    assert "no answer has a value of margin: a baseline keeps choices" in capsys.readouterr().err


def test_an_updated_baseline_keeps_its_measures_and_their_bands(tmp_path: Path, capsys: Out):
    file = tmp_path / "base.json"
    first = put(tmp_path / "first", answers())
    check(first, file, "--update")
    check(first, file, "--update", "--measure", "margin", "--band", "margin=0.5")
    wider = put(tmp_path / "wider", answers(arms=("baseline", "vcot", "blind")))
    capsys.readouterr()
    assert check(wider, file, "--update") == 0
    assert "new, band 0.5 nats: mean of margin blind, image, 5 frames" in capsys.readouterr().out
    bands = regression.read(file).bands
    assert {band for metric, band in bands.items() if metric.measure == "margin"} == {0.5}
    assert sum(metric.measure == "margin" for metric in bands) == 15
