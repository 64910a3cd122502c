"""Shards that are missing are named by whatever reads runs; nothing goes on untold."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_records import item, study, write_run

from probes import analysis
from probes.analysis.merge_runs import merge
from probes.cli.main import main
from probes.core.errors import ProbesError
from probes.records import schema
from probes.records.schema import InfillRow, ItemRow, Record

ITEMS = 12
BASE = {"pair": {"name": "tiny"}, "task": {"name": "egoworld"}, "frames": [5], "seed": 0}
Out = pytest.CaptureFixture[str]


def put(
    folder: Path, shard: int, shards: int, *, sample: object = None, changes: Any = None
) -> Path:
    """Write one shard of the study's 12 items."""
    mine = [one for one in study(ITEMS, (5,)) if int(one.item_id[1:]) % shards == shard]
    config = BASE | {"shard": shard, "shards": shards} | (changes or {})
    rows = [item(number) for number in range(ITEMS) if number % shards == shard]
    write_run(folder, mine, config, rows)
    if sample is not None:
        edit(folder, sample=sample)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def begin(folder: Path, *overrides: str) -> None:
    """Leave what Hydra notes before a run begins."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {one}\n" for one in overrides))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Shards 0 and 1 of three."""
    for shard in (0, 1):
        put(tmp_path / "runs" / f"{shard}", shard, 3)
    return tmp_path / "runs"


def test_all_shards_are_a_whole_run(two: Path) -> None:
    put(two / "again" / "2", 2, 3)
    frame = analysis.load(two)
    assert len(frame) == len(study(ITEMS, (5,)))
    assert "partial" not in frame.attrs
    # One that was run twice is there once.
    put(two / "more" / "2", 2, 3)
    assert len(analysis.load(two)) == len(frame)


def test_a_missing_shard_is_named_with_its_command(two: Path) -> None:
    begin(two / "1", "task=egoworld", "shard=1", "shards=3", "pair.caveat=a b")
    with pytest.raises(ProbesError) as refused:
        analysis.load(two)
    assert "shard=2 of shards=3 is missing (there: 0, 1)" in refused.value.what
    assert str(two / "0") in refused.value.where
    command = shlex.join(["probes", "run", "task=egoworld", "pair.caveat=a b", "shard=2"])
    # In the folder of the others, where the command that was refused finds it.
    assert f"{command} shards=3 hydra.run.dir={two}/shard-2" in refused.value.fix
    assert "--partial (in Python partial=True)" in refused.value.fix
    frame = analysis.load(two, partial=True)
    assert frame.attrs["partial"] == ["shard=2 of shards=3 is missing (there: 0, 1)"]
    assert frame["item_id"].nunique() == 8


def test_one_shard_alone_is_no_run(two: Path) -> None:
    for path in (two / "0", two / "0" / "records.parquet", [two / "0"]):
        with pytest.raises(ProbesError, match=r"shard=1, shard=2 of shards=3 are missing"):
            analysis.load(path)
    assert len(analysis.load(two / "0", partial=True).attrs["partial"]) == 1


def test_a_shard_that_has_begun_is_waited_for(two: Path) -> None:
    begin(two / "2", "shard=2", "shards=3")
    with pytest.raises(ProbesError) as refused:
        analysis.load(two)
    assert f"wait for what has begun and not ended ({two / '2'})" in refused.value.fix
    with pytest.warns(UserWarning, match="left out"):
        frame = analysis.load(two, partial=True)
    assert frame.attrs["unfinished"] == [str(two / "2")]


def test_shards_of_two_numbers_do_not_make_one_run(two: Path) -> None:
    put(two / "2 of 4", 2, 4)
    with pytest.raises(ProbesError) as refused:
        analysis.load(two)
    what = "shard=2 of shards=3 and shard=0, shard=1, shard=3 of shards=4 are missing"
    assert what in refused.value.what
    assert "all shards of a run have the same `shards`, not 3, 4" in refused.value.what
    # With all three thirds the run is whole, whatever repeats a part of it.
    put(two / "2", 2, 3)
    assert len(analysis.load(two)) == len(study(ITEMS, (5,)))


def test_the_whole_run_makes_up_for_any_shard(two: Path) -> None:
    put(two / "all", 0, 1)
    assert "partial" not in analysis.load(two).attrs


@pytest.mark.parametrize("change", [{"frames": [10]}, {"seed": 1}, {"limit": 6}])
def test_a_shard_of_another_run_makes_up_for_nothing(change: dict[str, Any], two: Path) -> None:
    put(two / "2", 2, 3, changes=change)
    with pytest.raises(ProbesError, match="shard=2 of shards=3 is missing") as refused:
        analysis.load(two)
    assert "shard=0, shard=1 of shards=3 are missing (there: 2)" in refused.value.what


@pytest.mark.parametrize(
    "change", [{"backend": {"device": "cuda:1"}}, {"out": "x"}, {"backend": {"batch_size": 7}}]
)
def test_shards_may_run_on_other_machines(change: dict[str, Any], two: Path) -> None:
    put(two / "2", 2, 3, changes=change)
    assert "partial" not in analysis.load(two).attrs


@pytest.mark.parametrize("partial", [False, True])
def test_shards_of_two_samples_are_refused(partial: bool, tmp_path: Path) -> None:
    for shard, sha in enumerate("aab"):
        put(tmp_path / f"{shard}", shard, 3, sample={"items": ITEMS, "sha256": sha})
    with pytest.raises(ProbesError, match="parts of different samples") as refused:
        analysis.load(tmp_path, partial=partial)
    assert refused.value.where == f"{tmp_path / '0'} and {tmp_path / '2'}"


def test_shards_that_do_not_add_up_are_refused(two: Path) -> None:
    put(two / "2", 2, 3)
    for shard in range(3):
        edit(two / f"{shard}", sample={"items": ITEMS, "sha256": "a"}, counts={"items": 4})
    assert len(analysis.load(two)) == len(study(ITEMS, (5,)))
    edit(two / "1", counts={"items": 3})
    with pytest.raises(ProbesError, match="the shards hold 11 items, and their sample has 12"):
        analysis.load(two)


def test_shards_without_items_are_not_missed(two: Path) -> None:
    for shard in (0, 1):
        edit(two / f"{shard}", sample={"items": 8, "sha256": "a"}, counts={"items": 4})
    assert "partial" not in analysis.load(two).attrs
    edit(two / "1", counts=[])
    with pytest.raises(ProbesError, match="shard=2 of shards=3 is missing"):
        analysis.load(two)


def test_the_same_shard_with_other_answers_is_refused(two: Path, tmp_path: Path) -> None:
    put(two / "2", 2, 3)
    other = [one for one in study(ITEMS, (5,), seed=1) if int(one.item_id[1:]) % 3 == 2]
    write_run(two / "2 again", other, BASE | {"shard": 2, "shards": 3})
    with pytest.raises(ProbesError, match="the same question has different answers"):
        analysis.load(two)


@pytest.mark.parametrize(
    "config", [{"shard": 3}, {"shard": -1}, {"shard": "x"}, {"shards": None}, {"shards": 0}]
)
def test_a_manifest_of_no_shard_is_refused(config: dict[str, Any], two: Path) -> None:
    put(two / "2", 2, 3, changes=config)
    with pytest.raises(ProbesError) as refused:
        analysis.load(two)
    assert refused.value.where == str(two / "2" / "manifest.json")


def test_runs_that_did_not_finish_are_left_out_and_named(two: Path) -> None:
    put(two / "2", 2, 3)
    begin(two / "2", "shard=2")
    begin(two / "other", "shard=2")
    with pytest.warns(UserWarning, match="left out, as they have not finished: .*/other$"):
        assert "partial" not in analysis.load(two).attrs
    # Its tables may be of two runs, so they do not count as its shard.
    (two / "2" / "manifest.json").unlink()
    with pytest.raises(ProbesError, match="shard=2 of shards=3 is missing") as refused:
        analysis.load(two)
    both = f"wait for what has begun and not ended ({two / '2'}, {two / 'other'})"
    assert both in refused.value.fix
    for path in (two / "2", two / "2" / "records.parquet", [two, two / "2"]):
        with pytest.raises(ProbesError, match="has not finished"):
            analysis.load(path, partial=True)
    with pytest.warns(UserWarning, match="left out"):
        frame = analysis.load(two, partial=True)
    assert frame.attrs["unfinished"] == [str(two / "2"), str(two / "other")]
    assert frame["item_id"].nunique() == 8


@pytest.mark.parametrize("command", ["report", "power", "check", "compare-published", "merge"])
def test_every_command_refuses_and_then_says(
    command: str, two: Path, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"png": b"png", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    monkeypatch.setattr("probes.report.figures.rendered", lambda figure: drawn)  # takes seconds
    # Of what is there: a baseline is made of a whole run.
    put(tmp_path / "base" / "run", 0, 1)
    base = tmp_path / "base.json"
    assert main(["check", str(tmp_path / "base"), "--against", str(base), "--update"]) == 0
    out = tmp_path / "out"
    more = {
        "check": ["--against", str(base)],
        "merge": ["--out", str(out)],
        "report": ["--out", str(out)],
        "compare-published": ["--family", "llava_next_7b"],
    }.get(command, [])
    capsys.readouterr()
    assert main([command, str(two), *more]) == 2
    missing = "shard=2 of shards=3 is missing"
    assert missing in capsys.readouterr().err
    assert not out.exists()
    code = main([command, str(two), *more, "--partial"])
    text, err = capsys.readouterr()
    if command == "check":  # what was run is compared, and nothing else
        assert code == 0 and missing not in err
        said = " ".join(text.split())
        assert f"partial data: {missing}" in said
        assert "compared are the 8 items of the baseline that were run" in said
    elif command == "compare-published":
        assert missing not in err
    elif command == "report":
        assert code == 0
        assert f"Partial data: {missing}" in (out / "report.md").read_text()
        assert f"Partial data: {missing}" in (out / "report.html").read_text()
    else:
        assert code == 0
        assert missing in " ".join(text.split())


def test_no_baseline_is_made_of_a_part(two: Path, tmp_path: Path, capsys: Out) -> None:
    base = tmp_path / "base.json"
    assert main(["check", str(two), "--against", str(base), "--update"]) == 2
    assert "shard=2 of shards=3 is missing" in capsys.readouterr().err
    assert main(["check", str(two), "--against", str(base), "--update", "--partial"]) == 2
    assert "a baseline is made of a whole run" in capsys.readouterr().err
    assert not base.exists()


def test_answers_of_two_versions_are_told_and_counted_once(tmp_path: Path) -> None:
    runs = []
    for version in ("5.0", "5.1"):
        origin = f"transformers {version}; cpu avx2; float32; sdpa"
        made = [replace(one, origin=origin, key=version + one.key) for one in study(ITEMS, (5,))]
        run = write_run(tmp_path / version, made, BASE, [item(number) for number in range(ITEMS)])
        members = {one.member for one in made}
        said = [{"member": "", "text": "shown as image"}, {"member": "m", "text": version}]
        edit(run, origins={name: {origin: ITEMS} for name in members}, remarks=said)
        runs.append(run)
    with pytest.warns(UserWarning, match="computed in different ways") as told:
        frame = analysis.load(runs)
    assert "those by transformers 5.0" in str(told[0].message)
    assert set(frame["origin"]) == {"transformers 5.0; cpu avx2; float32; sdpa"}
    with pytest.warns(UserWarning, match="computed in different ways"):
        merge(runs, tmp_path / "merged")
    joined = json.loads((tmp_path / "merged" / "manifest.json").read_text())
    assert [one["text"] for one in joined["remarks"]] == ["shown as image", "5.0", "5.1"]
    found = joined["origins"]
    counts = frame.groupby("member").size()
    assert {name: sum(one.values()) for name, one in found.items()} == counts.to_dict()
    assert all("5.1" not in str(one) for one in found.values())


def test_a_merge_of_a_part_stays_a_part(two: Path, tmp_path: Path) -> None:
    done = merge([two], tmp_path / "part", partial=True)
    missing = "shard=2 of shards=3 is missing (there: 0, 1)"
    assert done.partial == (missing,)
    manifest = json.loads((tmp_path / "part" / "manifest.json").read_text())
    assert manifest["partial"] == {"shards": 3, "numbers": [0, 1], "missing": [missing]}
    with pytest.raises(ProbesError, match="shard=2 of shards=3 is missing"):
        analysis.load(tmp_path / "part")
    assert analysis.load(tmp_path / "part", partial=True).attrs["partial"] == [missing]
    # With the shard that was missing it is whole, and so is a merge of the two.
    put(tmp_path / "2", 2, 3)
    both = [tmp_path / "part", tmp_path / "2"]
    assert "partial" not in analysis.load(both).attrs
    assert merge(both, tmp_path / "all").partial == ()
    assert len(analysis.load(tmp_path / "all")) == len(study(ITEMS, (5,)))


def test_a_merge_of_parts_of_two_runs_cannot_be_completed(tmp_path: Path) -> None:
    for count in (5, 10):
        mine = [one for one in study(ITEMS, (count,)) if int(one.item_id[1:]) % 2 == 0]
        config = BASE | {"frames": [count], "shard": 0, "shards": 2}
        write_run(tmp_path / "runs" / f"{count}", mine, config)
    merge([tmp_path / "runs"], tmp_path / "part", partial=True)
    missing = analysis.load(tmp_path / "part", partial=True).attrs["partial"]
    assert missing == [
        "shard=1 of shards=2 is missing (there: 10); shard=1 of shards=2 is missing (there: 5)"
    ]


def infill(number: int, task: str, text: str) -> InfillRow:
    return InfillRow(
        role="shared",
        frames=5,
        item_id=f"q{number}",
        gap=0,
        frame_a="a",
        frame_b="b",
        text=text,
        common="",
        event="",
        generator="g",
        ok=True,
        error="",
        leaks=(),
        task=task,
    )


def older(rows: list[InfillRow], folder: Path) -> None:
    """Write infills as they were before they named their task."""
    table = schema.to_table(rows, InfillRow).drop_columns(["task"])
    pq.write_table(table, folder / "infills.parquet")


def test_runs_of_two_tasks_are_refused(tmp_path: Path, capsys: Out) -> None:
    for task in ("egoworld", "other"):
        records = [Record(**{**_fields(one), "task": task}) for one in study(4, (5,))]
        write_run(tmp_path / "runs" / task, records, BASE | {"task": {"name": task}})
    assert len(analysis.load(tmp_path / "runs")) == 2 * len(study(4, (5,)))
    assert main(["merge", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    assert "task is egoworld and other" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in schema.names(type(one))}


def test_shards_of_a_run_of_several_tasks_are_merged(tmp_path: Path) -> None:
    """Ids are equal in both tasks, and a shard may have items of one of them only."""
    whole = study(4, (5,))
    other = [Record(**{**_fields(one), "task": "other"}) for one in whole]
    for shard, records in enumerate((whole, other)):
        task = records[0].task
        rows = [ItemRow(**{**_fields(item(number)), "task": task}) for number in range(4)]
        folder = write_run(
            tmp_path / "runs" / task, records, BASE | {"shard": shard, "shards": 2}, rows
        )
        texts = [infill(number, task, f"of {task}") for number in range(4)]
        pq.write_table(schema.to_table(texts, InfillRow), folder / "infills.parquet")
    merge([tmp_path / "runs"], tmp_path / "merged")
    assert len(analysis.load(tmp_path / "merged")) == 2 * len(whole)
    assert len(pq.read_table(tmp_path / "merged" / "items.parquet")) == 8
    texts = pq.read_table(tmp_path / "merged" / "infills.parquet").to_pylist()
    assert len(texts) == 8 and all(row["text"] == f"of {row['task']}" for row in texts)


def test_rows_are_joined_by_task_and_item(tmp_path: Path) -> None:
    """Of a folder that has two tasks, whoever wrote it, nothing is lost."""
    from probes.analysis import merged_files

    for run, number in (("a", 0), ("b", 1)):
        rows = [item(number), ItemRow(**{**_fields(item(number)), "task": "other"})]
        write_run(tmp_path / run, study(1, (5,)), BASE, rows)
        texts = [infill(number, task, f"of {task}") for task in ("egoworld", "other")]
        pq.write_table(schema.to_table(texts, InfillRow), tmp_path / run / "infills.parquet")
    folders = [tmp_path / "a", tmp_path / "b"]
    found = merged_files.tables(analysis.load(tmp_path / "a"), folders)
    texts = [(row["task"], row["item_id"], row["text"]) for row in found["infills"].to_pylist()]
    expected = [
        (task, item, f"of {task}") for task in ("egoworld", "other") for item in ("q0", "q1")
    ]
    assert sorted(texts) == sorted(expected)
    assert len(found["items"]) == 4
    # Folders without the column: by their items, which do not say whose these are.
    older([infill(0, "", "whose?")], tmp_path / "a")
    with pytest.raises(ProbesError, match="is one of each of the tasks egoworld, other"):
        merged_files.tables(analysis.load(tmp_path / "a"), folders)
    write_run(tmp_path / "a", study(1, (5,)), BASE, [item(0)])
    (row,) = merged_files.tables(analysis.load(tmp_path / "a"), folders[:1])["infills"].to_pylist()
    assert row["task"] == "egoworld"


def test_a_merged_run_knows_all_arms_and_frames(tmp_path: Path) -> None:
    arms = {"vcot": "baseline", "text_perturbation": "vcot"}
    for number, (arm, reference) in enumerate(arms.items()):
        suite = [
            {"name": one, "reference": to} for one, to in (("baseline", None), (arm, reference))
        ]
        records = study(4, (5 + number,), arms=("baseline", arm))
        config = BASE | {"frames": [5 + number], "suite": suite, "limit": [4, None][number]}
        write_run(tmp_path / "runs" / f"{number}", records, config)
    merge([tmp_path / "runs"], tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "manifest.json").read_text())["config"]
    assert config["frames"] == [5, 6] and config["limit"] is None
    assert [one["name"] for one in config["suite"]] == ["baseline", "vcot", "text_perturbation"]
    frames = [analysis.load(tmp_path / name) for name in ("runs", "merged")]
    # What was made for this test has no hashes; the merged run has.
    # A merged run was made for the frame counts of all its runs.
    declared = [list(frame.attrs.pop("declared").values()) for frame in frames]
    assert [[one.frames for one in of] for of in declared] == [[(5,), (6,)], [(5, 6)]]
    assert frames[0].attrs.pop("unbound") and frames[0].attrs == frames[1].attrs
    assert frames[1].attrs["references"]["text_perturbation"] == "vcot"
