"""A run end to end: a small real folder of clips, the scripted backend, real store and files."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from running import ARMS, ITEMS, Spy, lasting

from probes import analysis
from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.progress import Progress
from probes.core.replies import CUT_OFF, THINKING
from probes.core.types import Output, Request
from probes.engine import context
from probes.engine.run import RunResult, execute
from probes.models.scripted import ScriptedBackend
from probes.records import schema
from probes.records.schema import Record
from probes.tasks import registry

CELLS = ITEMS * 2 * len(ARMS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def go(cfg: RunConfig, **kwargs: Any) -> RunResult:
    return execute(cfg, cfg.out, **kwargs)


def test_every_cell_has_its_record(settle: Any, spy: Any) -> None:
    cfg = settle()
    result = go(cfg)
    places = [(r.item_id, r.arm, r.role, r.frames) for r in result.records]
    assert len(places) == len(set(places)) == 2 * CELLS
    assert {r.status for r in result.records} == {"ok"}
    assert (result.errors, result.failed_infills) == (0, 0)
    for record in result.records:
        assert (record.donor_id is not None) == record.arm.endswith("perturbation")
        assert record.correct == (record.choice == record.answer)
        assert record.member == f"tiny-{record.role}"
        assert (record.scoring, record.pair, record.task) == ("cloze", "tiny", "egoschema")
    assert not spy.resident
    # Both members were shown the same.
    shown = [
        {(r.item_id, r.arm, r.frames): r.stimulus_sha for r in result.records if r.role == role}
        for role in ("image", "video")
    ]
    assert shown[0] == shown[1]


def test_one_model_at_a_time_and_each_once(settle: Any, spy: Any) -> None:
    go(settle())
    assert len(spy.loaded) == 2  # the image member writes infills and answers without a pause


def test_a_finished_plan_asks_nothing_decodes_nothing_and_says_the_same(
    settle: Any, spy: Any
) -> None:
    first = go(settle())
    asked = spy.asked.copy()
    progress = Progress()
    again = go(settle(out="again"), progress=progress)
    assert spy.asked == asked
    assert again.records == first.records
    manifest = json.loads((again.out / "manifest.json").read_text())
    assert manifest["decode_passes"] == 0
    counts = manifest["counts"]["prompts"]
    assert all(one["computed"] == 0 and one["cached"] == one["unique"] for one in counts.values())
    for name in ("records", "infills"):
        one, two = (pq.read_table(r.out / f"{name}.parquet") for r in (first, again))
        assert one.equals(two)


def test_what_is_the_same_is_asked_once(settle: Any, spy: Any) -> None:
    """A blind question is the same at every frame count, and clips share frames."""
    result = go(settle())
    blind = [r for r in result.records if r.arm == "blind" and r.role == "image"]
    assert len({r.key for r in blind}) == len(blind) / 2
    unique = {r.key for r in result.records}
    assert spy.asked["cloze"] == len(unique)


@pytest.mark.parametrize("stop_after", [1, 60, 130])
def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(
    stop_after: int, settle: Any, spy: Any, home: Path, tmp_path: Path
) -> None:
    spy.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        go(settle())
    assert not spy.resident
    spy.stop_after = None
    resumed = go(settle())
    total = sum(spy.asked.values())
    shutil.rmtree(home)
    spy.asked.clear()
    fresh = go(settle(out="fresh"))
    assert total == sum(spy.asked.values())  # nothing was asked twice
    assert lasting(resumed.records) == lasting(fresh.records)


def test_half_the_store_gone_is_half_the_work(settle: Any, spy: Any, home: Path) -> None:
    first = go(settle())
    keys = sorted({record.key for record in first.records})[::2]
    (file,) = (home / "store").glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.executemany("delete from outputs where key = ?", [(key,) for key in keys])
    connection.close()
    spy.asked.clear()
    again = go(settle())
    assert spy.asked == {"cloze": len(keys)}
    assert lasting(again.records) == lasting(first.records)


def test_failures_are_records_are_told_and_are_asked_again(settle: Any, spy: Any) -> None:
    failing = go(settle("backend.options.errors=0.2", "suite.arms.vcot.seed=1"))
    assert 0 < failing.errors == sum(r.status == "error" for r in failing.records)
    for record in failing.records:
        if record.status == "error":
            assert (record.choice, record.correct) == (None, False)
            assert record.error.endswith("scripted error")
    assert failing.failed_infills > 0
    healed = go(settle("suite.arms.vcot.seed=1", out="healed"))
    assert (healed.errors, healed.failed_infills) == (0, 0)


def test_broken_media_fails_its_items_and_those_that_borrow_from_them(
    settle: Any, spy: Any, world: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    whole = go(settle())
    video = copy / "videos" / "clip3.mp4"
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + 600] = bytes(600)
    video.write_bytes(data)
    result = go(settle(f"task.root={copy}", out="broken"))
    hit = {
        (r.item_id, r.arm, r.role, r.frames)
        for r in whole.records
        if r.item_id == "clip3" or r.donor_id == "clip3"
    }
    failed = [r for r in result.records if r.status == "error"]
    assert {(r.item_id, r.arm, r.role, r.frames) for r in failed} == hit
    assert all("clip3" in record.error for record in failed)
    assert result.errors == len(hit)
    kept = {(r.item_id, r.arm, r.role, r.frames): r for r in lasting(result.records)}
    for record in lasting(whole.records):
        place = (record.item_id, record.arm, record.role, record.frames)
        assert place in hit or kept[place] == record
    rows = pq.read_table(result.out / "items.parquet").to_pylist()
    assert [row["id"] for row in rows if not row["frame_hashes"]] == ["clip3"]


def test_limit_and_shards_change_nothing_but_who_is_asked(settle: Any, spy: Any) -> None:
    whole = {(r.item_id, r.arm, r.role, r.frames): r.key for r in go(settle()).records}
    parts = [go(settle("shards=3", f"shard={shard}", out=f"s{shard}")) for shard in range(3)]
    keys = {(r.item_id, r.arm, r.role, r.frames): r.key for p in parts for r in p.records}
    assert keys == whole
    few = go(settle("limit=3", out="few"))
    assert len({r.item_id for r in few.records}) == 3
    assert all(whole[r.item_id, r.arm, r.role, r.frames] == r.key for r in few.records)


def test_shards_and_sweeps_load_as_one(settle: Any, spy: Any, tmp_path: Path) -> None:
    go(settle("shards=2", "shard=0", "frames=2", out="parts/0"))
    go(settle("shards=2", "shard=1", "frames=2", out="parts/1"))
    frame = analysis.load(tmp_path / "parts")
    assert len(frame) == ITEMS * len(ARMS) * 2
    assert frame.attrs["references"]["visual_perturbation"] == "vcot"


def test_members_may_write_for_themselves(settle: Any, spy: Any) -> None:
    result = go(settle("infill=self"))
    rows = pq.read_table(result.out / "infills.parquet").to_pylist()
    assert {row["role"] for row in rows} == {"image", "video"}
    shown = {
        role: {r.stimulus_sha for r in result.records if r.role == role and r.arm == "vcot"}
        for role in ("image", "video")
    }
    assert not shown["image"] & shown["video"]
    assert len(spy.loaded) == 2


@pytest.mark.parametrize("writer", ["video", "somebody/else"])
def test_another_model_may_write_for_both(writer: str, settle: Any, spy: Any) -> None:
    result = go(settle(f"infill.generator={writer}"))
    rows = pq.read_table(result.out / "infills.parquet").to_pylist()
    assert {row["role"] for row in rows} == {"shared"}
    opened = json.loads((result.out / "manifest.json").read_text())["members"]
    assert set(opened) == {"tiny-image", "tiny-video"} | ({writer} - {"video"})
    assert len(spy.loaded) == len(opened)


def test_another_writer_has_neither_the_adapter_nor_the_trust_of_a_member(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.engine import context

    seen: dict[str, Any] = {}
    genuine = context.open_backend

    def noted(cfg: Any, spec: Any) -> Any:
        seen[spec.name] = spec
        return genuine(cfg, replace(spec, adapter=""))  # scripted models take none

    monkeypatch.setattr(context, "open_backend", noted)
    cfg = settle("infill.generator=somebody/else")
    members = tuple(replace(m, adapter="a", trust_remote_code=True) for m in cfg.pair.members)
    go(replace(cfg, pair=replace(cfg.pair, members=members)))
    assert (seen["tiny-image"].adapter, seen["somebody/else"].adapter) == ("a", "")
    assert not seen["somebody/else"].trust_remote_code


def test_a_writer_is_a_role_or_a_model(settle: Any, spy: Any) -> None:
    cfg = settle("infill.generator=imge")
    for backend in ("scripted", "somebodys"):  # their models may have any name
        other = replace(cfg.backend, name=backend)
        assert go(replace(cfg, backend=other, overwrite=True)).errors == 0
    spy.begin()
    with pytest.raises(ProbesError, match="'imge' is neither a role of the pair") as caught:
        go(replace(cfg, backend=replace(cfg.backend, name="hf"), overwrite=True))
    assert caught.value.where == "infill.generator"
    assert caught.value.fix.startswith("use image, video, or")
    assert spy.loaded == []


def test_infills_may_be_written_elsewhere(settle: Any, spy: Any, tmp_path: Path) -> None:
    first = go(settle())
    rows = pq.read_table(first.out / "infills.parquet").to_pylist()
    lines = [
        json.dumps({name: row[name] for name in ("item_id", "frames", "gap", "text", "frame_a")})
        for row in rows
    ]
    (tmp_path / "infills.jsonl").write_text("\n".join(lines))
    spy.asked.clear()
    again = go(settle("infill=file", f"infill.file={tmp_path / 'infills.jsonl'}", out="file"))
    assert not spy.asked  # the same texts make the same stimuli
    assert [r.key for r in again.records] == [r.key for r in first.records]
    written = pq.read_table(again.out / "infills.parquet").to_pylist()
    assert {row["generator"] for row in written} == {"file"}


def test_a_condenser_shortens_after_both_steps(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.models import text_llm

    class Shortener(Spy):
        def __init__(self, cfg: Any, name: str) -> None:
            super().__init__(lambda prompt: Output(text="short"), name=name)

    monkeypatch.setattr(text_llm, "TextBackend", Shortener)
    result = go(settle("infill.condenser=some/llm"))
    rows = pq.read_table(result.out / "infills.parquet").to_pylist()
    assert {row["text"] for row in rows} == {"short"}
    assert len({row["event"] for row in rows}) > 1
    assert "condenser some/llm" in json.loads((result.out / "manifest.json").read_text())["members"]


def test_a_suite_without_infills_writes_none(settle: Any, spy: Any) -> None:
    drop = [f"~suite.arms.{arm}" for arm in ARMS[1:4]]
    result = go(settle(*drop))
    assert spy.asked["generate"] == 0
    assert pq.read_table(result.out / "infills.parquet").num_rows == 0
    assert len(result.records) == 2 * ITEMS * 2 * 2


def test_several_donors_are_several_records(settle: Any, spy: Any) -> None:
    result = go(settle("donor_draws=3", "frames=2"))
    donors = Counter(
        (r.item_id, r.donor_id)
        for r in result.records
        if r.arm == "visual_perturbation" and r.role == "image"
    )
    assert set(donors.values()) == {1}
    assert len(donors) > 1.5 * ITEMS
    cells = analysis.accuracies(analysis.load(result.out))
    assert set(cells["n"]) == {ITEMS}


def test_generate_scores_replies_and_counts_what_cannot_be_read(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_backend(cfg: Any, spec: Any) -> ScriptedBackend:
        reply = "B." if spec.role == "image" else "I cannot tell."
        return ScriptedBackend(lambda prompt: Output(text=reply), name=spec.name)

    monkeypatch.setattr(context, "open_backend", open_backend)
    result = go(settle("scoring=generate", "frames=2"))
    assert Counter((r.role, r.status, r.choice) for r in result.records) == {
        ("image", "ok", 1): CELLS / 2,
        ("video", "unparsed", None): CELLS / 2,
    }
    assert result.errors == 0  # unparsed is wrong, not failed
    assert {r.correct for r in result.records if r.role == "video"} == {False}


def test_withheld_answers_give_records_and_a_submission(
    settle: Any, spy: Any, world: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    answers = json.loads((copy / "subset_answers.json").read_text())
    del answers["clip0"]
    (copy / "subset_answers.json").write_text(json.dumps(answers))
    result = go(settle(f"task.root={copy}", "task.unanswered=true", "frames=2"))
    withheld = [r for r in result.records if r.item_id == "clip0"]
    assert withheld
    assert {(r.answer, r.correct) for r in withheld} == {(None, None)}
    sent = json.loads((result.out / "submission-image-baseline-2.json").read_text())
    assert sent == {
        r.item_id: r.choice for r in result.records if (r.role, r.arm) == ("image", "baseline")
    }
    assert len(list(result.out.glob("submission-*.json"))) == 2 * len(ARMS)


def test_a_backend_that_forgets_a_prompt_is_told(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(self: Any, prompts: Any, frames: Any, scoring: Any) -> Iterator[Any]:
        for at, output in ScriptedBackend.score(self, prompts, frames, scoring):
            if "what happens in 3?" not in str(prompts[at].parts):
                yield at, output

    monkeypatch.setattr(Spy, "score", forgetful)
    result = go(settle("frames=2", *[f"~suite.arms.{arm}" for arm in ARMS[1:]]))
    errors = [r.error for r in result.records if r.status == "error"]
    assert errors == ["the backend gave no answer"] * 2


def test_a_reply_that_is_no_answer_is_unparsed_and_says_why(
    settle: Any, spy: Any, monkeypatch: Any
) -> None:
    replies = [
        Output(text="A. The", cut_off=True),
        Output(text="<think>A."),
        Output(text="<think>no</think>A."),
        Output(text="maybe"),
    ]

    def thinking(self: Any, prompts: Any, frames: Any, scoring: Any) -> Iterator[Any]:
        yield from enumerate(replies[at % len(replies)] for at, _ in enumerate(prompts))

    monkeypatch.setattr(Spy, "score", thinking)
    arms = [f"~suite.arms.{arm}" for arm in ARMS[1:]]
    result = go(settle("scoring=generate", "frames=2", "limit=4", *arms))
    found = {(r.text, r.status, r.error) for r in result.records}
    assert found == {
        ("A. The", "unparsed", CUT_OFF),
        ("<think>A.", "unparsed", THINKING),
        ("<think>no</think>A.", "ok", ""),
        ("maybe", "unparsed", ""),
    }
    assert {r.choice for r in result.records if r.status == "ok"} == {0}
    # The setting's doing: stored as any other answer, and not asked again.
    again = go(settle("scoring=generate", "frames=2", "limit=4", *arms))
    assert {(r.text, r.status, r.error) for r in again.records} == found


def test_what_failed_is_asked_once_a_run(settle: Any, spy: Any, monkeypatch: Any) -> None:
    """The blind question is the same for all items here, which stand in several blocks."""
    load = registry.load
    monkeypatch.setattr(
        registry,
        "load",
        lambda *given: [replace(i, question="what?", options=("a", "b")) for i in load(*given)],
    )
    tries = Counter[Any]()

    def failing(self: Any, prompts: Any, frames: Any, scoring: Any) -> Iterator[Any]:
        for at, output in ScriptedBackend.score(self, prompts, frames, scoring):
            tries[self.fingerprint, prompts[at]] += 1
            yield at, replace(output, status="error", error="no")

    monkeypatch.setattr(Spy, "score", failing)
    drop = [f"~suite.arms.{arm}" for arm in ARMS[1:4]]
    result = go(settle("frames=2", *drop))
    assert result.errors == len(result.records) == 2 * 2 * ITEMS
    assert set(tries.values()) == {1}
    counts = result.counts["prompts"]["tiny-image"]
    assert counts == {"unique": ITEMS + 1, "cached": 0, "computed": ITEMS + 1, "failed": ITEMS + 1}


def test_no_donor_ends_the_run_before_a_model_is_asked(
    settle: Any, spy: Any, world: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    (copy / "uid_to_ego4d.json").write_text(json.dumps({f"clip{n}": "one" for n in range(ITEMS)}))
    with pytest.raises(ProbesError, match="no donor"):
        go(settle(f"task.root={copy}"))
    assert not spy.asked


def test_the_files_say_what_the_run_says(settle: Any, spy: Any, home: Path, world: Path) -> None:
    cfg = settle()
    result = go(cfg)
    table = pq.read_table(cfg.out / "records.parquet")
    assert table.schema == schema.arrow_schema(Record)
    assert table.column_names == [field.name for field in fields(Record)]
    assert list(schema.rows(table, Record)) == result.records

    items = {row["id"]: row for row in pq.read_table(cfg.out / "items.parquet").to_pylist()}
    assert len(items) == ITEMS
    assert items["clip1"]["media_path"] == "videos/clip1.mp4"
    assert items["clip1"]["options"][2] == "thing 2 of 1"
    assert {k: len(v) for k, v in items["clip1"]["frame_hashes"]} == {"2": 2, "4": 4}

    gaps = pq.read_table(cfg.out / "infills.parquet").to_pylist()
    assert len(gaps) == ITEMS * (1 + 3)
    for row in gaps:
        hashes = dict(items[row["item_id"]]["frame_hashes"])[str(row["frames"])]
        assert [row["frame_a"], row["frame_b"]] == hashes[row["gap"] : row["gap"] + 2]
        assert row["ok"] and row["leaks"] == []

    shown = {path.stem for path in (cfg.out / "frames").iterdir()}
    assert shown == {
        sha for row in items.values() for _, shas in row["frame_hashes"] for sha in shas
    }
    sha = sorted(shown)[0]
    stored = home / "frames" / sha[:2] / f"{sha}.png"
    assert (cfg.out / "frames" / f"{sha}.png").read_bytes() == stored.read_bytes()

    manifest = json.loads((cfg.out / "manifest.json").read_text())
    assert manifest["config"]["frames"] == [2, 4]
    assert [arm["name"] for arm in manifest["config"]["suite"]] == ARMS
    assert manifest["data"]["root"] == str(world)
    assert manifest["counts"]["planned"] == 2 * CELLS
    assert manifest["decode_passes"] == ITEMS
    assert set(manifest["donors"]) == {"visual_perturbation", "text_perturbation"}
    assert manifest["members"]["tiny-image"]["backend"] == "scripted"
    assert {"first frames", "answers of tiny-image", "infills by tiny-image"} <= set(
        manifest["seconds"]
    )


def test_only_frames_that_were_shown_are_exported(settle: Any, spy: Any) -> None:
    result = go(settle("frames=4", "limit=2", "~suite.arms.visual_perturbation"))
    items = pq.read_table(result.out / "items.parquet").to_pylist()
    own = {sha for row in items for _, shas in row["frame_hashes"] for sha in shas}
    assert {path.stem for path in (result.out / "frames").iterdir()} == own  # no donor's


def test_who_only_lends_is_told_too(settle: Any, spy: Any) -> None:
    result = go(settle("limit=2"))
    asked, lent = (
        {row["id"]: row for row in pq.read_table(result.out / f"{name}.parquet").to_pylist()}
        for name in ("items", "donors")
    )
    donors = {record.donor_id for record in result.records} - {None}
    assert len(asked) == 2
    assert donors == lent.keys() | (donors & asked.keys())
    assert lent and not lent.keys() & asked.keys()
    assert all(len(dict(row["frame_hashes"])["4"]) == 4 for row in lent.values())


def test_an_infill_that_tells_an_option_is_flagged(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(prompt: Request) -> Output:
        if prompt.options:
            return Output(option_logprobs=(0.0,) * 5, option_tokens=(1,) * 5)
        return Output(text="then THING 3 of 1 appears")

    monkeypatch.setattr(
        context, "open_backend", lambda cfg, spec: ScriptedBackend(tell, name=spec.name)
    )
    result = go(settle("frames=2"))
    rows = pq.read_table(result.out / "infills.parquet").to_pylist()
    assert {row["item_id"]: row["leaks"] for row in rows}["clip1"] == [3]
    assert all(row["leaks"] == [] for row in rows if row["item_id"] != "clip1")


def test_data_are_named_by_their_content(
    settle: Any, spy: Any, world: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)

    def data(name: str, root: Path) -> dict[str, Any]:
        out = go(settle(f"task.root={root}", "frames=2", out=name)).out
        return json.loads((out / "manifest.json").read_text())["data"]  # type: ignore[no-any-return]

    first, same = data("a", world), data("b", copy)
    assert {k: v for k, v in first.items() if k != "root"} == {
        k: v for k, v in same.items() if k != "root"
    }
    questions = json.loads((copy / "questions.json").read_text())
    questions[0]["question"] += "!"
    (copy / "questions.json").write_text(json.dumps(questions))
    changed = data("c", copy)
    assert changed["items_sha256"] != first["items_sha256"]
    assert changed["media_sha256"] == first["media_sha256"]


def test_the_study_tables_come_out_of_the_files(settle: Any, spy: Any) -> None:
    lines = analysis.render(analysis.study_tables(analysis.load(go(settle()).out)))
    assert any("gain" in line for line in lines)
    assert any("n = 8 items in 4 clusters" in line for line in lines)


def test_infills_survive_across_runs(settle: Any, spy: Any) -> None:
    go(settle())
    counts = spy.asked["generate"]
    go(settle("seed=5", "limit=5", "scoring=letter", out="other"))
    assert spy.asked["generate"] == counts > 0


def test_a_members_own_prefix_is_another_request(settle: Any, spy: Any) -> None:
    first = go(settle("arms=[baseline]", "frames=2", "scoring=letter"))
    own = "pair.video.answer_prefix='</think>\\n'"
    second = go(settle("arms=[baseline]", "frames=2", "scoring=letter", own, out="second"))
    keys = [
        {role: {r.key for r in one.records if r.role == role} for role in ("image", "video")}
        for one in (first, second)
    ]
    assert keys[0]["image"] == keys[1]["image"]
    assert not keys[0]["video"] & keys[1]["video"]
    manifest = json.loads((second.out / "manifest.json").read_text())
    assert manifest["config"]["pair"]["members"][1]["answer_prefix"] == "</think>\n"


def test_ties_are_drawn_alike_for_equal_requests_and_counted(
    settle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.engine import context
    from probes.models.scripted import ScriptedBackend

    def tied(prompt: Any) -> Output:
        if not prompt.options:
            return Output(text="it moves")
        scores = [math.log(0.1)] * len(prompt.options)
        return Output(tuple(scores), (1,) * len(scores))

    monkeypatch.setattr(
        context, "open_backend", lambda cfg, spec: ScriptedBackend(tied, name=spec.name)
    )
    words = ("arms=[baseline,vcot]", "frames=2", "scoring=letter")
    result = go(settle(*words))
    assert {(r.tied, round(r.letter_mass, 6)) for r in result.records} == {(True, 0.5)}
    chosen = {(r.item_id, r.stimulus_sha): r.choice for r in result.records}
    assert all(chosen[r.item_id, r.stimulus_sha] == r.choice for r in result.records)
    assert len(set(chosen.values())) > 2  # none of the options wins all ties
    again = go(settle(*words, "seed=1", out="other"))
    others = {(r.item_id, r.stimulus_sha): r.choice for r in again.records}
    assert others != {key: chosen.get(key) for key in others}
    manifest = json.loads((result.out / "manifest.json").read_text())
    count = len(result.records) // 2
    assert manifest["scored"]["tiny-image"] == {
        "answers": count,
        "tied": count,
        "bounded": 0,
        "letter_mass": 0.5,
    }
    assert manifest["notes"][0].startswith(f"ties: {count} of {count} answers of image")


def test_a_prefix_that_a_backend_cannot_write_is_refused_before_anything(
    settle: Any, spy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.models.base import Capabilities

    can = Capabilities(answer_prefix=False)
    monkeypatch.setattr(spy, "capabilities", lambda self: can)
    with pytest.raises(ProbesError, match="begin with a given text"):
        go(settle("pair.image.answer_prefix=Answer", "scoring=letter"))
    assert not spy.loaded
