"""The notebook is stored executed and clean, and executes over a small run of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "results" / "notebooks" / "study.ipynb"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> set[str]:
    """What a cell shows: kinds of data, or `text` for what it printed."""
    return {kind for output in cell.outputs for kind in output.get("data", {"text": ""})}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the notebook, executed by nbmake without a run of ours."""
    folder = tmp_path_factory.mktemp("notebook")
    copy = Path(shutil.copy(NOTEBOOK, folder))
    left_out = ("PROBES_NOTEBOOK_RUN", "PROBES_HOME", "PROBES_RUNS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    # One thread: next to other tests, a pool of them waits more than it works.
    own = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    words = "-m pytest --nbmake --nbmake-timeout=600 --overwrite -p no:cacheprovider --rootdir"
    command = [sys.executable, *words.split(), str(folder), str(copy)]
    done = subprocess.run(command, env=kept | own, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(copy)


def test_every_cell_shows_what_it_shows_in_the_stored_notebook(executed: Any) -> None:
    pairs = list(zip(code(executed), code(read(NOTEBOOK)), strict=True))
    assert [kinds(new) for new, _ in pairs] == [kinds(old) for _, old in pairs]
    assert sum("image/png" in kinds(new) for new, _ in pairs) >= 7


def test_the_run_of_its_own_is_small_and_whole(executed: Any) -> None:
    (tables,) = [cell for cell in code(executed) if "text/markdown" in kinds(cell)]
    text = tables.outputs[0]["data"]["text/markdown"]
    assert "n = 16 items" in text
    assert "0 unparsed, 0 failed" in text


def test_the_stored_notebook_is_executed_and_of_the_demo() -> None:
    cells = code(read(NOTEBOOK))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells[1:])
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    readme = (ROOT / "README.md").read_text("utf-8")
    stored = NOTEBOOK.read_text("utf-8")
    gains = re.findall(r"tiny-image +\d+ .*?(\+[\d.]+ \[\+[\d.]+, \+[\d.]+\])", readme)
    assert len(gains) >= 2
    assert all(gain in stored for gain in gains)


def test_the_stored_notebook_is_small_and_tells_nothing_of_its_machine() -> None:
    spec = importlib.util.spec_from_file_location("store", NOTEBOOK.with_name("store.py"))
    assert spec is not None and spec.loader is not None
    store = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(store)
    stored = read(NOTEBOOK)
    assert store.clean(stored) == stored
    text = "\n".join(str(output) for cell in code(stored) for output in cell.outputs)
    text = re.sub(r"'image/png': '[^']*'", "", text)
    assert not re.search(r"/tmp|/home|/root|/Users|/work|site-packages|[A-Z]:\\\\", text)
    assert not re.search(r"\d\d:\d\d:\d\d|\d (?:s|ms|seconds)\b|\bWARN", text)
    assert NOTEBOOK.stat().st_size < 1_000_000
