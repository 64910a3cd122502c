"""The item browser's content: what was shown is made again, checked, small, and safe as HTML."""

from __future__ import annotations

import html.parser
import json
import math
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser_runs import HOSTILE, PaintedFrames, draws, item, make_run
from PIL import Image

from probes import analysis
from probes.analysis.margins import margins
from probes.core.types import Clip, ClipKey, FrameRef, Output, Panels, Request, Stimulus, TextSpan
from probes.records import run_folder
from probes.report import browser, browser_data, stimuli
from probes.report.browser_data import probabilities
from probes.report.stimuli import Rebuilder, ShownTrial
from probes.stimuli import arms

SUITE = [
    "+suite.arms.shuffled={frames: shuffled, reference: baseline}",
    "+suite.arms.reversed={frames: reversed, reference: baseline}",
    "+suite.arms.single={frames: single, infills: own, reference: baseline}",
    "+suite.arms.filler={infills: filler, reference: baseline}",
    "+suite.arms.infills_only={frames: none, infills: own, reference: baseline}",
    "+suite.arms.grid={infills: own, presentation: grid, reference: baseline}",
    "+suite.arms.text_last={infills: own, presentation: frames_then_text, reference: baseline}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve items, six of them asked, under every kind of arm."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("study") / "run"
        items = [item(n) for n in range(11)] + [item(11, question=HOSTILE)]
        return make_run(patch, folder, "limit=6", "scoring=letter", *SUITE, items=items)


def parts_of(fragment: str) -> dict[str, str]:
    """The texts of a fragment's script elements, by id, as an HTML parser cuts them."""
    found: dict[str, str] = {}

    class Reader(html.parser.HTMLParser):
        name: str | None = None

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.name = (dict(attrs).get("id") or "js") if tag == "script" else None

        def handle_data(self, data: str) -> None:
            if self.name:
                found[self.name] = found.get(self.name, "") + data

        def handle_endtag(self, tag: str) -> None:
            self.name = None

    Reader().feed(fragment)
    return found


def content(fragment: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found = parts_of(fragment)
    return json.loads(found["ib-data"]), json.loads(found["ib-pictures"])


def section(*folders: Path, edited: bool = False, **kwargs: Any) -> str:
    return browser.section(folders, analysis.load(list(folders), edited=edited), **kwargs)


def test_every_stimulus_is_made_again_and_has_the_hash_that_was_recorded(study: Path) -> None:
    records = pq.read_table(study / "records.parquet").to_pylist()
    rebuilder = Rebuilder(run_folder.read(study))
    names = [field.name for field in fields(ShownTrial)]
    shown = [rebuilder.rebuild(ShownTrial(**{n: one[n] for n in names})) for one in records]
    assert len({one["arm"] for one in records}) == 12
    assert not [one.problem for one in shown if one.problem]
    # Donors that were not asked themselves were borrowed from, frames and text.
    asked = {row["id"] for row in pq.read_table(study / "items.parquet").to_pylist()}
    assert {one["donor_id"] for one in records} - asked - {None}


def test_slots_say_which_frame_is_shown_where(study: Path) -> None:
    files = run_folder.read(study)
    rebuilder = Rebuilder(files)
    for one in pq.read_table(study / "records.parquet").to_pylist():
        names = [field.name for field in fields(ShownTrial)]
        shown = rebuilder.rebuild(ShownTrial(**{name: one[name] for name in names}))
        if one["arm"] == "grid":
            assert shown.composite and not shown.slots
            continue
        source = one["donor_id"] if one["arm"] == "visual_perturbation" else one["item_id"]
        clip = files.clips[ClipKey(one["task"], source, one["frames"])].hashes
        frames = [part.sha256 for part in shown.parts if isinstance(part, FrameRef)]
        assert frames == [clip[slot] for slot in shown.slots]
        expected = {"blind": 0, "infills_only": 0, "single": 1}.get(one["arm"], one["frames"])
        assert len(frames) == expected


def test_slots_of_a_source_that_repeats_borrows_and_leaves_out() -> None:
    own, lent = (Clip((), (), tuple(f"{name}{t}" for t in range(3))) for name in "ad")
    shown = {0: "a2", 1: "a1", 3: "a2", 4: "d0"}
    spans = tuple(TextSpan(f"frame {slot}", at) for at, slot in enumerate(shown, 1))
    parts = ("q", *map(FrameRef, shown.values()))
    stimulus = Stimulus("i", "mine", parts, (), "sha", spans=spans)
    assert stimuli._slots(stimulus, [own, lent]) == (2, 1, 2, 0)


def test_a_still_clip_uses_each_index_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        PaintedFrames,
        "_paint",
        lambda self, number, t, paint=PaintedFrames._paint: paint(self, number, 0 if t < 18 else t),
    )
    folder = make_run(
        monkeypatch, tmp_path / "run", "frames=4", SUITE[0], items=[item(n) for n in range(4)]
    )
    data, _ = content(section(folder))
    arm = [one["name"] for one in data["views"][0]["arms"]].index("shuffled")
    for one in data["items"]:
        stimulus = data["stimuli"][one["v"]["0"]["4"][arm][0][0][0]]
        assert sorted(stimulus["s"]) == [0, 1, 2, 3]


def test_bare_gaps_are_shown_with_their_reason(study: Path) -> None:
    files = run_folder.read(study)
    empty = {
        (place, gap)
        for place, infills in files.written("image").items()
        for gap, infill in enumerate(infills)
        if not infill.text
    }
    assert empty
    rebuilder = Rebuilder(files)
    seen = set()
    for one in pq.read_table(study / "records.parquet").to_pylist():
        names = [field.name for field in fields(ShownTrial)]
        shown = rebuilder.rebuild(ShownTrial(**{name: one[name] for name in names}))
        arm = files.arms[one["arm"]]
        source = one["donor_id"] if arm.infills == "donor" else one["item_id"]
        place = (one["task"], source, one["frames"])
        expected = {gap for where, gap in empty if where == place and arms.needs_infills(arm)}
        assert {bare.gap for bare in shown.bare_gaps} == expected
        for bare in shown.bare_gaps:
            seen.add(one["arm"])
            assert "empty" in bare.reason
            if arm.presentation == "interleaved" and arm.frames in ("own", "donor"):
                before, after = shown.parts[bare.after - 1], shown.parts[bare.after]
                assert isinstance(before, FrameRef) and isinstance(after, FrameRef)
                frames = [p for p in shown.parts[: bare.after] if isinstance(p, FrameRef)]
                assert len(frames) == bare.gap + 1
            else:
                assert bare.after == -1
    assert {"vcot", "visual_perturbation", "text_perturbation", "single", "text_last"} <= seen


@pytest.mark.parametrize("layout", ["sequence", "matrix"])
def test_pictorial_options_and_rows_of_panels(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = tuple("ABCDEFGH")
    items = [
        item(
            n,
            task="iraven",
            options=letters,
            stratum="s",
            cluster=str(n),
            media=Panels(Path(f"/nowhere/{n}.npz"), 8, 8, 3),
        )
        for n in range(5)
    ]
    folder = make_run(
        monkeypatch,
        tmp_path / "run",
        "task=iraven",
        "frames=8",
        f"task.layout={layout}",
        items=items,
        infill=lambda prompt: "it grows",
    )
    data, made = content(section(folder))
    assert made["missing"] == {}
    vcot = [arm["name"] for arm in data["views"][0]["arms"]].index("vcot")
    for one in data["items"]:
        assert len(one["op"]) == 8
        stimulus = data["stimuli"][one["v"]["0"]["8"][vcot][0][0][0]]
        frames = [part for part in stimulus["p"] if part >= 0]
        texts = "".join(data["texts"][-1 - part] for part in stimulus["p"] if part < 0)
        assert "b" not in stimulus  # there is no infill between rows, and none is expected
        assert texts.count("it grows") == 5
        if layout == "sequence":
            assert stimulus["s"] == list(range(8))
            assert frames[8:] == one["op"]
        else:
            assert stimulus["composite"] and "s" not in stimulus
            assert len(frames) == 1


def test_a_composite_of_missing_frames_is_not_shown(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(study, folder)
    data, _ = content(section(folder))
    grid = [arm["name"] for arm in data["views"][0]["arms"]].index("grid")
    first = data["items"][0]
    for sha in dict(pq.read_table(folder / "items.parquet").to_pylist()[0]["frame_hashes"])["2"]:
        (folder / "frames" / f"{sha}.png").unlink(missing_ok=True)
    data, _ = content(section(folder))
    stimulus = data["stimuli"][data["items"][0]["v"]["0"]["2"][grid][0][0][0]]
    assert data["items"][0]["id"] == first["id"]
    assert "composed of a frame that is not there" in data["texts"][stimulus["x"]]


@pytest.mark.parametrize("broken", ["infill", "frames", "prompt", "option", "donors"])
def test_what_cannot_be_made_again_is_reported_and_not_shown(
    broken: str, study: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(study, folder)
    rows: list[dict[str, Any]]
    if broken == "donors":
        (folder / "donors.parquet").unlink()
    elif broken == "prompt":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["config"]["prompts"]["letter"] += " Think."
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        name = "infills" if broken == "infill" else "items"
        table = pq.read_table(folder / f"{name}.parquet")
        rows = table.to_pylist()
        if broken == "infill":
            for row in rows:
                row["text"] = row["text"].replace("something", "nothing")
        elif broken == "frames":
            rows[0]["frame_hashes"] = [(k, v[::-1]) for k, v in rows[0]["frame_hashes"]]
        else:
            rows[0]["options"] = [*rows[0]["options"][:-1], "another"]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / f"{name}.parquet")
    fragment = section(folder, edited=True)
    data, _ = content(fragment)
    unknown = set()
    for one in data["items"]:
        for arm, cells in zip(data["views"][0]["arms"], one["v"]["0"]["4"], strict=True):
            for answer in (answer for cell in cells for answer in cell):
                stimulus = data["stimuli"][answer[0]]
                if "x" in stimulus:
                    assert "p" not in stimulus
                    assert "not known" in data["texts"][stimulus["x"]]
                    unknown.add((one["id"], arm["name"]))
    asked = {one["id"] for one in data["items"]}
    shown = {(one, arm["name"]) for one in asked for arm in data["views"][0]["arms"]} - unknown
    assert unknown
    assert 'id="ib-notes"' in fragment and "the stimulus cannot be shown" in fragment
    if broken == "prompt":
        assert not shown
    elif broken in ("frames", "option"):
        assert {id_ for id_, arm in unknown if arm == "baseline"} == {data["items"][0]["id"]}
    elif broken == "donors":
        assert {arm for _, arm in unknown} <= {"visual_perturbation", "text_perturbation"}
    else:
        assert not [arm for _, arm in unknown if arm in ("baseline", "blind", "filler")]


def test_a_run_without_items_or_manifest_still_shows_its_answers(
    study: Path, tmp_path: Path
) -> None:
    shutil.copyfile(study / "records.parquet", tmp_path / "records.parquet")
    fragment = section(tmp_path)
    data, made = content(fragment)
    assert len(data["items"]) == 6
    assert {next(iter(one)) for one in data["stimuli"]} == {"x"}
    assert made["webp"] == []
    assert "has no manifest.json with a configuration, items.parquet" in fragment


def test_a_frame_without_records_is_reported() -> None:
    assert "There are no records to browse." in browser.section([], analysis.from_records([]))


def test_answers_are_those_of_the_records(study: Path) -> None:
    data, _ = content(section(study))
    (view,) = data["views"]
    assert [role for role, _ in view["members"]] == ["image", "video"]
    assert [arm["name"] for arm in view["arms"]][:2] == ["baseline", "vcot"]
    assert view["frames"] == [2, 4]
    frame = analysis.load(study)
    frame["margin"] = margins(frame)
    by_id = {one["id"]: one for one in data["items"]}
    for row in frame.to_dict("records"):
        arm = [one["name"] for one in view["arms"]].index(row["arm"])
        role = ["image", "video"].index(row["role"])
        (answer,) = by_id[row["item_id"]]["v"]["0"][str(row["frames"])][arm][role]
        _, donor, status, choice, correct, p, margin, reply, error, _ = answer
        assert (donor == -1) == (row["donor_id"] != row["donor_id"])
        assert donor == -1 or data["texts"][donor] == row["donor_id"]
        assert (status, choice, correct) == (0, row["choice"], int(row["correct"]))
        assert p.index(max(p)) == choice
        assert sum(p) == pytest.approx(1, abs=1e-3)
        assert margin == pytest.approx(row["margin"], abs=1e-4)
        assert (margin > 0) == (correct == 1)
        assert data["texts"][reply] == row["text"]
        assert error == -1


def test_probabilities_compare_what_the_choice_compared() -> None:
    assert probabilities([0.0, math.log(3)], [1, 1], "letter") == [0.25, 0.75]
    assert probabilities([0.0, 2 * math.log(3)], [1, 2], "cloze") == [0.25, 0.75]
    assert probabilities([-800.0, -800.0], [9, 9], "letter") == [0.5, 0.5]
    assert probabilities([-math.inf, 0.0], [1, 1], "letter") == [0.0, 1.0]
    for nothing in ([], None, [math.nan, 0.0], [-math.inf, -math.inf]):
        assert probabilities(nothing, [1, 1], "letter") is None
    assert probabilities([0.0, 0.0], [1, 0], "cloze") is None
    assert probabilities([0.0, 0.0], None, "cloze") is None


def test_hostile_text_never_becomes_markup(study: Path) -> None:
    fragment = section(study)
    assert set(parts_of(fragment)) == {"ib-data", "ib-pictures", "js"}
    assert HOSTILE not in fragment
    data, _ = content(fragment)
    assert any(HOSTILE in text for text in data["texts"])
    assert fragment.count("</script") == 3
    assert "<!--" not in fragment
    assert fragment.isascii() or "“" not in fragment
    script = (Path(browser.__file__).parent / "templates" / "browser.js").read_text()
    for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert risky not in script


def test_texts_and_frames_are_kept_once(study: Path) -> None:
    data, made = content(section(study))
    assert len(set(data["texts"])) == len(data["texts"])
    shas = [sha for sha, _ in data["frames"]]
    assert len(set(shas)) == len(shas) == len(made["webp"])
    assert {data["texts"][place] for _, place in data["frames"]} == {"run"}
    assert set(shas) == {path.stem for path in (study / "frames").iterdir()}


def test_two_settings_of_one_study_are_two_views_of_the_same_items(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(n) for n in range(11)] + [item(11, question=HOSTILE)]
    changes = ("limit=6", "scoring=letter", "pair.frame_as=image", *SUITE)
    other = make_run(monkeypatch, tmp_path / "other", *changes, items=items)
    data, made = content(section(study, other))
    assert [one["label"] for one in data["views"]] == [
        "tiny · egoschema · letter · frame_as=image",
        "tiny · egoschema · letter · frame_as=video",
    ]
    assert len(data["items"]) == 6
    assert all(set(one["v"]) == {"0", "1"} for one in data["items"])
    assert len(made["webp"]) == len({sha for sha, _ in data["frames"]})


def test_shards_are_one_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [item(n) for n in range(8)]
    folders = [
        make_run(monkeypatch, tmp_path / f"{n}" / "run", "shards=2", f"shard={n}", items=items)
        for n in range(2)
    ]
    data, _ = content(section(*folders))
    assert len(data["views"]) == 1
    assert len(data["items"]) == 8
    assert not [one for one in data["stimuli"] if "x" in one]


def test_donors_of_several_draws_and_own_infills_are_all_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(role: str) -> Any:
        def one(prompt: Request) -> Output:
            if prompt.options:
                return Output(option_logprobs=(0.0, -1, -1, -1, -1), option_tokens=(1,) * 5)
            return Output(text=f"the {role} member says so")

        return one

    folder = make_run(
        monkeypatch,
        tmp_path / "run",
        "donor_draws=3",
        "infill=self",
        "frames=2",
        items=[item(n) for n in range(10)],
        answer=answer,
    )
    data, _ = content(section(folder))
    arms_ = [arm["name"] for arm in data["views"][0]["arms"]]
    cells = [one["v"]["0"]["2"] for one in data["items"]]
    draws_ = [cell[arms_.index("visual_perturbation")][0] for cell in cells]
    assert {len(answers) for answers in draws_} <= {1, 2, 3}
    assert max(len(answers) for answers in draws_) > 1
    for cell in cells:
        image, video = (
            [data["texts"][-1 - part] for part in data["stimuli"][answers[0][0]]["p"] if part < 0]
            for answers in cell[arms_.index("vcot")]
        )
        assert "the image member says so" in image[0]
        assert "the video member says so" in video[0]


def test_rotated_options_are_shown_as_they_were_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(
        monkeypatch,
        tmp_path / "run",
        "scoring=letter",
        "option_rotation=true",
        "frames=2",
        items=[item(n) for n in range(4)],
    )
    data, _ = content(section(folder))
    for one in data["items"]:
        answers = one["v"]["0"]["2"][0][0]
        assert [answer[-1] for answer in answers] == [0, 1, 2, 3, 4]
        for answer in answers:
            question = data["texts"][-1 - data["stimuli"][answer[0]]["p"][-1]]
            assert f"A. {one['o'][answer[-1]]}" in question
            # The choice is given in the item's own order.
            assert answer[3] == answer[5].index(max(answer[5]))


def test_replies_failures_and_withheld_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(role: str) -> Any:
        def one(prompt: Request) -> Output:
            if not prompt.options:
                return Output(text="x happens")
            if next(draws(role, prompt.parts[-1])) < 0.5:
                return Output(status="error", error="out of memory")
            return Output(text="B." if role == "image" else HOSTILE)

        return one

    items = [item(n, answer=None if n == 0 else n % 5) for n in range(6)]
    folder = make_run(
        monkeypatch, tmp_path / "run", "scoring=generate", "frames=2", items=items, answer=answer
    )
    data, _ = content(section(folder))
    answers = [
        (one, role, answer)
        for one in data["items"]
        for cell in one["v"]["0"]["2"]
        for role, answers in enumerate(cell)
        for answer in answers
    ]
    assert {answer[2] for *_, answer in answers} == {0, 1, 2}
    for one, role, (_, _, status, choice, correct, p, margin, reply, error, _) in answers:
        assert (p, margin) == (None, None)
        assert one["a"] == (None if one["id"] == "clip/0 é" else items[int(one["id"][5])].answer)
        if status == 2:
            assert data["texts"][error] == "out of memory"
        else:
            assert data["texts"][reply] == (HOSTILE if role else "B.")
            assert choice == (-1 if role else 1)
        assert (correct == -1) == (one["a"] is None)


def test_further_numbers_are_part_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(role: str) -> Any:
        def one(prompt: Request) -> Output:
            more = (
                {HOSTILE: math.nan, "entropy": 0.125, "low": -math.inf} if role == "image" else {}
            )
            return Output((0.0, -1, -1, -1, -1), (1,) * 5, text="x", extras=more)

        return one

    items = [item(n) for n in range(2)]
    changes = ("scoring=letter", "frames=2", "arms=[baseline]")
    folder = make_run(monkeypatch, tmp_path / "run", *changes, items=items, answer=answer)
    data, _ = content(section(folder))
    for one in data["items"]:
        ((image,), (video,)) = one["v"]["0"]["2"][0]
        assert len(video) == 10  # as without any
        assert [[data["texts"][name], value] for name, value in image[10]] == [
            [HOSTILE, "nan"],
            ["entropy", "0.125"],
            ["low", "-inf"],
        ]


def test_items_beyond_the_budget_are_reported(study: Path) -> None:
    whole = section(study)
    few = section(study, budget=len(whole) - 12_000)
    data, _ = content(few)
    assert len(few) <= len(whole) - 12_000
    assert 1 <= len(data["items"]) <= 6
    tight = browser_data.assemble(
        {str(study): run_folder.read(study)}, analysis.load(study), budget=9_000
    )
    assert 1 <= tight.items < 6
    assert tight.items + tight.left_out == 6
    assert "are left out to keep this page small" in section(study, budget=60_000)


def test_pictures_are_of_the_frame_that_their_name_says(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(study, folder)
    gone, altered, broken = sorted((folder / "frames").iterdir())[:3]
    gone.unlink()
    altered.unlink()  # may be a hard link
    Image.new("RGB", (40, 30)).save(altered)
    broken.unlink()
    broken.write_bytes(b"\x89PNG no more")
    fragment = section(folder)
    data, made = content(fragment)
    why = {data["frames"][int(at)][0]: reason for at, reason in made["missing"].items()}
    assert why == {
        gone.stem: "its file is not there",
        altered.stem: "its file holds other pixels than were shown",
        broken.stem: "its file cannot be read",
    }
    for reason in why.values():
        assert f"have no picture here: {reason}" in fragment


def test_the_fragment_keeps_to_its_prefix_and_loads_nothing(study: Path) -> None:
    fragment = section(study)
    head = fragment[: fragment.index('<script type="application/json"')]
    assert all(name.startswith("ib-") for name in re.findall(r'id="([^"]+)"', head))
    classes = [one for names in re.findall(r'class="([^"]+)"', head) for one in names.split()]
    assert all(one == "ib" or one.startswith("ib-") for one in classes)
    for outside in ("http:", "https:", "url(", "@import", "fetch(", "XMLHttp", "src="):
        assert outside not in head.replace(' src=""', "")
        if outside != "src=":
            assert outside not in parts_of(fragment)["js"]
