"""Placeholders, chat templates, escaped special tokens and continuations."""

import pytest

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Request
from probes.models.hf.prompt_encoder import BREAK, FRAME, PromptTokens, join

STRING_TEMPLATE = "{% for m in messages %}<s>{{ m['role'] + ': ' + m['content'] }}{% endfor %} go:"


@pytest.fixture(scope="module")
def tokenizer(new_tokenizer):
    return new_tokenizer()


@pytest.fixture
def tokens(tokenizer):
    return PromptTokens(tokenizer, "<video>")


def ordinary(tokenizer, text):
    """Ids of the whole text in one go, with FRAME for the placeholder."""
    video = tokenizer.convert_tokens_to_ids("<video>")
    return [FRAME if i == video else i for i in tokenizer(text)["input_ids"]]


@pytest.mark.parametrize(
    ("text", "answer", "joined"),
    [
        ("a:", "B", "a: B"),
        ("a: ", "B", "a: B"),
        ("a\n", "B", "a\nB"),
        ("a", " B", "a B"),
        ("", "B", "B"),
    ],
)
def test_one_white_space_joins(text, answer, joined):
    assert join(text, answer) == joined


def test_frames_stay_between_the_texts(tokens):
    prompt = Request((FrameRef("x"), "then", FrameRef("y"), " what?"))
    assert tokens.render(prompt) == "USER: <video>then<video> what? ASSISTANT:"
    assert tokens.render(prompt, "It is") == "USER: <video>then<video> what? ASSISTANT: It is"


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("template", [None, STRING_TEMPLATE])
def test_pieces_give_the_ids_of_the_whole_text(new_tokenizer, scheme, template):
    tokenizer = new_tokenizer(scheme=scheme, chat_template=template)
    tokens = PromptTokens(tokenizer, "<video>")
    texts = [
        tokens.render(Request(parts))
        for parts in (
            ("the red box",),
            (FrameRef("x"),),
            (FrameRef("x"), FrameRef("y"), " the  cup\n"),
            ("Ünïcode ", FrameRef("x"), " <video> and {braces} </s> ", FrameRef("y"), "\n\nend "),
        )
    ]
    # A template that writes the start token itself gets no second one.
    expected = [
        ids[1:] if template else ids for ids in (ordinary(tokenizer, text) for text in texts)
    ]
    assert tokens.encode(texts) == expected
    assert tokens.encode(texts[::-1]) == expected[::-1]


@pytest.mark.parametrize("strip", [{"lstrip": True}, {"rstrip": True}])
def test_white_space_that_a_placeholder_strips(new_tokenizer, strip):
    from tokenizers import AddedToken

    tokenizer = new_tokenizer(special=("<unk>", "<s>", "</s>", "<pad>", "<image>"))
    tokenizer.add_tokens([AddedToken("<video>", special=True, normalized=False, **strip)])
    text = "the <video> red <video>  box"
    assert PromptTokens(tokenizer, "<video>").encode([text]) == [ordinary(tokenizer, text)]


@pytest.mark.parametrize("token", ["<video>", "<image>", "</s>", "<pad>", "<s>"])
def test_special_tokens_in_texts_are_only_text(tokenizer, tokens, token):
    prompt = Request((FrameRef("x"), f"the {token} box", token[:2], token[2:]))
    text = tokens.render(prompt)
    assert text.count(token) == (token == "<video>")
    assert text.count(token[0] + BREAK + token[1:]) == 2
    (ids,) = tokens.encode([text])
    assert not set(ids[1:]) & set(tokenizer.all_special_ids)
    assert tokens.problem(ids, 1) is None
    (found,) = tokens.continuations([text], [[f"a {token}"]])
    assert not set(found.answers[0]) & set(tokenizer.all_special_ids)


def test_an_answer_prefix_may_have_special_tokens_but_no_picture(tokenizer, tokens):
    text = tokens.render(Request(("the box",)), "</s>\n\n<video>")
    assert text == f"USER: the box ASSISTANT: </s>\n\n<{BREAK}video>"
    (ids,) = tokens.encode([text])
    assert tokenizer.eos_token_id in ids
    assert tokens.problem(ids, 0) is None


def test_text_that_turns_into_a_placeholder_is_noticed(tokenizer, tokens):
    assert "became 2 placeholders" in tokens.problem([FRAME, FRAME], 1)
    video = tokenizer.convert_tokens_to_ids("<video>")
    assert "became 2 placeholders <video>" in tokens.problem([FRAME, video], 1)


def test_answers_continue_the_prompt(tokenizer, tokens):
    text = tokens.render(Request(("what?",)))
    (found,) = tokens.continuations([text], [["A", "the red box"]])
    assert found.ids == ordinary(tokenizer, text)
    for option, answer in zip(["A", "the red box"], found.answers, strict=True):
        assert found.ids + answer == ordinary(tokenizer, f"{text} {option}")
    assert [len(answer) for answer in found.answers] == [1, 3]


def test_a_merged_boundary_is_scored_from_what_is_common(tokenizer, tokens):
    # "▁" ends the prompt, "▁red" and "▁zzz" the joint forms: only "red" takes the space in.
    text = "the box "
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])[-1] == "▁"
    (found,) = tokens.continuations([text], [["red", "zzz"]])
    assert tokenizer.decode(found.ids) == "<s> the box"
    assert found.ids + found.answers[0] == ordinary(tokenizer, "the box red")
    assert found.ids + found.answers[1] == ordinary(tokenizer, "the box zzz")
    (alone,) = tokens.continuations([text], [["zzz"]])
    assert len(alone.ids) == len(found.ids) + 1


def test_an_empty_answer_adds_nothing(tokens):
    (found,) = tokens.continuations(["the box "], [["", "red"]])
    assert found.answers[0] != found.answers[1]
    (found,) = tokens.continuations(["the box\n"], [[""]])
    assert found.answers == [[]]


def test_decoded_text_has_no_special_tokens(tokenizer, tokens):
    ids = tokenizer(" the red box</s><pad>")["input_ids"]
    assert tokens.decode(ids) == "the red box"


def test_a_template_of_no_known_form_is_refused(new_tokenizer):
    tokenizer = new_tokenizer(chat_template="{{ raise_exception('no users here') }}")
    with pytest.raises(ProbesError, match="no users here"):
        PromptTokens(tokenizer, "<video>")


def test_the_processors_template_goes_first(new_tokenizer):
    class Processor:
        chat_template = "own"

        def apply_chat_template(self, messages, **_):
            return "own " + messages[0]["content"][0]["text"]

    tokens = PromptTokens(new_tokenizer(), "<video>", Processor())
    assert tokens.render(Request(("x",))) == "own x"


def test_a_family_writes_around_a_frame(tokenizer):
    tokens = PromptTokens(tokenizer, "<video>", before="Frame1: <image>", after="</s>")
    prompt = Request((FrameRef("x"), " and <image> text"))
    text = tokens.render(prompt)
    assert text.startswith("USER: Frame1: <image><video></s> and ")
    # What the family writes keeps its meaning; the same in a text of the data has none.
    assert text.count("<image>") == 1
    assert tokens.encode([text]) == [ordinary(tokenizer, text)]
