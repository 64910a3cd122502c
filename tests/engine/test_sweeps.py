"""Shards on every launcher, one per GPU, and merged: the same records as one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import running

from probes import load
from probes.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SHARDS = "shard=0,1", "shards=2"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return running.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def probes(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Start `probes run` in a process of its own, with caches and a folder of its own."""

    def start(name: str, *arguments: str) -> Path:
        command = [sys.executable, "-m", "probes", "run", *arguments, *_task(world)]
        out = tmp_path / name
        command.append(f"hydra.{'sweep' if '-m' in arguments else 'run'}.dir={out}")
        done = subprocess.run(
            command,
            env=_environment(tmp_path / f"{name}-home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    return start


def _task(world: Path) -> list[str]:
    return ["backend=scripted", "task=egoschema", f"task.root={world}", "frames=[2,4]"]


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PROBES_HOME": str(home), "PATH": path, "RAY_DEDUP_LOGS": "0"}


def _rows(folder: Path) -> pd.DataFrame:
    frame = load(folder).drop(columns=["seconds", "run", "setting"])
    frame["option_logprobs"] = frame["option_logprobs"].map(list)
    frame["option_tokens"] = frame["option_tokens"].map(list)
    columns = ["role", "arm", "frames", "item_id", "donor_id"]
    return frame.sort_values(columns).reset_index(drop=True)


@pytest.mark.parametrize(
    "launcher",
    ["joblib", "submitit_local", pytest.param("ray", marks=pytest.mark.slow)],  # a cluster starts
)
def test_shards_on_a_launcher_equal_one_process(launcher: str, probes: Callable[..., Path]) -> None:
    alone = _rows(probes("alone"))
    sweep = probes("sweep", "-m", f"hydra/launcher={launcher}", *SHARDS)
    assert len(list(sweep.glob("*/records.parquet"))) == 2
    pd.testing.assert_frame_equal(_rows(sweep), alone)


def test_one_shard_per_gpu_and_merge(
    world: Path, tmp_path: Path, probes: Callable[..., Path]
) -> None:
    alone = probes("alone")
    done = subprocess.run(
        [str(ROOT / "examples/one_shard_per_gpu.sh"), *_task(world)],
        env=_environment(tmp_path / "home")
        | {"SHARDS": "2", "OUT": str(tmp_path / "gpus"), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    merged = tmp_path / "gpus-merged"
    pd.testing.assert_frame_equal(_rows(merged), _rows(alone))
    for name in ("items", "infills"):
        one, other = (pd.read_parquet(run / f"{name}.parquet") for run in (alone, merged))
        keys = ["id"] if name == "items" else ["frames", "item_id", "gap"]
        assert set(map(tuple, one[keys].to_numpy())) <= set(map(tuple, other[keys].to_numpy()))
        assert not other.duplicated(keys).any()
    assert {p.name for p in (merged / "frames").iterdir()} == {
        p.name for p in (alone / "frames").iterdir()
    }
    manifest = json.loads((merged / "manifest.json").read_text())
    assert [one["shard"] for one in manifest["merged"]] == [0, 1]
    assert manifest["counts"]["planned"] == len(load(alone))


@pytest.mark.slow
def test_one_shard_per_gpu_names_the_one_that_failed(world: Path, tmp_path: Path) -> None:
    """The same command makes the run whole."""
    (tmp_path / "bin").mkdir()
    failing = tmp_path / "bin" / "probes"
    real = Path(sys.executable).parent / "probes"
    failing.write_text(f'#!/bin/sh\ncase "$*" in *shard=1*) exit 2;; esac\nexec {real} "$@"\n')
    failing.chmod(0o755)
    environment = _environment(tmp_path / "home")
    environment |= {"SHARDS": "2", "OUT": str(tmp_path / "gpus"), "TMPDIR": str(tmp_path)}
    broken = environment | {"PATH": f"{failing.parent}:{environment['PATH']}"}
    for given, code in ((broken, 2), (environment, 0)):
        done = subprocess.run(
            [str(ROOT / "examples/one_shard_per_gpu.sh"), *_task(world)],
            env=given,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert ("shard=1 of shards=2 is missing" in done.stderr) == (code == 2)
        assert (tmp_path / "gpus-merged").exists() == (code == 0)


def test_merge_refuses_what_does_not_belong_together(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    for name, prompts in (("a", "tiny"), ("b", "default")):
        arguments = ["run", *_task(world), f"prompt_set={prompts}"]
        assert main([*arguments, f"hydra.run.dir={tmp_path / 'runs' / name}"]) == 0
    assert main(["merge", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    assert "differ in their settings" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    taken = tmp_path / "runs" / "a"
    assert main(["merge", str(taken), "--out", str(taken)]) == 2
    assert "would lie in what it is made of" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2


def test_the_slurm_preset_is_submitits_with_a_gpu() -> None:
    from hydra import compose, initialize_config_dir

    from probes.config import schema
    from probes.config.paths import conf_dir

    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", ["hydra/launcher=slurm"], return_hydra_config=True)
    launcher = cfg.hydra.launcher
    assert launcher._target_.endswith("submitit_launcher.SlurmLauncher")
    assert (launcher.gpus_per_node, launcher.max_num_timeout) == (1, 5)
