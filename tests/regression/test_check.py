"""`probes check`: its output, JUnit files, exit codes and documented commands."""

from __future__ import annotations

import dataclasses
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from regression_runs import Out, answers, check, flip, put

from probes.cli import check as command
from probes.cli import main
from probes.records.schema import Record

COMMITTED = Path(__file__).resolve().parents[2] / "results/baselines/tiny-egoworld.json"


def test_junit_has_a_case_per_metric_and_its_failures_list_the_changed_answers(
    base: Path, tmp_path: Path
):
    run = put(tmp_path / "run", flip(answers(), [6, 8]))
    file = tmp_path / "out" / "junit.xml"
    more = ["--strict", "--band", "2", "--items", "1"]
    assert check(run, base, *more, "--junit", str(file)) == 1
    suite = ET.parse(file).getroot().find("testsuite")
    assert suite is not None
    assert suite.attrib["tests"] == "9"
    assert suite.attrib["failures"] == "4"
    assert suite.attrib["skipped"] == suite.attrib["errors"] == "0"
    failed = {
        case.attrib["name"]: failure
        for case in suite.findall("testcase")
        if (failure := case.find("failure")) is not None
    }
    one = failed["did vcot, image - video, 5 frames"]
    assert one.attrib["type"] == "not excluded"
    expected = "not excluded: -2.0 [-4.8, +0.8] points, band +-2, p 0.158 (primary, by Holm)"
    assert one.attrib["message"] == expected
    assert one.text is not None
    assert "q6  vcot, image, 5 frames  B right" in one.text
    assert "and 1 more (--items 2 lists all)" in one.text


def test_junit_and_summary_use_the_words_of_the_screen(base: Path, tmp_path: Path, capsys: Out):
    records = flip(flip(answers(), range(0, 20, 2)), [1, 3], arm="baseline", role="video")
    run, file, page = put(tmp_path / "run", records), tmp_path / "j.xml", tmp_path / "s.md"
    capsys.readouterr()
    assert check(run, base, "--junit", str(file), "--summary", str(page)) == 1
    out = capsys.readouterr().out
    verdict = "statistical gate: FAILED, 4 of 9 metrics changed, 3 not excluded, 2 same"
    assert verdict in out
    suite = ET.parse(file).getroot().find("testsuite")
    assert suite is not None
    properties = {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}
    assert properties["verdict"] == verdict
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("4", "3")
    assert {one.attrib["type"] for one in suite.iter("failure")} == {"changed"}
    skipped = [one.attrib for one in suite.iter("skipped")]
    assert all(one["message"].startswith("not excluded: ") for one in skipped)
    assert {one["type"] for one in skipped} == {"not excluded"}
    text = page.read_text("utf-8")
    assert text.startswith(f"### probes check: {verdict}\n")
    # The primary metric, then the headline, then the rest; each row has its outcome.
    places = [text.index(name) for name in ("**Primary", "**Headline", "**Other", "<details>")]
    assert places == sorted(places)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert sum("| changed |" in row for row in rows) == 4 + 1  # and a heading of the rates
    assert sum("| not excluded |" in row for row in rows) == 3 + 1
    assert "What such a check finds" in text
    assert "q6 vcot, image, 5 frames B right" in " ".join(text.split())


def test_junit_of_the_exact_gate_has_a_case_per_cell(base: Path, tmp_path: Path):
    run = put(tmp_path / "run", flip(answers(), [6]))
    file = tmp_path / "junit.xml"
    check(run, base, "--gate", "exact", "--junit", str(file))
    cases = ET.parse(file).findall(".//testcase")
    assert {case.attrib["classname"] for case in cases} == {"probes.check.exact"}
    assert len(cases) == 4
    (failure,) = (found for case in cases if (found := case.find("failure")) is not None)
    assert "1 of 100 records are not the same" in failure.attrib["message"]
    assert "q6" in str(failure.text)


def test_junit_is_xml_whatever_an_item_is_called(tmp_path: Path):
    name = 'a\x00\x1b<b>&"\ud7ff\uffff'

    def named(records: list[Record]) -> list[Record]:
        return [
            dataclasses.replace(one, item_id=name) if one.item_id == "q6" else one
            for one in records
        ]

    file, out = tmp_path / "base.json", tmp_path / "junit.xml"
    check(put(tmp_path / "first", named(answers())), file, "--update")
    run = put(tmp_path / "run", named(flip(answers(), [6])))
    assert check(run, file, "--strict", "--band", "0", "--junit", str(out)) == 1
    failure = ET.parse(out).find(".//failure")
    assert failure is not None
    assert 'a??<b>&"\ud7ff?' in str(failure.text)


@pytest.mark.parametrize(
    "more",
    [
        ["--band", "f1=3"],
        ["--band", "-1"],
        ["--band", "nan"],
        ["--items", "-1"],
        ["--gate", "loose"],
        ["--tie-tolerance", "x"],
        ["--update", "--junit", "x.xml"],
        ["--update", "--summary", "x.xml"],
        ["--update", "--strict"],
        ["--fallback", "statistical"],
        ["--scripted"],
    ],
)
def test_wrong_usage_is_exit_code_2(more: list[str], base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    assert check(run, base, *more) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("x.xml").exists()


def test_missing_files_are_reported(base: Path, tmp_path: Path, capsys: Out):
    run = put(tmp_path / "run", answers())
    assert check(run, tmp_path / "no.json") == 2
    assert "--update" in capsys.readouterr().err
    assert check(run, base, "--junit", str(base / "x" / "y.xml")) == 2
    assert str(base) in capsys.readouterr().err
    (run / "items.parquet").unlink()
    assert check(run, base) == 2
    assert "the items cannot be read" in capsys.readouterr().err


def test_what_an_earlier_check_wrote_does_not_stay(base: Path, tmp_path: Path):
    """A server of CI would take it for this check's result."""
    run, old = put(tmp_path / "run", answers()), tmp_path / "old.xml"
    old.write_text("<testsuites/>")
    assert check(run, tmp_path / "no.json", "--junit", str(old)) == 2
    assert not old.exists()


def test_few_items_are_said_to_find_little(base: Path, tmp_path: Path, capsys: Out):
    few = [one for one in answers() if int(one.item_id[1:]) < 8]
    assert check(put(tmp_path / "run", few), tmp_path / "few.json", "--update") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "8 items find a fall of 5 points of" in out


def test_help_teaches(capsys: Out):
    assert main.main(["check", "--help"]) == 0
    out = capsys.readouterr().out
    for word in (
        "--gate",
        "--band",
        "--update",
        "examples:",
        "Exit codes: 0 passed",
        "not excluded",
    ):
        assert word in out


def test_a_real_run_through_the_whole_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
):
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    small = ["backend=scripted", "task.videos=6", "task.height=32", "task.fps=1", "frames=2"]
    for name, more in (("a", []), ("b", []), ("c", ["backend.options.policy=first"])):
        assert main.main(["run", *small, f"hydra.run.dir={tmp_path / name}", *more]) == 0
    file = tmp_path / "base.json"
    assert check(tmp_path / "a", file, "--update") == 2
    assert "no model answered this run (backend=scripted)" in capsys.readouterr().err
    assert not file.exists()
    assert check(tmp_path / "a", file, "--update", "--scripted") == 0
    assert "note: no model answered this run (backend=scripted)" in capsys.readouterr().out
    assert check(tmp_path / "b", file, "--gate", "exact") == 0
    out = capsys.readouterr().out
    assert "exact gate: PASSED, all 84 records are the same" in out
    assert "every answer came from the store" in out
    assert "84 records, no model: backend=scripted)" in out
    assert check(tmp_path / "c", file) == 0
    out = capsys.readouterr().out
    assert "tiny-image is another checkpoint" in out
    assert "statistical gate: PASSED" in out  # six items cannot show a change
    assert check(tmp_path / "c", file, "--strict") == 1
    assert "statistical gate (--strict): FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["docs/ci.md", "examples/probe-regression.yml", "Makefile"])
def test_the_commands_that_are_written_down_are_understood(name: str):
    text = (COMMITTED.parents[2] / name).read_text("utf-8").replace("$(GATE)", "exact")
    commands = re.findall(r"^(?:.*\s|.*/|.*`)?probes (check [^`\n]+)`?$", text, re.MULTILINE)
    assert commands
    for words in commands:
        given = command.parser().parse_args(shlex.split(words)[1:])
        assert "build" in str(given.path)


def test_the_example_workflow_is_yaml_and_names_what_is_there():
    text = (COMMITTED.parents[2] / "examples/probe-regression.yml").read_text("utf-8")
    steps = yaml.safe_load(text)["jobs"]["probes"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert [run.split()[0] for run in runs] == ["make", *[".venv/bin/probes"] * 3]
    env = yaml.safe_load(text)["env"]
    assert (COMMITTED.parents[2] / env["BASELINE"]) == COMMITTED
