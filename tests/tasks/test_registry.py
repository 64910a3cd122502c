"""Tasks become items by name; EgoWorld's data is made once, completely, by one process."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opened_files import opened_below

from probes.config.paths import conf_dir
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_file, sha256_json
from probes.core.types import Item
from probes.tasks import registry
from probes.tasks.builtin import IravenSettings, WorldSettings
from probes.tasks.egoworld.generate import ClipSettings
from probes.tasks.made import claim
from probes.tasks.registry import TASKS, TaskConfig, TaskReader


def world(name: str = "egoworld", root: str | None = None, **clips: Any) -> TaskConfig:
    settings = WorldSettings(**{"videos": 3, "seed": 0, "height": 64, "seconds": 2.0, **clips})
    return TaskConfig(name, "egoworld", root, settings=settings)


class Generator(ModuleType):
    """Replaces probes.tasks.egoworld.generate, and counts its calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__("probes.tasks.egoworld.generate")
        self.__file__ = str(folder / "generate.py")
        folder.mkdir()
        (folder / "generate.py").write_text("version = 1")
        self.ClipSettings = ClipSettings
        self.calls: list[ClipSettings] = []
        self.wait_s = 0.0
        self.fail: BaseException | None = None

    def make(self, root: Path, settings: ClipSettings, progress: Any = None) -> None:
        self.calls.append(settings)
        videos = settings.videos
        (root / "videos").mkdir(parents=True)
        uids = [f"v{n}" for n in range(videos)]
        for n, uid in enumerate(uids):
            (root / "videos" / f"{uid}.mp4").write_bytes(b"\0\0\0\x08moov")
            time.sleep(self.wait_s)
            if self.fail is not None:
                raise self.fail
            if progress is not None:
                progress(n + 1, videos)
        options = {f"option {i}": str(i) for i in range(5)}
        questions = [{"q_uid": uid, "question": "?", **options} for uid in uids]
        (root / "questions.json").write_text(json.dumps(questions))
        (root / "subset_answers.json").write_text(json.dumps(dict.fromkeys(uids, 0)))
        (root / "uid_to_ego4d.json").write_text(json.dumps(dict.fromkeys(uids, "rec")))


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator(tmp_path / "code")
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "probes.tasks.egoworld.generate", generator)
    import probes.tasks.egoworld

    monkeypatch.setattr(probes.tasks.egoworld, "generate", generator, raising=False)
    return generator


def made(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "home" / "data").iterdir() if p.is_dir())


def test_data_are_made_on_first_use_only(generator: Generator, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    items = registry.load(world(), lambda done, total: reported.append((done, total)))
    assert [item.id for item in items] == ["v0", "v1", "v2"]
    assert {item.task for item in items} == {"egoworld"}
    assert reported == [(1, 3), (2, 3), (3, 3)]
    assert generator.calls[0] == ClipSettings(3, 0, height=64, fps=4.0, seconds=2.0)
    assert registry.load(world()) == items
    assert len(generator.calls) == 1
    root = registry.root(world())
    assert root.is_absolute() and root.name in made(tmp_path) and len(made(tmp_path)) == 1
    assert all(item.media.path.is_relative_to(root) for item in items)


def test_settings_and_code_name_the_folder(generator: Generator, tmp_path: Path) -> None:
    registry.load(world())
    for changed in (
        {"videos": 2},
        {"seed": 1},
        {"height": 96},
        {"fps": 5.0},
        {"seconds": 3.0},
    ):
        registry.load(world(**changed))
    assert len(made(tmp_path)) == len(generator.calls) == 6
    registry.load(replace(world(fps=4), unanswered=True))
    assert len(generator.calls) == 6
    Path(generator.__file__ or "").write_text("version = 22")
    registry.load(world())
    assert len(made(tmp_path)) == len(generator.calls) == 7


def test_the_names_of_folders_are_those_of_equal_settings_and_code(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before tasks had settings of their own: what was made is found again."""
    (code,) = Path(generator.__file__ or "").parent.glob("*.py")
    drawn = sha256_file(conf_dir() / "world" / "egoworld.yaml")
    facts: dict[str, Any] = {"videos": 3, "seed": 0, "height": 64, "fps": 4.0, "seconds": 2.0}
    facts["world"] = [sha256_file(code), drawn]
    assert registry.root(world()).name == f"egoworld-{sha256_json(facts)[:12]}"

    from probes.tasks.iraven import generate

    monkeypatch.setattr(generate, "make", lambda folder, *_, **__: folder.mkdir())
    files = sorted(Path(generate.__file__).parent.glob("*.py"))
    facts = {"per_config": 2, "seed": 5, "generator": [sha256_file(file) for file in files]}
    task = TaskConfig("iraven", "iraven", settings=IravenSettings(per_config=2, seed=5))
    assert registry.root(task).name == f"iraven-{sha256_json(facts)[:12]}"
    assert registry.root(replace(task, settings=IravenSettings(True, 2, 5))) == registry.root(task)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_half_made_data_are_not_kept(
    generator: Generator, tmp_path: Path, error: BaseException
) -> None:
    generator.fail = error
    with pytest.raises(type(error)):
        registry.load(world())
    assert made(tmp_path) == []
    generator.fail = None
    assert len(registry.load(world())) == 3


def test_what_a_killed_process_left_is_removed(generator: Generator, tmp_path: Path) -> None:
    registry.load(world())
    (folder,) = made(tmp_path)
    data = tmp_path / "home" / "data"
    (data / folder).rename(data / f"{folder}.half-12345678")
    assert len(registry.load(world())) == 3
    assert made(tmp_path) == [folder]


def test_a_folder_is_claimed_by_what_its_data_was_made_with(tmp_path: Path) -> None:
    note = tmp_path / "data" / "note.json"
    claim(note, {"seed": 1}, has_data=False)
    claim(note, {"seed": 2}, has_data=False)  # nothing was made of the first
    before = note.stat().st_mtime_ns
    claim(note, {"seed": 2}, has_data=True)
    assert note.stat().st_mtime_ns == before
    with pytest.raises(ProbesError, match=r"other data: \{'seed': 2\}, not \{'seed': 3\}"):
        claim(note, {"seed": 3}, has_data=True)
    note.write_text("{")
    with pytest.raises(ProbesError, match="cannot be read"):
        claim(note, {"seed": 2}, has_data=True)
    for path in (tmp_path / "none.json", note / "below.json"):
        with pytest.raises(ProbesError, match="not empty"):
            claim(path, {"seed": 2}, has_data=True)


def damage_a_video(folder: Path) -> None:
    (folder / "videos" / "v1.mp4").write_bytes(b"\0\0\0\x08moox")


def lose_a_video(folder: Path) -> None:
    (folder / "videos" / "v1.mp4").unlink()


def damage_the_questions(folder: Path) -> None:
    (folder / "questions.json").write_text((folder / "questions.json").read_text()[:-20])


def damage_the_list(folder: Path) -> None:
    content = (folder / ".files.json").read_text()
    (folder / ".files.json").write_text(content.replace("videos/v2", "videos/v1"))


def lose_the_list(folder: Path) -> None:
    (folder / ".files.json").unlink()


def replace_the_list(folder: Path) -> None:
    (folder / ".files.json").write_text('["of another form"]')


@pytest.mark.parametrize(
    "damage",
    [
        damage_a_video,
        lose_a_video,
        damage_the_questions,
        damage_the_list,
        lose_the_list,
        replace_the_list,
    ],
)
def test_damaged_data_is_made_again(
    generator: Generator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    items = registry.load(world())
    root = registry.root(world())
    content = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    damage(root)
    assert registry.load(world()) == items
    assert len(generator.calls) == 2
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == content
    assert len(caplog.messages) == 1 and "the data is made again" in caplog.text
    assert registry.load(world()) == items
    assert len(generator.calls) == 2 and len(made(tmp_path)) == 1


def test_media_of_items_that_are_not_asked_are_not_read(generator: Generator) -> None:
    """With limit=2, neither the other clips' content is read, nor the heads of their files."""
    first, *_ = registry.load(world())
    root = registry.root(world())
    with opened_below(root) as opened:
        items = registry.load(world(), None, "later")
        registry.check_media(world(), items[:1])
    assert items[0] == first
    assert {name for name in opened if name.startswith("videos/")} == {"videos/v0.mp4"}
    assert "questions.json" in opened


@pytest.mark.parametrize("damage", [damage_the_questions, lose_a_video, lose_the_list])
def test_what_is_read_of_all_items_is_made_again_at_once(
    generator: Generator, damage: Callable[[Path], None]
) -> None:
    items = registry.load(world())
    damage(registry.root(world()))
    assert registry.load(world(), None, "later") == items
    assert len(generator.calls) == 2


def test_a_damaged_clip_is_made_again_when_it_is_asked(generator: Generator) -> None:
    registry.load(world())
    damage_a_video(registry.root(world()))
    one, other, _ = registry.load(world(), None, "later")
    registry.check_media(world(), [one])
    assert len(generator.calls) == 1
    registry.check_media(world(), [one, other])
    assert len(generator.calls) == 2
    assert other.media.path.read_bytes() == one.media.path.read_bytes()


def test_media_of_a_users_folder_are_not_made(generator: Generator, tmp_path: Path) -> None:
    registry.load(world())
    own = world(root=str(shutil.copytree(registry.root(world()), tmp_path / "own")))
    (tmp_path / "own" / "videos" / "v0.mp4").write_bytes(b"other")
    with pytest.raises(ProbesError, match="videos are broken"):
        registry.load(own, None, "later")


def test_damaged_data_stays_until_it_is_made_again(generator: Generator, tmp_path: Path) -> None:
    registry.load(world())
    root = registry.root(world())
    damage_a_video(root)
    generator.fail = ValueError("broken")
    with pytest.raises(ValueError, match="broken"):
        registry.load(world())
    assert (root / "videos" / "v0.mp4").is_file()
    generator.fail = None
    assert len(registry.load(world())) == 3


def test_other_files_of_a_folder_of_made_data_do_not_count(generator: Generator) -> None:
    registry.load(world())
    (registry.root(world()) / "notes.txt").write_text("mine")
    registry.load(world())
    assert len(generator.calls) == 1


def test_concurrent_calls_make_the_data_once(generator: Generator, tmp_path: Path) -> None:
    generator.wait_s = 0.05
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(registry.load(world())))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 4
    assert len(generator.calls) == 1
    assert len(made(tmp_path)) == 1


def test_concurrent_calls_without_locks_do_not_clash(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("probes.tasks.made.fcntl.flock", no_locks)
    generator.wait_s = 0.05
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(registry.load(world())))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 3
    assert len(made(tmp_path)) == 1


def test_a_given_folder_is_read(generator: Generator, tmp_path: Path) -> None:
    generator.make(tmp_path / "own", ClipSettings(2, 0))
    generator.calls.clear()
    task = TaskConfig("egoschema", "egoschema", str(tmp_path / "own"))
    assert [item.task for item in registry.load(task)] == ["egoschema"] * 2
    assert len(registry.load(world(root=str(tmp_path / "own")))) == 2
    assert registry.root(task) == (tmp_path / "own").resolve()
    assert generator.calls == []


def test_wrong_tasks() -> None:
    with pytest.raises(ProbesError, match="names no folder"):
        registry.load(TaskConfig("egoschema", "egoschema"))
    with pytest.raises(ProbesError, match="no reader named 'egoshema'"):
        registry.load(TaskConfig("egoschema", "egoshema"))


def _read_json(root: Path, task: Any) -> list[Item]:
    return list(json.loads((root / "items.json").read_text("utf-8")))


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        (None, "No such file", "items.json"),
        (b"[", "Expecting value", ""),
        (b"\xff", "can't decode", ""),
    ],
)
def test_what_a_reader_cannot_read_is_an_error_with_its_name(
    content: bytes | None, what: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS._loaded, "mine", TaskReader(_read_json))
    if content is not None:
        (tmp_path / "items.json").write_bytes(content)
    with pytest.raises(ProbesError, match=f"reader mine cannot read the data: .*{what}") as caught:
        registry.load(TaskConfig("mine", "mine", str(tmp_path)))
    assert Path(caught.value.where) == (tmp_path / where).resolve()


def test_a_disk_that_fails_is_not_the_readers_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Path, task: Any) -> list[Item]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setitem(TASKS._loaded, "mine", TaskReader(fail))
    with pytest.raises(OSError, match="Input/output"):
        registry.load(TaskConfig("mine", "mine", str(tmp_path)))


def test_submissions_are_for_unanswered_runs() -> None:
    assert registry.submission(world(), {"a": 1}) is None
    data = registry.submission(replace(world(), unanswered=True), {"a": 1, "b": None})
    assert data is not None and json.loads(data) == {"a": 1, "b": -1}
