"""What `probes merge` refuses, before it writes anything; shards that merge: test_sweeps.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_records import item, study, write_run

from probes import analysis
from probes.cli.main import main

CONFIG = {"shard": 0, "shards": 1}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, frames in (("a", (5,)), ("b", (5, 10))):
        records = study(8, frames)
        write_run(tmp_path / "runs" / name, records, CONFIG, [item(i) for i in range(8)])
    return tmp_path / "runs"


def test_what_two_runs_share_is_there_once(runs: Path, tmp_path: Path) -> None:
    assert main(["merge", str(runs), "--out", str(tmp_path / "new" / "merged")]) == 0
    assert len(analysis.load(tmp_path / "new" / "merged")) == len(study(8, (5, 10)))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "did not finish"),
        ("{}", "did not finish"),
        ('{"config": {"shard"', "the manifest cannot be read"),
        ("[1]", "it is no JSON object"),
        ('{"config": [1]}', "not groups of settings"),
        ('{"members": {"tiny-image": 1}}', "not groups of settings"),
    ],
)
def test_a_run_without_a_whole_manifest_is_refused(
    manifest: str | None,
    message: str,
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = runs / "b" / "manifest.json"
    file.unlink()
    if manifest is not None:
        file.write_text(manifest, "utf-8")
    assert main(["merge", str(runs), "--out", str(tmp_path / "merged")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert str(runs / "b") in err
    assert "`probes run`" in err
    assert not (tmp_path / "merged").exists()


def test_a_run_is_not_written_to_a_file_or_below_one(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("other")
    assert main(["merge", str(runs), "--out", str(file)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["merge", str(runs), "--out", str(file / "merged")]) == 2
    assert "cannot be made" in capsys.readouterr().err
    assert file.read_text() == "other"


@pytest.mark.parametrize("command", ["report", "power", "check", "compare-published"])
def test_a_damaged_run_is_refused_by_every_command(
    command: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(runs / "b")
    more = {"check": ["--against", str(tmp_path / "none.json")]}.get(command, [])
    (runs / "a" / "manifest.json").write_bytes(b"\xff")
    assert main([command, str(runs / "a"), *more]) == 2
    (runs / "a" / "records.parquet").write_bytes(b"PAR1")
    assert main([command, str(runs / "a"), *more]) == 2
    assert "Traceback" not in capsys.readouterr().err
