import io
import re

import numpy as np
import pytest
from made_records import bad, cell, record, study
from rich.console import Console

from probes import analysis
from probes.analysis.formats import p_value, percent, points


@pytest.fixture(scope="module")
def tables():
    return analysis.study_tables(analysis.from_records(study(items=60)))


def table(tables, start):
    (found,) = [one for one in tables.blocks[0].tables if one.title.startswith(start)]
    return found


def test_the_first_table_has_both_arms_and_the_gain(tables):
    found = table(tables, "Accuracy and the gain")
    assert found.header == (
        "role",
        "member",
        "frames",
        "blind",
        "baseline",
        "+vCoT",
        "tokens",
        "gain [95 % interval]",
    )
    assert [row[:3] for row in found.rows] == [
        ("image", "tiny-image", "5"),
        ("video", "tiny-video", "5"),
        ("image", "tiny-image", "10"),
        ("video", "tiny-video", "10"),
    ]


def test_numbers_are_those_of_the_contrasts():
    base, vcot = [1, 0, 0, 0, 1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 1, 0, 1, 0, 0, 0]
    frame = analysis.from_records(cell(base) + cell(vcot, arm="vcot"))
    row = analysis.contrasts(frame, policies=["strict"]).iloc[0]
    expected = f"+20.0 [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    found = table(analysis.study_tables(frame), "Accuracy and the gain")
    assert found.rows == (("image", "tiny-image", "5", "30.0", "50.0", "10/10", expected),)


def test_did_and_drops_have_tables_of_their_own(tables):
    did = table(tables, "DiD =")
    assert [row[0] for row in did.rows] == [
        "+vCoT",
        "+vCoT",
        "visual perturb.",
        "visual perturb.",
        "text perturb.",
        "text perturb.",
    ]
    drop = table(tables, "vCoT, and its drop")
    assert drop.header[3:] == (
        "vCoT",
        "visual",
        "drop [95 % interval]",
        "text",
        "drop [95 % interval]",
    )
    assert len(drop.rows) == 4


def test_missing_arms_leave_their_columns_out():
    tables = analysis.study_tables(analysis.from_records(cell([1, 0, 1, 1])))
    (found,) = tables.blocks[0].tables
    assert found.header == ("role", "member", "frames", "baseline")
    frame = analysis.from_records(study(items=10, arms=("baseline", "vcot", "text_perturbation")))
    drop = table(analysis.study_tables(frame), "vCoT, and its drop")
    assert drop.header[3:] == ("vCoT", "text", "drop [95 % interval]")


def test_other_arms_are_shown_too():
    frame = analysis.from_records(study(items=10, frames=(5,), arms=("baseline", "filler")))
    found = table(analysis.study_tables(frame), "Further arms")
    assert [row[:2] for row in found.rows] == [("filler", "image"), ("filler", "video")]
    assert found.rows[0][4] == "baseline"


def test_notes_describe_the_data_behind_the_numbers(tables):
    notes = "\n".join(tables.blocks[0].notes)
    assert "n = 60 items in 30 clusters per cell" in notes
    assert "chance 20.0, always answering A 20.0" in notes
    assert "image 0 unparsed, 0 failed of 600" in notes
    assert "parsed answers only" not in notes


def test_notes_list_what_could_not_be_compared():
    records = cell([1, 0]) + cell([1, 1], arm="vcot") + cell([1, 1], arm="vcot", frames=10)
    (block,) = analysis.study_tables(analysis.from_records(records)).blocks
    notes = [note for note in block.notes if note.startswith("not compared")]
    assert notes == ["not compared: vcot, image, 10 frames: baseline was not run there"]


def test_notes_count_bad_missing_and_withheld_answers():
    base = [*cell([1, 0, 1, 0]), record(4, answer=None)]
    vcot = [*cell([1, 1, 1], arm="vcot"), bad(3, "unparsed", arm="vcot")][1:]
    tables = analysis.study_tables(analysis.from_records(base + vcot))
    notes = "\n".join(tables.blocks[0].notes)
    assert "image 1 unparsed, 0 failed of 8 (unparsed ones are wrong" in notes
    assert "parsed answers only: gain image, 5 frames" in notes
    assert "withheld: 1 items" in notes
    assert "missing: 1 items have no answer on one side of gain, image, vcot, 5 frames: q0" in notes


def test_an_undefined_interval_is_marked():
    records = cell([1, 0], cluster="r") + cell([1, 1], arm="vcot", cluster="r")
    tables = analysis.study_tables(analysis.from_records(records))
    assert table(tables, "Accuracy and").rows[0][-1] == "+50.0 [undefined]"
    assert "one cluster only" in "\n".join(tables.blocks[0].notes)


def test_the_control_member_is_compared_with_the_image_member():
    frame = analysis.from_records(study(items=20, frames=(5,), roles=("image", "control")))
    tables = analysis.study_tables(frame)
    assert {row[1] for row in table(tables, "DiD =").rows} == {"control"}


def test_plain_lines_fit_a_plain_terminal(tables):
    lines = analysis.render(tables)
    assert max(map(len, lines)) <= 100
    assert all(line.isascii() for line in lines)
    assert lines[0] == "pair tiny, task egoworld, scoring cloze, seed 0"


def test_long_member_names_are_shortened_in_the_middle():
    records = cell([1, 0, 1, 1], member="x" * 70 + "-7b-hf") + cell(
        [1, 1, 1, 0], arm="vcot", member="x" * 70 + "-7b-hf"
    )
    lines = analysis.render(analysis.study_tables(analysis.from_records(records)))
    assert max(map(len, lines)) <= 100
    assert any("xx..x" in line and "-7b-hf" in line for line in lines)


def test_a_console_gets_the_same_tables(tables):
    console = Console(file=io.StringIO(), width=100)
    lines = analysis.render(tables, console)
    printed = console.file.getvalue()
    for line in lines:
        for word in line.replace("-" * 4, "").replace("====", "").split():
            if word.strip("-="):
                assert word in printed
    assert "…" not in printed


def test_brackets_in_names_are_not_markup():
    console = Console(file=io.StringIO(), width=100)
    frame = analysis.from_records(cell([1, 0], pair="[red]pair[/red]", member="[bold]m"))
    analysis.render(analysis.study_tables(frame), console)
    assert "[red]pair[/red]" in console.file.getvalue()
    assert "[bold]m" in console.file.getvalue()


def test_markdown_has_every_row(tables):
    text = analysis.to_markdown(tables)
    rows = [line for line in text.splitlines() if line.startswith("| image | tiny-image")]
    assert len(rows) == 4
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")
    piped = analysis.from_records(cell([1, 0], member="a|b"))
    assert "a\\|b" in analysis.to_markdown(analysis.study_tables(piped))


def test_numbers_are_written_plainly():
    assert points(-0.0001) == "+0.0" and points(0.074) == "+7.4"
    assert percent(0.514) == "51.4" and percent(np.nan) == "-"
    assert p_value(0.0004) == "<0.001" and p_value(0.0456) == "0.046" and p_value(np.nan) == "-"


def test_did_is_spelled_out_once_and_coverage_is_told(tables):
    lines = " ".join(analysis.render(tables))
    assert lines.count("DiD: difference in differences") == 1
    told = "Intervals cover the sampling of items, not of texts, donors or training seeds."
    assert lines.endswith(told)
    assert not re.search(r"\bdid\b", lines)
    assert analysis.to_markdown(tables).endswith(f"{told}\n")
    single = analysis.study_tables(analysis.from_records(study(8, frames=(5,), roles=("image",))))
    assert "difference in differences" not in " ".join(analysis.render(single))
