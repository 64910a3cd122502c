"""Our arms in lmms-eval: the same answers as from `probes run`, or a message that says why not."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import evaluating
import pyarrow.parquet as pq
import pytest
import tiny_models

from probes.cli import main
from probes.stimuli.answers import LETTERS
from probes.tasks.egoworld import generate

CLIPS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    generate.make(folder / "data", generate.ClipSettings(CLIPS, seed=3))
    return folder / "data"


@pytest.fixture(autouse=True)
def places(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOSCHEMA_ROOT", str(world))
    monkeypatch.setenv("PROBES_HOME", str(world.parent / "home"))
    monkeypatch.chdir(tmp_path)


def answered(world: Path, *overrides: str) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """What `probes run` answers, from a store of its own: rows by (role, arm) and item."""
    out = world.parent / f"run-{len(overrides)}"
    arguments = ["task=egoschema", f"task.root={world}", "frames=5", f"hydra.run.dir={out}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(world.parent / "another_home"))
        assert main.main(["run", *arguments, *overrides]) == 0
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in pq.read_table(out / "records.parquet").to_pylist():
        found.setdefault((row["role"], row["arm"]), {})[row["item_id"]] = row
    return found


@pytest.fixture(scope="module")
def scripted(world: Path) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    return answered(world, "backend=scripted")


def ids(world: Path) -> list[str]:
    return [entry["q_uid"] for entry in json.loads((world / "questions.json").read_text())]


def replies(results: Any) -> dict[int, str]:
    samples = results["samples"]["egoschema_local"]
    return {sample["doc_id"]: sample["filtered_resps"][0] for sample in samples}


def evaluate(folder: Path, arguments: str, name: str = "egoschema_local", **more: Any) -> Any:
    """Run lmms-eval's evaluator in this process; returns its results."""
    evaluating.load(folder, "egoschema_local")  # sets where caches are
    from lmms_eval import evaluator, models
    from lmms_eval.tasks import TaskManager

    from probes.integrations.lmms_eval_entry import manifest

    models.MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)
    manager = TaskManager(
        "ERROR", include_path=str(evaluating.ROOT / "tasks"), include_defaults=False
    )
    return evaluator.simple_evaluate(
        "probes",
        arguments,
        tasks=[name],
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
        process_docs_parallel=1,
        **more,
    )


def check_against(rows: dict[str, dict[str, Any]], results: Any, world: Path) -> None:
    expected = {at: LETTERS[rows[uid]["choice"]] for at, uid in enumerate(ids(world))}
    assert replies(results) == expected
    right = sum(row["correct"] for row in rows.values()) / CLIPS
    assert results["results"]["egoschema_local"]["accuracy,none"] == pytest.approx(right)


@pytest.mark.parametrize("arm", ["baseline", "vcot", "text_perturbation", "blind"])
def test_replies_are_the_choices_of_a_run(
    arm: str, world: Path, scripted: Any, tmp_path: Path
) -> None:
    arguments = f"pretrained=embedded:video,arm={arm},frames=5,backend=scripted"
    check_against(scripted["video", arm], evaluate(tmp_path, arguments), world)


def test_a_limit_changes_no_reply(world: Path, scripted: Any, tmp_path: Path) -> None:
    arguments = "pair=tiny,role=image,arm=visual_perturbation,frames=5,backend=scripted"
    rows = scripted["image", "visual_perturbation"]
    expected = {at: LETTERS[rows[uid]["choice"]] for at, uid in enumerate(ids(world)[:2])}
    assert replies(evaluate(tmp_path, arguments, limit=2)) == expected


@pytest.mark.slow  # the embedded model instead of the script
def test_replies_of_a_model_are_the_choices_of_a_run(world: Path, tmp_path: Path) -> None:
    rows = answered(world)
    for arm in ("baseline", "vcot"):
        results = evaluate(tmp_path, f"pretrained=embedded:video,arm={arm},frames=5")
        check_against(rows["video", arm], results, world)


def test_frames_are_shown_as_in_a_run_of_both_members(tmp_path: Path) -> None:
    """`pair.frame_as=auto` is settled by the pair, though one member alone is opened here."""
    from probes.integrations.lmms_eval_model import settings

    video = tiny_models.llava_next_video(tmp_path / "video")
    image = tiny_models.llava_next(tmp_path / "image")
    only_images = tiny_models.llava(tmp_path / "only_images")
    for other, expected in ((image, "video"), (only_images, "image")):
        repos = {"pair": "own", "pair.image.repo": other, "pair.video.repo": video}
        cfg, writer = settings(None, "vcot", "video", repos | {"frames": 5})
        assert writer is not None
        assert [one.frame_as for one in (*cfg.pair.members, writer)] == [expected, expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("arm=vcot", "no model is named"),
        ("pretrained=embedded:video,arm=vcott", "no arm 'vcott'"),
        ("pretrained=embedded:vidéo", "no member 'vidéo'"),
        ("pretrained=embedded:video,framez=5", "framez"),
        ("pretrained=embedded:video,frames=[5;10]", "frames"),
        ("pretrained=embedded:video,donor_draws=2", "asks several times"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        evaluate(tmp_path, arguments)


def test_a_task_that_is_not_multiple_choice_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.tasks.iraven import generate as iraven

    iraven.make(tmp_path / "problems", 1, seed=0, configurations=["center_single"])
    monkeypatch.setenv("IRAVEN_ROOT", str(tmp_path / "problems"))
    with pytest.raises(SystemExit, match="letters without texts"):
        evaluate(tmp_path, "pretrained=embedded:video", "iraven_center_single")


def test_the_entry_point_names_the_manifest() -> None:
    project = tomllib.loads((evaluating.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["probes"].partition(":")
    manifest = getattr(import_module(module), name)()
    assert manifest.model_id == "probes"
    place, _, kind = manifest.chat_class_path.rpartition(".")
    assert not getattr(import_module(place), kind).is_simple


@pytest.mark.slow  # lmms-eval's command in a process of its own
def test_the_command_line(tmp_path: Path, world: Path) -> None:
    installed = tmp_path / "site" / "probes_plugin-0.dist-info"  # whatever is installed
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: probes_plugin\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(
        "[lmms_eval.models]\nprobes = probes.integrations.lmms_eval_entry:manifest\n"
    )
    arguments = [
        "--model",
        "probes",
        "--model_args",
        "pretrained=embedded:video,arm=vcot",
        "--include_path",
        "tasks",
        "--tasks",
        "egoschema_local",
        "--output_path",
        str(tmp_path / "out"),
        "--limit",
        "2",
    ]
    done = evaluating.command(tmp_path, *arguments, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").rglob("*_results.json")
    assert json.loads(written.read_text())["results"]["egoschema_local"]["unparsed,none"] == 0
    arguments[3] = "pretrained=embedded:video,arm=vcott"
    done = evaluating.command(tmp_path, *arguments, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 1
    assert "the suite has no arm 'vcott'" in done.stderr
