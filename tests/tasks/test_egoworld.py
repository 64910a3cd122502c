"""The small world: its rules, its questions, and the folder that `probes data egoworld` makes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.tasks.egoworld import generate
from probes.tasks.egoworld.draw import Painter
from probes.tasks.egoworld.film import sample_times, shoot
from probes.tasks.egoworld.generate import ClipSettings
from probes.tasks.egoworld.questions import OPTIONS, TYPES, ask
from probes.tasks.egoworld.world import (
    AWAY,
    PLACES,
    THINGS,
    Event,
    State,
    Story,
    draw_story,
    load_world,
    possible,
    split_of,
    states,
)

WORLD = load_world()


def stories(count: int, split: str = "training", seed: int = 0) -> list[Story]:
    rng = np.random.default_rng(seed)
    return [draw_story(WORLD, rng, split) for _ in range(count)]


def test_stories_are_legal() -> None:
    for story in stories(300):
        assert WORLD.events[0] <= len(story.events) <= WORLD.events[1]
        assert list(story.gaps) == sorted(set(story.gaps))
        assert set(story.gaps) <= set(range(WORLD.gaps))
        for state, event in zip(states(story), story.events, strict=False):
            assert (event.verb, event.thing) in {
                (e.verb, e.thing) for e in possible(state, story.things)
            }
        for state in states(story):
            used = [place for place in state.places if place != AWAY]
            assert len(used) == len(set(used)) >= 1
            assert all(0 <= place < len(PLACES) for place in used)


def test_every_event_changes_what_is_seen() -> None:
    for story in stories(200):
        seen = states(story)
        assert all(before != after for before, after in zip(seen, seen[1:], strict=False))


def test_a_story_belongs_to_one_split_in_any_order_of_its_things() -> None:
    for story in stories(200):
        order = np.random.default_rng(1).permutation(len(story.things))
        turned = replace(
            story,
            things=tuple(story.things[i] for i in order),
            start=State(
                tuple(story.start.places[i] for i in order),
                tuple(story.start.opened[i] for i in order),
            ),
        )
        assert split_of(story) == split_of(turned) == "training"


def test_no_story_is_in_two_splits() -> None:
    found = {split: stories(400, split, seed=3) for split in ("training", "tuning", "evaluation")}
    contents = {split: {json.dumps(s.canonical()) for s in drawn} for split, drawn in found.items()}
    assert not contents["training"] & contents["tuning"]
    assert not contents["training"] & contents["evaluation"]
    assert not contents["tuning"] & contents["evaluation"]
    assert all(split_of(s) == split for split, drawn in found.items() for s in drawn)


def test_questions_have_one_right_option() -> None:
    rng = np.random.default_rng(5)
    asked: Counter[str] = Counter()
    for story in stories(200):
        texts = [event.text() for event in story.events]
        for kind in TYPES:
            question = ask(story, kind, rng)
            if question is None:
                continue
            asked[kind] += 1
            options = question.options(3)
            assert options[3] == question.answer
            assert len(set(options)) == OPTIONS
            # The expected answer follows from the question's words, not from the code that made it.
            if kind in ("first", "last"):
                truth = texts[0] if "first" in question.text else texts[-1]
            else:
                anchor = question.text.split(f"right {kind} ")[1].rstrip("?") + "."
                assert texts.count(anchor) == 1
                at = texts.index(anchor)
                truth = texts[at + 1] if kind == "after" else texts[at - 1]
                assert anchor not in question.wrong
            assert question.answer == truth
            # Distractors share the clip's things; some of them did happen at another time.
            names = [THINGS[thing] for thing in story.things]
            assert all(any(name in option for name in names) for option in options)
            assert sum(option in texts for option in question.wrong) >= 1
    assert all(asked[kind] > 150 for kind in TYPES)


def test_ten_frames_show_more_than_five() -> None:
    rng = np.random.default_rng(2)
    visible = {5: 0, 10: 0}
    for story in stories(200):
        footage = shoot(story, WORLD, rng)
        for count in visible:
            times = sample_times(WORLD.gaps, count)
            between = [footage.events_between(a, b) for a, b in zip(times, times[1:], strict=False)]
            assert [e for events in between for e in events] == list(story.events)
            visible[count] += sum(len(events) == 1 for events in between)
    assert visible[10] == sum(len(s.events) for s in stories(200))
    assert visible[5] < 0.6 * visible[10]


def test_ten_frames_never_catch_the_hand() -> None:
    rng = np.random.default_rng(4)
    painter = Painter(64, 64)
    for story in stories(30):
        footage = shoot(story, WORLD, rng)
        for time in sample_times(WORLD.gaps, 10):
            assert footage.hand_at(time) is None
        moment = footage.moments[0]
        bare = replace(footage, hand=0.0)
        assert (footage.frame(painter, moment) != bare.frame(painter, moment)).any()


def make(folder: Path, workers: int = 2, **settings: object) -> Path:
    chosen = {"videos": 20, "seed": 11, "height": 64, "seconds": 9, **settings}
    generate.make(folder, ClipSettings(**chosen), workers=workers)  # type: ignore[arg-type]
    return folder


def frame_bytes(folder: Path, count: int) -> list[bytes]:
    import av

    out = []
    for path in sorted((folder / "videos").glob("*.mp4"))[:count]:
        with av.open(str(path)) as container:
            out += [f.to_ndarray(format="rgb24").tobytes() for f in container.decode(video=0)]
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("egoworld"))


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = make(tmp_path, workers=1)
    for name in ("questions.json", "subset_answers.json", "uid_to_ego4d.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert frame_bytes(again, 4) == frame_bytes(folder, 4)


def test_another_seed_is_another_data_set(folder: Path, tmp_path: Path) -> None:
    other = make(tmp_path, seed=12)
    uids = {q["q_uid"] for q in json.loads((folder / "questions.json").read_text())}
    assert not uids & {q["q_uid"] for q in json.loads((other / "questions.json").read_text())}


def test_layout_and_balance(folder: Path) -> None:
    questions = json.loads((folder / "questions.json").read_text())
    answers = json.loads((folder / "subset_answers.json").read_text())
    sources = json.loads((folder / "uid_to_ego4d.json").read_text())
    uids = [q["q_uid"] for q in questions]
    assert len(set(uids)) == 20
    assert set(uids) == set(answers) == set(sources)
    assert {p.stem for p in (folder / "videos").iterdir()} == set(uids)
    assert set(Counter(answers.values()).values()) == {4}
    assert set(Counter(q["type"] for q in questions).values()) == {5}
    recordings = Counter(s["video_uid"] for s in sources.values())
    assert 1 < len(recordings) < 20
    assert max(recordings.values()) <= WORLD.clips[1]


def test_planned_stories_are_for_evaluation_and_continue_within_a_recording() -> None:
    clips = list(generate._plan(WORLD, 60, seed=77))
    assert all(split_of(clip.footage.story) == "evaluation" for clip in clips)
    for before, after in zip(clips, clips[1:], strict=False):
        if after.recording == before.recording:
            assert after.footage.story.start == states(before.footage.story)[-1]
            assert after.footage.tone == before.footage.tone
    # A longer data set begins with the shorter one's clips.
    assert [c.uid for c in generate._plan(WORLD, 30, seed=77)] == [c.uid for c in clips[:30]]


def test_wide_clips_keep_the_table_in_the_middle() -> None:
    story = stories(1)[0]
    tone = (100, 100, 100)
    square = Painter(64, 64).frame(story.things, story.start, tone)
    wide = Painter(64, 120).frame(story.things, story.start, tone)
    assert wide.shape == (64, 120, 3)
    assert (wide[:, 28:92] == square).all()
    assert (wide[:, :20] == 100).all()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"videos": 0}, "videos"),
        ({"height": 33}, "height"),
        ({"height": 16}, "height"),
        ({"width": 32}, "width"),
        ({"fps": 0}, "frames per second"),
        ({"seconds": -1}, "seconds"),
    ],
)
def test_impossible_clips_are_refused(
    settings: dict[str, object], word: str, tmp_path: Path
) -> None:
    with pytest.raises(ProbesError, match=word):
        make(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_event_reads_as_a_sentence() -> None:
    assert Event("opens", 0).text() == "c opens the red box."
