"""Baselines: what is written, kept, read and refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regression_runs import ARMS, Out, answers, check, flip, put

from probes import regression
from probes.core.errors import ProbesError

COMMITTED = Path(__file__).resolve().parents[2] / "results/baselines/tiny-egoworld.json"


def test_update_keeps_bands_tolerance_and_what_was_left_undeclared(
    base: Path, tmp_path: Path, capsys: Out
):
    content = json.loads(base.read_text())
    content["metrics"] = [one for one in content["metrics"] if one["name"] != "transfer"]
    (first,) = (
        one
        for one in content["metrics"]
        if (one["name"], one["role"], one["arm"]) == ("accuracy", "image", "baseline")
    )
    first["band"] = 1.25
    base.write_text(json.dumps(content))
    run = put(tmp_path / "run", flip(answers(arms=(*ARMS, "blind")), [6]))
    capsys.readouterr()
    assert check(run, base, "--update", "--tie-tolerance", "0.5", "--band", "did=8") == 0
    out = capsys.readouterr().out
    new = regression.read(base)
    bands = {metric.label: band for metric, band in new.bands.items()}
    assert bands["accuracy baseline, image, 5 frames"] == 1.25
    assert bands["did vcot, image - video, 5 frames"] == 8
    assert not any(name.startswith("transfer vcot") for name in bands)
    assert bands["transfer blind, video - image, 5 frames"] == 3
    assert "note: new, band 3 points: accuracy blind, image, 5 frames" in out
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
    ("change", "expected"),
    [
        (lambda c: c.pop("cells"), "cells is missing"),
        (lambda c: c.update(format="x"), "its format is not"),
        (lambda c: c.update(version=2), "version 2, not 1"),
        (lambda c: c.update(metrics=[]), "it declares no metric"),
        (lambda c: c["metrics"][0].update(band=-1), "metrics[0]: band is -1"),
        (lambda c: c["metrics"][0].update(band=math.nan), "metrics[0]: band is nan"),
        (lambda c: c["metrics"][0].update(band="5"), "metrics[0]: band has the wrong type"),
        (lambda c: c["metrics"][0].update(name="f1"), "there is no metric 'f1'"),
        (lambda c: c["metrics"][0].update(family="first"), "the family is 'first', not primary"),
        (lambda c: c["metrics"][0].update(arm="x"), "has no such cell"),
        (lambda c: c["metrics"].append(c["metrics"][0]), "appears twice"),
        (lambda c: c["metrics"][1].update(name="gain"), "its cells do not give that metric"),
        (lambda c: c["cells"].append(c["cells"][0]), "appears twice"),
        (lambda c: c["cells"][0]["answers"].pop(), ""),
        (
            lambda c: c["cells"][1]["answers"][2].__setitem__(3, "fine"),
            "cells[1]: answers[2]: the status is 'fine'",
        ),
        (lambda c: c["cells"][0]["answers"][0].__setitem__(4, 7), "choice 7 of 5 options"),
        (lambda c: c["cells"][0]["answers"][0].__setitem__(0, "?"), "an unknown item '?'"),
        (lambda c: c["cells"][0]["answers"][0].pop(), "cells[0]: answers[0]: ValueError"),
        (lambda c: c["items"][0].__setitem__(4, "A"), "items[0]: 'A' has the wrong type"),
        (lambda c: c.update(tie_tolerance=None), "tie_tolerance has the wrong type"),
    ],
)
def test_a_damaged_baseline_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], Any], expected: str, base: Path, tmp_path: Path, capsys: Out
):
    run = put(tmp_path / "run", answers())
    assert check(run, mutated(base, change)) == 2
    err = capsys.readouterr().err
    assert expected in err
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


def test_the_committed_baseline():
    found = regression.read(COMMITTED)
    assert COMMITTED.stat().st_size < 1_000_000
    assert len(found.snapshot.items) == 400  # what they can show: test_reruns.py
    assert len(found.snapshot.cells) == 10
    assert {metric.name for metric in found.bands} == {
        "accuracy",
        "gain",
        "drop",
        "transfer",
        "did",
    }
    assert set(found.bands.values()) == {3.0}
    assert [len(metrics) for metrics in found.by_family().values()] == [1, 4, 22]
    assert not found.snapshot.scripted
    assert regression.check(found, found.snapshot, "exact").passed


def test_answers_of_two_tasks_with_the_same_ids_are_kept_apart(tmp_path: Path, capsys: Out):
    records = answers(8) + answers(8, task="u", seed=0)
    # Two draws: from the item of that id of either task.
    lent = [one for one in records if one.arm == "vcot" and one.task == "u"]
    records += [dataclasses.replace(one, donor_id="q9", donor_task="egoworld") for one in lent]
    records += [dataclasses.replace(one, donor_id="q9") for one in lent]
    base = tmp_path / "base.json"
    assert check(put(tmp_path / "run", records), base, "--update") == 0
    found = regression.read(base)
    assert found.snapshot.records == len(records)
    taken = regression.capture(tmp_path / "run")
    assert dataclasses.replace(found.snapshot, cached=taken.cached) == taken
    rows = [row for cell in json.loads(base.read_text())["cells"] for row in cell["answers"]]
    assert sorted({len(row) for row in rows}) == [9, 10]
    assert [row[9] for row in rows if len(row) == 10] == ["egoworld"] * 16
    # One answer to the item of task u alone, and to the same item with each of its donors.
    moved = [
        dataclasses.replace(one, choice=(one.choice + 1) % 5, correct=False)
        if (one.task, one.item_id, one.role, one.donor_task) == ("u", "q2", "image", "egoworld")
        else one
        for one in records
    ]
    put(tmp_path / "moved", moved)
    capsys.readouterr()
    check(tmp_path / "moved", base)
    said = capsys.readouterr().out
    assert f"1 of {len(records)} answers changed" in said
    # What differs between runs is said with the task of the item.
    other = [one for one in records if (one.task, one.item_id) != ("u", "q3")]
    assert check(put(tmp_path / "fewer", other), base) == 2
    assert "1 items are missing: q3 of u" in capsys.readouterr().err
