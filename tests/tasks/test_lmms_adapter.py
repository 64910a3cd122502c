"""lmms-eval's tasks as items: what the adapter reads, what it refuses, which scorers guess."""

from __future__ import annotations

import json
import shutil
import textwrap
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import evaluating
import numpy as np
import pytest
from filming import film
from PIL import Image

from probes.cli import main
from probes.core.errors import ProbesError
from probes.core.types import Panels, Video
from probes.media.frame_store import FrameStore
from probes.tasks.egoschema import reader as egoschema
from probes.tasks.egoworld import generate as egoworld
from probes.tasks.lmms_eval import (
    adapter,
    judging,
    listing,
    pictures,
    reader,
    structure,
    visuals,
)
from probes.tasks.lmms_eval.adapter import RefusedError
from probes.tasks.lmms_eval.reader import GivenAnswer
from probes.tasks.pictures import read as read_panels

UTILS = """
    import random

    LETTERS = "ABCDE"

    def video(doc):
        return [doc["video"]]

    def lines(doc, lmms_eval_specific_kwargs=None):
        options = "\\n".join(f"({a}) {o}" for a, o in zip(LETTERS, doc["options"]))
        return f"{doc['question']}\\n{options}\\nAnswer with the option's letter."

    def letter(doc, reply):
        return next((a for a in LETTERS if reply.strip().strip("()").startswith(a)), "")

    def strict(doc, results):
        return {"right": {"pred": letter(doc, results[0]), "answer": doc["letter"]}}

    def guessing(doc, results):
        found = letter(doc, results[0]) or random.choice("ABCD")
        return {"right": float(found == doc["letter"]), "submission": {"id": found}}

    def by_text(doc, results):
        return {"right": results[0] == doc["options"][doc["index"]]}

    def nothing(doc, results):
        return {"submission": {"id": results[0]}}

    def judge(doc, results):
        import urllib.request
        urllib.request.urlopen("http://judge.example.com")
        return {"right": 1.0}

    def other(doc, results):
        return {"right": letter(doc, results[0]) == "A"}

    def pictures(doc):
        return [doc["image"].convert("RGB")] if "image" in doc else doc["frames"]

    def missing(doc):
        raise SystemExit(f"video path {doc['video']} does not exist")

    def part(doc):
        return [{"type": "video", "url": doc["video"], "video_start": 1, "video_end": 2}]
"""
CHOICE = {"doc_to_text": "question", "doc_to_choice": "options"}
LINES = {"doc_to_text": "!function utils.lines"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten docs about three clips, with the right answer written in every way."""
    root = tmp_path_factory.mktemp("own")
    clips = [film(root / f"clip{n}.mp4") for n in range(3)]
    docs = []
    for n in range(10):
        options = [f"c opens the box {n}", "c closes the jar", "c moves the cup", "c takes a bag"]
        docs.append(
            {
                "question_id": f"q{n}",
                "question": f"What does c do in clip {n}?",
                "options": options,
                "letter": "ABCD"[n % 4],
                "index": n % 4,
                "number": n % 4 + 1,
                "text": options[n % 4],
                "bracketed": f"({'ABCD'[n % 4]})",
                "none": None,
                "video": str(clips[n % 3]),
                "category": "first" if n < 4 else "last",
            }
        )
    (root / "docs.json").write_text(json.dumps(docs))
    (root / "utils.py").write_text(textwrap.dedent(UTILS))
    return root


def write(folder: Path, name: str, data: str = "docs.json", **settings: Any) -> Path:
    """Write a task's YAML; values that begin with `!` are tags."""
    settings = {
        "task": name,
        "dataset_path": "json",
        "test_split": "test",
        "doc_to_visual": "!function utils.video",
        "doc_to_target": "letter",
        "process_results": "!function utils.strict",
    } | settings
    lines = [f"dataset_kwargs: {{data_files: {{test: {data}}}}}"]
    lines += ["metric_list: [{metric: right, aggregation: mean, higher_is_better: true}]"]
    lines += [f"{name}: {value}" for name, value in settings.items()]
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in evaluating.caches(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    from lmms_eval.api import task

    task._resolve_hf_datasets_cache_dir.cache_clear()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lines_letter", LINES),
        ("lines_index", LINES | {"doc_to_target": "index"}),
        ("lines_number", LINES | {"doc_to_target": "number"}),
        ("lines_text", LINES | {"doc_to_target": "text"}),
        ("lines_bracketed", LINES | {"doc_to_target": "bracketed"}),
        ("choice_index", CHOICE | {"doc_to_target": "index"}),
        ("choice_text", CHOICE | {"process_results": "!function utils.by_text"}),
    ],
)
def test_options_and_answers_of_every_form(
    name: str, settings: dict[str, str], folder: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        items = reader.load(write(folder, name, **settings), name)
    docs = json.loads((folder / "docs.json").read_text())
    assert [item.id for item in items] == [doc["question_id"] for doc in docs]
    for item, doc in zip(items, docs, strict=True):
        assert item.task == name
        assert item.question == doc["question"]
        assert item.options == tuple(doc["options"])
        assert item.answer == doc["index"]
        assert item.media == Video(Path(doc["video"]))
        assert item.cluster == doc["video"]
        assert item.stratum == doc["category"]


def test_a_scorer_that_guesses_is_reported_and_accepted(folder: Path) -> None:
    write(folder, "guesses", **LINES, process_results="!function utils.guessing")
    with pytest.warns(UserWarning, match="credits replies that name nothing"):
        items = reader.load(folder, "guesses")
    assert [item.answer for item in items] == [n % 4 for n in range(10)]


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("open_ended", {"doc_to_text": "question"}, "open-ended: no options"),
        ("answerless", LINES | {"doc_to_target": "question"}, "is none of the options"),
        ("submitted", LINES | {"process_results": "!function utils.nothing"}, "says nothing"),
        ("judged", LINES | {"process_results": "!function utils.judge"}, "judge.example.com"),
        ("wrong", LINES | {"process_results": "!function utils.other"}, "credits other replies"),
        ("ranked", LINES | {"output_type": "multiple_choice"}, "output type is multiple_choice"),
        ("clipped", LINES | {"doc_to_visual": "!function utils.part"}, "a part of a video"),
    ],
)
def test_what_is_refused(name: str, settings: dict[str, str], reason: str, folder: Path) -> None:
    write(folder, name, **settings)
    with pytest.raises(ProbesError, match=reason):
        reader.load(folder, name)


def test_a_missing_video_is_named(folder: Path) -> None:
    write(folder, "gone", **LINES, doc_to_visual="!function utils.missing")
    with pytest.raises(ProbesError, match=r"clip0\.mp4 does not exist"):
        reader.load(folder, "gone")


def test_names_that_are_not_a_task(folder: Path) -> None:
    write(folder, "some_task", **LINES)
    (folder / "both.yaml").write_text("group: both\ntask: [some_task]\n")
    with pytest.raises(ProbesError, match="did you mean some_task"):
        reader.load(folder, "some_tusk")
    with pytest.raises(ProbesError, match="name one of them: some_task"):
        reader.load(folder, "both")
    with pytest.raises(ProbesError, match="no such folder"):
        reader.folder(str(folder / "nothing"))
    (folder / "both.yaml").unlink()
    write(folder, "dataless", data="nothing.json", **LINES)
    with pytest.raises(ProbesError, match="lmms-eval cannot load task dataless"):
        reader.load(folder, "dataless")


def test_docs_without_options_are_left_out(folder: Path) -> None:
    docs = json.loads((folder / "docs.json").read_text())
    docs[3]["options"] = []
    (folder / "mixed.json").write_text(json.dumps(docs))
    write(folder, "mixed", data="mixed.json", **LINES)
    with pytest.warns(UserWarning, match="docs left out .1: it is open-ended"):
        items = reader.load(folder, "mixed")
    assert [item.id for item in items] == [f"q{n}" for n in range(10) if n != 3]


def test_withheld_answers(folder: Path) -> None:
    docs = json.loads((folder / "docs.json").read_text())
    docs[5]["letter"] = ""
    (folder / "withheld.json").write_text(json.dumps(docs))
    write(folder, "withheld", data="withheld.json", **LINES)
    assert len(reader.load(folder, "withheld")) == 9
    items = reader.load(folder, "withheld", unanswered=True)
    assert [item.answer for item in items][4:7] == [0, None, 2]


def test_pictures_become_panels(folder: Path, home: Path) -> None:
    from datasets import Dataset, DatasetDict
    from datasets import Image as Picture

    rng = np.random.default_rng(0)
    docs: dict[str, list[Any]] = {"question": [], "options": [], "letter": [], "frames": []}
    shown = []
    for n in range(4):
        sizes = [(20 + n, 30)] * (n + 1)  # one picture, then two, ...
        one = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
        shown.append(one)
        docs["question"].append(f"What is on picture {n}?")
        docs["options"].append(["a box", "a jar", "a cup"])
        docs["letter"].append("ABC"[n % 3])
        docs["frames"].append([Image.fromarray(picture) for picture in one])
    data = Dataset.from_dict(docs).cast_column("frames", [Picture()])
    DatasetDict({"test": data}).save_to_disk(folder / "pictured")
    write(
        folder,
        "pictured",
        **LINES,
        doc_to_visual="!function utils.pictures",
        dataset_path=str(folder / "pictured"),
        dataset_kwargs="{load_from_disk: true}",
    )
    text = (folder / "pictured.yaml").read_text()
    (folder / "pictured.yaml").write_text("\n".join(text.splitlines()[1:]))
    items = reader.load(folder, "pictured")
    assert [item.id for item in items] == ["0", "1", "2", "3"]
    assert len({item.cluster for item in items}) == 4
    for item, expected in zip(items, shown, strict=True):
        assert isinstance(item.media, Panels)
        assert item.media.count == len(expected)
        assert item.media.path.is_relative_to(home / "data")
        assert all(map(np.array_equal, pictures.read(item.media.path), expected))
    frames = FrameStore(home, read_panels=read_panels)
    clip = frames.clips(items[3].media, [2, 4])
    assert [np.array_equal(frames[sha], shown[3][at]) for at, sha in enumerate(clip[4].hashes)]
    assert clip[2].hashes == (clip[4].hashes[0], clip[4].hashes[3])
    again = reader.load(folder, "pictured")
    assert again == items
    items[0].media.path.write_bytes(b"damaged")
    with pytest.raises(ProbesError, match="cannot be read"):
        pictures.read(items[0].media.path)
    shutil.copy(items[2].media.path, items[1].media.path)
    with pytest.raises(ProbesError, match="other pictures"):
        pictures.read(items[1].media.path)
    assert reader.load(folder, "pictured") == items
    for item, expected in zip(items, shown, strict=True):
        assert all(map(np.array_equal, pictures.read(item.media.path), expected))


def test_media_of_every_kind(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 6))
    picture.save(tmp_path / "one.png")
    (tmp_path / "one.mp4").write_bytes(b"film")
    one = np.zeros((6, 8, 3), np.uint8)
    for shown, kind, count in (
        ([picture], "image", 1),
        ([str(tmp_path / "one.png")], "image", 1),
        ([picture, one], "images", 2),
        ([np.stack([one] * 5)], "frames", 5),
    ):
        assert visuals.kind(shown) == kind
        media = visuals.media(shown)
        assert isinstance(media, Panels)
        assert media.count == count
    assert visuals.media([{"type": "video", "path": str(tmp_path / "one.mp4")}]) == Video(
        tmp_path / "one.mp4"
    )
    with pytest.raises(OSError, match=r"nothing\.mp4"):
        visuals.media([str(tmp_path / "nothing.mp4")])
    for shown, reason in (
        (["a.mp4", "b.mp4"], "2 things at once"),
        (["a.mp4", picture], "2 things at once"),
        (["https://example.com/a.mp4"], "from the web"),
        (["a.wav"], "sound"),
        ([{"array": one}], "neither pictures nor a video"),
        ([3], "shows a int"),
    ):
        with pytest.raises(RefusedError, match=reason):
            visuals.kind(shown)


@pytest.mark.parametrize(
    ("text", "before", "options", "after"),
    [
        ("Q?\nA. x\nB. y\nAnswer: ", ["Q?"], ["x", "y"], ["Answer: "]),
        ("Q?\n(A) x\n(B) y\n(C) z", ["Q?"], ["x", "y", "z"], []),
        ("Q?\n- A) x\n\n- B) y", ["Q?"], ["x", "y"], []),
        ("A: x\nB: y", [], ["x", "y"], []),
        (
            "Such as\nA. p\nB. q\nNow\nA. x\nB. y",
            ["Such as", "A. p", "B. q", "Now"],
            ["x", "y"],
            [],
        ),
        ("A. x\nC. y", ["A. x", "C. y"], [], []),
        ("A man opens it.\nBut why?", ["A man opens it.", "But why?"], [], []),
    ],
)
def test_lines_of_options(
    text: str, before: list[str], options: list[str], after: list[str]
) -> None:
    assert adapter.split(text) == (before, options, after)


@pytest.mark.parametrize(
    ("target", "reading", "index"),
    [
        ("B", "letter", 1),
        ("(b)", "letter", 1),
        ("B.", "letter", 1),
        ("B. the jar", "letter", 1),
        ("E", "letter", None),
        ("", "letter", None),
        (1, "letter", None),
        ("The Jar.", "text", 1),
        ("jar", "text", None),
        (1, "index", 1),
        ("1", "index", 1),
        (3, "index", None),
        (True, "index", None),
        (1.5, "index", None),
        (1, "number", 0),
        ("3", "number", 2),
        (0, "number", None),
    ],
)
def test_readings_of_a_target(target: object, reading: str, index: int | None) -> None:
    assert adapter.READINGS[reading](target, ["the box", "the jar", "the cup"]) == index


def test_no_judge_is_asked_and_no_random_state_changes(folder: Path) -> None:
    import random
    import socket

    state = random.getstate()
    write(folder, "quiet", **LINES, process_results="!function utils.guessing")
    with pytest.warns(UserWarning, match="name nothing"):
        reader.load(folder, "quiet")
    assert random.getstate() == state
    with judging.cut_off() as calls, pytest.raises(ConnectionRefusedError, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert calls == ["192.0.2.1"]
    assert socket.socket.connect is not judging.cut_off


def test_the_tasks_own_score_of_given_answers(folder: Path) -> None:
    answers = [
        GivenAnswer("q1", 1),
        GivenAnswer("q1", 0),
        GivenAnswer("q1", None),
        GivenAnswer("q1", 1, "(B) c closes the jar"),
        GivenAnswer("q1", None, "zzz"),
    ]
    write(folder, "scored", **LINES)
    assert reader.own_scores(folder, "scored", answers) == [True, False, False, True, False]
    with pytest.raises(ProbesError, match="has no item 'q99'"):
        reader.own_scores(folder, "scored", [GivenAnswer("q99", 1)])
    write(folder, "scored_lucky", **LINES, process_results="!function utils.guessing")
    with pytest.warns(UserWarning, match="name nothing"):
        lucky = reader.own_scores(folder, "scored_lucky", [answers[4]] * 40)
    assert 0 < sum(lucky) < 40


def test_the_listing_of_lmms_evals_own_tasks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        "egoschema_subset": ("video", "its text", "index", "guessing", "-"),
        "mvbench_action_antonym": ("video", "its text", "text", "accepted", "-"),
        "mlvu_dev": ("video", "its data", "letter", "accepted", "-"),
        "perceptiontest_val_mcppl": (
            "video",
            "-",
            "-",
            "refused",
            "its output type is multiple_choice, not generate_until",
        ),
        "moviechat_global": ("video", "-", "-", "unsettled", structure.UNLESS),
    }
    assert main.main(["tasks", "lmms", *expected, "--markdown"]) == 0
    printed = capsys.readouterr().out
    table = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in printed.splitlines()
        if line.startswith("| ")
    ][2:]
    assert {name: tuple(rest) for name, *rest in table} == expected
    # The committed page agrees, for the version that it names.
    page = (evaluating.ROOT / "docs" / "lmms_tasks.md").read_text("utf-8")
    assert f"lmms-eval {metadata.version('lmms-eval')}:" in page
    assert all(line in page for line in printed.splitlines() if line.startswith("| "))
    listed = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert listed[2:] == listing.NAMES
    assert main.main(["tasks", "lmms", "no_such_task"]) == 2
    assert "there is no task 'no_such_task'" in capsys.readouterr().err


def test_our_own_tasks_come_back_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    egoworld.make(tmp_path / "world", egoworld.ClipSettings(5, seed=2, height=64))
    monkeypatch.setenv("EGOSCHEMA_ROOT", str(tmp_path / "world"))
    name = "egoschema_local"
    items = reader.load(evaluating.ROOT / "tasks", name)
    direct = egoschema.load(tmp_path / "world", task=name)
    assert items == [replace(item, meta=()) for item in direct]


def test_a_run_and_its_tasks_own_score(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(folder, "ran", **LINES)
    (tmp_path / "runs").mkdir()
    out = tmp_path / "runs" / "one"
    arguments = [
        "run",
        "backend=scripted",
        "task=lmms",
        f"task.include_path={folder}",
        "task.name=ran",
        "suite=study",
        "frames=2",
        "scoring=letter",
        f"hydra.run.dir={out}",
    ]
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments) == 0
    _, shown = capsys.readouterr().out.split("Accuracy here, and by the task's own scorer")
    assert ["image", "vcot", "2", "10"] in [line.split()[:4] for line in shown.splitlines()]
    rows = listing.compare(out)
    assert {row.arm for row in rows} >= {"baseline", "vcot"}
    assert all(row.records == 10 and row.ours == row.own for row in rows)
    capsys.readouterr()
    assert main.main(["tasks", "lmms", "--run", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == shown.splitlines()[1 : 1 + len(printed)]
    assert main.main(["tasks", "lmms", "--run", str(tmp_path)]) == 2
    (folder / "docs.json").rename(folder / "gone.json")
    try:
        (why,) = listing.at_end_of_run(out)
    finally:
        (folder / "gone.json").rename(folder / "docs.json")
    assert "is not known: lmms-eval cannot load task ran" in why
