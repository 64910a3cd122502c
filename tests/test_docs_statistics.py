"""docs/statistics.md and docs/records.md agree with what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_records import item, study, write_run

from probes import analysis
from probes.cli import main

ROOT = Path(__file__).resolve().parent.parent
STATISTICS = (ROOT / "docs" / "statistics.md").read_text("utf-8")
RECORDS = (ROOT / "docs" / "records.md").read_text("utf-8")
COMMANDS = re.findall(r"```\n\$ (probes power[^\n]*)\n(.*?)\n```", STATISTICS, re.S)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) == STATISTICS.count("$ probes") >= 6


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_commands_print_what_the_page_shows(command: str, shown: str, capsys: Any) -> None:
    assert main.main(command.split()[1:]) == 0
    printed = capsys.readouterr().out
    # A page may leave out the notes below a table, which are the same for all tables of a kind.
    table, _, notes = printed.rstrip("\n").partition("\n\n")
    assert shown in (table, f"{table}\n\n{notes}")


def test_figures_in_the_text_are_figures_of_the_tables() -> None:
    section = STATISTICS.partition("## What 500 items can resolve")[2]
    blocks = " ".join(re.findall(r"```\n(.*?)\n```", section, re.S))
    prose = re.sub(r"```.*?```", "", section, flags=re.S)
    figures = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose)
    assert len(figures) > 10
    known = {text.lstrip("+-") for text in re.findall(r"[+-]?\d+\.\d+", blocks)}
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
    default = [row["coverage"]["CR2 t (default)"] for row in result["coverage"][:-1]]
    assert min(default) >= 93 and max(default) <= 97
    flips = [row["level"]["sign-flip of clusters"] for row in result["tests"]]
    assert max(flips) <= 5.5


# Records (its tables of columns: tests/records/test_records_docs.py)


def test_functions_that_are_named_exist() -> None:
    named = set(re.findall(r"`analysis\.(\w+)", RECORDS + STATISTICS))
    assert len(named) > 8
    assert named <= set(analysis.__all__)


def test_the_worked_example_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    items = [item(number, question=f"what is {number}?") for number in range(30)]
    folder = tmp_path / "results" / "runs" / "DAY" / "RUN"
    write_run(folder, study(items=30), items=items)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", RECORDS, re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/records.md", "exec"), names)
    frame = analysis.load(folder)
    assert names["frame"].equals(frame)
    assert 0 < len(names["only_video"]) < 30
    out = capsys.readouterr().out
    assert "headroom_image" in out and "what is " in out and "mean" in out
