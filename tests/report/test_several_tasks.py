"""Items of two tasks that share ids: everything shown, stored and counted is the right task's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import made_records
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser_runs import PaintedFrames, between, item, make_run

from probes import analysis
from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Item, Request
from probes.records import binding, run_folder, schema
from probes.records.schema import InfillRow
from probes.report import browser, failures, infills, leaks
from probes.report.findings import section as findings
from probes.report.parts import Paragraph
from probes.report.stimuli import Rebuilder, ShownTrial
from probes.report.study import gather
from probes.stimuli.infills import tidy
from probes.stimuli.words import leaks as leaked

ARMS = ("scoring=letter",)
NUMBERS = {"a": 0, "b": 100}
"""Item n of a task is about video n + this: another question, other options, other pictures."""


def items(task: str, name: Callable[[int], str] = str, count: int = 6) -> list[Item]:
    """A task's items; clusters and strata are named as those of the other task are."""
    return [
        item(
            n + NUMBERS[task],
            id=name(n),
            task=task,
            stratum=f"s{n % 2}",
            cluster=f"r{n // 2}",
            answer=(n + len(task) + NUMBERS[task] // 50) % 5,
        )
        for n in range(count)
    ]


def both(name: Callable[[int], str] = str) -> list[Item]:
    """Items of one id are neighbours, as they are where a reader goes through two files at once."""
    pairs = zip(items("a"), items("b", name), strict=True)
    return [one for pair in pairs for one in pair]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of both tasks, one of each, and one in which the ids of `b` are names of its own."""
    base = tmp_path_factory.mktemp("tasks")
    wanted = {
        "both": both(),
        "a": items("a"),
        "b": items("b"),
        "named": both(lambda n: f"b-{n}"),
        "sample": both(),
    }
    with pytest.MonkeyPatch.context() as patch:
        return {
            name: make_run(
                patch,
                base / name,
                *ARMS,
                *(["limit=5"] if name == "sample" else []),
                items=some,
                infill=leaking,
            )
            for name, some in wanted.items()
        }


def leaking(prompt: Request) -> str:
    """A text of its own for every two frames; it has options of every item, of each task others."""
    text = between(prompt)
    options = " ".join(f"thing 0 of {n}, thing 4 of {n + NUMBERS['b']}," for n in range(6))
    return text and f"{text} {options}"


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    for row in found:
        row.pop("place", None)  # where an item stands among those of the whole run
    return found


def records(folder: Path, task: str) -> list[dict[str, Any]]:
    rows = [row | {"seconds": 0.0} for row in table(folder, "records") if row["task"] == task]
    assert rows
    return rows


def number(task: str, item_id: str) -> int:
    return NUMBERS[task] + int(item_id)


@pytest.mark.parametrize("task", NUMBERS)
def test_a_task_gives_the_same_with_another_as_by_itself(
    folders: dict[str, Path], task: str
) -> None:
    assert records(folders["both"], task) == records(folders[task], task)
    for name, ids in (("items", "id"), ("infills", "item_id")):
        mine = [row for row in table(folders["both"], name) if row["task"] == task]
        assert sorted(mine, key=str) == sorted(table(folders[task], name), key=str)
        assert len({row[ids] for row in mine}) == 6


def test_ids_that_clash_change_nothing(folders: dict[str, Path]) -> None:
    assert records(folders["both"], "a") == records(folders["named"], "a")


@pytest.mark.parametrize("run", ["both", "sample"])
def test_every_stimulus_is_of_its_own_task(folders: dict[str, Path], run: str) -> None:
    folder = folders[run]
    painted = PaintedFrames(folder.parent / "home")
    rebuilder = Rebuilder(run_folder.read(folder))
    names = [field.name for field in fields(ShownTrial)]
    rows = table(folder, "records")
    assert {row["task"] for row in rows} == {"a", "b"}
    for row in rows:
        shown = rebuilder.rebuild(ShownTrial(**{name: row[name] for name in names}))
        assert shown.problem is None
        own = number(row["task"], row["item_id"])
        lender = own if row["donor_id"] is None else number(row["task"], row["donor_id"])
        text = "".join(part for part in shown.parts if isinstance(part, str))
        assert f"what happens in number {own}?" in text and f"thing 0 of {own}\n" in text
        pictures = [part.sha256 for part in shown.parts if isinstance(part, FrameRef)]
        source = lender if row["arm"] == "visual_perturbation" else own
        mine = [painted._paint(source, t * 24 // row["frames"]) for t in range(row["frames"])]
        assert pictures == ([] if row["arm"] in ("blind", "infills_only") else mine)
        if row["arm"] in ("vcot", "visual_perturbation", "text_perturbation"):
            source = lender if row["arm"] == "text_perturbation" else own
            frames = [painted._paint(source, t * 24 // row["frames"]) for t in range(row["frames"])]
            for pair in zip(frames, frames[1:], strict=False):
                assert tidy(leaking(Request(tuple(map(FrameRef, pair))))) in text


def test_donors_are_of_the_same_task(folders: dict[str, Path]) -> None:
    lenders = {(one.task, one.id): one for one in both()}
    borrowed = [row for row in table(folders["both"], "records") if row["donor_id"] is not None]
    assert len(borrowed) == 2 * 2 * 2 * 12  # arms, frame counts, members, items
    for row in borrowed:
        assert row["donor_task"] is None
        assert lenders[row["task"], row["donor_id"]].cluster != row["cluster"]
    use = json.loads((folders["both"] / "manifest.json").read_text())["donors"]
    for arm, facts in use.items():
        of_arm = {(r["task"], r["donor_id"]) for r in borrowed if r["arm"] == arm}
        assert facts["donors"] == len(of_arm)


def test_a_donor_of_another_task_is_named_with_it(tmp_path: Path, monkeypatch: Any) -> None:
    # All of `a` is one recording, and `b` has the ids of `a`.
    some = [replace(one, cluster="r0" if one.task == "a" else f"r{one.id}") for one in both()]
    run = make_run(monkeypatch, tmp_path / "run", "scoring=letter", "donor_draws=3", items=some)
    rows = [row for row in table(run, "records") if row["donor_id"] is not None]
    assert {(row["task"], row["donor_task"]) for row in rows} == {("a", "b"), ("b", None)}
    painted = PaintedFrames(tmp_path / "home")
    rebuilder = Rebuilder(run_folder.read(run))
    names = [field.name for field in fields(ShownTrial)]
    for row in rows:
        shown = rebuilder.rebuild(ShownTrial(**{name: row[name] for name in names}))
        assert shown.problem is None
        lent = number("b", row["donor_id"])
        # Item 0 of `b` is of a recording `r0` too, as all of `a` are.
        assert row["task"] == "b" or row["donor_id"] != "0"
        if row["arm"] == "visual_perturbation":
            pictures = [part.sha256 for part in shown.parts if isinstance(part, FrameRef)]
            count = row["frames"]
            assert pictures == [painted._paint(lent, t * 24 // count) for t in range(count)]
    lenders = {name for name in content(run)["texts"] if " of task b" in name}
    assert lenders == {f"{row['donor_id']} of task b" for row in rows if row["task"] == "a"}
    study = gather([run])
    parts = {part.name: part.data for part in infills.section(study).parts if hasattr(part, "name")}
    for row in parts["donors"].to_dict("records"):
        of_arm = [r for r in rows if (r["task"], r["arm"]) == (row["task"], row["arm"])]
        assert row["donors"] == len({(r["donor_task"], r["donor_id"]) for r in of_arm})


def test_infills_are_of_their_own_clip(folders: dict[str, Path]) -> None:
    rows = table(folders["both"], "infills")
    painted = PaintedFrames(folders["both"].parent / "home")
    by_key = {(one.task, one.id): one for one in both()}
    assert len(rows) == 2 * 6 * (1 + 3)
    for row in rows:
        of, count = number(row["task"], row["item_id"]), row["frames"]
        assert row["frame_a"] == painted._paint(of, row["gap"] * 24 // count)
        assert row["frame_b"] == painted._paint(of, (row["gap"] + 1) * 24 // count)
        assert row["leaks"] == leaked([row["text"]], by_key[row["task"], row["item_id"]])


def content(*runs: Path) -> dict[str, Any]:
    page = browser.section(runs, analysis.load(list(runs)))
    data = page.split('id="ib-data">')[1].split("</script>")[0]
    found: dict[str, Any] = json.loads(data)
    return found


def older(folder: Path, out: Path) -> Path:
    """The run's folder as it was written before tables named tasks everywhere."""
    out.mkdir(parents=True)
    for file in folder.iterdir():
        (out / file.name).symlink_to(file)
    for name, column in (("infills", "task"), ("records", "donor_task")):
        whole = pq.read_table(folder / f"{name}.parquet")
        (out / f"{name}.parquet").unlink()
        pq.write_table(whole.drop_columns([column]), out / f"{name}.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("manifest.json", binding.NOTE):
        (out / name).unlink()
    kept = {name: value for name, value in manifest.items() if name not in ("files", "sha256")}
    (out / "manifest.json").write_text(json.dumps(kept))
    return out


@pytest.mark.parametrize("form", ["one run", "a run of each", "older runs of each"])
def test_readers_of_runs_keep_tasks_apart(
    folders: dict[str, Path], tmp_path: Path, form: str
) -> None:
    runs = [folders["both"]] if form == "one run" else [folders["a"], folders["b"]]
    if form.startswith("older"):
        runs = [older(run, tmp_path / run.name) for run in runs]
    frame = analysis.load(runs)
    assert len(frame) == len(table(folders["both"], "records"))
    # What the page shows of an item.
    shown = content(*runs)["items"]
    assert len(shown) == 12
    for one in shown:
        of = number(one["task"], one["id"])
        assert one["q"] == f"what happens in number {of}?" and one["o"][3] == f"thing 3 of {of}"
        assert one["media"] == f"{of}.mp4"
    # Infills: none is lost, and each is of its own task's clip.
    rows = leaks.read(frame)
    assert rows.groupby("task").size().to_dict() == {"a": 24, "b": 24}
    assert rows["asked"].all()
    right = rows[rows["leaks_answer"]]
    assert set(zip(right["task"], right["item_id"], strict=True)) == {("a", "4"), ("b", "1")}
    texts = {
        (r["task"], r["item_id"], r["frames"], r["gap"], r["text"]) for r in rows.to_dict("records")
    }
    stored = table(folders["both"], "infills")
    assert texts == {(r["task"], r["item_id"], r["frames"], r["gap"], r["text"]) for r in stored}
    # Numbers: a task's are what they are when it is read by itself.
    for task in NUMBERS:
        alone = analysis.contrasts(analysis.load(folders[task]))
        mine = analysis.contrasts(frame)
        mine = mine[mine["task"] == task]
        columns = ["name", "role", "arm", "frames", "policy", "n", "estimate", "low", "high"]
        assert mine[columns].to_dict("records") == alone[columns].to_dict("records")
        per_item = analysis.pairing.differences(frame)
        assert (per_item[per_item["task"] == task].groupby("item_id").size() > 0).sum() == 6


def test_a_report_says_of_which_task_everything_is(folders: dict[str, Path]) -> None:
    study = gather([folders["both"]])
    answered = [part.text for part in findings(study).parts if "answered" in str(part)]
    assert [text.split(" answered ")[1].split(" under ")[0] for text in answered] == (
        ["6 items at 2 and 4 frames"] * 2
    )
    parts = {part.name: part.data for part in infills.section(study).parts if hasattr(part, "name")}
    # The same words leak another option of each task's item of one id, right for one item of each.
    leaking = parts["leaks"].groupby("task")[["items", "items_leaking", "items_leaking_key"]].max()
    assert leaking.to_dict("index") == {
        task: {"items": 6, "items_leaking": 6, "items_leaking_key": 1} for task in NUMBERS
    }
    assert set(parts["failed-infills"]["task"]) == {"a", "b"}
    donors = parts["donors"].set_index(["task", "arm"])
    assert len(donors) == 4 and set(donors["items"]) == {6}


def test_missing_items_of_two_tasks_are_two_items(tmp_path: Path) -> None:
    whole = [*made_records.study(6, frames=(5,)), *made_records.study(6, frames=(5,))]
    rows = [replace(one, task="ab"[at * 2 // len(whole)]) for at, one in enumerate(whole)]
    some = [one for one in rows if (one.item_id, one.arm) != ("q2", "vcot")]
    study = gather([made_records.write_run(tmp_path / "run", some)])
    said = [part.text for part in failures.section(study).parts if isinstance(part, Paragraph)]
    assert any(text.startswith("2 items have no answer on one side") for text in said)


def test_an_older_folder_of_two_tasks_with_shared_ids_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    run = older(folders["both"], tmp_path / "older")
    with pytest.raises(ProbesError, match="the item '0' is one of each of the tasks a, b"):
        run_folder.read(run)


def test_older_and_present_runs_of_one_task_agree(folders: dict[str, Path], tmp_path: Path) -> None:
    run = older(folders["a"], tmp_path / "older")
    assert len(analysis.load([run, folders["a"]])) == len(table(folders["a"], "records"))
    assert len(analysis.load([run, folders["both"]])) == len(table(folders["both"], "records"))
    # An infill that differs is found between a run of one task and a run of both.
    rows = table(run, "infills")
    at = next(n for n, row in enumerate(rows) if row["ok"])
    rows[at]["text"] = "something else"
    columns = pa.schema([one for one in schema.arrow_schema(InfillRow) if one.name != "task"])
    (run / "infills.parquet").unlink()
    pq.write_table(pa.Table.from_pylist(rows, columns), run / "infills.parquet")
    with pytest.raises(ProbesError, match=f"infill of item {rows[at]['item_id']} of task a"):
        analysis.load([run, folders["both"]])
