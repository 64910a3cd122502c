"""Spans: the tokens of a frame, an infill, the question, an option; in every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Request, ScoringSpec, TextSpan
from probes.models.hf.prefix_packing import pack, packed_batch
from probes.models.hf.prompt_encoder import BREAK, FRAME, PromptTokens
from probes.models.hf.spans import Span
from probes.models.hf.token_layout import TokenizedPrompt, tokenize

LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
GENERATE = ScoringSpec("generate", max_new_tokens=2)
CASES = [(name, way) for name in tiny_models.FAMILIES for way in ("video", "image")]
GRIDS = {"x": (2,), "y": (3,)}


@pytest.fixture(scope="module")
def tokenizer(new_tokenizer: Callable[..., Any]) -> Any:
    return new_tokenizer(chat_template=None)


def made(tokens: PromptTokens, request: Request, scoring: ScoringSpec = GENERATE) -> Any:
    (found,) = tokenize(tokens, [request], GRIDS, scoring, 1024)
    return found


def by_name(prompt: TokenizedPrompt) -> dict[str, list[int]]:
    """Tokens of every span; a name that occurs twice has those of both."""
    out: dict[str, list[int]] = {}
    for name, start, stop in prompt.spans:
        out.setdefault(name, []).extend(range(start, stop))
    return out


def texts(tokenizer: Any, prompt: TokenizedPrompt) -> dict[str, str]:
    return {
        name: " ".join(tokenizer.convert_ids_to_tokens([max(0, prompt.ids[at]) for at in places]))
        for name, places in by_name(prompt).items()
    }


def test_every_part_has_its_tokens(tokenizer: Any) -> None:
    tokens = PromptTokens(tokenizer, "<video>")
    request = Request(
        (FrameRef("y"), " a hand moves ", FrameRef("x"), " what happens?\nA. box"),
        spans=(
            TextSpan("frame 0", 0),
            TextSpan("infill 0", 1, 3, 13),
            TextSpan("frame 1", 2),
            TextSpan("question", 3, 1, 14),
            TextSpan("options", 3, 15, 21),
            TextSpan("option 0", 3, 18, 21),
        ),
    )
    prompt = made(tokens, request, ScoringSpec("generate", 2, answer_prefix="the answer"))
    assert prompt.ids[1:4] == (FRAME,) * 3  # behind the start token
    assert prompt.spans[:3] == (
        Span("frame 0", 1, 4),
        Span("infill 0", 5, 7),
        Span("frame 1", 8, 10),
    )
    found = texts(tokenizer, prompt)
    assert found["infill 0"] == "▁hand ▁moves"
    # The word has no token of its own: all of its letters are in the span.
    assert found["question"] == "▁what ▁happens ?"
    assert found["options"].startswith("A . ▁box")
    assert found["option 0"] == "▁box"
    assert found["answer prefix"] == "▁the ▁answer"
    assert found["last"] == "▁answer"
    assert prompt.spans[-1] == Span("last", len(prompt.ids) - 1, len(prompt.ids))


def test_pictures_are_frames_where_nothing_names_them(tokenizer: Any) -> None:
    tokens = PromptTokens(tokenizer, "<video>")
    bare = made(tokens, Request((FrameRef("x"), " then", FrameRef("y"), " what")))
    assert by_name(bare)["frame 0"] == [1, 2]
    assert by_name(bare)["frame 1"] == [4, 5, 6]
    named = made(
        tokens,
        Request(
            (FrameRef("x"), " A.", FrameRef("y")), spans=(TextSpan("option 0", 2), TextSpan("?", 1))
        ),
    )
    assert set(by_name(named)) == {"option 0", "last"}  # no text span of no characters


def test_a_name_over_several_parts_has_a_span_in_each(tokenizer: Any) -> None:
    tokens = PromptTokens(tokenizer, "<video>")
    spans = (TextSpan("options", 0, 0, 4), TextSpan("options", 1), TextSpan("options", 2, 1, 4))
    prompt = made(tokens, Request((" the", FrameRef("x"), " red box"), spans=spans))
    assert [span[1:] for span in prompt.spans if span.name == "options"] == [(1, 2), (2, 4), (4, 5)]


def test_a_broken_special_token_shifts_what_follows(tokenizer: Any) -> None:
    tokens = PromptTokens(tokenizer, "<video>")
    # One special token goes over two parts; a span begins and ends right at a break.
    request = Request(
        ("a </s> red <vid", "eo> blue</s>"),
        spans=(
            TextSpan("infill 0", 0, 7, 10),
            TextSpan("infill 1", 1, 4, 8),
            TextSpan("end", 1, 8, 12),
        ),
    )
    prompt = made(tokens, request)
    text = tokens.render(request)
    assert text.count(BREAK) == 3
    found = texts(tokenizer, prompt)
    assert found["infill 0"] == "▁red"
    assert found["infill 1"] == "▁blue"
    first = prompt.ids.index(tokenizer.convert_tokens_to_ids("▁blue")) + 1
    assert by_name(prompt)["end"] == list(range(first, len(prompt.ids)))


def test_a_span_that_begins_or_ends_at_a_break(tokenizer: Any) -> None:
    """The zero-width space behind the first character belongs to neither side."""
    tokens = PromptTokens(tokenizer, "<video>")
    spans = (TextSpan("before", 0, 0, 3), TextSpan("v", 0, 3, 4), TextSpan("vi", 0, 3, 5))
    found = texts(tokenizer, made(tokens, Request(("a <video> b",), spans=spans)))
    assert found == {"before": "▁a ▁ <", "v": "v", "vi": "v i", "last": "b"}


def test_what_a_family_writes_around_a_frame_is_not_the_frame(tokenizer: Any) -> None:
    tokens = PromptTokens(tokenizer, "<video>", before="Frame1: <image>", after="</s>")
    prompt = made(tokens, Request((FrameRef("x"), " and", FrameRef("y"), " what")))
    for name in ("frame 0", "frame 1"):
        assert {prompt.ids[at] for at in by_name(prompt)[name]} == {FRAME}
    assert len(by_name(prompt)["frame 1"]) == 3


def test_a_merged_end_leaves_the_spans(tokenizer: Any) -> None:
    """The end of the question merges with the beginning of an answer: it is not in the prompt."""
    tokens = PromptTokens(tokenizer, "<video>")
    spans = (TextSpan("question", 0, 0, 8), TextSpan("end", 0, 7, 8))
    request = Request(("the box ",), ("red", "zzz"), spans=spans)
    prompt = made(tokens, request, CLOZE)
    assert texts(tokenizer, prompt) == {"question": "▁the ▁box", "last": "▁box"}
    whole = made(tokens, Request(request.parts, spans=spans))
    assert texts(tokenizer, whole) == {"question": "▁the ▁box ▁", "end": "▁", "last": "▁"}


TEXTS = st.text(st.sampled_from("ab é世😀<>/s\n hand"), max_size=12)


@pytest.mark.parametrize("kind", ["unigram", "bytes"])
def test_every_token_that_overlaps_belongs_to_a_span(kind: str, new_tokenizer: Any) -> None:
    """Characters are found again among those of the whole text, tokenized in one go."""
    tokenizer = (
        new_tokenizer(chat_template=None)
        if kind == "unigram"
        else tiny_models.byte_tokenizer(("<video>",), "")
    )
    tokenizer.chat_template = None
    tokens = PromptTokens(tokenizer, "<video>")
    start = len(tokens._start)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.one_of(TEXTS, st.sampled_from([FrameRef("x")])), min_size=1, max_size=6))
    def check(parts: list[Any]) -> None:
        named = [(n, part) for n, part in enumerate(parts) if isinstance(part, str) and part]
        spans = tuple(TextSpan(f"part {n}", n, 0, len(part)) for n, part in named)
        prompt = made(tokens, Request(tuple(parts), spans=spans))
        if not isinstance(prompt, TokenizedPrompt):
            return
        text = tokens.render(Request(tuple(parts)))
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        # A frame has two tokens, its placeholder one.
        owners: list[list[int]] = []
        for token, (a, b) in zip(whole["input_ids"], whole["offset_mapping"], strict=True):
            owners += [[a, b]] * (2 if token == tokens._placeholder_id else 1)
        assert len(prompt.ids) == start + len(owners)
        # Plain characters keep their order: count them through the text, breaks aside.
        place, ranges = 0, []
        for part in parts:
            shown = "<video>" if isinstance(part, FrameRef) else part
            first = place
            for number, character in enumerate(shown):
                place += text[place] == BREAK
                first = first if number else place
                assert text[place] == character
                place += 1
            ranges.append((first, place))
        for n, _ in named:
            begin, end = ranges[n]
            overlap = [start + t for t, (a, b) in enumerate(owners) if a < end and b > begin]
            expected = list(range(overlap[0], overlap[-1] + 1)) if overlap else []
            assert by_name(prompt).get(f"part {n}", []) == expected

    check()


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_spans_in_every_family(
    case: tuple[str, str], tmp_path_factory: Any, open_hf: Any, frames: dict[str, np.ndarray]
) -> None:
    """Under the family's own template, grids and words around a frame."""
    name, way = case
    folder = tiny_models.FAMILIES[name](tmp_path_factory.mktemp("spans") / name)
    reader = open_hf(folder, spec={"frame_as": way}).preprocessor()
    names = list(frames)
    parts = (
        *(FrameRef(names[0]), "\nIn between: the cup opens.\n", FrameRef(names[-1])),
        *(FrameRef(names[1]), " what happens first?\nA. red\nB. the blue cup"),
    )
    question, options = parts[-1].index("what"), parts[-1].index("A.")
    spans = (
        TextSpan("infill 0", 1, 13, 27),
        TextSpan("question", 4, question, options - 1),
        TextSpan("option 1", 4, parts[-1].index("the blue"), len(parts[-1])),
    )
    asked = [Request(parts, tuple("AB"), spans=spans), Request(parts[1:2], tuple("AB"))]
    for scoring in (LETTER, CLOZE, GENERATE):
        (_, prompt), (_, bare) = reader.tokenize(asked, frames, scoring)
        assert [span.name for span in bare.spans] == ["last"]
        found = by_name(prompt)
        sizes = [int(np.prod(grid)) for grid in prompt.grids]
        each = [found[f"frame {t}"] for t in range(3)]
        assert [len(places) for places in each] == sizes
        assert sorted(at for places in each for at in places) == [
            at for at, token in enumerate(prompt.ids) if token == FRAME
        ]
        decode = reader.tokens._tokenizer.decode
        shown = {
            name: decode([prompt.ids[at] for at in places if prompt.ids[at] >= 0]).strip()
            for name, places in found.items()
        }
        assert shown["infill 0"] == "the cup opens."
        assert shown["question"].startswith("what happens first?")
        assert "the blue cup" in shown["option 1"]
        assert found["last"] == [len(prompt.ids) - 1]


def test_a_template_that_strips_a_text(new_tokenizer: Any) -> None:
    template = "{% for m in messages %}[{{ m['content'] | trim }}]{% endfor %} the box:"
    tokenizer = new_tokenizer(chat_template=template)
    tokens = PromptTokens(tokenizer, "<video>")
    for text in (" the box ", "the box", "  the box"):
        first = text.index("box")
        prompt = made(tokens, Request((text,), spans=(TextSpan("question", 0, first, first + 3),)))
        assert texts(tokenizer, prompt)["question"] == "▁box"
        assert by_name(prompt)["question"][0] < len(prompt.ids) - 4  # not the template's own


@pytest.mark.parametrize(
    ("fast", "template", "reason"),
    [
        (False, None, "slow tokenizer"),
        (True, "{{ messages[0]['content'] | replace('box', 'cup') }}", "template changes them"),
    ],
    ids=["slow", "template"],
)
def test_spans_that_cannot_be_known_are_refused_where_they_are_asked_for(
    fast: bool, template: str | None, reason: str, new_tokenizer: Any, monkeypatch: Any
) -> None:
    tokenizer = new_tokenizer(chat_template=template)
    monkeypatch.setattr(type(tokenizer), "is_fast", fast)
    prompt = made(PromptTokens(tokenizer, "<video>"), Request(("the box",)))
    assert len(prompt.ids) == 3
    with pytest.raises(ProbesError, match=reason) as caught:
        _ = prompt.spans
    assert "interventions" in caught.value.fix


def test_spans_survive_packing(tokenizer: Any) -> None:
    """A packed sequence has, at the places of every span of every prompt, the prompt's own ids."""
    tokens = PromptTokens(tokenizer, "<video>")
    clip = (FrameRef("x"), " a hand moves the red cup ", FrameRef("y"))
    asked = ("what is first ?", "what happens between the frames ?", "a box ?")
    requests = [
        Request(
            (*clip, text),
            ("the red box", "blue"),
            spans=(TextSpan("infill 0", 1, 1, 25), TextSpan("question", 3, 0, len(text))),
        )
        for text in asked
    ]
    prompts = [made(tokens, request, CLOZE) for request in requests]
    (one,) = pack(prompts, 999)
    batch = packed_batch([one])
    assert len(batch.ids_BT[0]) < sum(len(prompt.ids) for prompt in prompts)
    for index, place in zip(one.indices, batch.places, strict=True):
        prompt = prompts[index]
        assert {span.name for span in prompt.spans} >= {
            "frame 0",
            "frame 1",
            "infill 0",
            "question",
        }
        for _, start, stop in prompt.spans:
            packed = batch.ids_BT[place.prompt.row, place.prompt.at[start:stop]]
            assert tuple(packed) == prompt.ids[start:stop]
