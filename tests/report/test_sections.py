"""Sections: their order, those of installed packages, and those of further measures."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_pages as made
from made_records import study
from matplotlib.figure import Figure

from probes import analysis, report
from probes.analysis.formats import bracketed, contrast_name, signed
from probes.cli import main
from probes.core import plugins
from probes.core.plugins import Entry
from probes.core.tables import Table
from probes.report.parts import BulletList, FigurePart, Fragment, Paragraph, Section
from probes.report.sections import SECTIONS, ReportSection, lost, ordered
from probes.report.study import Study, plain


def costs(study: Study) -> Section:
    rows = pd.DataFrame({"role": ["image"], "n": [len(study.frame)]})
    return Section(
        "costs",
        "What it cost",
        (
            Paragraph("Three <hours> & a day."),
            BulletList(("one", "two")),
            study.table(Table("Costs", words=1, name="costs", data=rows), rows, plain("role n")),
            FigurePart("costs", "Costs", Figure()),
            Fragment("<style>.x{color:red}</style><b id='x'>!</b><script>let x = 1;</script>", "x"),
        ),
    )


def one(*parts: Any, id: str = "mine") -> Callable[[Study], Section]:
    return lambda study: Section(id, "Mine", parts)


def broken(study: Study) -> Section:
    raise RuntimeError("the disk of the <other> package is full")


COSTS = ReportSection(costs, after="power")
FAILING: dict[str, tuple[Any, str]] = {
    "raises": (broken, "RuntimeError: the disk of the <other> package is full"),
    "text": (lambda study: "text", "TypeError: it made str, not a Section"),
    "part": (one("text"), "TypeError: str is no part of a report"),
    "ragged": (
        one(Table("T", ("a", "b"), (("x",),), name="t")),
        "ValueError: a row of the table 'T' is not as long as its header",
    ),
    "nameless": (
        one(Table("T", ("a",), (("x",),))),
        "ValueError: 'T' has no name, which its file needs",
    ),
    "table": (
        one(Table("T", ("a",), (("x",),), name="contrasts")),
        "ValueError: another section has taken the name Table contrasts",
    ),
    "id": (
        one(Paragraph("x"), id="power"),
        "ValueError: another section has taken the name section power",
    ),
    "figure": (
        one(FigurePart("f", "F", "no figure")),  # type: ignore[arg-type]
        "AttributeError: 'str' object has no attribute",
    ),
    "traversal": (
        one(Table("T", ("a",), (("x",),), name="../../evil")),
        "ValueError: '../../evil' is no name of a file: a name has letters",
    ),
    "drawing": (one(FigurePart("a/b", "F", Figure())), "ValueError: 'a/b' is no name of a file"),
    "cell": (
        one(Table("T", ("a", "b"), (("x", 3),), name="t")),  # type: ignore[arg-type]
        "TypeError: it holds 3 (int) where a text belongs",
    ),
    "none": (
        one(Table("T", ("a",), ((None,),), name="t")),  # type: ignore[arg-type]
        "TypeError: it holds None (NoneType) where a text belongs",
    ),
    "untitled": (
        lambda study: Section("u", None, ()),  # type: ignore[arg-type]
        "TypeError: it holds None (NoneType) where a text belongs",
    ),
    "numbers": (
        one(Paragraph(3)),  # type: ignore[arg-type]
        "TypeError: it holds 3 (int) where a text belongs",
    ),
    "data": (
        one(Table("T", ("a",), (("x",),), name="t", data=[1])),  # type: ignore[arg-type]
        "TypeError: the data of the table 'T' are no data frame",
    ),
    "twice": (
        one(Table("T", ("a",), name="t"), Table("U", ("a",), name="t")),
        "ValueError: two of its parts have one name",
    ),
    "unhashable": (
        ReportSection(broken, after=["power"]),  # type: ignore[arg-type]
        "report section 'unhashable' of others 1.0 cannot be loaded: "
        "TypeError: it follows ['power'], which is not the name of a section",
    ),
    "ends": (lambda study: sys.exit(3), "SystemExit: 3"),
    "unfinished": (one(Fragment(lambda budget: "")), "TypeError: its HTML is not finished"),
    "number": (
        7,
        "report section 'number' of others 1.0 cannot be loaded: TypeError: it is "
        "neither a ReportSection nor a function",
    ),
}


def drawn(figure: Any) -> dict[str, bytes]:
    """Draw nothing, which would take most of the time; what is no figure fails."""
    figure.get_layout_engine()
    return {"png": b"png", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}


@pytest.fixture(autouse=True)
def _nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.report.figures.rendered", drawn)


def install(patch: pytest.MonkeyPatch, **targets: str) -> None:
    entries = tuple(Entry(name, target, "others 1.0") for name, target in targets.items())
    patch.setattr(plugins, "installed", lambda group: entries)
    patch.setattr(SECTIONS, "_loaded", {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("run"), study(8, frames=(5,)), made.manifest())


def ids(html: str) -> list[str]:
    return re.findall(r'<h2 id="(.*?)">', html)


def test_an_installed_section_has_its_place_in_all_forms(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, costs=f"{__name__}:COSTS")
    page = report.write([run], tmp_path)
    html, text = page.read_text("utf-8"), (tmp_path / "report.md").read_text("utf-8")
    made.check(html)  # its script has a hash in the policy, its style is in the head
    assert ids(html)[ids(html).index("power") + 1] == "costs"
    assert "Three &lt;hours&gt; &amp; a day." in html
    assert ".x{color:red}" in html.split("</head>")[0]
    assert f"| image | {8 * 5 * 2} |" in text
    assert (tmp_path / "tables" / "costs.csv").read_text() == f"role,n\nimage,{8 * 5 * 2}\n"
    assert (tmp_path / "plots" / "costs.png").read_bytes() == b"png"


def test_sections_that_fail_are_named_and_the_report_is_whole(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (target, _) in FAILING.items():
        monkeypatch.setitem(globals(), f"_{name}", target)
    failing = {name: f"{__name__}:_{name}" for name in FAILING}
    install(monkeypatch, costs=f"{__name__}:COSTS", **failing, gone="no.such:x")
    html = report.write([run], tmp_path).read_text("utf-8")
    page = made.check(html)
    expected = ["items", *(f"section-{name}" for name in (*FAILING, "gone")), "manifest"]
    assert ids(html)[-len(expected) :] == expected
    assert "costs" in ids(html)
    for name, (_, why) in FAILING.items():
        assert f"The section {name} of others 1.0 could not be made: {why}" in page.text
    assert "No module named 'no'" in page.text
    assert (tmp_path / "tables" / "contrasts.csv").stat().st_size > 1000


def _spoils(study: Study) -> Section:
    study.frame["correct"] = True
    study.frame.loc[:, "choice"] = 0
    study.contrasts["estimate"] = 7.0
    return Section("spoils", "Spoils", (Paragraph("done"),))


def _looks(study: Study) -> Section:
    right = f"{study.frame['correct'].mean():.6f}"
    return Section(
        "looks", "Looks", (Paragraph(f"{right} {study.contrasts['estimate'].max():.6f}"),)
    )


SPOILS, LOOKS = ReportSection(_spoils, after="power"), ReportSection(_looks, after="nowhere")


def test_what_one_section_writes_is_not_what_others_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write([run], tmp_path / "before")
    install(monkeypatch, spoils=f"{__name__}:SPOILS", looks=f"{__name__}:LOOKS")
    html = report.write([run], tmp_path / "after").read_text("utf-8")
    for file in (tmp_path / "before" / "tables").iterdir():
        assert (tmp_path / "after" / "tables" / file.name).read_bytes() == file.read_bytes()
    frame = analysis.load(run)
    found = f"{frame['correct'].mean():.6f} {analysis.contrasts(frame)['estimate'].max():.6f}"
    assert found in html
    # It follows a section that there is none of: it says so, in the report and where it is listed.
    assert ids(html)[-3:] == ["items", "looks", "manifest"]
    says = "There is no section 'nowhere' to follow: this one stands before the manifest"
    assert says in made.check(html).text
    assert lost("looks").startswith(says)
    assert lost("spoils") == ""


def test_a_built_in_section_that_fails_is_an_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.report.strata.power", broken)
    monkeypatch.setattr(SECTIONS, "_loaded", {})
    with pytest.raises(RuntimeError, match="disk"):
        report.write([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sections_follow_what_they_name() -> None:
    after = {"c": "b", "d": "b", "e": "d", "x": "nowhere", "p": "q", "q": "p", "end": "manifest"}
    assert ordered(["a", "b", "manifest"], after) == [
        "a",
        "b",
        "c",
        "d",
        "e",
        "x",
        "p",
        "q",
        "manifest",
        "end",
    ]


def test_further_measures_have_a_section_each_in_their_unit(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--measure", "margin", "--measure", "logit", "--measure", "margin"]
    assert main.main(["report", str(run), "--out", str(out), *words]) == 0
    html, text = (out / "report.html").read_text("utf-8"), (out / "report.md").read_text("utf-8")
    made.check(html)
    at = ids(html).index("contrasts")
    assert ids(html)[at : at + 4] == ["contrasts", "measure-margin", "measure-logit", "robustness"]
    found = analysis.contrasts(analysis.load(run), measure="margin")
    for row in found.to_dict("records"):
        interval = bracketed(row["estimate"], row["low"], row["high"], signed)
        head = f"| {contrast_name(row['name'])} | {row['role']} | {row['arm']} |"
        assert any(
            line.startswith(head) and f"| {interval} |" in line for line in text.splitlines()
        )
    assert "nats [95 %]" in text and "log-odds [95 %]" in text
    written = pd.read_csv(out / "tables" / "measure-margin.csv")
    assert written["estimate"].to_numpy() == pytest.approx(
        found["estimate"].to_numpy(), nan_ok=True
    )
    capsys.readouterr()
    assert main.main(["report", str(run), "--out", str(tmp_path / "no"), "--measure", "magin"]) == 2
    assert "did you mean margin?" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_measure_that_no_answer_has_says_so(tmp_path: Path) -> None:
    records = [dataclasses.replace(one, option_logprobs=()) for one in study(4, frames=(5,))]
    run = made.write(tmp_path / "run", records, made.manifest())
    report.write([run], tmp_path / "out", ["margin"])
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "No two answers that are compared have a value of this measure." in text
