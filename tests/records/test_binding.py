"""Tables that are not those of the manifest are refused, or read and told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import made_records
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_records import item, study, write_run

import probes
from probes import report
from probes.cli.main import main
from probes.core.errors import ProbesError
from probes.records import artifacts, binding, run_folder, schema
from probes.records.manifest import read_manifest, write_content
from probes.records.schema import Record

CONFIG = {"pair": {"name": "tiny"}, "suite": [], "task": {"name": "egoworld"}, "seed": 0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return bound(tmp_path / "run")


def bound(folder: Path, seed: int = 0) -> Path:
    write_run(folder, study(8, seed=seed), None, [item(i) for i in range(8)])
    write_content(folder, {"config": CONFIG, "counts": {"error": 0}})
    return folder


def edit(folder: Path, column: str = "choice", value: int = 3) -> None:
    path = folder / "records.parquet"
    table = pq.read_table(path)
    at = table.column_names.index(column)
    values = pa.array([value] * len(table), table.schema.field(column).type)
    pq.write_table(table.set_column(at, column, values), path)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = {
    "records.parquet is not the file": edit,
    "items.parquet is not the file": lambda run: append(run / "items.parquet"),
    "items.parquet is missing": lambda run: (run / "items.parquet").unlink(),
    "infills.parquet does not belong to the run": lambda run: shutil.copy(
        run / "items.parquet", run / "infills.parquet"
    ),
    "submission-a.json does not belong": lambda run: (run / "submission-a.json").touch(),
    "manifest.json was changed": lambda run: (run / "manifest.json").write_text(
        (run / "manifest.json").read_text().replace('"seed": 0', '"seed": 1')
    ),
    "manifest.json was changed ": lambda run: (run / "manifest.json").write_text(
        json.dumps({k: v for k, v in read_manifest(run).items() if k != "files"})
    ),
}


@pytest.mark.parametrize("what", list(DAMAGES))
def test_every_reader_refuses_what_the_run_did_not_write(
    what: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[what](run)
    for read in (probes.load, run_folder.read, binding.check):
        with pytest.raises(ProbesError, match=what.strip()) as caught:
            read(run)  # type: ignore[operator]
        assert caught.value.where == str(run)
        assert "the same `probes run`" in caught.value.fix and "--edited" in caught.value.fix
    base = str(tmp_path / "base.json")
    for command in (
        ["report"],
        ["check", "--against", base, "--update"],
        ["power"],
        ["compare-published"],
        ["merge", "--out", str(tmp_path / "merged")],
    ):
        assert main([command[0], str(run), *command[1:]]) == 2
        assert what.strip() in capsys.readouterr().err
    assert not Path(base).exists() and not (run / "report").exists()


def test_edited_tables_are_read_when_asked_and_every_output_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(tmp_path / "base.json")
    assert main(["check", str(run), "--against", base, "--update"]) == 0
    edit(run)
    frame = probes.load(run, edited=True)
    assert [str(run) in one and "records.parquet" in one for one in frame.attrs["edited"]] == [True]
    words = "Edited, read as it is: "
    assert main(["report", str(run), "--edited"]) == 0
    page = (run / "report" / "report.md").read_text()
    assert words in page and words in (run / "report" / "report.html").read_text()
    capsys.readouterr()
    assert main(["power", str(run), "--edited"]) == 0
    assert words in capsys.readouterr().out
    junit = tmp_path / "check.xml"
    main(["check", str(run), "--against", base, "--edited", "--junit", str(junit)])
    # Where lines break depends on the folder's name.
    assert words in " ".join(capsys.readouterr().out.split()) + " "
    assert words in junit.read_text()
    assert main(["check", str(run), "--against", base, "--edited", "--update"]) == 2
    assert "a baseline is not made from edited tables" in capsys.readouterr().err
    assert main(["power", "--edited", "--effect", "5", "--discordance", "20"]) == 2
    assert run_folder.read(run, edited=True).items


def test_whole_runs_say_nothing(run: Path) -> None:
    assert binding.check(run) == binding.FolderState("bound")
    assert not {"edited", "unbound", "unfinished"} & set(probes.load(run).attrs)
    report.write([run], run / "report")
    page = (run / "report" / "report.md").read_text()
    assert "Edited" not in page and "No manifest has the hashes" not in page


def test_folders_without_hashes_are_read_and_told(tmp_path: Path) -> None:
    older = write_run(tmp_path / "older", study(8), CONFIG, [item(i) for i in range(8)])
    alone = write_run(tmp_path / "alone", study(8, frames=(4,)))
    assert (binding.check(older).state, binding.check(alone).state) == ("older", "alone")
    frame = probes.load([older, alone])
    assert frame.attrs["unbound"] == [str(alone), str(older)]
    # The note of a version that binds its folders: the hashes were taken out.
    (older / "run.json").write_text("{}")
    with pytest.raises(ProbesError, match=r"manifest\.json was changed"):
        probes.load(older)
    (older / "run.json").unlink()
    report.write([tmp_path], tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "No manifest has the hashes of these tables" in page


def test_a_run_that_has_not_finished_is_not_taken_for_one(run: Path, tmp_path: Path) -> None:
    begun = bound(tmp_path / "begun", seed=1)
    (begun / "manifest.json").unlink()
    (begun / "run.json").write_text("{}")
    for read in (probes.load, run_folder.read, artifacts.read):
        with pytest.raises(ProbesError, match="has not finished: it was stopped") as caught:
            read(begun)  # type: ignore[operator]
        assert "the same `probes run`" in caught.value.fix
    assert "has not finished" in probes.load(begun, edited=True).attrs["edited"][0]
    # Below a folder it is left out, where another run is complete.
    with pytest.warns(UserWarning, match="left out, as they have not finished: .*begun"):
        frame = probes.load(tmp_path)
    assert set(frame["run"]) == {str(run)}
    assert frame.attrs["unfinished"] == [str(begun)]
    shutil.rmtree(run)
    with pytest.raises(ProbesError, match="has not finished"):
        probes.load(tmp_path)


def test_an_index_of_arrays_is_bound_too(run: Path) -> None:
    assert len(artifacts.read(run)) == 0
    edit(run)
    assert len(artifacts.read(run)) == 0  # records are not what is read here
    pq.write_table(schema.to_table([], schema.ArtifactRow), run / "artifacts.parquet")
    with pytest.raises(ProbesError, match=r"artifacts\.parquet does not belong"):
        artifacts.read(run)
    assert len(artifacts.read(run, edited=True)) == 0


def test_correct_is_what_choice_and_answer_say(tmp_path: Path) -> None:
    records = study(8)
    records[0] = made_records.record(0, answer=None)
    records[1] = made_records.bad(1, "unparsed")
    folder = write_run(tmp_path / "run", records)
    right = probes.load(folder)["correct"]
    assert right[:2].to_list() == [right[0], False] and right.isna().tolist()[:2] == [True, False]
    edit(folder, "correct", True)
    assert probes.load(folder)["correct"].equals(right)
    assert [one.correct for one in schema.read_records(folder)] == [one.correct for one in records]
    path = folder / "records.parquet"
    table = schema.read(path, Record, ("correct",))
    assert table.column_names == ["correct"]
    assert table["correct"].to_pylist() == [one.correct for one in records]
    pq.write_table(pq.read_table(path).drop_columns(["correct"]), path)
    assert probes.load(folder)["correct"].equals(right)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("choice", None, "has status ok and no choice"),
        ("choice", 5, "chose an option that there is not"),
        ("choice", -1, "chose an option that there is not"),
        ("status", "error", "has a choice, but not status ok"),
        ("status", "unparsed", "has a choice, but not status ok"),
        ("status", "fine", "has a choice, but not status ok"),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused_by_name(
    column: str, value: int, words: str, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", study(8))
    edit(folder, column, value)
    with pytest.raises(ProbesError, match=words) as caught:
        probes.load(folder)
    assert "tiny-image under baseline, 5 frames, item q0" in caught.value.what
    assert caught.value.where.endswith("records.parquet")


def test_a_choice_beyond_the_items_options_is_refused_without_scores(tmp_path: Path) -> None:
    record = made_records.record(0, option_logprobs=(), option_tokens=(), scoring="generate")
    folder = write_run(tmp_path / "run", [record], None, [item(0, options=2)])
    assert len(probes.load(folder)) == 1
    edit(folder, "choice", 2)
    with pytest.raises(ProbesError, match="item q0 chose an option that the item does not have"):
        probes.load(folder)


def test_a_run_that_is_written_while_it_is_read_is_not_mixed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = schema.read

    def read(path: Path, *args: object) -> pa.Table:
        table = real(path, *args)  # type: ignore[arg-type]
        if path.name == "records.parquet":
            bound(run, seed=1)
        return table

    monkeypatch.setattr(schema, "read", read)
    with pytest.raises(ProbesError, match="was written again while it was read"):
        probes.load(run)


def test_records_with_another_runs_items_make_no_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder of an older version, where no hash tells."""
    folder = write_run(tmp_path / "run", study(8), CONFIG, [item(i) for i in range(4)])
    base = tmp_path / "base.json"
    assert main(["check", str(folder), "--against", str(base), "--update"]) == 2
    assert "do not have that item: the tables are of two runs" in capsys.readouterr().err
    assert not base.exists()


def test_an_import_of_the_reader_is_cheap() -> None:
    code = "import probes.records.binding, sys; assert 'pyarrow' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
