"""Answers that changed, ties, and runs that cannot be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_records import bad
from regression_runs import (
    ARMS,
    CONFIG,
    PACKAGES,
    Out,
    answers,
    changed_config,
    check,
    edit,
    flip,
    near_tie,
    put,
)

from probes import regression
from probes.records.schema import Record
from probes.regression.checking import changes_behind

Records = Callable[[], list[Record]]


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
def test_a_choice_between_options_that_are_near_in_both_runs_counts_as_unchanged(
    before: float, now: float, more: list[str], code: int, tmp_path: Path, capsys: Out
):
    file = tmp_path / "base.json"
    first = put(tmp_path / "first", edit(answers(), 6, **near_tie(before, 1)))
    check(first, file, "--update", "--band", "0")
    run = put(tmp_path / "run", edit(answers(), 6, **near_tie(now, 2)))
    assert check(run, file, *more) == code
    out = capsys.readouterr().out
    assert ("1 near-ties (within" in out) == ("in both runs) count as unchanged" in out)
    assert ("1 near-ties (within" in out) == (code == 0)
    assert "q6  vcot, image, 5 frames  B right" in out  # listed either way


def test_the_tie_is_judged_by_what_the_choice_was_made_by(tmp_path: Path):
    file = tmp_path / "base.json"
    tokens = (10,) * 5  # cloze: means over ten tokens; 0.008 nats in the sum are 0.0008 in the mean
    first = edit(answers(), 6, **near_tie(0.008, 1), option_tokens=tokens)
    check(put(tmp_path / "first", first), file, "--update", "--band", "0")
    run = edit(answers(), 6, **near_tie(0.008, 2), option_tokens=tokens)
    assert check(put(tmp_path / "run", run), file) == 0


def test_an_answer_that_failed_is_not_a_tie(base: Path, tmp_path: Path, capsys: Out):
    rows = [one for one in answers() if (one.item_id, one.arm, one.role) != ("q6", "vcot", "image")]
    run = put(tmp_path / "run", [*rows, bad(6, "error", arm="vcot", cluster="")])
    # Nor is it an answer: the item is left out, and no metric moves.
    assert check(run, base, "--tie-tolerance", "9", "--band", "1") == 0
    assert "tie" not in capsys.readouterr().out


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


def test_changes_that_matter_come_first(base: Path, tmp_path: Path):
    scores = (-3.0, -3.0, -3.0, -3.0, -1.0)
    records = edit(answers(), 1, "baseline", choice=4, option_logprobs=scores)
    run = put(tmp_path / "run", flip(records, [6]))
    found = regression.check(regression.read(base), regression.capture(run))
    assert [one.now.item_id for one in found.answer_changes] == ["q6", "q1"]
    moved = next(one.metric for one in found.metric_changes if one.changed)
    behind = changes_behind(moved, found.answer_changes, {"vcot": "baseline"})
    assert [one.now.item_id for one in behind] == ["q6"]


def test_the_exact_gate_excuses_a_tie(tmp_path: Path):
    file = tmp_path / "base.json"
    first = put(tmp_path / "first", edit(answers(), 6, **near_tie(4e-5, 1)))
    check(first, file, "--update", "--tie-tolerance", "0")
    run = put(tmp_path / "run", edit(answers(), 6, **near_tie(4e-5, 2)))
    assert check(run, file, "--gate", "exact") == 0
    assert check(run, file, "--band", "0") == 1


def test_what_is_under_test_is_noted_and_not_refused(base: Path, tmp_path: Path, capsys: Out):
    records = [
        dataclasses.replace(one, stimulus_sha="new") if one.arm == "vcot" else one
        for one in answers(arms=(*ARMS, "blind"))
    ]
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


def test_prompts_that_the_code_builds_otherwise_are_distinguished(
    base: Path, tmp_path: Path, capsys: Out
):
    records = [
        dataclasses.replace(one, stimulus_sha="new") if one.arm == "baseline" else one
        for one in answers()
    ]
    assert check(put(tmp_path / "run", records), base) == 0
    expected = "prompts are built otherwise: in 200 of 400 records the text is another (baseline)"
    assert expected in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("records", "more", "expected"),
    [
        (answers, {"question": "who?"}, "question or options differ in 100 items: q0, q1, q10"),
        (answers, {"frames": "g"}, "the frames themselves differ in 100 items"),
        (lambda: answers(99), {}, "1 items are missing: q99"),
        (lambda: answers(101), {}, "1 items are added: q100"),
        (
            lambda: answers(arms=("baseline",)),
            {},
            "cells were not run: vcot, image, 5 frames; vcot, video",
        ),
        (lambda: answers(seed=1), {}, "none of the baseline's cells was run"),
        (lambda: answers(pair="other"), {}, "the run task egoworld, pair other"),
        (
            lambda: [dataclasses.replace(one, cluster="x") for one in answers()],
            {},
            "cluster differ in 100 items",
        ),
        (
            lambda: [
                dataclasses.replace(one, answer=0) if one.item_id == "q6" else one
                for one in answers()
            ],
            {},
            "answer differ in 1 items: q6",
        ),
        (
            lambda: [
                dataclasses.replace(one, donor_id="q9") if one.arm == "vcot" else one
                for one in answers()
            ],
            {},
            "donors or rotations of vcot differ: items q0",
        ),
        (
            answers,
            {"config": changed_config("prompts.cloze", "{question}")},
            "tiny: prompts.cloze is '{question}', in the baseline '{context} {question}'",
        ),
        (
            answers,
            {"config": changed_config("suite.1.infills", "filler")},
            "tiny: suite.vcot.infills is 'filler', in the baseline 'own'",
        ),
        (answers, {"config": changed_config("infill.source", "self")}, "tiny: infill.source is"),
        (
            answers,
            {"config": changed_config("task.layout", "matrix")},
            "tiny: task.layout is 'matrix', in the baseline 'sequence'",
        ),
        (
            lambda: [
                dataclasses.replace(one, rotation=1) if one.arm == "vcot" else one
                for one in answers()
            ],
            {},
            "donors or rotations of vcot differ: items q0",
        ),
        (
            answers,
            {"config": changed_config("pair.members.0.frame_as", "image")},
            "tiny: frame_as.image is 'image'",
        ),
    ],
)
def test_a_run_of_other_questions_is_refused(
    records: Records, more: dict[str, Any], expected: str, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", records(), **more)
    assert check(run, base) == 2
    err = capsys.readouterr().err
    assert "the run cannot be compared with the baseline" in err
    assert expected in err
    assert "--update" in err


def test_what_cannot_change_a_question_is_not_looked_at(base: Path, tmp_path: Path):
    config = changed_config("prompts.name", "mine") | {"limit": 100, "max_new_tokens": 8}
    config["task"] = {"name": "egoworld", "layout": "sequence", "videos": 300, "root": "/data"}
    assert check(put(tmp_path / "run", answers(), config), base) == 0


def test_a_setting_that_the_runs_task_no_longer_has_was_off(tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    for value, code in ((False, 0), (True, 2)):
        config = changed_config("task.across_rows", value)
        base = tmp_path / f"{value}.json"
        assert check(put(tmp_path / str(value), answers(), config), base, "--update") == 0
        assert check(run, base) == code
    assert "tiny: task.across_rows is not set, in the baseline True" in capsys.readouterr().err


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
