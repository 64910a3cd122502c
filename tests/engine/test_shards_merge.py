"""Shards, merged: the run without shards, to the last table; a merge that is killed goes on."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running

from probes import analysis, report
from probes.analysis.merge_runs import merge
from probes.analysis.run_files import MERGING
from probes.cli.main import main
from probes.config.compose import compose
from probes.core.errors import MachineError, ProbesError
from probes.core.types import ArrayName
from probes.engine import run
from probes.records import artifacts

SHARDS = 3


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `whole`, and with `parts`: the same in three shards."""
    folder = tmp_path_factory.mktemp("study")
    world = running.make_world(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(folder / "home"))
        for shard in range(SHARDS):
            of = (f"shard={shard}", f"shards={SHARDS}")
            out = folder / "parts" / f"shard-{shard}"
            run.execute(running.settings(world, out, *of, *TASK), out)
        whole = folder / "whole"
        run.execute(running.settings(world, whole, *TASK), whole)
    return folder


# With donors that nobody asks, and the benchmark's submission files.
KEYS = ["name", "role", "arm", "frames", "policy"]
TASK = ("task.unanswered=true", "donor_draws=2", "limit=5")


def table(folder: Path, name: str) -> pa.Table:
    found = pq.read_table(folder / f"{name}.parquet")
    return found.drop_columns([one for one in ("seconds",) if one in found.column_names])


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder, and when each file was written."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in files.items()}


def test_merged_shards_are_the_run_without_shards(study: Path, tmp_path: Path) -> None:
    before = state(study / "parts")
    done = merge([study / "parts"], tmp_path / "merged")
    assert (done.runs, done.written, done.partial) == (SHARDS, True, ())
    merged, whole = tmp_path / "merged", study / "whole"
    for name in ("records", "items", "donors", "infills"):
        assert table(merged, name).equals(table(whole, name)), name
    assert content(merged).keys() == content(whole).keys()
    submissions = [path.name for path in whole.glob("submission-*.json")]
    assert submissions
    for name in submissions:
        assert (merged / name).read_bytes() == (whole / name).read_bytes()
    one, other = manifest(merged), manifest(whole)
    for name in ("sample", "data", "donors", "seeds", "members", "failed_infills", "empty_infills"):
        assert one[name] == other[name], name
    prompts = other["counts"].pop("prompts")
    assert one["counts"] == other["counts"] and prompts
    assert one["config"] == other["config"] | {"out": one["config"].get("out")}
    assert state(study / "parts") == before


def test_merged_shards_have_the_numbers_of_the_run(study: Path, tmp_path: Path) -> None:
    merge([study / "parts"], tmp_path / "merged")
    whole, merged, parts = (
        analysis.contrasts(analysis.load(path))
        for path in (study / "whole", tmp_path / "merged", study / "parts")
    )
    assert len(whole) > 10
    assert merged.to_csv() == whole.to_csv()
    # Sums in another order: equal but for the last digit.
    pd.testing.assert_frame_equal(parts.sort_values(KEYS), whole.sort_values(KEYS), rtol=1e-9)


@pytest.mark.slow  # figures are drawn
def test_merged_shards_have_the_report_of_the_run(study: Path, tmp_path: Path) -> None:
    merge([study / "parts"], tmp_path / "merged")
    for name, folder in (("a", study / "whole"), ("b", tmp_path / "merged")):
        report.write([folder], tmp_path / name)
    one, other = (content(tmp_path / name / "tables") for name in "ab")
    # The manifest names the runs that were merged.
    assert one.pop("manifest.csv") != other.pop("manifest.csv")
    assert one == other and len(one) > 10


@pytest.mark.slow  # models are loaded
def test_merged_shards_of_real_models_are_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches differ, and with them the last digits: equal as two runs of one plan are."""
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    small = ["task.videos=6", "task.height=32", "task.fps=1", "frames=2", "limit=6"]
    for name, of in [("whole", [])] + [
        (f"parts/{n}", [f"shard={n}", f"shards={SHARDS}"]) for n in range(SHARDS)
    ]:
        run.execute(compose([*small, *of]), tmp_path / name)
        shutil.rmtree(tmp_path / "home" / "store")  # so that everything is computed
    merge([tmp_path / "parts"], tmp_path / "merged")
    one, other = (table(tmp_path / name, "records").to_pandas() for name in ("merged", "whole"))
    scores = [np.concatenate(frame.pop("option_logprobs").to_list()) for frame in (one, other)]
    np.testing.assert_allclose(*scores, atol=1e-4)
    assert one.to_json() == other.to_json()
    for name in ("items", "donors", "infills"):
        assert table(tmp_path / "merged", name).equals(table(tmp_path / "whole", name)), name


def read_only(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)


class Killed:
    """Kills its own process at its n-th change of a file, before it or after it."""

    def __init__(self, at: int, after: bool) -> None:
        self.left, self.after = at, after

    def around(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0 and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = change(*given, **more)
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return counted


CHANGES = ((Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (os, "link"))


def killed(paths: Sequence[Path], out: Path, at: int, after: bool) -> bool:
    """Merge in a process that is killed at a change of a file; False where it was done before."""
    child = os.fork()
    if child == 0:
        killer = Killed(at, after)
        for place, name in CHANGES:
            setattr(place, name, killer.around(getattr(place, name)))
        try:
            merge(paths, out)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_merge_that_is_killed_goes_on(stride: int, study: Path, tmp_path: Path) -> None:
    parts = shutil.copytree(study / "parts", tmp_path / "parts")
    for shard in range(SHARDS):
        folder = parts / f"shard-{shard}"
        keys = pq.read_table(folder / "records.parquet")["key"].unique().to_pylist()[:2]
        name = ArrayName("attention", 1, "last")
        artifacts.write(folder, [(key, name, np.arange(9.0) + shard) for key in keys])
    merge([parts], tmp_path / "whole")
    expected = content(tmp_path / "whole")
    sources = state(parts)
    steps = 0
    while killed([parts], out := tmp_path / f"{steps}", steps // 2, bool(steps % 2)):
        if not (out / "manifest.json").exists() and any(out.glob("*.parquet")):
            # Nobody takes what is there for a run.
            with pytest.raises(ProbesError, match="has not ended"):
                analysis.load(out)
        assert main(["merge", str(parts), "--out", str(out)]) == 0
        assert content(out) == expected
        steps += stride
    assert steps > 100
    assert state(parts) == sources


def test_a_merge_that_is_there_is_left_alone(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["merge", str(study / "parts"), "--out", str(tmp_path / "merged")]
    assert main(command) == 0
    before = state(tmp_path / "merged")
    capsys.readouterr()
    assert main(command) == 0
    assert "holds the merge of these runs already: nothing was written" in capsys.readouterr().out
    assert state(tmp_path / "merged") == before
    (tmp_path / "merged" / "items.parquet").write_bytes(b"edited")
    assert main(command) == 2
    assert "items.parquet is not the file that was written" in capsys.readouterr().err


def test_a_merge_of_runs_that_were_written_again_is_another_one(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study / "parts", tmp_path / "parts")
    command = ["merge", str(tmp_path / "parts"), "--out", str(tmp_path / "merged")]
    assert main(command) == 0
    before = state(tmp_path / "merged")
    file = tmp_path / "parts" / "shard-1" / "manifest.json"
    file.write_text(json.dumps(manifest(file.parent) | {"created": "later"}))
    assert main(command) == 2
    assert "these runs, which have been written again since" in capsys.readouterr().err
    assert state(tmp_path / "merged") == before


def test_a_folder_of_other_runs_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study / "parts", tmp_path / "parts")
    out = tmp_path / "merged"
    assert killed([study / "whole"], out, 10, False)
    command = ["merge", str(tmp_path / "parts"), "--out", str(out)]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "a merge of other runs began in it" in err and str(study / "whole") in err
    assert main(["merge", str(study / "whole"), "--out", str(out)]) == 0
    before = state(out)
    assert main(command) == 2
    assert "it holds another run, or a merge of other runs" in capsys.readouterr().err
    assert state(out) == before


def test_two_merges_never_write_at_once(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert main(["merge", str(study / "parts"), "--out", str(out)]) == 2
    assert "another process is merging into the folder" in capsys.readouterr().err
    assert not any(out.iterdir())
    os.close(handle)
    assert main(["merge", str(study / "parts"), "--out", str(out)]) == 0


@pytest.mark.parametrize("out", ["parts", "parts/merged", "parts/shard-0/merged", "link/merged"])
def test_a_folder_within_the_runs_is_refused(
    out: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study / "parts", tmp_path / "parts")
    (tmp_path / "link").symlink_to(tmp_path / "parts")
    before = state(tmp_path / "parts")
    assert main(["merge", str(tmp_path / "parts"), "--out", str(tmp_path / out)]) == 2
    assert "would lie in what it is made of" in capsys.readouterr().err
    assert state(tmp_path / "parts") == before


@pytest.mark.parametrize("writes", [0, 1, 3, 6, 20])
def test_a_full_disk_ends_a_merge_that_then_goes_on(
    writes: int, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources cannot be written, and the folder is on another disk: frames are copied."""
    shutil.copytree(study / "parts", tmp_path / "parts")
    read_only(tmp_path / "parts")
    left = [writes]
    opened = Path.open

    def full(self: Path, mode: str = "r", *more: Any, **settings: Any) -> Any:
        left[0] -= mode == "wb"
        if mode == "wb" and left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return opened(self, mode, *more, **settings)

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(MachineError, match="No space left"):
            merge([tmp_path / "parts"], tmp_path / "merged")
    merge([tmp_path / "parts"], tmp_path / "merged")
    merge([study / "parts"], tmp_path / "expected")
    assert content(tmp_path / "merged") == content(tmp_path / "expected")
    assert (tmp_path / "merged" / MERGING).exists() is False
