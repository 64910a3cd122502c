"""The `probes` command: exit codes, messages, sweeps, and data."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hostile import SMALL

from probes import analysis
from probes.cli import main
from probes.cli import run as run_command
from probes.cli.run import ExitCodeCallback
from probes.config import compose
from probes.config.paths import conf_dir


@pytest.mark.parametrize(
    ("arguments", "pair"),
    [
        (["pair.image.repo=a/b", "pair.video.repo=c/d"], "pair=own"),
        (["-m", "pair.control.repo=a/b", "limit=3", "pair.image.repo=c,d"], "pair=own"),
        (["pair=own", "pair.image.repo=a/b"], ""),
        (["experiment=demo", "pair.image.repo=a/b", "pair.image.name=a"], ""),
    ],
)
def test_two_repositories_make_a_pair(arguments: list[str], pair: str) -> None:
    overrides, options = compose.split_arguments(arguments)
    assert overrides == [*([pair] if pair else []), *(a for a in arguments if "=" in a)]
    assert options == [a for a in arguments if "=" not in a]


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made data and answers, for all tests here: clips are filmed once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def empty_folder(shared_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(shared_home))
    monkeypatch.delenv("PROBES_RUNS", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("manifest.json"))


def test_a_run_prints_its_tables_and_writes_its_files_where_it_says(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", *SMALL]) == 0
    out, err = capsys.readouterr()
    (run,) = runs(empty_folder)
    assert run.relative_to(empty_folder).parts[:2] == ("results", "runs")
    assert run.name.endswith("-tiny-egoworld")
    tables = {f"{name}.parquet" for name in ("records", "items", "donors", "infills")}
    others = {"manifest.json", "run.json", "frames", "plots", ".hydra"}
    assert {path.name for path in run.iterdir()} == tables | others
    assert "n = 6 items" in out
    assert "The embedded pair" in out
    assert out.rstrip().endswith(str(run.relative_to(empty_folder)))
    assert "answers of tiny-video: done" in err
    assert [path.name for path in empty_folder.iterdir()] == ["results"]  # and nothing else


def test_a_sweep_is_one_run_per_value_and_loads_as_one(empty_folder: Path) -> None:
    assert main.main(["run", *SMALL, "-m", "frames=2,3", "limit=4"]) == 0
    assert len(runs(empty_folder)) == 2
    frame = analysis.load(empty_folder / "results")
    assert sorted(frame["frames"].unique()) == [2, 3]


def test_runs_go_where_the_environment_says(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_RUNS", str(empty_folder / "elsewhere"))
    assert main.main(["run", *SMALL]) == 0
    assert len(runs(empty_folder / "elsewhere")) == 1
    assert not (empty_folder / "results").exists()


@pytest.mark.parametrize("more", [["frames=3"], ["frames=4", "-m", "limit=3,4"]])
def test_failed_items_are_exit_code_1(
    more: list[str], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", *SMALL, "backend.options.errors=0.3", *more]) == 1
    assert "scripted error" in capsys.readouterr().out
    assert runs(empty_folder)
    assert main.main(["run", *SMALL, *more]) == 0  # asked again, and answered


def test_a_sweep_with_a_wrong_job_does_the_others_and_is_exit_code_2(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", *SMALL, "-m", "limit=0,4"]) == 2
    assert "0 is too small" in capsys.readouterr().err
    assert len(runs(empty_folder)) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["framse=5"], "did you mean frames?"),
        (["task.hight=3"], "did you mean task.height?"),
        (["suite.arms.vcto.seed=1"], "did you mean suite.arms.vcot.seed?"),
        (["pair=tny"], "did you mean tiny?"),
        (["-m", "pair=tiny,tiny_contrl"], "did you mean tiny_control?"),
        (["experiment=dmo"], "did you mean demo?"),
        (["paris=tiny"], "did you mean pair?"),
        (["~suite.arms.blnd"], "did you mean suite.arms.blind?"),
        (["qqqqqqqq=1"], "pair, prompt_set"),
        (["limit=many"], "could not be converted to Integer"),
        (["frames=5,10"], "--multirun"),
        (["frames==5"], "write setting=value"),
        (["+sed=1"], "did you mean seed?"),
        (["scoring=lettr"], "did you mean letter?"),
        (["shard=3"], "counted from 0"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["limit"], "limit"),
        (
            ["--config-dir", "/nowhere/at/all"],
            "no such folder\n  where: --config-dir /nowhere/at/all",
        ),
        (["hydra.run.dir=/dev/null/run"], "the run's folder cannot be made: Not a directory"),
        (["pair=tiny", "pair.image.repo=/nowhere/at/all", "backend=hf"], "/nowhere/at/all"),
        (["task=egoschema"], "task.root"),
        (["task=egoschema", "task.root=/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_wrong_usage_is_exit_code_2_says_how_to_correct_it_and_leaves_nothing(
    arguments: list[str], says: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", "backend=scripted", *arguments]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert "Traceback" not in out + err
    # Hydra notes a sweep before it looks at its jobs.
    assert not [p for p in empty_folder.rglob("*") if p.is_file() and p.name != "multirun.yaml"]


def test_the_users_own_folder_of_options_is_found(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = empty_folder / "options"
    (folder / "pair").mkdir(parents=True)
    text = (conf_dir() / "pair" / "tiny.yaml").read_text().replace("name: tiny ", "name: new ")
    (folder / "pair" / "new.yaml").write_text(text)
    assert main.main(["run", *SMALL, "--config-dir", str(folder), "pair=new"]) == 0
    (run,) = runs(empty_folder)
    assert json.loads((run / "manifest.json").read_text())["config"]["pair"]["name"] == "new"
    assert main.main(["run", f"--config-dir={folder}", "pair=nw"]) == 2
    assert "did you mean new?" in capsys.readouterr().err
    (folder / "pair" / "new.yaml").write_text(text.replace("dtype:", "dtpe:"))
    assert main.main(["run", *SMALL, "--config-dir", str(folder), "pair=new"]) == 2
    assert "dtpe" in capsys.readouterr().err


def test_a_crash_is_not_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("probes.engine.run.execute", crash)
    with pytest.raises(ValueError, match="a bug"):
        main.main(["run", *SMALL])


def test_ctrl_c_says_how_to_go_on(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probes.engine.run.execute", interrupt)
    assert main.main(["run", *SMALL, "task.root=a b"]) == 130
    err = capsys.readouterr().err
    assert "probes run backend=scripted" in err
    assert "'task.root=a b'" in err
    assert not [path for path in empty_folder.rglob("*") if path.is_file()]


def test_every_command_that_is_interrupted_names_itself(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probes.tasks.egoworld.generate.make", interrupt)
    words = ["data", "egoworld", "a b", "--videos", "3", "--seed", "1"]
    assert main.main(words) == 130
    message = "interrupted; to go on:\n  probes data egoworld 'a b' --videos 3 --seed 1"
    assert message in capsys.readouterr().err


def test_a_library_that_finds_no_room_is_not_a_crash(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "arms.png")

    monkeypatch.setattr("probes.report.figures.save", full)
    assert main.main(["run", *SMALL]) == 2
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert "arms.png" in err
    assert "Traceback" not in err


def test_the_configuration_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "--cfg", "job", "pair=tiny_control", "limit=9"]) == 0
    out = capsys.readouterr().out
    assert "limit: 9" in out
    assert "embedded:control" in out
    assert "hydra" not in out


def test_help_teaches_every_group_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    for group in run_command.schema.GROUPS:
        (block,) = re.findall(rf"^  {group} .*(?:\n {{30,}}.*)*", out, re.MULTILINE)
        listed = set(re.split(r"[\s,;:]+", block))
        assert {path.stem for path in (conf_dir() / group).glob("*.yaml")} <= listed
    assert out.count("\n  probes run ") >= 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], 0, "data egoworld"),
        (["-h"], 0, "probes run experiment=demo"),
        ([], 2, "Commands"),
        (["--version"], 0, "probes "),
        (["rnu"], 2, "did you mean run?"),
        (["data"], 2, "use one of data egoworld, data iraven ("),
        (["data", "egoword"], 2, "did you mean data egoworld?"),
        (["data", "--help"], 0, "data egoworld"),
        (["data", "egoworld", "--help"], 0, "--videos"),
        (["data", "egoworld", "x"], 2, "--videos"),
        (["train", "tiny", "--help"], 0, "example"),
        (["tasks", "--help"], 0, "--include_path $(probes tasks --path)"),
        (["tasks"], 0, "egoworld   First-person clips"),
        (["tasks", "lms"], 2, "--path"),
        (["tasks", "lmms", "--help"], 0, "--include-path"),
    ],
)
def test_every_command_says_what_it_is_for(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(arguments) == code
    assert says in "".join(capsys.readouterr())


def data(folder: Path, *more: str) -> int:
    words = "--videos 2 --seed 3 --height 32 --fps 1".split()
    return main.main(["data", "egoworld", str(folder), *words, *more])


def test_data_are_made_once_and_never_over_other_data(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = empty_folder / "world"
    assert data(folder) == 0
    assert len(list((folder / "videos").glob("*.mp4"))) == 2
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    assert data(folder) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    assert data(folder, "--seed", "4") == 2
    assert "other data" in capsys.readouterr().err
    (empty_folder / "full").mkdir()
    (empty_folder / "full" / "thesis.txt").touch()
    assert data(empty_folder / "full") == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in (empty_folder / "full").iterdir()] == ["thesis.txt"]


def test_data_that_were_begun_are_finished(empty_folder: Path) -> None:
    folder = empty_folder / "world"
    assert data(folder) == 0
    whole = sorted(path.name for path in folder.rglob("*.mp4"))
    (folder / "questions.json").unlink()
    next(folder.rglob("*.mp4")).unlink()
    assert data(folder) == 0
    assert sorted(path.name for path in folder.rglob("*.mp4")) == whole
    assert (folder / "questions.json").is_file()


def test_settings_that_were_refused_do_not_claim_the_folder(empty_folder: Path) -> None:
    assert data(empty_folder / "world", "--height", "3") == 2
    assert data(empty_folder / "world") == 0


def test_a_sweep_reads_its_exit_code_from_what_jobs_left(tmp_path: Path) -> None:
    """As after a launcher that ran the jobs in other processes, or on other machines."""

    class Config:
        class hydra:  # noqa: N801
            class sweep:  # noqa: N801
                dir = str(tmp_path)

    def code(**jobs: Any) -> int:
        for name, errors in jobs.items():
            (tmp_path / name).mkdir(exist_ok=True)
            if errors is not None:
                content = {"counts": {"error": errors}}
                (tmp_path / name / "manifest.json").write_text(json.dumps(content))
        ExitCodeCallback.code = 0
        ExitCodeCallback().on_multirun_end(Config)  # type: ignore[arg-type]
        return ExitCodeCallback.code

    (tmp_path / "multirun.yaml").touch()
    (tmp_path / ".submitit").mkdir()
    assert code(a=0) == 0
    assert code(a=0, b=3) == 1
    assert code(a=0, b=3, c=None) == 2


def test_data_iraven_makes_problems_that_the_reader_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from probes.tasks.iraven import reader

    folder = tmp_path / "problems"
    words = ["data", "iraven", str(folder), "--per-config", "2", "--seed", "3"]
    assert main.main([*words, "--configs", "center_single,distribute_four"]) == 0
    assert "4 problems written" in capsys.readouterr().out
    assert len(reader.load(folder)) == 4
    assert main.main([*words, "--configs", "no_such"]) == 2
    assert "no_such" in capsys.readouterr().err


def test_the_python_api_shows_itself() -> None:
    import probes

    assert dir(probes) == ["__version__", "artifacts", "contrasts", "load"]
    assert all(getattr(probes, name) for name in dir(probes))
    assert probes.__version__ == metadata.version("interframe-probes")
    assert (Path(probes.__file__).parent / "py.typed").is_file()


def notes(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (run / ".hydra").iterdir()}


def test_another_runs_folder_and_its_notes_stay_as_they_are(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", *SMALL, "hydra.run.dir=run"]
    assert main.main([*command, "limit=4"]) == 0
    run = empty_folder / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert set(notes(run)) == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "limit: 4\n" in notes(run)["config.yaml"]
    assert "- limit=4\n" in notes(run)["overrides.yaml"]
    assert notes(run)["hydra.yaml"].startswith("hydra:\n")
    capsys.readouterr()
    assert main.main([*command, "limit=3"]) == 2
    err = capsys.readouterr().err
    assert "the folder holds a run of other settings: limit: 4 -> 3\n" in err
    assert "hydra.run.dir=DIR" in err and "overwrite=true" in err
    assert main.main([*command, "limit=0"]) == 2  # refused before the folder is looked at
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main.main([*command, "limit=4", "backend.batch_size=2"]) == 0
    assert main.main([*command, "limit=3", "overwrite=true"]) == 0
    assert "limit: 3\n" in notes(run)["config.yaml"]
    assert analysis.load(run)["item_id"].nunique() == 3


def test_a_sweep_into_the_folder_of_another_is_exit_code_2(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["run", *SMALL, "-m", "frames=2,3", "hydra.sweep.dir=sweep"]
    assert main.main([*sweep, "limit=4"]) == 0
    assert len(runs(empty_folder)) == 2
    assert all(set(notes(run)) >= {"overrides.yaml"} for run in runs(empty_folder))
    assert main.main([*sweep, "limit=3"]) == 2  # although each job's folder has a manifest
    assert capsys.readouterr().err.count("limit: 4 -> 3") == 2
    assert analysis.load(empty_folder / "sweep")["item_id"].nunique() == 4
    assert main.main([*sweep, "limit=4"]) == 0
    assert not list((empty_folder / "sweep").glob(".failed*"))


def test_a_run_that_ended_early_leaves_no_folder_and_a_failed_job_its_notes(
    empty_folder: Path,
) -> None:
    assert main.main(["run", *SMALL, "task.root=nowhere", "hydra.run.dir=run"]) == 2
    assert not (empty_folder / "run").exists()
    assert main.main(["run", *SMALL, "-m", "limit=0,4", "hydra.sweep.dir=sweep"]) == 2
    failed, whole = sorted(path.parent for path in (empty_folder / "sweep").rglob(".hydra"))
    assert [path.name for path in failed.iterdir()] == [".hydra"]
    assert (whole / "manifest.json").is_file()
    page = (empty_folder / "sweep" / "report" / "report.md").read_text()
    assert f"1 run did not finish and is not here: {failed.name}." in page


def test_control_weights_in_the_video_members_place_are_named_everywhere(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["pair=tiny", "pair.video.repo=embedded:control", "hydra.run.dir=out"]
    assert main.main(["run", *SMALL, *given]) == 0
    assert main.main(["report", "out"]) == 0
    printed = "".join(capsys.readouterr())
    report = (empty_folder / "out" / "report" / "report.md").read_text("utf-8")
    assert "tiny-video" not in printed + report
    for text in (printed, report):
        assert "the video member is control (embedded:control)" in text
    assert "No control member was run" not in report
    assert "The video member's place was taken by control" in report


def test_a_run_without_a_model_says_so_wherever_a_number_stands(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", *SMALL, "hydra.run.dir=out"]) == 0
    assert main.main(["report", "out"]) == 0
    printed = capsys.readouterr().out
    mark = "[no model: answers by rule (backend=scripted)]"
    tables = [part for part in printed.split("\n\n") if re.search("^(---+|====)", part, re.M)]
    assert len(tables) > 4
    assert [part for part in tables if mark not in " ".join(part.split())] == []
    report = (empty_folder / "out" / "report" / "report.md").read_text("utf-8")
    assert "No verdict. No model: answers by rule" in report
    lines = report.splitlines()
    tables = [lines[at - 3] for at, one in enumerate(lines) if re.match(r"\|( ---:? \|)+$", one)]
    pictures = [one for one in lines if one.startswith("![")]
    assert len(tables) > 5
    assert pictures
    unmarked = [one for one in tables + pictures if "no model: answers by rule" not in one]
    assert unmarked == []
    assert main.main(["compare-published", "out", "--family", "LLaVA-NeXT"]) == 2
    assert "no model" in capsys.readouterr().err
    assert main.main(["compare-published", "out", "--family", "LLaVA-NeXT", "--scripted"]) in (0, 2)
