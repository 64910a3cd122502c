"""What stands beside a gain: transfer, text alone, tokens, who wrote, what was predicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_records import cell, study, write_run

from probes import analysis
from probes.analysis import comparisons
from probes.analysis.columns import rows_of
from probes.report import write

MEMBERS = [{"role": role, "name": f"tiny-{role}", "repo": "a/b"} for role in ("image", "video")]


def config(source: str = "shared", **infill: Any) -> dict[str, Any]:
    return {"pair": {"name": "mine", "members": MEMBERS}, "infill": {"source": source, **infill}}


def strict(records: Any, **wanted: Any) -> pd.DataFrame:
    found = analysis.contrasts(analysis.from_records(records), policies=["strict"])
    for name, value in wanted.items():
        found = found[found[name] == value]
    return found


def test_a_did_is_a_lead_less_another_and_what_it_is_if_the_text_decides() -> None:
    records = cell([1] * 4 + [0] * 16) + cell([1] * 12 + [0] * 8, role="video")
    # The text decides: both members give its answers.
    records += [
        one for role in ("image", "video") for one in cell([0] * 6 + [1] * 14, "vcot", role)
    ]
    (did,) = rows_of(strict(records, name="did"))
    assert did["estimate"] == pytest.approx(0.4)
    text = comparisons.of_text_alone(did)
    assert "+40.0 = +40.0 - (+0.0)" in text
    assert "the second lead would be 0 and the DiD +40.0" in text
    transfers = strict(records, name="transfer").set_index("arm")["estimate"]
    assert did["estimate"] == pytest.approx(transfers["baseline"] - transfers["vcot"])
    assert comparisons.shares_of_room(did) == "+62 % - +25 % = +37 %"


def test_vcot_is_set_against_its_text_and_the_control_against_the_video_member() -> None:
    arms = ("baseline", "vcot", "infills_only", "filler")
    records = study(items=30, frames=(5,), arms=arms, roles=("image", "video", "control"))
    against = strict(records, name="against", role="image")
    assert set(against["reference"]) == {"infills_only", "filler"}
    right = {
        arm: sum(one.correct for one in records if (one.arm, one.role) == (arm, "image"))
        for arm in arms
    }
    by_arm = against.set_index("reference")["estimate"]
    assert by_arm["filler"] == pytest.approx((right["vcot"] - right["filler"]) / 30)
    control = strict(records, name="control")
    assert list(control["arm"]) == list(arms)
    assert set(control["role"]) == {"control"}
    transfers = strict(records, name="transfer", arm="vcot").set_index("role")["estimate"]
    (vcot,) = control[control["arm"] == "vcot"]["estimate"]
    assert vcot == pytest.approx(transfers["control"] - transfers["video"])
    titles = [
        one.title for one in analysis.study_tables(analysis.from_records(records)).blocks[0].tables
    ]
    assert any(title.startswith("Transfer (video - image") for title in titles)
    assert any(title.startswith("vCoT against its text alone") for title in titles)


def test_tokens_stand_beside_gains() -> None:
    records = [
        dataclasses.replace(one, input_tokens=100 if one.arm == "vcot" else 40)
        for one in study(items=10, frames=(5,), arms=("baseline", "vcot"))
    ]
    (gain,) = rows_of(strict(records, name="gain", role="image"))
    assert (gain["tokens_a"], gain["tokens_b"]) == (100, 40)
    (block,) = analysis.study_tables(analysis.from_records(records)).blocks
    assert {row[-2] for row in block.tables[0].rows} == {"40/100"}


def test_a_drop_is_bounded_by_chance() -> None:
    arms = ("baseline", "vcot", "text_perturbation")
    found = strict(study(items=60, frames=(5,), arms=arms), name="did").set_index("arm")
    drop = found.loc["text_perturbation"]
    image = [one for one in study(items=60, frames=(5,), arms=arms) if one.role == "image"]
    vcot = sum(bool(one.correct) for one in image if one.arm == "vcot") / 60
    assert drop["headroom_image"] == pytest.approx(vcot - 0.2)
    base = sum(bool(one.correct) for one in image if one.arm == "baseline") / 60
    assert found.loc["vcot", "headroom_image"] == pytest.approx(1 - base)


def test_words_say_what_right_of_zero_means() -> None:
    rows = rows_of(strict(study(items=20, frames=(5,)), name="did"))
    fewer = comparisons.drops(rows)
    words = {row["arm"]: comparisons.reading(row, row["arm"] in fewer) for row in rows}
    assert words["vcot"] == words["blind"] == "image gained more"
    assert words["visual_perturbation"] == words["text_perturbation"] == "image lost less"


def test_predictions_stand_beside_what_was_measured() -> None:
    found = comparisons.predictions(strict(study(items=300, frames=(5,))))
    agrees = found.set_index(["name", "arm"])["agrees"]
    assert agrees["did", "vcot"] == "yes"  # planted
    assert agrees["did", "visual_perturbation"] == "no"  # the image member loses more
    assert len(found) == 4


def test_who_wrote_the_text_stands_wherever_a_gain_is_shown(tmp_path: Path) -> None:
    arms = ("baseline", "vcot")
    runs = []
    for number, kind in enumerate(
        (config(generator="image"), config(generator="video"), config("self"))
    ):
        records = [
            dataclasses.replace(one, pair="mine", stimulus_sha=f"{number}{one.stimulus_sha}")
            for one in study(items=30, frames=(5,), arms=arms, seed=number)
        ]
        runs.append(write_run(tmp_path / f"{number}", records, kind))
    (block,) = analysis.study_tables(analysis.load(runs[0])).blocks
    by = "; text by tiny-image (the image member), for all members"
    assert [one.title.endswith(by) for one in block.tables] == [True, True, False]
    report = (write(runs, tmp_path / "report").parent / "report.md").read_text("utf-8")
    block_of = report[report.index("Sensitivity: gains and DiD of vcot by who wrote the text") :]
    for writer in ("tiny-image (the image", "tiny-video (the video", "each member for itself"):
        assert writer in block_of
    assert report.count("text by tiny-video (the video member)") >= 4
    assert "What would this number be if the text decided everything (5 frames)?" in report
    assert "run the arm infills_only too" in report
    assert "baseline: video - image" in report
