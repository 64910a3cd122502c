"""Real processes, in folders that hold files of other people with the names of our rooms."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hostile import NAMES, SMALL, embedded, make_hostile, new_files, python
from processes import ROOT


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made data and answers, for all tests here: clips are filmed once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_hostile(tmp_path / "work")


@pytest.fixture
def probes(folder: Path, home: Path) -> Any:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "probes", *words, folder=folder, path=ROOT, home=home)

    return command


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_hostile(name: str, folder: Path, home: Path) -> None:
    done = python("-c", f"import {name}", folder=folder, path=ROOT, home=home)
    assert (done.returncode, done.stderr) == (1, "the wrong module was imported\n")


def test_help_is_printed_next_to_files_with_our_names(probes: Any) -> None:
    for words in (["--help"], ["run", "--help"], ["report", "--help"]):
        done = probes(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "probes run" in done.stdout or "probes report" in done.stdout


def test_a_run_and_its_report_next_to_files_with_our_names(probes: Any, folder: Path) -> None:
    done = probes("run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Accuracy and the gain" in done.stdout
    assert "Traceback" not in done.stderr
    assert new_files(folder) - {"__pycache__"} == {"results"}  # and nothing else
    (manifest,) = folder.rglob("manifest.json")
    done = probes("report", str(manifest.parent))
    assert done.returncode == 0, done.stderr
    assert (manifest.parent / "report" / "report.html").is_file()


def test_embedded_checkpoints_are_found_next_to_files_with_our_names(
    folder: Path, home: Path
) -> None:
    assert embedded(folder, ROOT, home).is_relative_to(ROOT / "probes" / "tasks")


def test_wrong_usage_is_explained_next_to_files_with_our_names(probes: Any, folder: Path) -> None:
    done = probes("run", *SMALL, "framse=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean frames?" in done.stderr
    assert new_files(folder) <= {"__pycache__"}


def test_a_plan_is_made_next_to_files_with_our_names(probes: Any) -> None:
    done = probes("plan", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Trials, and the tokens" in done.stdout
