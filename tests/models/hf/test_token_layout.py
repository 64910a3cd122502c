"""Tokenized prompts: a place for every token of every frame, or why a prompt cannot be asked."""

import re

import pytest

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Request, ScoringSpec
from probes.models.base import Unaskable, frames_of
from probes.models.hf.prompt_encoder import FRAME, PromptTokens
from probes.models.hf.token_layout import TokenizedPrompt, marked, positions, tokenize

LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
GRIDS = {"x": (2,), "y": (3,)}


@pytest.fixture(scope="module")
def tokens(new_tokenizer):
    return PromptTokens(new_tokenizer(chat_template=None), "<video>")


def tokenized(tokens, prompt, scoring, context=100):
    (made,) = tokenize(tokens, [prompt], GRIDS, scoring, context)
    return made


def test_a_frame_takes_as_many_places_as_it_has_features(tokens):
    prompt = Request((FrameRef("y"), " the", FrameRef("x"), FrameRef("y"), " box"), ("A", "B"))
    made = tokenized(tokens, prompt, LETTER)
    the, box, a, b = tokens._tokenizer.convert_tokens_to_ids(["▁the", "▁box", "▁A", "▁B"])
    start = tokens._tokenizer.bos_token_id
    expected = (start, *[FRAME] * 3, the, *[FRAME] * 5, box)
    assert made == TokenizedPrompt(expected, ("y", "x", "y"), ((3,), (2,), (3,)), ((a,), (b,)))
    assert made.frames == frames_of(prompt)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (Request((" the",)), "no options to score by cloze"),
        (Request((" the\n",), ("",)), "adds no token"),
        (Request((" the" * 98,), ("red", "red box")), "99 tokens and 2 more exceed .* 100 tokens"),
    ],
)
def test_reasons_why_a_prompt_cannot_be_asked(tokens, prompt, reason):
    found = tokenized(tokens, prompt, CLOZE)
    assert isinstance(found, Unaskable)
    assert re.search(reason, found.reason)


def test_the_context_holds_what_is_written(tokens):
    prompt = Request((" the" * 94,))
    short, long = (
        tokenized(tokens, prompt, ScoringSpec("generate", max_new_tokens=count)) for count in (5, 6)
    )
    assert isinstance(short, TokenizedPrompt)
    assert long.reason.startswith("prompt of 95 tokens and 6 more")


def test_letters_are_checked_per_prompt(tokens):
    with pytest.raises(ProbesError, match=r"one token of its own: 'A' .*'the box'"):
        tokenized(tokens, Request((" the",), ("A", "the box")), LETTER)


def test_letters_that_can_be_written_in_two_ways_keep_the_order_of_options(new_tokenizer):
    tokenizer = new_tokenizer(chat_template=None, scheme="never")
    ids = {letter: tokenizer.convert_tokens_to_ids([letter, f"▁{letter}"]) for letter in "ABC"}
    for options in ("ABC", "CAB", "B"):
        # A text whose end merges with a letter: nothing of the letter is within the prompt.
        made = tokenized(
            PromptTokens(tokenizer, "<video>"), Request((" the ",), (*options,)), LETTER
        )
        assert tokenizer.convert_ids_to_tokens(made.ids)[-1] == "▁"
        assert made.answers == tuple((ids[one][0],) for one in options)
        assert made.alternatives == tuple((ids[one][1],) for one in options)


def test_positions_of_text_and_of_frames_without_rows_count_on():
    prompt = TokenizedPrompt((1, FRAME, FRAME, 5, 6), ("x",), ((2,),))
    assert positions(prompt).tolist() == [[0, 1, 2, 3, 4]]
    assert positions(TokenizedPrompt((1, 2), ())).tolist() == [[0, 1]]


def test_a_frame_with_rows_is_at_one_time_and_text_goes_on_behind_its_longer_side():
    ids = (7, *[FRAME] * 6, 8, *[FRAME] * 2, *[FRAME] * 2, 9)
    prompt = TokenizedPrompt(ids, ("y", "x", "z"), ((2, 3), (2, 1), (1, 2)))
    time, height, width = positions(prompt).tolist()
    assert time == [0, *[1] * 6, 4, 5, 5, 7, 7, 9]
    assert height == [0, 1, 1, 1, 2, 2, 2, 4, 5, 6, 7, 7, 9]
    assert width == [0, 1, 2, 3, 1, 2, 3, 4, 5, 5, 7, 8, 9]


def test_frames_are_marked_for_people():
    prompt = Request((FrameRef("a" * 64), "then", FrameRef("b" * 64)))
    text = "USER: <video>then<video> ASSISTANT:"
    assert (
        marked(text, "<video>", prompt) == "USER: <frame aaaaaaaa>then<frame bbbbbbbb> ASSISTANT:"
    )
