"""A run and its baseline, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from regression_runs import answers, check, put


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `answers()`, and its baseline with a band of five points for everything."""
    folder = tmp_path_factory.mktemp("made")
    assert check(put(folder / "run", answers()), folder / "base.json", "--update") == 0
    return folder


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """A copy of that baseline, which the test may change."""
    return Path(shutil.copy(made / "base.json", tmp_path))
