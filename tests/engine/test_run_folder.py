"""A run's folder: one run at a time, never another's, complete or known not to be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_runs
import pyarrow.parquet as pq
import pytest
from running import lasting

import probes
from probes.core.errors import ProbesError
from probes.engine.run import execute
from probes.records import binding, folder_lock
from probes.records.manifest import TABLES, read_manifest

SMALL = ["arms=[baseline,vcot]", "limit=2", "frames=2"]
STEPS = """
import sys, time
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [{tests!r}]
import running
from probes.engine import export, run
from probes.records import claim
signs = Path({signs!r})

def stop(name):
    (signs / name).touch()
    while not (signs / f"{{name}}.go").exists():
        time.sleep(0.005)

def before(module, name):
    real = getattr(module, name)
    def paused(*args, **kwargs):
        stop(name)
        return real(*args, **kwargs)
    setattr(module, name, paused)

before(claim, "claim")
before(run, "run_phases")
for name in ("tables", "arrays", "frames"):
    before(export, name)
before(run, "write_manifest")
cfg = running.settings(Path({world!r}), Path({out!r}), *{settings!r})
run.execute(cfg, cfg.out, None, lambda: stop("taken"), lambda _: stop("written"))
"""
IN_ORDER = ["claim", "taken", "run_phases", "tables", "arrays", "frames", "write_manifest"]


def same(one: Any, other: Any) -> bool:
    tables = [
        (lasting(run.records), *(pq.read_table(run.out / name) for name in TABLES[1:4]))
        for run in (one, other)
    ]
    return bool(tables[0] == tables[1])


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.005)


def test_a_second_run_is_refused_at_every_step_of_the_first(
    settle: Any, world: Path, tmp_path: Path
) -> None:
    cfg, signs = settle(*SMALL), tmp_path / "signs"
    signs.mkdir()
    others = [cfg, replace(cfg, seed=1), replace(cfg, seed=1, overwrite=True)]
    facts = {"world": str(world), "out": str(cfg.out), "settings": SMALL, "signs": str(signs)}
    script = STEPS.format(tests=str(Path(__file__).parent.parent), **facts)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    for step in [*IN_ORDER, "written"]:
        wait_for(signs / step, process)
        before = {path: path.stat().st_mtime_ns for path in cfg.out.rglob("*")}
        for other in others:
            with pytest.raises(ProbesError, match="another run is writing this folder") as caught:
                execute(other, cfg.out)
            assert f"process {process.pid} on " in caught.value.what
            assert "wait until it has ended, or choose another folder" in caught.value.fix
        assert before == {path: path.stat().st_mtime_ns for path in cfg.out.rglob("*")}
        if step in IN_ORDER and list(cfg.out.glob("records.parquet")):
            with pytest.raises(ProbesError, match=f"not finished: process {process.pid} on "):
                probes.load(cfg.out)
        (signs / f"{step}.go").touch()
    assert process.wait(60) == 0, process.communicate()[1]
    assert set(probes.load(cfg.out)["seed"]) == {0}
    assert not (cfg.out / folder_lock.FILE).exists()
    with pytest.raises(ProbesError, match="a run of other settings: seed: 0 -> 1"):
        execute(others[1], cfg.out)
    execute(others[2], cfg.out)
    assert set(probes.load(cfg.out)["seed"]) == {1}


@pytest.mark.slow
def test_of_two_runs_at_once_one_has_the_folder(tmp_path: Path, settle: Any) -> None:
    out = tmp_path / "both"
    base = [sys.executable, "-m", "probes", "run", "backend=scripted", f"hydra.run.dir={out}"]
    small = ["task.videos=5", "task.height=32", "task.fps=1", "frames=2", "limit=4"]
    runs = [
        subprocess.Popen(
            [*base, *small, f"seed={seed}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for seed in (0, 1)
    ]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 2], errors
    refusal = errors[codes.index(2)]
    assert "another run is writing this folder" in refusal or "a run of other settings" in refusal
    winner = codes.index(0)
    assert set(probes.load(out)["seed"]) == {winner}
    assert f"seed={winner}" in (out / ".hydra" / "overrides.yaml").read_text()
    assert read_manifest(out)["config"]["seed"] == winner


@pytest.mark.parametrize(
    ("state", "every"),
    [
        ("empty", 4),
        pytest.param("empty", 1, marks=pytest.mark.slow),
        pytest.param("the same run", 1, marks=pytest.mark.slow),
        pytest.param("another run", 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_before_any_change_is_not_complete_and_is_finished(
    state: str, every: int, settle: Any, tmp_path: Path
) -> None:
    undisturbed = execute(settle(*SMALL, out="undisturbed"), tmp_path / "undisturbed")
    cfg, source = settle(*SMALL), tmp_path / "source"
    if state != "empty":
        first = replace(cfg, out=source)
        execute(first if state == "the same run" else replace(first, seed=1), source)
        cfg = replace(cfg, overwrite=state == "another run")

    def begin() -> None:
        shutil.rmtree(cfg.out, ignore_errors=True)
        if source.exists():
            shutil.copytree(source, cfg.out)

    begin()
    assert killed_runs.killed(cfg, 10**6, tmp_path / "count") == 0
    steps = int((tmp_path / "count").read_text())
    assert steps > 10
    complete = 0
    for step in range(steps - 1, -1, -every):  # the last one: the lock goes, all else is there
        begin()
        assert killed_runs.killed(cfg, step) == -9
        if (cfg.out / "manifest.json").exists():
            # Before anything is touched it is the earlier run, after the last change the new one.
            seeds = set(probes.load(cfg.out)["seed"])
            assert seeds == {0} or (seeds == {1} and step < 5)
            complete += seeds == {0}
        elif (cfg.out / "records.parquet").exists():
            with pytest.raises(ProbesError, match="has not finished: it was stopped"):
                probes.load(cfg.out)
        again = execute(cfg, cfg.out)
        assert same(again, undisturbed)
        assert binding.check(cfg.out).state == "bound"
        assert {path.name for path in cfg.out.iterdir()} == {
            path.name for path in undisturbed.out.iterdir()
        }
        assert {path.name for path in (cfg.out / "frames").iterdir()} == {
            path.name for path in (undisturbed.out / "frames").iterdir()
        }
    assert complete >= 1
    print(f"{state}: killed before {steps} changes, complete {complete} times")


def test_the_same_settings_go_on_whatever_they_run_on(settle: Any) -> None:
    cfg = settle(*SMALL)
    first = execute(cfg, cfg.out)
    backend = replace(cfg.backend, batch_size=3, feature_cache_mb=1, device="cuda")
    again = execute(replace(cfg, backend=backend), cfg.out)
    assert lasting(first.records) == lasting(again.records)


def test_what_differs_is_named(settle: Any) -> None:
    cfg = settle(*SMALL)
    execute(cfg, cfg.out)
    other = settle("arms=[baseline]", "limit=3", "frames=4", "donor_draws=2", "max_new_tokens=9")
    with pytest.raises(ProbesError) as caught:
        execute(replace(other, scoring="letter", option_rotation=True), cfg.out)
    assert "limit: 2 -> 3" in caught.value.what
    assert "frames: [2] -> [4]" in caught.value.what
    assert "more" in caught.value.what
    assert caught.value.where == str(cfg.out)
    assert "overwrite=true" in caught.value.fix and "hydra.run.dir=DIR" in caught.value.fix


@pytest.mark.parametrize("name", ["records.parquet", "frames/a.png", "manifest.json"])
def test_files_of_others_are_not_replaced(name: str, settle: Any) -> None:
    cfg = settle(*SMALL)
    (cfg.out / name).parent.mkdir(parents=True)
    (cfg.out / name).write_text('{"name": "an app"}')
    (cfg.out / "thesis.txt").write_text("mine")
    with pytest.raises(ProbesError, match="does not say which run wrote"):
        execute(cfg, cfg.out)
    assert (cfg.out / name).read_text() == '{"name": "an app"}'
    execute(replace(cfg, overwrite=True), cfg.out)
    assert (cfg.out / "thesis.txt").read_text() == "mine"
    assert binding.check(cfg.out).state == "bound"


def test_nothing_of_an_overwritten_run_stays(settle: Any) -> None:
    cfg = settle(*SMALL)
    out = execute(cfg, cfg.out).out
    for name in ("submission-image-old-2.json", "artifacts.parquet", "plots/arms.svg"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("old")
    (out / "report").mkdir()
    (out / "report" / "report.html").write_text("old")
    (out / "frames" / f"{'0' * 64}.png").write_text("old")
    other = replace(cfg, seed=1, overwrite=True)
    execute(other, out)
    left = [path for path in out.rglob("*") if path.is_file() and path.read_bytes() == b"old"]
    assert not left
    assert binding.check(out).state == "bound"


def test_a_damaged_table_or_manifest_is_written_again_by_the_same_command(settle: Any) -> None:
    cfg = settle(*SMALL)
    first = execute(cfg, cfg.out)
    kept = lasting(first.records)
    for name in ("records.parquet", "infills.parquet", "manifest.json"):
        for content in (b"", b"PAR1", None):
            (cfg.out / name).unlink()
            if content is not None:
                (cfg.out / name).write_bytes(content)
            with pytest.raises(ProbesError):
                binding.check(cfg.out)
            assert lasting(execute(cfg, cfg.out).records) == kept
            assert binding.check(cfg.out).state == "bound"


def test_a_folder_of_an_older_version_is_gone_on_with(settle: Any) -> None:
    cfg = settle(*SMALL)
    execute(cfg, cfg.out)
    (cfg.out / "run.json").unlink()
    content = read_manifest(cfg.out)
    for name in ("files", "sha256"):
        del content[name]
    del content["config"]["overwrite"]  # a setting that is newer
    (cfg.out / "manifest.json").write_text(json.dumps(content))
    assert binding.check(cfg.out).state == "older"
    with pytest.raises(ProbesError, match="limit: 2 -> 3"):
        execute(replace(cfg, limit=3), cfg.out)
    execute(cfg, cfg.out)
    assert binding.check(cfg.out).state == "bound"


def test_what_is_written_after_the_manifest_changes_nothing(settle: Any) -> None:
    cfg = settle(*SMALL)
    execute(cfg, cfg.out)
    from probes import report

    report.write([cfg.out], cfg.out / "report")
    (cfg.out / "notes.txt").write_text("mine")
    assert binding.check(cfg.out).state == "bound"
    assert "edited" not in probes.load(cfg.out).attrs
