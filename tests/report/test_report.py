"""The report: what it says, in all three forms, of whole runs and of broken ones."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import made_records
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import report_pages as made
from browser_runs import HOSTILE
from made_records import bad, record, study

from probes import analysis, report
from probes.cli import main
from probes.core.errors import ProbesError
from probes.core.tables import escaped
from probes.records import schema
from probes.records.schema import InfillRow, Record
from probes.report import findings, limits
from probes.report import study as studies
from probes.report import summary as summaries

EVIL = f"{HOSTILE}<script>alert(1)</script>\"'$x$|`*[a](javascript:1)\n# no heading"
SECTIONS = (
    "summary",
    "limits",
    "findings",
    "tables",
    "published",
    "frame-as",
    "contrasts",
    "robustness",
    "arms",
    "frames",
    "strata",
    "power",
    "failed",
    "infills",
    "items",
    "manifest",
)


@dataclasses.dataclass
class Written:
    """A report's files."""

    folder: Path
    html: str
    md: str

    def csv(self, name: str) -> pd.DataFrame:
        return pd.read_csv(
            self.folder / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""]
        )

    def section(self, name: str) -> str:
        """A section of the Markdown version."""
        titles = re.findall(rf'<h2 id="{name}">(.*?)</h2>', self.html)
        return self.md.split(f"## {titles[0].replace('&#39;', chr(39))}\n")[1].split("\n## ")[0]


DRAWN = {"png": b"png", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}


def write(out: Path, *runs: Path, drawn: bool = False) -> Written:
    """Write a report; drawing takes most of its time and is done only where figures matter."""
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr("probes.report.figures.rendered", lambda figure: DRAWN)
        page = report.write(list(runs), out)
    return Written(out, page.read_text("utf-8"), (out / "report.md").read_text("utf-8"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A report of one pair under both ways of receiving frames."""
    folder = tmp_path_factory.mktemp("both")
    video = made.write(folder / "video", study(40), made.manifest("video"))
    image = made.write(folder / "image", study(40, seed=1), made.manifest("image"))
    return write(folder / "out", video, image, drawn=True)


@pytest.fixture(scope="module")
def both_frame(both: Written) -> pd.DataFrame:
    return analysis.load([both.folder.parent / "video", both.folder.parent / "image"])


def test_the_page_is_well_formed_loads_nothing_and_has_every_section(both: Written) -> None:
    page = made.check(both.html)
    assert "The difference in differences (DiD) is gain(image) - gain(other)." in page.text
    assert "The difference in differences (DiD) is gain(image) - gain(other)." in both.md
    assert [one for one in page.ids if one in SECTIONS] == list(SECTIONS)
    assert "extras" not in page.ids  # no answer has further numbers
    assert both.html.startswith("<!DOCTYPE html>\n")
    assert made.CAVEAT in page.text
    assert made.CAVEAT in both.md
    images = [attrs for tag, attrs in page.tags if tag == "img" and "src" in attrs]
    assert all((one["alt"] or "").strip() for one in images)


def test_all_three_forms_hold_the_studys_tables(both: Written, both_frame: pd.DataFrame) -> None:
    shown = made.Page(both.html).text
    for end, block in enumerate(analysis.study_tables(both_frame).blocks, 1):
        for at, table in enumerate(block.tables, 1):
            for row in table.rows:
                cells = map(escaped, row)
                assert "| " + " | ".join(cells) + " |" in both.md
                assert all(cell in shown for cell in row)
            text = (both.folder / "tables" / f"study-{at}-{end}.csv").read_text("utf-8")
            found = pd.read_csv(io.StringIO(text), dtype=str, header=None, keep_default_na=False)
            assert [tuple(row) for row in found.to_numpy()] == [table.header, *table.rows]
        for note in block.notes:
            assert note in shown


@pytest.mark.parametrize("name", ["accuracies", "contrasts", "power"])
def test_csv_files_hold_the_numbers_of_the_analysis_unrounded(
    name: str, both: Written, both_frame: pd.DataFrame
) -> None:
    found = analysis.contrasts(both_frame)
    expected = {
        "accuracies": lambda: analysis.accuracies(both_frame),
        "contrasts": lambda: found,
        "power": lambda: analysis.planning(found),
    }[name]()
    written = both.csv(name)
    assert list(written.columns) == list(expected.columns)
    for column in expected.select_dtypes("number"):
        assert written[column].to_numpy(float) == pytest.approx(
            expected[column].to_numpy(float), rel=1e-12, nan_ok=True
        )
    for column in ("pair", "task", "setting", "role", "arm"):
        assert list(written[column].fillna("")) == list(expected[column])


def test_every_figure_is_there_as_png_and_svg_and_in_the_page(both: Written) -> None:
    names = {path.name for path in (both.folder / "plots").iterdir()}
    stems = {
        f"{stem}-{at}"
        for at in (1, 2)
        for stem in ("answer", "arms", "did", "frames", "gains", "headroom", "strata", "transfer")
    }
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert both.html.count('src="data:image/svg+xml;base64,') == len(stems)
    assert all(f"(plots/{stem}.svg)" in both.md for stem in stems)


def test_did_is_given_under_both_ways_of_receiving_frames(
    both: Written, both_frame: pd.DataFrame
) -> None:
    found = analysis.contrasts(both_frame, names=("did",), policies=("strict",))
    vcot = found[(found["arm"] == "vcot") & (found["frames"] == 5)].set_index("setting")
    intervals = {
        way: analysis.tables.interval(vcot.loc[f"frame_as={way}"].to_dict())
        for way in ("video", "image")
    }
    part = both.section("frame-as")
    assert f"| vcot | video | 5 | {intervals['video']} | {intervals['image']} |" in part
    assert "Only frame_as" not in part
    assert "new to an image member and may favour" not in both.section("limits")
    written = both.csv("did-by-frame-as")
    assert set(written["frame_as"]) == {"video", "image"}
    assert len(written) == len(found)


def test_members_differences_are_listed(both: Written, tmp_path: Path) -> None:
    part = both.section("frame-as")
    assert "The same (by sha256): tokenizer, processor, chat template." in part
    assert "Not the same (by sha256): config.json." in part
    assert "Further facts that differ: none." in part
    manifest = made.manifest()
    manifest["members"]["tiny-video"] = made.facts("video", tokens_per_frame=9, text={"layers": 3})
    del manifest["members"]["tiny-video"]["tokenizer_sha256"]
    other = write(tmp_path / "out", made.write(tmp_path / "run", study(6), manifest))
    part = other.section("frame-as")
    assert "Not the same (by sha256): tokenizer, config.json." in part or (
        "Not the same (by sha256): config.json, tokenizer." in part
    )
    assert "Further facts that differ: tokens_per_frame, text.layers." in part
    assert "| tokens_per_frame | differs | 4 | 9 |" in part
    assert "Only frame_as=video was run." in part
    assert "pair.frame_as=image" in other.section("limits")


def planted(share: float, items: int = 120) -> list[Record]:
    """The image member gains `share` from vcot, the other nothing; each item is its own cluster."""
    base = [i % 2 for i in range(items)]
    gained = [1 if i < share * items else one for i, one in enumerate(base)]
    cells = {
        ("image", "baseline"): base,
        ("image", "vcot"): gained,
        ("video", "baseline"): base,
        ("video", "vcot"): base,
    }
    return [
        record(i, arm, role, bool(one), cluster=f"c{i}")
        for (role, arm), right in cells.items()
        for i, one in enumerate(right)
    ]


def summary(records: list[Record], tmp_path: Path, manifest: Any = None) -> str:
    run = made.write(tmp_path / "run", records, manifest)
    study = studies.gather([run])
    first = (summaries.summary(study), limits.section(study), findings.section(study))
    return "\n".join(
        text
        for section in first
        for part in section.parts
        for text in getattr(part, "items", (getattr(part, "text", ""),))
    )


def test_the_verdict_says_what_was_planted_and_no_more(tmp_path: Path) -> None:
    text = summary(planted(0.6), tmp_path / "gain")
    assert "On these items the image member gained more from vcot." in text
    assert "the image member gained +30.0 points from vcot, the video member +0.0" in text
    assert "never why" in text
    assert "No control member" in text
    text = summary(planted(0.0), tmp_path / "none")
    assert "The DiD of vcot cannot be told from 0 at this n, which is no evidence that the" in text
    assert "gained more" not in text
    small = summary(planted(2 / 120), tmp_path / "small")
    assert "0: at this n the DiD cannot be told from 0; a true DiD of" in small
    least = float(re.findall(r"a true DiD of (\d+\.\d) points", small)[0]) / 100
    found = analysis.contrasts(analysis.from_records(planted(2 / 120)), names=("did",))
    planned = analysis.planning(found)["minimum_effect"].iloc[0]
    assert least == pytest.approx(planned, abs=5e-4)


def row(**changes: float) -> dict[str, float]:
    known = {"estimate": 0.1, "low": 0.02, "high": 0.18, "p_adjusted": 0.01, "verdict": True}
    return {**known, **changes}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "image"),
        ({"estimate": -0.1, "low": -0.18, "high": -0.02}, "other"),
        ({"low": -0.01}, "open"),
        ({"low": 0.0}, "open"),
        ({"p_adjusted": 0.06}, "uncorrected"),
        ({"p_adjusted": float("nan")}, "uncorrected"),
        ({"low": float("nan"), "high": float("nan")}, "undefined"),
        ({"verdict": False}, "failed"),
    ],
)
def test_a_did_comes_to_one_word(changes: dict[str, float], outcome: str) -> None:
    assert summaries.outcome(row(**changes)) == outcome


def test_a_ceiling_and_a_baseline_at_chance_are_reported(tmp_path: Path) -> None:
    cells = {
        ("image", "baseline"): 24,
        ("image", "vcot"): 100,
        ("video", "baseline"): 90,
        ("video", "vcot"): 95,
        ("image", "blind"): 22,
        ("video", "blind"): 20,
    }
    records = [
        record(i, arm, role, (i * 37) % 120 < right, cluster=f"c{i}")
        for (role, arm), right in cells.items()
        for i in range(120)
    ]
    text = summary(records, tmp_path)
    assert "Room to gain: image 80.0, video 25.0; gained of it: " in text
    assert "part of this DiD is forced by the ceiling" in text
    guessing = "The image member's baseline cannot be told from guessing at 5 frames (20.0"
    assert guessing in text
    assert "The video member's baseline cannot" not in text
    assert "The image member is not clearly better than without frames" in text
    assert "The video member is not clearly better" not in text


def test_hostile_texts_remain_text(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(
            r,
            pair=EVIL,
            member=EVIL + r.role,
            item_id=EVIL + r.item_id,
            task=EVIL,
            stratum=EVIL,
            **(
                {"status": "unparsed", "choice": None, "correct": False, "text": EVIL}
                if r.item_id == "q1"
                else {}
            ),
            **(
                {"status": "error", "choice": None, "correct": False, "error": EVIL}
                if r.item_id == "q2"
                else {}
            ),
        )
        for r in study(6, frames=(5,))
    ]
    manifest = made.manifest(git=EVIL)
    manifest["config"]["pair"]["caveat"] = EVIL
    manifest["members"] = {EVIL + role: made.facts(EVIL) for role in ("image", "video")}
    infills = [made.infill(1, "", error=EVIL, item_id=f"{EVIL}q1"), made.infill(2, EVIL, [2])]
    run = made.write(tmp_path / "run", records, manifest, infills)
    out = write(tmp_path / "out", run, drawn=True)
    page = made.check(out.html)
    assert EVIL in page.text
    assert out.html.count("<script>") == 1  # the browser's own
    assert "<script" not in out.md
    assert "onerror=" not in re.sub(r"&lt;.*?&gt;", "", out.md)
    assert "](javascript" not in out.md
    assert "\n# no heading" not in out.md
    failed = out.csv("failed")
    assert set(failed["text"].dropna()) == {EVIL}
    assert EVIL in set(failed["reason"])


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    manifest = made.manifest(device="half \ud83d a character")
    out = write(tmp_path / "out", made.write(tmp_path / "run", study(4, frames=(5,)), manifest))
    assert "half ? a character" in made.check(out.html).text


ARMS = made_records.ARMS
WHOLE = study(8, frames=(5,))
DEGRADED = {
    "one member": ([r for r in WHOLE if r.role == "image"], "Only the image member was run"),
    "no vcot": ([r for r in WHOLE if r.arm in ("baseline", "blind")], "vcot was not run"),
    "vcot only": ([r for r in WHOLE if r.arm == "vcot"], "No DiD"),
    "no answers": (
        [
            record(i, arm, role, answer=None)
            for i in range(4)
            for arm in ARMS
            for role in ("image", "video")
        ],
        "No item here has a public answer",
    ),
    "all errors": (
        [
            bad(i, "error", arm=arm, role=role)
            for i in range(4)
            for arm in ARMS
            for role in ("image", "video")
        ],
        "No answer was parsed",
    ),
    "one record": ([record(0)], "vcot was not run"),
    "ceiling": (
        [record(i, arm, role) for i in range(6) for arm in ARMS for role in ("image", "video")],
        "The DiD of vcot cannot be told from 0 at this n",
    ),
}


@pytest.mark.parametrize("name", DEGRADED)
def test_broken_and_partial_runs_get_a_report_too(name: str, tmp_path: Path) -> None:
    records, says = DEGRADED[name]
    out = write(tmp_path / "out", made.write(tmp_path / "run", records))
    page = made.check(out.html)
    assert [one for one in page.ids if one in SECTIONS] == list(SECTIONS)
    assert says in out.section("summary")
    assert "No run has a manifest" in out.section("limits")
    for section in SECTIONS:
        assert section == "items" or out.section(section).strip()
    assert "nan" not in re.sub(r"`[^`]*`", "", out.md.lower())


def test_failed_unparsed_missing_and_withheld_are_listed(tmp_path: Path) -> None:
    records = [
        r
        for r in study(10, frames=(5,))
        if (r.item_id, r.arm, r.role) not in (("q8", "vcot", "image"), ("q9", "baseline", "image"))
    ]
    records = [
        bad(3, "error", arm="vcot", role="image")
        if (r.item_id, r.arm, r.role) == ("q3", "vcot", "image")
        else dataclasses.replace(bad(4, "unparsed", arm="blind", role="video"), text="neither")
        if (r.item_id, r.arm, r.role) == ("q4", "blind", "video")
        else dataclasses.replace(r, answer=None, correct=None)
        if r.item_id == "q5"
        else r
        for r in records
    ]
    out = write(tmp_path / "out", made.write(tmp_path / "run", records, made.manifest()))
    part = out.section("failed")
    assert f"1 failed and 1 could not be parsed, of {len(records)} records" in part
    failed = out.csv("failed").set_index("item_id")
    assert dict(failed["reason"]) == {
        "q3": "broken",
        "q4": "no option can be read from the reply",
    }
    assert failed.loc["q4", "text"] == "neither"
    assert "1 item without a public answer" in part
    missing = out.csv("missing")
    gain = missing[(missing["name"] == "gain") & (missing["role"] == "image")]
    assert set(gain.loc[gain["arm"] == "vcot", "item_id"]) == {"q8", "q9"}
    assert "2 items have no answer on one side" in part


def test_long_lists_are_cut_in_the_page_and_whole_in_csv(tmp_path: Path) -> None:
    records = [bad(i, "error", arm=arm) for i in range(150) for arm in ("baseline", "vcot")]
    records[0] = dataclasses.replace(records[0], error="e" * 1000)
    out = write(tmp_path / "out", made.write(tmp_path / "run", records))
    assert "the first 200 of 300; tables/failed.csv has all" in out.section("failed")
    assert len(out.csv("failed")) == 300
    assert "e" * 301 not in out.md
    assert "e" * 1000 in out.csv("failed")["reason"].iloc[0]


@pytest.mark.parametrize("older", [False, True])
def test_leaks_are_counted_and_their_items_left_out_once_more(older: bool, tmp_path: Path) -> None:
    records = study(12, frames=(5,))
    infills = [
        made.infill(i, leaks=[i % 5] if i < 3 else [(i + 1) % 5] if i < 5 else [])
        for i in range(12)
    ]
    infills.append(made.infill(6, "", gap=1, status="empty", error="event: the reply is empty"))
    infills.append(made.infill(7, "", gap=1, error="event: out of memory"))
    # The end of a row of panels, where no infill belongs.
    infills.append(made.infill(8, "", gap=1, ok=True, status="not_applicable"))
    infills.append(made.infill(99, leaks=[0]))  # of a donor that was not asked
    if older:  # versions without the column gave it by `ok` and `error`
        for row in infills:
            del row["status"]
    run = made.write(tmp_path / "run", records, made.manifest(), infills)
    out = write(tmp_path / "out", run)
    (row,) = out.csv("leaks").to_dict("records")
    expected = {
        "infills": 14,
        "leaking": 5,
        "empty": 1,
        "failed": 1,
        "items": 12,
        "items_leaking": 5,
        "items_leaking_key": 3,
    }
    assert {name: row[name] for name in expected} == expected
    frame = analysis.load(run)
    kept = frame[~frame["item_id"].isin(["q0", "q1", "q2"])].reset_index(drop=True)
    expected = analysis.contrasts(kept, names=("gain", "did"), policies=("strict",))
    written = out.csv("without-leaks")
    # These runs have no items.parquet, and without options there are no stems to look for.
    assert set(written["without"]) == {"leak", "stem"}
    written = written[written["without"] == "leak"]
    assert written["estimate"].to_numpy() == pytest.approx(expected["estimate"].to_numpy())
    (did,) = expected[(expected["name"] == "did") & (expected["arm"] == "vcot")].to_dict("records")
    assert f"| 9 | {analysis.tables.interval(did)} |" in out.section("infills")
    leaked = "the whole text of the right answer in 3 of 12 items at 5 frames: some"
    assert leaked in out.section("limits")
    assert "1 infill empty, the gap left bare; 1 failed" in out.section("infills")


def test_donors_are_counted_over_items_not_records(tmp_path: Path) -> None:
    lent = {0: "q5", 1: "q5", 2: "q5", 3: "q4"}
    records = [
        record(i, arm, role, donor_id=lent[i] if arm == "visual_perturbation" else None)
        for i in range(4)
        for arm in ("baseline", "vcot", "visual_perturbation")
        for role in ("image", "video")
    ]
    out = write(tmp_path / "out", made.write(tmp_path / "run", records))
    assert "| visual_perturbation | 4 | 2 | 3 | 2.00 |" in out.section("infills")


def test_iraven_has_a_section_per_configuration(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("center_single", "distribute_four", "left_center_single_right_center_single")
    records = [
        record(
            i,
            "baseline",
            role,
            bool(rng.random() < 0.3),
            frames=8,
            task="iraven",
            stratum=names[i % 3 if i < 12 else 0],
            cluster=f"p{i}",
            option_logprobs=(-1.0,) * 8,
            option_tokens=(1,) * 8,
        )
        for role in ("image", "video")
        for i in range(30)
    ]
    run = made.write(tmp_path / "run", records, made.manifest())
    out = write(tmp_path / "out", run)
    part = out.section("iraven")
    frame = analysis.load(run)
    cells = analysis.accuracies(frame, by_stratum=True).set_index(["role", "stratum"])
    transfer = analysis.contrasts(frame, names=("transfer",), by_stratum=True)
    for name in names:
        image, video = (
            f"{100 * cells.loc[(role, name), 'accuracy']:.1f} [" for role in ("image", "video")
        )
        (line,) = [one for one in part.splitlines() if f"| {name} |" in one]
        assert image in line
        assert video in line
        one = transfer[(transfer["stratum"] == name) & (transfer["policy"] == "strict")].iloc[0]
        assert analysis.tables.interval(one.to_dict()) in line
    across = analysis.contrasts(frame, names=("transfer",), stratify="strata").iloc[0]
    (line,) = [one for one in part.splitlines() if "| all |" in one]
    assert analysis.tables.interval(across.to_dict()) in line
    # Configurations of 22, 4 and 4 problems: each counts the same in the accuracies, too.
    means = [
        float(cells.loc[[(role, n) for n in names], "accuracy"].mean())
        for role in ("image", "video")
    ]
    assert means[1] - means[0] == pytest.approx(across["estimate"])
    assert f"| {100 * means[0]:.1f} [" in line
    assert f"| {100 * means[1]:.1f} [" in line
    pooled = analysis.accuracies(frame).set_index("role")["accuracy"]
    assert f"{100 * pooled['image']:.1f}" != f"{100 * means[0]:.1f}"
    assert (tmp_path / "out" / "plots" / "iraven.svg").is_file()
    assert "No DiD" in out.section("summary") or "vcot was not run" in out.section("summary")


def test_published_figures_are_compared_with_those_of_the_same_pair(tmp_path: Path) -> None:
    records = [dataclasses.replace(r, pair="llava_next_7b", task="egoschema") for r in study(10)]
    out = write(tmp_path / "out", made.write(tmp_path / "run", records))
    part = out.section("published")
    assert "44.0 [39.7, 48.4]" in part  # the study's image member, 5 frames, baseline, n = 500
    assert len(out.csv("published")) > 8


def test_a_manifest_is_listed_in_full_and_runs_that_left_nothing_are_named(tmp_path: Path) -> None:
    first = made.write(tmp_path / "sweep" / "0", study(6, frames=(5,)), made.manifest())
    said = [{"member": "", "text": "as image"}, {"member": "tiny", "text": "it has an adapter"}]
    manifest = made.manifest(device="another machine", dirty=True, remarks=said)
    made.write(tmp_path / "sweep" / "1", study(6, frames=(10,)), manifest)
    (tmp_path / "sweep" / "2" / ".hydra").mkdir(parents=True)
    out = write(tmp_path / "out", tmp_path / "sweep")
    part = out.section("manifest")
    assert "| git | abc |" in part
    assert "| config.pair.members.tiny-image.repo | r/image |" in part
    assert "| device | 0 | a machine |" in part
    assert "| device | 1 | another machine |" in part
    assert "uncommitted changes" in part
    assert "- the pair: as image" in part
    assert "- tiny: it has an adapter" in part
    assert "1 run did not finish and is not here: 2." in out.section("limits")
    written = out.csv("manifest")
    assert set(written["run"]) == {str(first), str(first.parent / "1")}


def test_a_run_without_infills_is_not_one_without_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.report.figures.rendered", lambda figure: DRAWN)
    run = made.write(tmp_path / "run", study(4, frames=(5,)), made.manifest())
    empty = schema.to_table([], InfillRow)
    for write, says in (
        (True, "No arm showed infills."),
        (False, "No run's folder holds infills."),
    ):
        (run / "infills.parquet").unlink(missing_ok=True)
        if write:
            pq.write_table(empty, run / "infills.parquet")
        report.write([run], tmp_path / "out")
        text = (tmp_path / "out" / "report.md").read_text("utf-8")
        assert [
            one
            for one in ("No arm showed infills.", "No run's folder holds infills.")
            if one in text
        ] == [says]


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path) -> None:
    run = made.write(tmp_path / "run", study(4, frames=(5,)), made.manifest())
    (run / "infills.parquet").write_bytes(b"no parquet")
    with pytest.raises(ProbesError, match="cannot be read"):
        report.write([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (run / "infills.parquet").unlink()
    (tmp_path / "file").touch()
    with pytest.raises(ProbesError, match="cannot be written"):
        report.write([run], tmp_path / "file")


def test_the_command_writes_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probes.report.figures.rendered", lambda figure: DRAWN)
    run = made.write(tmp_path / "run", study(4, frames=(5,)), made.manifest())
    assert main.main(["report", str(run)]) == 0
    assert f"report: {run / 'report' / 'report.html'} (" in capsys.readouterr().out
    assert {path.name for path in (run / "report").iterdir()} == {
        "report.html",
        "report.md",
        "tables",
        "plots",
    }
    assert main.main(["report", str(run)]) == 0  # over the old one, which is not a run
    assert main.main(["report", str(run), str(run)]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "is not there" in capsys.readouterr().err
    assert main.main(["report", "--help"]) == 0
    assert "example" in capsys.readouterr().out
