"""What a reader may return: every rule by itself, and the guide's reader in a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from installed_entries import install
from running import make_world

from probes.cli.main import main
from probes.core.errors import ProbesError
from probes.core.types import Item, Panels, Video
from probes.models.scripted import ScriptedBackend
from probes.tasks.registry import TASKS
from probes.tasks.validation import check_items

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "own_task.md"
VIDEO = Video(Path("/data/a1.mp4"))
ITEM = Item("a1", "own", "What happens?", ("x", "y"), 1, VIDEO, "kind", "recording-7")
PANELS = Panels(Path("/data/a1.npz"), 8, options=2, row=3)
HALF = "half \ud83d"


def refused(items: Any) -> ProbesError:
    with pytest.raises(ProbesError) as caught:
        check_items(items, "own")
    assert caught.value.where == "task own"
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"answer": None},
        {"answer": 0},
        {"media": PANELS},
        {"media": Panels(Path("/data/a1.npz"), 1)},
        {"options": ("x", "x")},
        {"options": tuple("abcdefghijkl"), "answer": 11},
        {"stratum": "", "cluster": "", "question": ""},
        {"meta": (("end", "3"), ("start", "1"))},
        {"question": "Was geschieht? 🎬"},
    ],
    ids=str,
)
def test_items_that_may_be_returned(changes: dict[str, Any]) -> None:
    items = [replace(ITEM, **changes), replace(ITEM, id="a2")]
    check_items(items, "own")
    check_items(tuple(items), "own")


@pytest.mark.parametrize(
    ("items", "what"),
    [
        (None, "returned a NoneType, not a list of items"),
        ("items", "returned a str, not a list of items"),
        ({"a1": ITEM}, "returned a dict, not a list of items"),
        ((item for item in [ITEM]), "returned a generator, not a list of items"),
        ([], "returned no items"),
        ([ITEM, {"id": "a2"}], "1 entries are not of type Item: 'entry 1 (dict)'"),
        ([ITEM, None], "1 entries are not of type Item: 'entry 1 (NoneType)'"),
    ],
)
def test_only_a_list_of_items(items: Any, what: str) -> None:
    assert what in refused(items).what


@pytest.mark.parametrize("name", ["", "  ", None, 7, b"a"], ids=repr)
def test_an_item_has_an_id(name: object) -> None:
    error = refused([ITEM, replace(ITEM, id=name)])
    assert error.what == "1 items have no id (a text that is not empty): 'entry 1'"


def test_an_id_occurs_once() -> None:
    error = refused([ITEM, replace(ITEM, id="a2"), replace(ITEM, question="another?")])
    assert error.what == "1 ids occur more than once: 'a1'"


@pytest.mark.parametrize("task", ["", "other", None, 3.5], ids=str)
def test_an_item_carries_the_name_in_the_settings(task: object) -> None:
    error = refused([replace(ITEM, task=task)])
    assert error.what == "1 items do not carry the task's name 'own': 'a1'"
    assert "task.name" in error.fix


def test_items_of_several_tasks_need_a_reader_that_says_so() -> None:
    items = [ITEM, replace(ITEM, task="other"), replace(ITEM, task="other", id="a2")]
    assert "2 items do not carry the task's name" in refused(items).what
    assert "several=True" in refused(items).fix
    check_items(items, "own", several=True)  # of one id, but of two tasks
    with pytest.raises(ProbesError, match="1 ids occur more than once: 'a2'"):
        check_items([*items, replace(items[2], question="another?")], "own", several=True)
    with pytest.raises(ProbesError, match="2 items have no task"):
        unnamed = [replace(ITEM, task=task) for task in (" ", ["a list"])]  # type: ignore[arg-type]
        check_items([ITEM, *unnamed], "own", several=True)
    with pytest.raises(ProbesError, match="half a character"):
        check_items([replace(ITEM, task=HALF)], "own", several=True)


PATH = "have media whose path is not an absolute pathlib.Path"
SIZES = "have panels with a count below 1, or with negative options or row"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"question": None}, "have a question that is not text"),
        ({"question": ["What?"]}, "have a question that is not text"),
        ({"options": ["x", "y"]}, "have options that are not a tuple of texts"),
        ({"options": "xy"}, "have options that are not a tuple of texts"),
        ({"options": ("x", 2)}, "have options that are not a tuple of texts"),
        ({"options": None}, "have options that are not a tuple of texts"),
        ({"stratum": 3}, "have a stratum that is not text"),
        ({"stratum": None}, "have a stratum that is not text"),
        ({"cluster": 7}, "have a cluster that is not text"),
        ({"cluster": None}, "have a cluster that is not text"),
        ({"meta": {"start": "1"}}, "have a meta that is not a tuple of pairs of texts"),
        ({"meta": (("start", 1),)}, "have a meta that is not a tuple of pairs of texts"),
        ({"meta": ("ab",)}, "have a meta that is not a tuple of pairs of texts"),
        ({"meta": (("a", "b", "c"),)}, "have a meta that is not a tuple of pairs of texts"),
        ({"question": HALF}, "have text with half a character"),
        ({"options": ("x", HALF)}, "have text with half a character"),
        ({"stratum": HALF}, "have text with half a character"),
        ({"cluster": HALF}, "have text with half a character"),
        ({"meta": (("note", HALF),)}, "have text with half a character"),
        ({"id": HALF}, "have text with half a character"),
        ({"options": ()}, "have fewer than two options"),
        ({"options": ("x",), "answer": 0}, "have fewer than two options"),
        ({"answer": 2}, "have an answer that is neither None nor the index of an option"),
        ({"answer": -1}, "have an answer that is neither None nor the index of an option"),
        ({"answer": True}, "have an answer that is neither None nor the index of an option"),
        ({"answer": "B"}, "have an answer that is neither None nor the index of an option"),
        ({"answer": 1.0}, "have an answer that is neither None nor the index of an option"),
        ({"answer": np.int64(1)}, "have an answer that is neither None nor the index of an option"),
        ({"media": None}, "have media that are neither Video nor Panels"),
        ({"media": "/data/a1.mp4"}, "have media that are neither Video nor Panels"),
        ({"media": Path("/data/a1.mp4")}, "have media that are neither Video nor Panels"),
        ({"media": Video(Path("a1.mp4"))}, PATH),
        ({"media": Video("/data/a1.mp4")}, PATH),  # type: ignore[arg-type]
        ({"media": replace(PANELS, path=Path("a1.npz"))}, PATH),
        ({"media": replace(PANELS, count=0)}, SIZES),
        ({"media": replace(PANELS, count=True)}, SIZES),
        ({"media": replace(PANELS, count=2.0)}, SIZES),
        ({"media": replace(PANELS, options=-1)}, SIZES),
        ({"media": replace(PANELS, row=-3)}, SIZES),
        ({"media": replace(PANELS, options=1)}, "have pictures of options, but not one for each"),
        ({"media": replace(PANELS, options=3)}, "have pictures of options, but not one for each"),
        ({"media": Video(Path("/data/a\0b.mp4"))}, "have a media path with a NUL character"),
        ({"meta": (("a", "1"), ("a", "2"))}, "have a meta with one name twice"),
    ],
    ids=str,
)
def test_a_field_that_breaks_a_rule(changes: dict[str, Any], what: str) -> None:
    broken = replace(ITEM, **changes)
    error = refused([replace(ITEM, id="a0"), broken, replace(ITEM, id="a2")])
    assert error.what.startswith("1 items ")
    assert what in error.what
    assert error.what.endswith(f": {broken.id!r}")


def test_the_first_offenders_are_named_and_all_are_counted() -> None:
    items = [replace(ITEM, id=f"a{n}", answer=5) for n in range(12)]
    what = refused(items).what
    assert what.startswith("12 items have an answer")
    assert what.endswith(": 'a0', 'a1', 'a2', 'a3', 'a4' and 7 more")


@pytest.fixture
def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The guide's reader, installed, with a folder that it reads; returns a run of it."""
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.S)
    assert code
    entry = "\nfrom probes.tasks.registry import TaskReader\nENTRY = TaskReader(load)\n"
    install(monkeypatch, tmp_path, TASKS, {"mine": code[1] + entry})
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    make_world(tmp_path / "data")

    def run(**changes: Any) -> int:
        rows = [
            {
                "id": f"a{n}",
                "question": f"What happens in {n}?",
                "options": ["x", "y", "z"],
                "answer": n % 3,
                "video": f"videos/clip{n}.mp4",
                "kind": "kind",
                "recording": f"recording-{n // 2}",
            }
            | (changes if n == 3 else {})
            for n in range(6)
        ]
        (tmp_path / "data" / "items.json").write_text(json.dumps(rows))
        return main(
            [
                "run",
                "task=mine",
                "frames=2",
                f"task.root={tmp_path / 'data'}",
                "backend=scripted",
                "scoring=cloze",
                f"hydra.run.dir={tmp_path / 'out'}",
            ]
        )

    yield run


def test_the_guides_reader_runs_to_its_records(own_task: Any, tmp_path: Path) -> None:
    assert own_task() == 0
    rows = pq.read_table(tmp_path / "out" / "records.parquet").to_pylist()
    assert {row["item_id"] for row in rows} == {f"a{n}" for n in range(6)}
    assert {row["task"] for row in rows} == {"mine"}
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"answer": "B"}, "1 items have an answer that is neither None nor the index"),
        ({"kind": None}, "1 items have a stratum that is not text: 'a3'"),
        ({"recording": 7}, "1 items have a cluster that is not text: 'a3'"),
        ({"question": "half \ud83d"}, "1 items have text with half a character"),
    ],
)
def test_what_the_guides_reader_may_not_return_is_refused_before_anything_is_asked(
    changes: dict[str, Any],
    what: str,
    own_task: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(ScriptedBackend, "score", lambda *given: asked.append(given) or ())
    assert own_task(**changes) == 2
    assert not asked
    error = capsys.readouterr().err
    assert what in error
    assert "task mine" in error
    assert not (tmp_path / "out" / "records.parquet").exists()
