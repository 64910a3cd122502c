"""docs/statistics.md and docs/records.md agree with what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pages
import pytest
from made_records import item, study, write_run
from pages import ROOT

from probes import analysis

STATISTICS = (ROOT / "docs" / "statistics.md").read_text("utf-8")
RECORDS = (ROOT / "docs" / "records.md").read_text("utf-8")


def test_figures_in_the_text_are_figures_of_the_tables() -> None:
    section = "## What 500 items can resolve"
    tables = " ".join(block.text for block in pages.blocks(ROOT / "docs" / "statistics.md"))
    prose = pages.prose(ROOT / "docs" / "statistics.md").partition(section)[2]
    figures = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose)
    assert len(figures) > 10
    known = {text.lstrip("+-") for text in re.findall(r"[+-]?\d+\.\d+", tables)}
    assert [one for one in figures if one not in known] == []


def test_the_coverage_tables_are_those_of_the_benchmark() -> None:
    spec = importlib.util.spec_from_file_location("coverage", ROOT / "benchmarks" / "coverage.py")
    assert spec is not None and spec.loader is not None
    coverage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(coverage)
    result = json.loads((ROOT / "benchmarks/results/coverage.json").read_text("utf-8"))
    assert result["draws"] == 10_000
    for part in coverage.tables(result).split("\n\n"):
        assert part.rstrip("\n") in STATISTICS
    flips = [row["level"]["sign-flip of clusters"] for row in result["tests"]]
    assert max(flips) <= 5.5


def test_every_default_covers_and_the_table_gives_its_worst_cell() -> None:
    spec = importlib.util.spec_from_file_location("defaults", ROOT / "benchmarks" / "defaults.py")
    assert spec is not None and spec.loader is not None
    defaults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(defaults)
    result = json.loads((ROOT / "benchmarks/results/defaults.json").read_text("utf-8"))
    assert defaults.table(result).rstrip("\n") in STATISTICS
    assert len(result["rows"]) == 56 and result["draws"] == defaults.DRAWS
    own = [row["methods"][defaults.DEFAULT] for row in result["rows"]]
    assert min(one["least"] for one in own) >= defaults.COVERS
    wide = [one["width"] for one in own if one["width"] > defaults.WIDEST]
    # Those that are wider are named in the text.
    assert len(wide) <= 2 and all(f"{width:.2f} times" in STATISTICS for width in wide)


# Records (its tables of columns: tests/records/test_records_docs.py)


def test_functions_that_are_named_exist() -> None:
    named = set(re.findall(r"`analysis\.(\w+)", RECORDS + STATISTICS))
    assert len(named) > 8
    assert named <= set(analysis.__all__)


def test_the_worked_example_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    items = [item(number, question=f"what is {number}?") for number in range(30)]
    folder = tmp_path / "RUN"
    write_run(folder, study(items=30), items=items)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = [one for one in pages.blocks(ROOT / "docs" / "records.md") if one.language == "python"]
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block.text, block.where, "exec"), names)
    frame = analysis.load(folder)
    assert names["frame"].equals(frame)
    assert 0 < len(names["only_video"]) < 30
    out = capsys.readouterr().out
    assert "headroom_image" in out and "what is " in out and "mean" in out
