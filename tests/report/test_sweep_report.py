"""The report that a sweep writes at its end, and the one that a single run offers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import report_pages as made

from probes import analysis, report
from probes.cli import main
from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.engine import run
from probes.engine.run import RunResult

SMALL = [
    "backend=scripted",
    "task.videos=4",
    "task.height=32",
    "task.fps=1",
    "frames=2",
    "limit=4",
]


@pytest.fixture
def sweep_home(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path_factory.getbasetemp() / "sweep-home"))
    monkeypatch.setenv("PROBES_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_a_sweep_ends_with_its_report(sweep_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", *SMALL, "-m", "pair.frame_as=video,image"]) == 0
    (page,) = sweep_home.rglob("report.html")
    assert page.parent.name == report.FOLDER
    assert page.parent.parent.name.endswith("-sweep")
    text, _ = capsys.readouterr()
    assert text.rstrip().endswith(str(page))
    assert "probes report" not in text  # it is there already
    text = page.read_text("utf-8")
    made.check(text)
    assert "frame_as=image [95 %]" in text
    # The report's folder is neither a job of the sweep nor a run.
    assert len(analysis.load(page.parent.parent)["run"].unique()) == 2


def test_a_report_that_fails_never_fails_the_sweep(
    sweep_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr("probes.report.files.build", fail)
    assert main.main(["run", *SMALL, "-m", "limit=2,4"]) == 0
    text = capsys.readouterr().err
    assert "the sweep's report was not written: ValueError: no ink" in text
    assert "to try again: probes report " in text
    assert not list(sweep_home.rglob("report.html"))


def test_a_single_run_offers_a_report(sweep_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", *SMALL]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert main.main(["report", last.split("probes report ")[1]]) == 0
    assert not [one for one in sweep_home.rglob("report.html") if one.parent.name != report.FOLDER]


def test_a_sweep_with_a_failed_shard_reports_what_is_there(
    sweep_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    execute = run.execute

    def failing(cfg: RunConfig, *given: Any) -> RunResult:
        if cfg.shard == 1:
            raise ProbesError("the second half failed")
        return execute(cfg, *given)

    sweep = ["run", *SMALL, "-m", "shard=0,1", "shards=2"]
    with monkeypatch.context() as patch:
        patch.setattr(run, "execute", failing)
        assert main.main(sweep) == 2
    (page,) = sweep_home.rglob("report.html")
    folder = page.parent.parent
    missing = "shard=1 of shards=2 is missing (there: 0-tiny-egoworld)"
    assert f"Partial data: {missing}." in page.read_text("utf-8")
    text, err = capsys.readouterr()
    assert f"These are the numbers of one shard, not of the run: {missing}." in text
    assert f"the report is of partial data: {missing}" in err
    assert main.main(["report", str(folder)]) == 2
    (command,) = re.findall(r"run what is missing: (probes run .*?),", capsys.readouterr().err)
    # The command that the message names makes the run whole.
    assert main.main([*shlex.split(command)[1:], f"hydra.run.dir={folder / 'again'}"]) == 0
    hint = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert hint.endswith(" --partial")
    assert len(analysis.load(folder)["item_id"].unique()) == 4
