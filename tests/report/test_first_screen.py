"""The first screen: the answer, its figure, comparability and limits; no folders of a machine."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import report_pages as made
from made_records import record, study

from probes import analysis, report
from probes.analysis.columns import rows_of
from probes.analysis.formats import interval
from probes.records.schema import Record
from probes.report import findings, limits, provenance, summary
from probes.report.figures import answer_figure
from probes.report.parts import FigurePart, Paragraph
from probes.report.shortening import without_folders
from probes.report.study import Study, gather

DRAWN = {"png": b"png", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
WRITTEN = {"created": "2031-05-06T07:08:09+00:00", "packages": {"interframe-probes": "9.8.7"}}


def of(tmp_path: Path, records: list[Record], **manifest: Any) -> Study:
    return gather([made.write(tmp_path / "run", records, made.manifest(**manifest))])


def write(study_folder: Path, out: Path) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probes.report.figures.rendered", lambda figure: DRAWN)
        page = report.write([study_folder], out)
    return page.read_text("utf-8"), (out / "report.md").read_text("utf-8")


def ran(run: Path, *overrides: str) -> None:
    (run / ".hydra").mkdir()
    lines = "".join(f"- {one}\n" for one in overrides)
    (run / ".hydra" / "overrides.yaml").write_text(lines, "utf-8")


def test_the_answer_is_two_sentences_and_one_figure(tmp_path: Path) -> None:
    section = summary.summary(of(tmp_path, study(60, frames=(5,))))
    text, figure = section.parts
    assert isinstance(text, Paragraph) and isinstance(figure, FigurePart)
    assert text.kind == "verdict"
    first, second = re.split(r"(?<=[a-z])\. ", text.text)
    assert first.endswith(("more from vcot", "gain the same"))
    told = r"At 5 frames, n = 60, the image member gained \+[\d.]+ points and the video member "
    assert re.match(told, second)
    assert figure.narrow


def test_several_comparisons_share_a_sentence(tmp_path: Path) -> None:
    roles = ("image", "video", "control")
    found = of(tmp_path, study(60, roles=roles), roles=roles)
    text = str(getattr(summary.summary(found).parts[0], "text", ""))
    dids = analysis.contrasts(found.frame, names=("did",), policies=("strict",))
    shown = {
        role: [
            interval(row) for row in rows_of(dids) if (row["role"], row["arm"]) == (role, "vcot")
        ]
        for role in roles
    }
    video, control = shown["video"], shown["control"]
    assert text.endswith(
        f"The DiD in points with 95 % intervals (n = 60) are image - video {video[0]} at 5 frames, "
        f"{video[1]} at 10 frames; image - control {control[0]} at 5 frames, {control[1]} at 10 "
        "frames."
    )


def test_one_member_alone_has_its_gain_in_the_answer(tmp_path: Path) -> None:
    found = of(tmp_path, study(60, frames=(5,), roles=("video",)), roles=("video",))
    (text,) = summary.summary(found).parts
    (gain,) = rows_of(found.contrasts.query("policy == 'strict' and name == 'gain'")[:1])
    assert gain["arm"] == "vcot"
    assert getattr(text, "text", "") == (
        "Only the video member was run: there are gains, but no DiD. Gain from vcot in points with "
        f"95 % interval (n = 60): video {interval(gain)} at 5 frames."
    )


def test_the_order_of_the_page(tmp_path: Path) -> None:
    run = made.write(tmp_path / "run", study(20, frames=(5,)), made.manifest(**WRITTEN))
    ran(run, "task=egoworld", "limit=20", "hydra.run.dir=/home/me/runs/a")
    html, text = write(run, tmp_path / "out")
    page = made.check(html)
    assert page.ids[:3] == ["summary", "limits", "findings"]
    head = text.split("## Answer")[0]
    for told in ("2031-05-06 07:08 UTC", "interframe-probes 9.8.7 (abc)"):
        assert told in head
        assert told in html.split("<main>")[0]
    assert "probes run task=egoworld limit=20\n" in head
    assert head.count("difference in differences (DiD)") == 1
    assert head.count("not of texts, donors or training seeds") == 1
    # Spelled out once a page.
    assert text.lower().count("difference in differences") == 1


def test_a_page_names_no_folder_of_a_machine(tmp_path: Path) -> None:
    records = study(8, frames=(5,))
    hidden = "/home/somebody/data sets/frames.json"
    broken = {"status": "error", "choice": None, "correct": False, "error": f"open {hidden}: no"}
    records[0] = dataclasses.replace(records[0], **broken)
    manifest = {"data": {"root": hidden}, "device": r"C:\Users\somebody\gpu"}
    run = made.write(tmp_path / "run", records, made.manifest(**WRITTEN, **manifest))
    ran(run, f"pair.image.repo={tmp_path}/weights", "infill.api_key=abc-secret-1", "+a=1")
    html, text = write(run, tmp_path / "out")
    for page in (html, text):
        assert str(tmp_path) not in page
        assert "somebody" not in page
        assert "abc-secret-1" not in page
    assert "pair.image.repo=weights" in text
    assert "| data.root | frames.json |" in text
    assert "| run | 2031-05-06 07:08 | 9.8.7 (abc) | probes run" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/a b/c", "c"),
        ("root=/home/me/data/x-1f, see https://a.org/b/c", "root=x-1f, see https://a.org/b/c"),
        ("open('/data/me/x.parquet'): no", "open('x.parquet'): no"),
        ("file:///a/b/c.html", "c.html"),
        (r"C:\Users\me\run ok", "run ok"),
        ("/a/b is not in /c/d", "b is not in d"),
        ("1/2/3, a/b/c, ../x/y, ~/a/b, Qwen/Qwen2, /word", None),
    ],
)
def test_paths_become_names(text: str, shown: str | None) -> None:
    assert without_folders(text) == (text if shown is None else shown)


def test_a_run_without_its_command_says_so(tmp_path: Path) -> None:
    (line,) = provenance.facts(of(tmp_path, study(4, frames=(5,))))
    assert line.startswith("no date known, interframe-probes - (abc); the command is not known")


def test_two_commands_are_listed_where_all_runs_are(tmp_path: Path) -> None:
    for number in (1, 2):
        run = tmp_path / "runs" / str(number)
        made.write(run, study(4, frames=(5 * number,)), made.manifest(**WRITTEN))
        ran(run, f"frames=[{5 * number}]")
    (line,) = provenance.facts(gather([tmp_path / "runs"]))
    assert line.startswith("2 runs, 2031-05-06 07:08 UTC, interframe-probes 9.8.7 (abc); 2 command")


def test_a_member_that_always_says_one_letter_is_in_the_headline(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(one, scoring="letter", choice=0, correct=one.answer == 0)
        if one.role == "video"
        else dataclasses.replace(one, scoring="letter")
        for one in study(40, frames=(5,), arms=("baseline", "vcot"))
    ]
    told = summary.summary(of(tmp_path, records)).parts[0]
    assert isinstance(told, Paragraph) and told.kind == "verdict"
    assert "One letter: 80 of 80 answers of tiny-video (video) are A, under every arm" in told.text
    assert "tiny-image (image)" not in told.text


def test_gaining_nothing_is_told_with_its_test(tmp_path: Path) -> None:
    records = [
        record(i, arm, role, role == "video" or arm == "vcot", cluster=f"c{i}")
        for role in ("image", "video")
        for arm in ("baseline", "vcot")
        for i in range(300)
    ]
    run = made.write(tmp_path / "run", records, made.manifest())
    says = "that the video member gains nothing from vcot, that is less than 2.0 points either way"
    assert f"{says}, is shown (" in str(findings.section(gather([run])))
    assert "less than 0.5 points either way, is not shown at this n" in str(
        findings.section(gather([run], margin=0.005))
    )


def test_the_figure_has_both_members_and_the_did(tmp_path: Path) -> None:
    found = of(tmp_path, study(30, frames=(5, 10))).contrasts
    figure = answer_figure(found)
    left, right = figure.axes
    names = [one.get_text() for one in left.get_yticklabels()]
    assert names == [f"{who}, {n} frames" for n in (5, 10) for who in ("image", "video")]
    told = [one.get_text() for one in right.texts]
    dids = found[(found["name"] == "did") & (found["arm"] == "vcot")]
    strict = dids[dids["policy"] == "strict"]
    for estimate in strict["estimate"]:
        assert any(text.startswith(f"{100 * estimate:+.1f} [") for text in told)


def test_limits_begin_with_the_pairs_caveat(tmp_path: Path) -> None:
    section = limits.section(of(tmp_path, study(10, frames=(5,))))
    told = [one for one in section.parts if isinstance(one, Paragraph)]
    assert told[:2] == list(section.parts[:2])
    assert told[1] == Paragraph(made.CAVEAT, "caveat")
    # These weights are not those of the pair of this name.
    assert told[0].text.startswith("Not the weights of pair=tiny")
