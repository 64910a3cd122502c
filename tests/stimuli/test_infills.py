import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.core.errors import ProbesError
from probes.core.replies import THINKING
from probes.core.types import (
    Clip,
    ClipKey,
    FrameRef,
    Infill,
    Item,
    ItemKey,
    Output,
    Request,
    Video,
)
from probes.stimuli import infill_file, infills, templates, words

quick = settings(max_examples=40, deadline=None)


@dataclass(frozen=True)
class Prompts:
    name: str = "plain"
    between: str = "{infill}"
    common: str = "{frame_a}|{frame_b}|common?"
    event: str = "{frame_a}|{frame_b}|{common}|event?"
    condense: str = "{text}|short?"
    letter: str = ""
    cloze: str = ""
    generate: str = ""


PROMPTS = Prompts()
FIRST, SECOND = ("f0", "f1"), ("f1", "f2")


def clip(*hashes: str) -> Clip:
    return Clip(tuple(range(len(hashes))), tuple(map(float, range(len(hashes)))), hashes)


def shown(prompt: Request) -> str:
    return "".join(f"[{p.sha256}]" if isinstance(p, FrameRef) else p for p in prompt.parts)


class Scripted:
    """Answers by function of the shown text, and keeps every pass that it was asked."""

    def __init__(self, answer=lambda text: f" {text}\n\t said "):
        self.answer, self.passes, self.limits = answer, [], []

    def __call__(self, prompts, max_new_tokens):
        self.passes.append([shown(prompt) for prompt in prompts])
        self.limits.append(max_new_tokens)
        replies = [self.answer(shown(prompt)) for prompt in prompts]
        return [r if isinstance(r, Output) else Output(text=r) for r in replies]


def written(pairs, generate, condense=None):
    found = infills.write(pairs, generate, PROMPTS, generator="G", max_new_tokens=9)
    return infills.condensed(found, condense, PROMPTS, max_new_tokens=9) if condense else found


def test_two_steps_each_shown_both_frames_in_whole_passes():
    model = Scripted(lambda text: "same" if "common?" in text else "moved")
    found = written([FIRST, SECOND], model)
    assert model.passes == [
        ["[f0]|[f1]|common?", "[f1]|[f2]|common?"],
        ["[f0]|[f1]|same|event?", "[f1]|[f2]|same|event?"],
    ]
    assert model.limits == [9, 9]
    assert found == {p: Infill("moved", "same", "moved", "G") for p in (FIRST, SECOND)}


def test_condensing_is_a_third_pass_of_text_only_and_equal_texts_are_asked_once():
    model = Scripted(lambda text: "same" if "common?" in text else "a long story")
    short = Scripted(lambda text: "story")
    found = written([FIRST, SECOND], model, short)
    assert short.passes == [["a long story|short?"]]
    assert found[SECOND] == Infill("story", "same", "a long story", "G")


def test_pairs_are_written_once_and_identical_frames_are_asked_about_too():
    model = Scripted()
    found = written([FIRST, ("f0", "f0"), FIRST], model)
    assert list(found) == [FIRST, ("f0", "f0")]
    assert model.passes[0] == ["[f0]|[f1]|common?", "[f0]|[f0]|common?"]


def test_white_space_is_tidied_and_nothing_else():
    model = Scripted(lambda text: "\n ** It\u2028 moves;\t\tthen stops. \n")
    assert written([FIRST], model)[FIRST].text == "** It moves; then stops."


@pytest.mark.parametrize("step", ["common", "event", "condense"])
@pytest.mark.parametrize(
    ("reply", "said"),
    [(Output(status="error", error="too hot"), "too hot"), (" \n ", "the reply is empty")],
)
def test_a_failed_step_leaves_no_text_and_its_pair_is_asked_nothing_more(step, reply, said):
    def answer(text):
        mark = {"common": "common?", "event": "event?", "condense": "short?"}[step]
        return reply if mark in text and ("f0" in text) else f"{text.replace('|short?', '')}x"

    model, short = Scripted(answer), Scripted(answer)
    found = written([FIRST, ("g0", "g1")], model, short)
    bad = found[FIRST]
    assert (bad.ok, bad.text, bad.error) == (False, "", f"{step}: {said}")
    assert bool(bad.common) == (step != "common")
    assert bool(bad.event) == (step == "condense")
    assert found["g0", "g1"].ok and found["g0", "g1"].text
    asked = [len(p) for p in model.passes + short.passes]
    assert asked == {"common": [2, 1, 1], "event": [2, 2, 1], "condense": [2, 2, 2]}[step]


def test_a_thought_is_no_part_of_an_infill_and_a_text_that_was_cut_off_is_one():
    thinks = Scripted(lambda text: "<think>a cup?</think>\n\nhe drinks")
    assert written([FIRST], thinks)[FIRST].text == "he drinks"
    assert "he drinks" in thinks.passes[1][0] and "a cup?" not in thinks.passes[1][0]
    unfinished = written([FIRST], Scripted(lambda text: "<think>a cup?"))[FIRST]
    assert (unfinished.text, unfinished.status) == ("", "empty")
    assert unfinished.error == f"common: {THINKING}"
    cut = Scripted(lambda text: Output(text="he drinks from", cut_off=True))
    assert written([FIRST], cut)[FIRST].text == "he drinks from"


def test_no_model_is_asked_where_nothing_is_left_to_ask():
    model, short = Scripted(lambda text: ""), Scripted()
    assert written([], model) == {}
    assert model.passes == []
    assert not written([FIRST], model, short)[FIRST].ok
    assert len(model.passes) == 1 and short.passes == []


def test_pairs_and_of_follow_the_clip():
    clips = [clip("f0", "f1", "f2"), clip("f1", "f2"), clip("f0"), clip()]
    assert infills.pairs(clips) == [FIRST, SECOND]
    found = written(infills.pairs(clips), Scripted())
    assert infills.of(clips[0], found) == (found[FIRST], found[SECOND])
    assert infills.of(clips[2], found) == ()
    with pytest.raises(KeyError):
        infills.of(clip("f2", "f0"), found)


def test_generator_fingerprint_covers_what_the_text_depends_on_and_no_more():
    def print_of(prompts=PROMPTS, model="m", condenser="", limit=9):
        return infills.generator_fingerprint(
            model, prompts, condenser=condenser, max_new_tokens=limit
        )

    assert print_of() == print_of(replace(PROMPTS, name="n", letter="x", condense="unused"))
    different = {
        print_of(),
        print_of(model="n"),
        print_of(condenser="c"),
        print_of(limit=8),
        print_of(replace(PROMPTS, common="x")),
        print_of(replace(PROMPTS, event="x")),
        print_of(replace(PROMPTS, condense="x"), condenser="c"),
    }
    assert len(different) == 7


@pytest.mark.parametrize(
    ("template", "values", "said"),
    [
        ("{frame_a}", {"frame_a": ["x"], "frame_b": ["y"]}, "has no {frame_b}"),
        ("{infill}{question}", {"infill": ["x"]}, "holds {question}"),
    ],
)
def test_a_template_has_exactly_its_placeholders(template, values, said):
    with pytest.raises(ProbesError) as caught:
        templates.fill(template, values)
    assert said in str(caught.value) and repr(template) in str(caught.value)


def test_fill_keeps_other_braces_and_inserts_in_one_pass():
    found = templates.fill("{} {x} {{text}}", {"text": ["{text}", FrameRef("f"), "", "b"]})
    assert found == ("{} {x} {{text}", FrameRef("f"), "b}")


ITEM = Item(
    "i",
    "t",
    "?",
    ("The cup  moves.", "red", "It's 3.5 m", "It's 35 m", "?!"),
    0,
    Video(Path("v")),
)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["First the CUP, the cup\nmoves, then stops"], [0]),
        (["the cup", "moves"], []),
        (["It is coloured, and covered"], []),
        (["It turns Red."], [1]),
        (["it's 3.5 M wide"], [2]),
        (["red", "The cup moves"], [0, 1]),
        (["?!"], []),
        ([], []),
    ],
)
def test_leaks(texts, expected):
    assert words.leaks(texts, ITEM) == expected


@quick
@given(st.integers(-1, 200), st.integers(0, 9), st.text(max_size=5))
def test_filler_has_exactly_the_words_asked_for(count, seed, salt):
    text = words.filler(count, seed, salt, 3)
    assert len(text.split()) == max(count, 0)
    assert text == words.filler(count, seed, salt, 3)


def test_filler_varies_with_its_key():
    assert len({words.filler(30, seed, "i", gap) for seed in range(3) for gap in range(3)}) > 3


# ---- infills from a file

FIRST_CLIP, SECOND_CLIP = ClipKey("t", "i", 3), ClipKey("t", "j", 2)
CLIPS = {FIRST_CLIP: clip("f0", "f1", "f2"), SECOND_CLIP: clip("f0", "f2")}
KNOWN = {ItemKey("t", name) for name in "ijk"}
ROWS = [
    {"item_id": "i", "frames": 3, "gap": 0, "text": "one"},
    {"item_id": "i", "frames": 3, "gap": 1, "text": " two\n words "},
    {"item_id": "j", "frames": 2, "gap": 0, "text": ""},
]


def file_of(folder, rows):
    path = folder / "infills.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_load_file_reads_handwritten_rows(tmp_path):
    aside = [
        "",
        {"item_id": "k", "frames": 4, "gap": 2, "text": "of an item that is not planned"},
        {"item_id": "i", "frames": 9, "gap": 2, "text": "nor is this number of frames"},
    ]
    (found,) = infill_file.load_file(file_of(tmp_path, ROWS + aside), CLIPS, KNOWN)
    assert found == {
        FIRST_CLIP: (Infill("one", "", "", "file"), Infill("two words", "", "", "file")),
        SECOND_CLIP: (Infill("", "", "", "file", status="empty"),),
    }


tidied = st.text(max_size=30).map(infills.tidy)
some_infills = st.builds(
    lambda text, common, event, generator, status, error: Infill(
        text, common, event, generator, "ok" if text else status, error
    ),
    tidied,
    tidied,
    tidied,
    st.text(max_size=9),
    st.sampled_from(("empty", "failed")),
    st.text(max_size=9),
)


def rows_of(clip_key, given_infills):
    """Rows in the file's form with all of its fields, as they come from infills.parquet."""
    for gap, ((a, b), one) in enumerate(
        zip(pairwise(CLIPS[clip_key].hashes), given_infills, strict=True)
    ):
        place = {"item_id": clip_key.item_id, "frames": clip_key.frames, "gap": gap}
        yield place | {"frame_a": a, "frame_b": b} | asdict(one)


@quick
@given(st.lists(some_infills, min_size=3, max_size=3))
def test_a_file_of_infills_gives_the_same(tmp_path_factory, three):
    infills_by_clip = {FIRST_CLIP: tuple(three[:2]), SECOND_CLIP: (three[2],)}
    rows = [row for key, some in infills_by_clip.items() for row in rows_of(key, some)]
    path = file_of(tmp_path_factory.mktemp("round"), rows)
    assert infill_file.load_file(path, CLIPS, KNOWN) == [infills_by_clip]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("", "empty"),
        ("event: the reply is empty", "empty"),
        ("event: the server says: the reply is empty", "failed"),
        ("common: out of memory", "failed"),
    ],
)
def test_a_file_without_status_has_what_its_errors_mean(tmp_path, error, status):
    (row,) = rows_of(SECOND_CLIP, [Infill("", "", "", "g", "empty", error)])
    del row["status"]
    path = file_of(tmp_path, [row])
    (draw,) = infill_file.load_file(path, {SECOND_CLIP: CLIPS[SECOND_CLIP]}, KNOWN)
    (found,) = draw[SECOND_CLIP]
    assert (found.status, found.error) == (status, error)


def row(**changes):
    return ROWS[0] | changes


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*ROWS, row(item_id="ii")], ["unknown item 'ii'", "line 4", "did you mean i?"]),
        ([*ROWS, row(item_id="zzz")], ["unknown item 'zzz'", "ids of the task's items"]),
        ([row(gap=2), *ROWS], ["gap 2 is not among", "line 1"]),
        ([row(gap=-1), *ROWS], ["gap -1 is not among", "line 1"]),
        ([*ROWS, row()], ["given twice", "line 4", "line 1"]),
        ([ROWS[0], ROWS[2]], ["1 infills are missing: i (3 frames, gap 1)"]),
        ([], ["3 infills are missing"]),
        ([row(frame_a="f9"), *ROWS[1:]], ["frame_a is not the frame", "line 1"]),
        ([row(frame_b="f9"), *ROWS[1:]], ["frame_b is not the frame", "line 1"]),
        (["", "{oops"], ["not JSON", "line 2"]),
        (["[" * 100_000], ["not JSON", "line 1"]),
        (["[1]"], ["not a JSON object"]),
        ([{"item_id": "i", "frames": 3, "gap": 0}], ["'text' is missing"]),
        ([row(frames="3")], ["'frames' is not of type int"]),
        ([row(draw=-1), *ROWS], ["there is no draw -1", "line 1"]),
        ([*ROWS, row(draw=1), row(draw=1)], ["given twice", "(draw 1)", "line 5", "line 4"]),
        ([row(gap=True)], ["'gap' is not of type int"]),
        ([row(txt="x")], ["unknown field 'txt'", "fields are item_id"]),
    ],
)
def test_load_file_says_what_is_wrong_and_where(tmp_path, rows, said):
    path = file_of(tmp_path, rows)
    with pytest.raises(ProbesError) as caught:
        infill_file.load_file(path, CLIPS, KNOWN)
    for text in [*said, str(path)]:
        assert text in str(caught.value)


def test_load_file_of_no_file_or_no_text(tmp_path):
    with pytest.raises(ProbesError, match="cannot be read"):
        infill_file.load_file(tmp_path / "none", CLIPS, set())
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProbesError, match="not UTF-8"):
        infill_file.load_file(tmp_path / "b", CLIPS, set())


# ---- items of several tasks in one file

SEVERAL = {ItemKey("t", "i"), ItemKey("u", "i"), ItemKey("u", "only")}
OTHER_CLIP = ClipKey("u", "i", 3)


def test_lines_of_several_tasks_go_to_their_own_clips(tmp_path):
    clips = {FIRST_CLIP: CLIPS[FIRST_CLIP], OTHER_CLIP: clip("g0", "g1", "g2")}
    clips[ClipKey("u", "only", 2)] = clip("g0", "g9")
    rows = [
        {"item_id": "i", "task": task, "frames": 3, "gap": gap, "text": f"{task}{gap}"}
        for gap in (1, 0)
        for task in "ut"
    ]
    rows.append({"item_id": "only", "frames": 2, "gap": 0, "text": "needs no task"})
    (found,) = infill_file.load_file(file_of(tmp_path, rows), clips, SEVERAL)
    assert {key: [one.text for one in some] for key, some in found.items()} == {
        FIRST_CLIP: ["t0", "t1"],
        OTHER_CLIP: ["u0", "u1"],
        ClipKey("u", "only", 2): ["needs no task"],
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ["item 'i' is one of each of the tasks t, u", "line 2", 'add the field "task"']),
        ({"task": "v"}, ["task 'v' has no item 'i'", "line 2", "use one of t, u"]),
        ({"task": "t", "item_id": "only"}, ["task 't' has no item 'only'", "use one of u"]),
        ({"task": 3}, ["'task' is not of type str", "line 2"]),
        ({"task": "u", "frame_a": "f0"}, ["frame_a is not the frame", "line 2"]),
        ({"task": "u"}, ["1 infills are missing: i of task u (3 frames, gap 1)"]),
    ],
)
def test_a_line_that_could_be_of_two_tasks_is_refused(tmp_path, changes, said):
    path = file_of(tmp_path, [{**row(gap=0), "task": "t"}, {**row(), **changes}])
    with pytest.raises(ProbesError) as caught:
        infill_file.load_file(path, {OTHER_CLIP: clip("g0", "g1", "g2")}, SEVERAL)
    for text in said:
        assert text in str(caught.value)
