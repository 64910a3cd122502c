"""A task that another package brings: no file in conf/, its own settings, its mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from installed_entries import install
from running import make_world

from probes.cli.main import main
from probes.config.compose import compose
from probes.core.errors import ProbesError
from probes.engine.run import execute
from probes.tasks import registry
from probes.tasks.registry import TASKS, TaskReader

CLIPS = """
from dataclasses import dataclass, field
from typing import Literal

from probes.config.tasks import TaskReader
from probes.tasks.egoschema.reader import load


@dataclass(frozen=True)
class Settings:
    lights: Literal["on", "off"] = "on"
    depth: int = field(default=2, metadata={"at_least": 1})
    walls: tuple[int, ...] = (3, 4)


def read(root, task):
    items = load(root, task=task.name)
    return items[: task.settings.depth]


ENTRY = TaskReader(
    read, settings=Settings, defaults={"frames": 3, "scoring": "cloze"}, meaning="clips at dusk"
)
"""
SUITES = """
from dataclasses import replace

from probes.config.tasks import TaskReader
from probes.tasks.egoschema.reader import load, submission


def read(root, task):
    items = load(root, task=task.name, unanswered=True)
    # Neighbours of one id: of the first and of the second half.
    return [
        replace(items[half * 4 + n], task=("a/", "b")[half], id=str(n))
        for n in range(4)
        for half in (0, 1)
    ]


ENTRY = TaskReader(read, submission=submission, several=True, defaults={"unanswered": True})
"""
BROKEN = "import no_such_module_anywhere"
ONE = (
    "from probes.config.tasks import TaskReader\n"
    "from probes.core.types import Item, Video\n"
    "ENTRY = TaskReader(lambda root, task: [Item('a', task.name, '?', ('x',), 0, Video(root))])"
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        tmp_path,
        TASKS,
        {"clips": CLIPS, "suites": SUITES, "broken": BROKEN, "single": ONE},
    )
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("installed")
def test_it_is_chosen_by_name_with_the_defaults_of_its_reader() -> None:
    task = compose(["task=clips"]).task
    assert (task.name, task.reader, task.frames, task.scoring) == ("clips", "clips", 3, "cloze")
    assert (task.settings.lights, task.settings.depth, task.settings.walls) == ("on", 2, (3, 4))
    task = compose(["task=clips", "task.depth=5", "task.walls=[1]", "task.frames=2"]).task
    assert (task.settings.depth, task.settings.walls, task.frames) == (5, (1,), 2)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("overrides", "where", "fix"),
    [
        (["task=clips", "task.dept=3"], "task.dept", "did you mean task.depth?"),
        (["task=clips", "+task.light=off"], "task.light", "did you mean task.lights?"),
        (["task=clips", "task.videos=3"], "task.videos", "lights, depth, walls"),
        (["task=clips", "task.depth=0"], "task.depth", "give at least 1"),
        (["task=clips", "task.depth=deep"], "task.depth", "conf/"),
        (["task=clips", "task.lights=of"], "task.lights", "did you mean off?"),
        (["task=egoworld", "task.depth=3"], "task.depth", "use one of name, reader"),
        (["task=clip"], "task", "did you mean clips?"),
        (["task.reader=clip"], "task.reader", "did you mean clips?"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_names_its_setting_and_the_way_out(
    overrides: list[str], where: str, fix: str
) -> None:
    with pytest.raises(ProbesError) as caught:
        compose(overrides)
    assert caught.value.where == where
    assert fix in caught.value.fix


@pytest.mark.usefixtures("installed")
def test_one_that_fails_to_load_is_told_when_it_is_asked_for() -> None:
    assert compose(["task=egoworld"]).task.name == "egoworld"
    with pytest.raises(ProbesError) as caught:
        compose(["task=broken"])
    assert caught.value.what.startswith(
        "reader 'broken' of sample-plugin 1.0 cannot be loaded: ModuleNotFoundError"
    )


@pytest.mark.usefixtures("installed")
def test_it_runs_and_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "world").mkdir()
    make_world(tmp_path / "world")
    base = ["run", "backend=scripted", "task=clips", f"task.root={tmp_path / 'world'}"]
    assert main([*base, "task.depth=6", f"hydra.run.dir={tmp_path / 'out'}"]) == 0
    rows = pq.read_table(tmp_path / "out" / "records.parquet").to_pylist()
    assert {row["item_id"] for row in rows} == {f"clip{n}" for n in range(6)}
    assert {(row["task"], row["frames"], row["scoring"]) for row in rows} == {("clips", 3, "cloze")}
    task = json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]["task"]
    assert (task["depth"], task["walls"], task["layout"]) == (6, [3, 4], None)
    assert "settings" not in task
    capsys.readouterr()
    assert main(["run", "--cfg", "job", "task=clips"]) == 0
    assert "  lights: 'on'\n  depth: 2\n  walls:\n  - 3" in capsys.readouterr().out
    assert main(["run", "--cfg", "job", "task=clips", "task.dept=3"]) == 2
    assert "did you mean task.depth?" in capsys.readouterr().err
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "clips      clips at dusk; installed by sample-plugin 1.0" in lines
    assert "broken     installed by sample-plugin 1.0" in lines
    assert [line.split()[0] for line in lines] == [
        "broken",
        "clips",
        "egoschema",
        "egoworld",
        "iraven",
        "lmms",
        "single",
        "suites",
    ]


def test_only_the_chosen_one_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "imported"
    told = f"open({str(note)!r}, 'a').write(__name__.split('_')[0] + ' ')\n"
    ends = told + "import sys\nsys.exit(3)"
    install(monkeypatch, tmp_path, TASKS, {"clips": told + CLIPS, "ends": ends})
    assert compose(["task=egoworld", "task.videos=3"]).task.settings.videos == 3
    assert not note.exists()
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /task: clips\n"
    (tmp_path / "own" / "experiment" / "dusk.yaml").write_text(text)
    task = compose(["experiment=dusk", "task.depth=4", "--config-dir", str(tmp_path / "own")]).task
    assert (task.name, task.frames, task.settings.depth) == ("clips", 3, 4)
    assert note.read_text() == "clips "
    with pytest.raises(ProbesError, match=r"'ends' of sample.*SystemExit: 3"):
        compose(["task=ends"])


@pytest.mark.usefixtures("installed")
def test_what_it_reads_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ProbesError) as caught:
        registry.load(compose(["task=single", f"task.root={tmp_path}"]).task)
    assert caught.value.what == "1 items have fewer than two options: 'a'"


def test_a_file_of_the_users_comes_before_what_is_installed(
    installed: None, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "own" / "task").mkdir(parents=True)
    text = "name: night\nreader: clips\nlights: 'off'\n"
    (tmp_path / "own" / "task" / "clips.yaml").write_text(text)
    task = compose(["task=clips", "task.depth=7", "--config-dir", str(tmp_path / "own")]).task
    assert (task.name, task.settings.lights, task.settings.depth) == ("night", "off", 7)
    assert not recwarn.list  # Hydra warns where a file and what is installed have one name
    assert compose(["task=clips"]).task.name == "clips"


FAILS = """
from probes.config.tasks import Recipe, TaskReader
from probes.core.types import Item, Video
ENTRY = TaskReader({load}{more})
"""


@pytest.mark.parametrize(
    ("load", "more", "what"),
    [
        ("lambda root, task: 1 // 0", "", "fails in `load`: ZeroDivisionError"),
        ("lambda root, task: root.nope", "", "fails in `load`: AttributeError"),
        ("lambda root, task: exit(3)", "", "fails in `load`: SystemExit: 3"),
        ("len", ", root=lambda task: task.settings.nope", "fails in `root`: AttributeError"),
        ("len", ", recipe=lambda task: None", "gives a NoneType, not a Recipe"),
        ("len", ", recipe=lambda task: Recipe({'a': {1}}, print)", "whose facts are not JSON"),
        ("len", ", recipe=lambda task: Recipe({}, lambda *_: 0)", "the recipe made no folder"),
        ("len", ", recipe=lambda task: Recipe({}, lambda *_: 1 // 0)", "fails in `recipe`: Zero"),
    ],
    ids=["divides", "attribute", "exit", "root", "none", "facts", "folder", "recipe"],
)
def test_one_that_fails_as_it_reads_is_named(
    load: str, more: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    install(monkeypatch, tmp_path, TASKS, {"odd": FAILS.format(load=load, more=more)})
    root = [] if "root" in more or "recipe" in more else [f"task.root={tmp_path}"]
    with pytest.raises(ProbesError) as caught:
        registry.load(compose(["task=odd", *root]).task)
    assert what in caught.value.what
    assert caught.value.where == "task odd"
    if "folder" not in what:
        assert caught.value.what.startswith("reader 'odd' of sample-plugin 1.0 ")


SETTINGS = """
from dataclasses import dataclass, field
from probes.config.tasks import TaskReader
"""


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("ENTRY = len", "it is not a TaskReader but a builtin_function_or_method"),
        ("ENTRY = TaskReader(len, settings=int)", "its settings are no frozen dataclass"),
        (
            "@dataclass\nclass Own:\n    a: int = 1\nENTRY = TaskReader(len, settings=Own)",
            "its settings are no frozen dataclass",
        ),
        (
            "@dataclass(frozen=True)\nclass Own:\n    a: int\n"
            "ENTRY = TaskReader(len, settings=Own)",
            "missing 1 required positional argument: 'a'",
        ),
        (
            "@dataclass(frozen=True)\nclass Own:\n    frames: int = 1\n"
            "ENTRY = TaskReader(len, settings=Own)",
            "every task has a setting 'frames': name its own otherwise",
        ),
        (
            "@dataclass(frozen=True)\nclass Own:\n"
            "    a: int = field(default=1, metadata={'atleast': 1})\n"
            "ENTRY = TaskReader(len, settings=Own)",
            "its setting 'a' has metadata 'atleast', which nobody reads: did you mean at_least?",
        ),
        ("ENTRY = TaskReader(len, defaults={'frmes': 3})", "its defaults: Key 'frmes'"),
        ("ENTRY = TaskReader(len, defaults={'frames': 'x'})", "its defaults: Value 'x'"),
    ],
    ids=["callable", "int", "mutable", "required", "twice", "metadata", "unknown", "type"],
)
def test_what_is_no_reader_is_refused(
    code: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, TASKS, {"odd": SETTINGS + code})
    with pytest.raises(ProbesError) as caught:
        TASKS.get("odd", "task.reader")
    assert what in caught.value.what
    assert caught.value.what.startswith("reader 'odd' of sample-plugin 1.0 cannot be loaded")


def test_the_readers_of_the_package_are_entries_too() -> None:
    assert {"egoschema", "egoworld", "iraven", "lmms"} <= set(TASKS.names())
    found: Any = TASKS.get("iraven", "")
    assert isinstance(found, TaskReader)
    assert found.frames == 8


@pytest.mark.usefixtures("installed")
def test_one_of_several_tasks_keeps_their_items_apart(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    make_world(tmp_path / "world")
    out = tmp_path / "out"
    base = ["backend=scripted", "task=suites", f"task.root={tmp_path / 'world'}", "frames=4"]
    assert execute(compose(base), out).errors == 0
    records = pq.read_table(out / "records.parquet").to_pylist()
    items = {(r["task"], r["id"]): r for r in pq.read_table(out / "items.parquet").to_pylist()}
    assert {task for task, _ in items} == {"a/", "b"} and len(items) == 8
    assert len(records) == 8 * 2 * 7
    for key, one in items.items():
        film = 4 * (key[0] == "b") + int(key[1])
        assert one["question"] == f"what happens in {film}?"
        assert one["media_path"] == f"videos/clip{film}.mp4"
        assert {r["answer"] for r in records if (r["task"], r["item_id"]) == key} == {film % 5}
    # Every text is between frames of its own item's clip, and none is lost.
    infills = pq.read_table(out / "infills.parquet").to_pylist()
    assert len(infills) == 8 * 3
    for row in infills:
        hashes = dict(items[row["task"], row["item_id"]]["frame_hashes"])[str(row["frames"])]
        assert [row["frame_a"], row["frame_b"]] == hashes[row["gap"] : row["gap"] + 2]
    # A benchmark's file has the answers to one task.
    sent = json.loads((out / "submission-b-video-vcot-4.json").read_text())
    of_cell = ("b", "video", "vcot", 4)
    assert sent == {
        r["item_id"]: r["choice"]
        for r in records
        if (r["task"], r["role"], r["arm"], r["frames"]) == of_cell
    }
    assert len(list(out.glob("submission-a%2F-*.json"))) == 14
    # The same texts from a file need the task with every line.
    lines = [
        {name: row[name] for name in ("task", "item_id", "frames", "gap", "text")}
        for row in infills
    ]
    file = tmp_path / "infills.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    again = compose([*base, "infill=file", f"infill.file={file}"])
    execute(again, tmp_path / "again")
    repeated = pq.read_table(tmp_path / "again" / "records.parquet").to_pylist()
    assert [r["stimulus_sha"] for r in repeated] == [r["stimulus_sha"] for r in records]
    file.write_text("\n".join(json.dumps(line | {"task": "b"}) for line in lines), "utf-8")
    with pytest.raises(ProbesError, match="is given twice"):
        execute(again, tmp_path / "wrong")
