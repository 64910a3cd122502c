"""Runs held against baselines: what passes which gate, what is refused, what is written."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import bad, cell, record, write_run

from probes import regression
from probes.cli import check as command
from probes.cli import main
from probes.core.errors import ProbesError
from probes.records import schema
from probes.records.schema import ItemRow, Record
from probes.regression.checking import flips_of

COMMITTED = Path(__file__).resolve().parents[2] / "results/baselines/tiny-egoworld.json"
ARMS = ("baseline", "vcot")
CONFIG: dict[str, Any] = {
    "pair": {"name": "tiny", "answer_prefix": "",
             "members": [{"role": "image", "frame_as": "video"},
                         {"role": "video", "frame_as": "video"}]},
    "suite": [{"name": "baseline", "frames": "own", "infills": "none", "reference": ""},
              {"name": "vcot", "frames": "own", "infills": "own", "reference": "baseline"}],
    "prompts": {"name": "tiny", "cloze": "{context} {question}"},
    "task": {"name": "egoworld", "layout": "sequence", "videos": 100},
    "infill": {"source": "shared", "generator": "image", "file": None},
    "scoring": "cloze",
}  # fmt: skip
PLATFORM = {"system": "Linux", "machine": "x86_64", "cpu": "avx2", "gpu": ""}
PACKAGES = {"torch": "2.0", "torchvision": "0.2", "transformers": "5.0", "tokenizers": "0.2",
            "numpy": "2.0"}  # fmt: skip


def answers(items: int = 100, arms: Sequence[str] = ARMS, **changes: Any) -> list[Record]:
    """Both members under some arms; every second answer is right, every item its own cluster."""
    right = [i % 2 == 0 for i in range(items)]
    return [
        one
        for role in ("image", "video")
        for arm in arms
        for one in cell(right, arm, role, cluster="", **changes)
    ]


def flip(
    records: list[Record], items: Sequence[int], arm: str = "vcot", role: str = "image"
) -> list[Record]:
    """Turn right into wrong and wrong into right."""
    names = {f"q{i}" for i in items}
    return [
        record(int(one.item_id[1:]), arm, role, not one.correct, cluster="", donor_id=one.donor_id)
        if (one.item_id, one.arm, one.role) in {(name, arm, role) for name in names}
        else one
        for one in records
    ]


def edit(
    records: list[Record], item: int, arm: str = "vcot", role: str = "image", **changes: Any
) -> list[Record]:
    """Change fields of one record."""
    return [
        dataclasses.replace(one, **changes)
        if (one.item_id, one.arm, one.role) == (f"q{item}", arm, role)
        else one
        for one in records
    ]


def put(
    folder: Path,
    records: list[Record],
    config: dict[str, Any] = CONFIG,
    manifest: dict[str, Any] | None = None,
    question: str = "what?",
    frames: str = "f",
) -> Path:
    """Write a run folder with manifest and items."""
    write_run(folder, records)
    first = {one.item_id: one for one in records}
    rows = [
        {"id": one.item_id, "task": one.task, "question": question, "options": list("abcde"),
         "answer": one.answer, "stratum": one.stratum, "cluster": one.cluster, "media_path": "m",
         "media_sha256": "m", "frame_hashes": [("5", [frames])], "meta": []}
        for one in first.values()
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema.arrow_schema(ItemRow)), folder / "items.parquet")
    content = {
        "config": config, "git": "abc", "created": "2026-01-01", "platform": PLATFORM,
        "packages": PACKAGES, "members": {"tiny-image": {"fingerprint": "f1", "dtype": "float32"}},
    } | (manifest or {})  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(content), "utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `answers()`, and its baseline with a band of five points for everything."""
    folder = tmp_path_factory.mktemp("made")
    assert check(put(folder / "run", answers()), folder / "base.json", "--update") == 0
    return folder


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """That baseline, to be used up."""
    return Path(shutil.copy(made / "base.json", tmp_path))


def check(run: Path, file: Path, *more: str) -> int:
    return main.main(["check", str(run), "--against", str(file), *more])


def changes(file: Path, run: Path) -> dict[str, regression.MetricChange]:
    found = regression.check(regression.read(file), regression.capture(run))
    return {one.metric.words: one for one in found.changes}


Out = pytest.CaptureFixture[str]


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
        (["--band", "0"], 1),
        (["--band", "2.97"], 1),
        (["--band", "2.99"], 0),
        ([], 0),
        (["--band", "1", "--band", "accuracy=5"], 1),
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
    assert check(run, file, "--band", "1.8") == 1
    assert check(run, file, "--band", "1.9") == 0
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


def test_a_change_for_the_better_leaves_the_band_too(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), [1]))
    assert changes(base, run)["accuracy vcot, image, 5 frames"].estimate == pytest.approx(0.01)
    assert check(run, base, "--band", "2") == 1


def test_changes_that_cancel_still_widen_the_interval(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), [0, 1]))
    one = changes(base, run)["accuracy vcot, image, 5 frames"]
    assert one.estimate == 0
    assert one.low < -0.02
    assert check(run, base, "--band", "2") == 1
    assert check(run, base, "--band", "3") == 0


def test_intervals_are_clustered(tmp_path: Path):
    file = tmp_path / "base.json"
    records = [dataclasses.replace(one, cluster=f"r{int(one.item_id[1:]) // 4}")
               for one in answers()]  # fmt: skip
    check(put(tmp_path / "first", records), file, "--update")
    together, apart = (
        [
            dataclasses.replace(one, cluster=f"r{int(one.item_id[1:]) // 4}")
            for one in flip(answers(), items)
        ]
        for items in ([0, 2], [0, 40])
    )
    name = "accuracy vcot, image, 5 frames"
    near = changes(file, put(tmp_path / "near", together))[name]
    far = changes(file, put(tmp_path / "far", apart))[name]
    assert near.clusters == 25
    assert near.high - near.low > 1.3 * (far.high - far.low)


def test_a_metric_without_an_interval_does_not_pass(tmp_path: Path, capsys: Out):
    file = tmp_path / "base.json"
    one = [dataclasses.replace(row, cluster="only") for row in answers()]
    check(put(tmp_path / "first", one), file, "--update")
    run = put(tmp_path / "run", [dataclasses.replace(r, cluster="only")
                                 for r in flip(answers(), [6])])  # fmt: skip
    assert check(run, file, "--band", "100") == 1
    assert "[undefined: one cluster only]" in capsys.readouterr().out


def near_tie(gap: float, choice: int) -> dict[str, Any]:
    """Item 6 has its key at 1; option `choice` leads options 1 and 2 by `gap`."""
    scores = [-3.0, -1.0, -1.0, -3.0, -3.0]
    scores[choice] += gap
    return {"option_logprobs": tuple(scores), "choice": choice, "correct": choice == 1}


@pytest.mark.parametrize(
    ("before", "now", "more", "code"),
    [
        (5e-4, 5e-4, [], 0),
        (5e-4, 2e-3, [], 1),
        (2e-3, 5e-4, [], 1),
        (2e-3, 2e-3, ["--tie-tolerance", "0.01"], 0),
        (5e-4, 5e-4, ["--tie-tolerance", "0"], 1),
    ],
)
def test_a_choice_between_options_that_are_near_in_both_runs_is_forgiven(
    before: float, now: float, more: list[str], code: int, tmp_path: Path, capsys: Out
):
    file = tmp_path / "base.json"
    first = put(tmp_path / "first", edit(answers(), 6, **near_tie(before, 1)))
    check(first, file, "--update", "--band", "0")
    run = put(tmp_path / "run", edit(answers(), 6, **near_tie(now, 2)))
    assert check(run, file, *more) == code
    out = capsys.readouterr().out
    assert ("1 near-ties (within" in out) == (code == 0)
    assert "q6  vcot, image, 5 frames  B right" in out  # listed either way


def test_the_tie_is_judged_by_what_the_choice_was_made_by(tmp_path: Path):
    file = tmp_path / "base.json"
    tokens = (10,) * 5  # cloze: means over ten tokens; 0.008 nats in the sum are 0.0008 in the mean
    first = edit(answers(), 6, **near_tie(0.008, 1), option_tokens=tokens)
    check(put(tmp_path / "first", first), file, "--update", "--band", "0")
    run = edit(answers(), 6, **near_tie(0.008, 2), option_tokens=tokens)
    assert check(put(tmp_path / "run", run), file) == 0


def test_an_answer_that_failed_is_no_tie(base: Path, tmp_path: Path, capsys: Out):
    rows = [one for one in answers() if (one.item_id, one.arm, one.role) != ("q6", "vcot", "image")]
    run = put(tmp_path / "run", [*rows, bad(6, "error", arm="vcot", cluster="")])
    assert check(run, base, "--tie-tolerance", "9", "--band", "1") == 1
    assert "B right (+2.0000) -> error" in capsys.readouterr().out


def test_between_two_wrong_options_no_metric_moves(base: Path, tmp_path: Path, capsys: Out):
    scores = (-3.0, -3.0, -3.0, -3.0, -1.0)
    run = put(tmp_path / "run", edit(answers(), 1, choice=4, option_logprobs=scores))
    assert check(run, base, "--band", "0") == 0
    assert "C wrong (-2.0000) -> E wrong (-2.0000)" in capsys.readouterr().out
    assert check(run, base, "--gate", "exact") == 1


def test_items_beyond_the_limit_are_counted(base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", flip(answers(), range(0, 40, 2)))
    assert check(run, base, "--items", "3") == 1
    out = capsys.readouterr().out
    assert out.count(" -> ") == 3
    assert "and 17 more (--items 20 lists all)" in out


def test_flips_that_matter_come_first(base: Path, tmp_path: Path):
    scores = (-3.0, -3.0, -3.0, -3.0, -1.0)
    records = edit(answers(), 1, "baseline", choice=4, option_logprobs=scores)
    run = put(tmp_path / "run", flip(records, [6]))
    found = regression.check(regression.read(base), regression.capture(run))
    assert [one.now.item_id for one in found.flips] == ["q6", "q1"]
    moved = next(one.metric for one in found.changes if one.changed)
    mine = flips_of(moved, found.flips, {"vcot": "baseline"})
    assert [one.now.item_id for one in mine] == ["q6"]


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"option_logprobs": (-3.0002, -1.0, -3.0, -3.0, -3.0)}, "log-probabilities in 1"),
        ({"option_logprobs": (-3.00005, -1.0, -3.0, -3.0, -3.0)}, ""),
        ({"option_logprobs": (-math.inf, -1.0, -3.0, -3.0, -3.0)}, "largest change inf nats"),
        ({"key": "other"}, "key in 1"),
        ({"option_tokens": (1, 1, 1, 1, 2)}, "tokens in 1"),
    ],
)
def test_the_exact_gate(edits: dict[str, Any], told: str, base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", edit(answers(), 6, **edits))
    assert check(run, base, "--gate", "exact") == bool(told)
    out = capsys.readouterr().out
    assert told in out
    if told:
        assert "exact gate: FAILED, 1 of 400 records are not the same" in out
        assert "q6  vcot, image, 5 frames: " in out
    assert check(run, base) == 0  # no answer changed


def test_the_exact_gate_excuses_a_tie(tmp_path: Path):
    file = tmp_path / "base.json"
    first = put(tmp_path / "first", edit(answers(), 6, **near_tie(4e-5, 1)))
    check(first, file, "--update", "--tie-tolerance", "0")
    run = put(tmp_path / "run", edit(answers(), 6, **near_tie(4e-5, 2)))
    assert check(run, file, "--gate", "exact") == 0
    assert check(run, file, "--band", "0") == 1


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"platform": PLATFORM | {"cpu": "avx512"}}, "cpu is avx512, in the baseline avx2"),
        ({"packages": PACKAGES | {"torch": "2.1"}}, "torch is 2.1, in the baseline 2.0"),
        ({"members": {"tiny-image": {"dtype": "bfloat16"}}}, "tiny-image dtype is bfloat16"),
        ({"platform": {}}, "a manifest does not tell cpu, gpu, machine, system"),
    ],
)
def test_elsewhere_the_statistical_gate_decides(
    manifest: dict[str, Any], told: str, base: Path, tmp_path: Path, capsys: Out
):
    moved = edit(flip(answers(), [6]), 8, key="other")
    run = put(tmp_path / "run", moved, manifest=manifest)
    file = tmp_path / "junit.xml"
    assert check(run, base, "--gate", "exact", "--junit", str(file)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"exact gate: not on this platform ({told}" in out
    assert "the statistical gate decides" in out
    skipped = ET.parse(file).find(".//testcase[@classname='probes.check.exact']/skipped")
    assert skipped is not None
    assert told in skipped.attrib["message"]
    assert check(run, base, "--gate", "exact", "--band", "1") == 1


def test_what_is_under_test_is_noted_and_not_refused(base: Path, tmp_path: Path, capsys: Out):
    records = [dataclasses.replace(one, stimulus_sha="new") if one.arm == "vcot" else one
               for one in answers(arms=(*ARMS, "blind"))]  # fmt: skip
    manifest = {
        "members": {"tiny-image": {"fingerprint": "f2", "dtype": "float32"}},
        "packages": PACKAGES | {"torch": "2.1"},
        "counts": {"prompts": {"tiny-image": {"computed": 0}}},
    }
    assert check(put(tmp_path / "run", records, manifest=manifest), base) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "note: tiny-image is another checkpoint" in out
    assert "note: torch: 2.1, in the baseline 2.0" in out
    assert "not checked: 2 cells, e.g. blind, image" in out
    assert "infills came out otherwise: in 200 of 400 records the text is another (vcot)" in out
    assert "every answer came from the store" in out


def test_prompts_that_the_code_builds_otherwise_are_told_apart(
    base: Path, tmp_path: Path, capsys: Out
):
    records = [dataclasses.replace(one, stimulus_sha="new") if one.arm == "baseline" else one
               for one in answers()]  # fmt: skip
    assert check(put(tmp_path / "run", records), base) == 0
    told = "prompts are built otherwise: in 200 of 400 records the text is another (baseline)"
    assert told in " ".join(capsys.readouterr().out.split())


def changed_config(name: str, value: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    node = config
    *path, last = name.split(".")
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    return config


Records = Callable[[], list[Record]]


@pytest.mark.parametrize(
    ("records", "more", "told"),
    [
        (answers, {"question": "who?"}, "question or options differ in 100 items: q0, q1, q10"),
        (answers, {"frames": "g"}, "the frames themselves differ in 100 items"),
        (lambda: answers(99), {}, "1 items are missing: q99"),
        (lambda: answers(101), {}, "1 items are added: q100"),
        (lambda: answers(arms=("baseline",)), {},
         "cells were not run: vcot, image, 5 frames; vcot, video"),
        (lambda: answers(seed=1), {}, "none of the baseline's cells was run"),
        (lambda: answers(pair="other"), {}, "the run task egoworld, pair other"),
        (lambda: [dataclasses.replace(one, cluster="x") for one in answers()], {},
         "cluster differ in 100 items"),
        (lambda: [dataclasses.replace(one, answer=0) if one.item_id == "q6" else one
                  for one in answers()], {}, "answer differ in 1 items: q6"),
        (lambda: [dataclasses.replace(one, donor_id="q9") if one.arm == "vcot" else one
                  for one in answers()], {}, "donors or rotations of vcot differ: items q0"),
        (answers, {"config": changed_config("prompts.cloze", "{question}")},
         "tiny: prompts.cloze is '{question}', in the baseline '{context} {question}'"),
        (answers, {"config": changed_config("suite.1.infills", "filler")},
         "tiny: suite.vcot.infills is 'filler', in the baseline 'own'"),
        (answers, {"config": changed_config("infill.source", "self")}, "tiny: infill.source is"),
        (answers, {"config": changed_config("task.layout", "matrix")},
         "tiny: task.layout is 'matrix', in the baseline 'sequence'"),
        (lambda: [dataclasses.replace(one, rotation=1) if one.arm == "vcot" else one
                  for one in answers()], {}, "donors or rotations of vcot differ: items q0"),
        (answers, {"config": changed_config("pair.members.0.frame_as", "image")},
         "tiny: frame_as.image is 'image'"),
    ],
)  # fmt: skip
def test_a_run_of_other_questions_is_refused(
    records: Records, more: dict[str, Any], told: str, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", records(), **more)
    assert check(run, base) == 2
    err = capsys.readouterr().err
    assert "the run cannot be compared with the baseline" in err
    assert told in err
    assert "--update" in err


def test_what_cannot_change_a_question_is_not_looked_at(base: Path, tmp_path: Path):
    config = changed_config("prompts.name", "mine") | {"limit": 100, "max_new_tokens": 8}
    config["task"] = {"name": "egoworld", "layout": "sequence", "videos": 300, "root": "/data"}
    assert check(put(tmp_path / "run", answers(), config), base) == 0


def test_shards_and_folders_of_runs_are_one_run(base: Path, tmp_path: Path):
    for at in (0, 1):
        part = [one for one in answers() if int(one.item_id[1:]) % 2 == at]
        put(tmp_path / "sweep" / str(at), part, CONFIG | {"shard": at, "shards": 2})
    assert check(tmp_path / "sweep", base, "--gate", "exact") == 0


def test_runs_of_two_settings_are_refused(base: Path, tmp_path: Path, capsys: Out):
    for name in ("video", "image"):
        config = changed_config("pair.members.0.frame_as", name)
        put(tmp_path / "sweep" / name, answers(), config)
    assert check(tmp_path / "sweep", base) == 2
    assert "the runs differ in their settings: frame_as=" in capsys.readouterr().err


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


def test_rotations_of_an_item_are_averaged_and_told_apart(tmp_path: Path):
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
        keyless = record(100, "vcot", answer=None, cluster="", choice=choice)
        kept = [one for one in answers() if one.role == "image"]
        return [*kept, keyless, record(100, answer=None, cluster="")]

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


def test_junit_has_a_case_per_metric_and_its_failures_carry_the_flips(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), [6, 8]))
    file = tmp_path / "out" / "junit.xml"
    assert check(run, base, "--band", "2", "--items", "1", "--junit", str(file)) == 1
    suite = ET.parse(file).getroot().find("testsuite")
    assert suite is not None
    assert suite.attrib["tests"] == "9"
    assert suite.attrib["failures"] == "4"
    assert suite.attrib["skipped"] == suite.attrib["errors"] == "0"
    failed = {
        case.attrib["name"]: failure
        for case in suite.findall("testcase")
        if (failure := case.find("failure")) is not None
    }
    one = failed["did vcot, image - video, 5 frames"]
    assert one.attrib["message"] == "-2.0 [-4.8, +0.8] points left the band +-2"
    assert one.text is not None
    assert "q6  vcot, image, 5 frames  B right" in one.text
    assert "and 1 more (--items 2 lists all)" in one.text


def test_junit_of_the_exact_gate_has_a_case_per_cell(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), [6]))
    file = tmp_path / "junit.xml"
    check(run, base, "--gate", "exact", "--junit", str(file))
    cases = ET.parse(file).findall(".//testcase")
    assert {case.attrib["classname"] for case in cases} == {"probes.check.exact"}
    assert len(cases) == 4
    (failure,) = (found for case in cases if (found := case.find("failure")) is not None)
    assert "1 of 100 records are not the same" in failure.attrib["message"]
    assert "q6" in str(failure.text)


def test_junit_is_xml_whatever_an_item_is_called(tmp_path: Path):
    name = 'a\x00\x1b<b>&"\ud7ff\uffff'

    def named(records: list[Record]) -> list[Record]:
        return [dataclasses.replace(one, item_id=name) if one.item_id == "q6" else one
                for one in records]  # fmt: skip

    file, out = tmp_path / "base.json", tmp_path / "junit.xml"
    check(put(tmp_path / "first", named(answers())), file, "--update")
    run = put(tmp_path / "run", named(flip(answers(), [6])))
    assert check(run, file, "--band", "0", "--junit", str(out)) == 1
    failure = ET.parse(out).find(".//failure")
    assert failure is not None
    assert 'a??<b>&"\ud7ff?' in str(failure.text)


def test_update_keeps_bands_tolerance_and_what_was_left_undeclared(
    base: Path, tmp_path: Path, capsys: Out
):
    content = json.loads(base.read_text())
    content["metrics"] = [one for one in content["metrics"] if one["name"] != "transfer"]
    content["metrics"][0]["band"] = 1.25
    base.write_text(json.dumps(content))
    run = put(tmp_path / "run", flip(answers(arms=(*ARMS, "blind")), [6]))
    capsys.readouterr()
    assert check(run, base, "--update", "--tie-tolerance", "0.5", "--band", "did=8") == 0
    out = capsys.readouterr().out
    new = regression.read(base)
    bands = {metric.words: band for metric, band in new.bands.items()}
    assert bands["accuracy baseline, image, 5 frames"] == 1.25
    assert bands["did vcot, image - video, 5 frames"] == 8
    assert not any(name.startswith("transfer vcot") for name in bands)
    assert bands["transfer blind, video - image, 5 frames"] == 5
    assert "note: new, band 5 points: accuracy blind, image, 5 frames" in out
    assert new.tie_tolerance == 0.5
    assert check(run, base, "--band", "0") == 0  # the new answers are what counts now
    fewer = put(tmp_path / "fewer", answers(arms=("baseline", "vcot")))
    assert check(fewer, base, "--update") == 0
    assert "note: no longer there: accuracy blind, image, 5 frames" in capsys.readouterr().out
    assert regression.read(base).tie_tolerance == 0.5


def test_a_failed_update_leaves_the_old_file(base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    base.write_text("{")
    assert check(run, base, "--update") == 2
    assert base.read_text() == "{"
    assert "the baseline is damaged" in capsys.readouterr().err
    other = put(tmp_path / "other", answers(task="egoschema"))
    check(run, tmp_path / "b.json", "--update")
    before = (tmp_path / "b.json").read_bytes()
    (tmp_path / "b.json").write_bytes(before)
    assert check(tmp_path / "nowhere", tmp_path / "b.json", "--update") == 2
    (other / "manifest.json").unlink()
    assert check(other, tmp_path / "b.json", "--update") == 2
    assert (tmp_path / "b.json").read_bytes() == before


def test_a_baseline_is_the_same_file_whatever_the_order_of_records(tmp_path: Path):
    texts = []
    for at, records in enumerate((answers(), answers()[::-1])):
        file = tmp_path / f"{at}.json"
        check(put(tmp_path / str(at), records), file, "--update")
        texts.append(file.read_text())
    assert texts[0] == texts[1]
    assert texts[0].isascii()
    assert max(map(len, texts[0].splitlines())) < 250  # one line an answer: a diff says what moved


def test_what_is_read_is_what_was_written(made: Path, base: Path, tmp_path: Path):
    found = regression.read(base)
    regression.write(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_bytes() == base.read_bytes()
    taken = regression.capture(made / "run")
    assert dataclasses.replace(found.snapshot, cached=taken.cached) == taken


def mutated(base: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = json.loads(base.read_text())
    change(content)
    base.write_text(json.dumps(content))
    return base


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.pop("cells"), "cells is missing"),
        (lambda c: c.update(format="x"), "its format is not"),
        (lambda c: c.update(version=2), "version 2, not 1"),
        (lambda c: c.update(metrics=[]), "it declares no metric"),
        (lambda c: c["metrics"][0].update(band=-1), "metrics[0]: band is -1"),
        (lambda c: c["metrics"][0].update(band=math.nan), "metrics[0]: band is nan"),
        (lambda c: c["metrics"][0].update(band="5"), "metrics[0]: band is of the wrong kind"),
        (lambda c: c["metrics"][0].update(name="f1"), "there is no metric 'f1'"),
        (lambda c: c["metrics"][0].update(arm="x"), "holds no such cell"),
        (lambda c: c["metrics"].append(c["metrics"][0]), "comes twice"),
        (lambda c: c["metrics"][0].update(name="gain"), "its cells make no such metric"),
        (lambda c: c["cells"].append(c["cells"][0]), "comes twice"),
        (lambda c: c["cells"][0]["answers"].pop(), ""),
        (lambda c: c["cells"][1]["answers"][2].__setitem__(3, "fine"),
         "cells[1]: answers[2]: the status is 'fine'"),
        (lambda c: c["cells"][0]["answers"][0].__setitem__(4, 7), "choice 7 of 5 options"),
        (lambda c: c["cells"][0]["answers"][0].__setitem__(0, "?"), "an unknown item '?'"),
        (lambda c: c["cells"][0]["answers"][0].pop(), "cells[0]: answers[0]: ValueError"),
        (lambda c: c["items"][0].__setitem__(4, "A"), "items[0]: 'A' is of the wrong kind"),
        (lambda c: c.update(tie_tolerance=None), "tie_tolerance is of the wrong kind"),
    ],
)  # fmt: skip
def test_a_damaged_baseline_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], Any], told: str, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", answers())
    assert check(run, mutated(base, change)) == 2
    err = capsys.readouterr().err
    assert told in err
    assert str(base) in err or "--update" in err


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_reading_never_ends_in_another_exception(data: st.DataObject, base: Path, tmp_path: Path):
    content = json.loads(base.read_text())
    content["cells"] = [dict(one, answers=one["answers"][:2]) for one in content["cells"]]
    node, depth = content, data.draw(st.integers(1, 6))
    for at in range(depth):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if at == depth - 1 or not isinstance(node[key], dict | list) or not node[key]:
            junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
            node[key] = data.draw(junk | st.just([]) | st.just({}) | st.just([[]]))
            break
        node = node[key]
    file = tmp_path / "junk.json"
    file.write_text(json.dumps(content))
    try:
        regression.read(file)
    except ProbesError as error:
        assert "baseline" in str(error)


@pytest.mark.parametrize(
    "more",
    [["--band", "f1=3"], ["--band", "-1"], ["--band", "nan"], ["--items", "-1"],
     ["--gate", "loose"], ["--tie-tolerance", "x"], ["--update", "--junit", "x.xml"]],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(more: list[str], base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    assert check(run, base, *more) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("x.xml").exists()


def test_missing_files_are_told(base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    assert check(run, tmp_path / "no.json") == 2
    assert "--update" in capsys.readouterr().err
    assert check(run, base, "--junit", str(base / "x" / "y.xml")) == 2
    assert str(base) in capsys.readouterr().err
    (run / "items.parquet").unlink()
    assert check(run, base) == 2
    assert "the run's items cannot be read" in capsys.readouterr().err


def test_help_teaches(capsys: Out):
    assert main.main(["check", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("--gate", "--band", "--update", "examples:", "Exit codes: 0 passed"):
        assert word in out


def test_a_real_run_through_the_whole_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
):
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    small = ["backend=scripted", "task.videos=6", "task.height=32", "task.fps=1", "frames=2"]
    for name, more in (("a", []), ("b", []), ("c", ["backend.options.policy=first"])):
        assert main.main(["run", *small, f"hydra.run.dir={tmp_path / name}", *more]) == 0
    file = tmp_path / "base.json"
    assert check(tmp_path / "a", file, "--update") == 0
    assert check(tmp_path / "b", file, "--gate", "exact") == 0
    out = capsys.readouterr().out
    assert "exact gate: PASSED, all 60 records are the same" in out
    assert "every answer came from the store" in out
    assert check(tmp_path / "c", file) == 1
    out = capsys.readouterr().out
    assert "tiny-image is another checkpoint" in out
    assert "statistical gate: FAILED" in out


def test_the_committed_baseline():
    found = regression.read(COMMITTED)
    assert COMMITTED.stat().st_size < 1_000_000
    assert len(found.snapshot.items) == 100  # one answer is one point
    assert len(found.snapshot.cells) == 10
    assert {metric.name for metric in found.bands} == {
        "accuracy", "gain", "drop", "transfer", "did"
    }  # fmt: skip
    assert max(found.bands.values()) <= 8
    assert regression.check(found, found.snapshot, "exact").passed


@pytest.mark.parametrize("name", ["docs/ci.md", "docs/examples/probe-regression.yml", "Makefile"])
def test_the_commands_that_are_written_down_are_understood(name: str):
    text = (COMMITTED.parents[2] / name).read_text("utf-8").replace("$(GATE)", "exact")
    commands = re.findall(r"^(?:.*\s|.*/|.*`)?probes (check [^`\n]+)`?$", text, re.MULTILINE)
    assert commands
    for words in commands:
        given = command.parser().parse_args(shlex.split(words)[1:])
        assert "build" in str(given.path)


def test_the_example_workflow_is_yaml_and_names_what_is_there():
    text = (COMMITTED.parents[2] / "docs/examples/probe-regression.yml").read_text("utf-8")
    steps = yaml.safe_load(text)["jobs"]["probes"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert [run.split()[0] for run in runs] == ["make", *[".venv/bin/probes"] * 3]
    env = yaml.safe_load(text)["env"]
    assert (COMMITTED.parents[2] / env["BASELINE"]) == COMMITTED
