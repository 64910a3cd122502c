import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.core.errors import ProbesError
from probes.core.types import Item, Output, Video
from probes.stimuli import answers, arms
from probes.stimuli.templates import merged

OPTIONS = (
    "A man opens the red door",
    "C closes the door, then leaves.",
    "C's dog sits",
    "He pays 3.5 dollars",
    "He pays 35 dollars",
)
ITEM = Item("i", "t", "?", OPTIONS, 0, Video(Path("v")))
TEN = tuple(f"thing number {n}" for n in range(1, 11))


def test_listed_and_scored_options():
    assert merged(arms.listed(("x", "y: {z}")))[0] == ("A. x\nB. y: {z}",)
    assert arms.listed(()) == []
    assert answers.scored_options(ITEM, "letter") == ("A", "B", "C", "D", "E")
    assert answers.scored_options(ITEM, "generate") == ("A", "B", "C", "D", "E")
    assert answers.scored_options(ITEM, "cloze") == OPTIONS


def test_more_options_than_letters_are_an_error_but_for_cloze():
    eleven = replace(ITEM, options=(*TEN, "eleven"))
    assert len(answers.scored_options(eleven, "cloze")) == 11
    for scoring in ("letter", "generate"):
        with pytest.raises(ProbesError, match="11 options"):
            answers.scored_options(eleven, scoring)
    with pytest.raises(ProbesError, match="11 options"):
        arms.listed(eleven.options)


def output(*logprobs, tokens=None, **more):
    return Output(option_logprobs=logprobs, option_tokens=tokens or (1,) * len(logprobs), **more)


INF, NAN = math.inf, math.nan
TWO = replace(ITEM, options=("x", "y"))


@pytest.mark.parametrize(
    ("found", "scoring", "expected"),
    [
        (output(-2.0, -1.0), "letter", ("ok", 1)),
        (output(-INF, -9.0), "letter", ("ok", 1)),
        (output(-6.0, -2.0, tokens=(6, 1)), "letter", ("ok", 1)),
        (output(-6.0, -2.0, tokens=(6, 1)), "cloze", ("ok", 0)),
        (output(-6.0, -2.0, tokens=(2, 1)), "cloze", ("ok", 1)),
        (output(NAN, -1.0), "letter", ("error", None)),
        (output(-1.0, NAN), "cloze", ("error", None)),
        (output(INF, -1.0), "letter", ("error", None)),
        (output(-INF, -INF), "letter", ("error", None)),
        (output(-1.0), "letter", ("error", None)),
        (output(), "letter", ("error", None)),
        (output(-1.0, -2.0, tokens=(1, 0)), "cloze", ("error", None)),
        (output(-1.0, -2.0, tokens=(1,)), "cloze", ("error", None)),
        (output(-2.0, -1.0, status="error", error="oom"), "letter", ("error", None)),
        (Output(text="B."), "generate", ("ok", 1)),
        (Output(text="either"), "generate", ("unparsed", None)),
        (Output(text="B", status="error", error="oom"), "generate", ("error", None)),
    ],
)
def test_judge(found, scoring, expected):
    assert answers.judge(found, TWO, scoring) == (*expected, False)
    assert bool(answers.fault(found, TWO, scoring)) == (expected[0] == "error")


def test_fault_says_what_the_backend_said():
    assert answers.fault(Output(status="error", error="oom"), TWO, "letter") == "oom"
    assert answers.fault(Output(status="error"), TWO, "generate") == "the backend reports error"
    assert "3 log-probabilities for 2" in answers.fault(output(0.0, 0.0, 0.0), TWO, "letter")


READ = [
    ("B", 1),
    (" B\n", 1),
    ("B.", 1),
    ("B)", 1),
    ("B:", 1),
    ("(B)", 1),
    ("(B).", 1),
    ("(B):", 1),
    ("b", 1),
    ("(b)", 1),
    ("**B**", 1),
    ("**B.**", 1),
    ("`B`", 1),
    ("*(B)*", 1),
    ("A", 0),
    ("a", 0),
    ("(a)", 0),
    ("E", 4),
    ("B) text", 1),
    ("(B) text", 1),
    ("B: text", 1),
    ("B. text", 1),
    ("(b) text", 1),
    ("B\ntext", 1),
    ("**B**\n\nHe shuts it.", 1),
    ("Answer: B", 1),
    ("answer: B", 1),
    ("ANSWER: B", 1),
    ("Answer: (b)", 1),
    ("Answer B", 1),
    ("**Answer:** B", 1),
    ("The answer is B", 1),
    ("The answer is B.", 1),
    ("The answer is: B", 1),
    ("The correct answer is (B).", 1),
    ("The best option is B", 1),
    ("The answer is option B.", 1),
    ("Option B", 1),
    ("Option B: text", 1),
    ("The answer is **B**.", 1),
    ("The answer is A", 0),
    ("The answer is A.", 0),
    # An option's own text, whole, with any case, space, emphasis and punctuation.
    ("a man opens  the RED door.", 0),
    ('"A man opens the red door"', 0),
    ("C closes the door then leaves", 1),
    ("C's dog sits", 2),
    ("c’s dog sits!", 2),
    ("He pays 3.5 dollars.", 3),
    ("He pays 35 dollars.", 4),
    ("The answer is: C closes the door, then leaves.", 1),
    # Letter and its own text: letters within that text name no option.
    ("B. C closes the door, then leaves.", 1),
    ("(B) C closes the door, then leaves", 1),
    ("B. C closes the door, then leaves. This is seen at the end.", 1),
    ("Answer: C. C's dog sits", 2),
    ("A. A man opens the red door", 0),
    ("B. C closes the door, then", 1),
    ("B. C closes the do", 1),  # cut at the token limit
    # Articles, pronouns and possessives in what follows.
    ("B. A woman is seen there.", 1),
    ("B) Because C's hand is on it", 1),
    ("B. B is right.", 1),
    ("B: He wears a T-shirt", 1),
    ("D) It is so. A coin lies there.", 3),
]


@pytest.mark.parametrize(("reply", "expected"), READ)
def test_parse_reads_what_is_plainly_said(reply, expected):
    assert answers.parse(reply, OPTIONS) == expected


UNREAD = [
    "",
    " ",
    "\n",
    "?",
    "none",
    "None of the above",
    "I don't know",
    "I",
    "I think so",
    # Words that look like letters.
    "A man",
    "A man opens",
    "A man opens a door",
    "A door, a man",
    "a man",
    "C walks",
    "C closes the door",
    "C is the camera wearer",
    "Answer: A man",
    "The answer is A man.",
    "The answer is a",
    "The answer is a matter of taste",
    "The answer is C closing the door",
    "Because",
    "Be",
    "Dog",
    "ABCDE",
    "AB",
    "BB",
    "B.C.",
    "A.M.",
    "E-mail",
    "B-flat",
    "D'oh",
    "e.g. this",
    "i.e. that",
    "Eb",
    "B2",
    "2B",
    "B_",
    "B/C",
    # Two letters, or two texts.
    "A or B",
    "A and B",
    "A, B",
    "B or C",
    "B/C?",
    "(A) or (B)",
    "(A)(B)",
    "A) or B)",
    "A. B.",
    "A B",
    "B, not C",
    "B. Not C.",
    "B: C",
    "B\nC",
    "A\nB\nC\nD\nE",
    "A) x B) y C) z",
    "Both A and B",
    "Answer: B or C",
    "Answer: B and C",
    "The answer is either B or C.",
    "B. or (c)",
    "B) The options A and C are off",
    "B) than option A would",
    "Option B: or Option C",
    "B. C closes the door, then leaves. Or C.",
    "B. C",
    "B. Look at A: it fits as well",
    "B. It could be C too",
    "B. It is not so. A is better",
    "Answer A: yes. Answer B: no.",
    "B. C's dog sits",
    "B. A man opens the red door",
    "C. He pays 3.5 dollars",
    "A man opens the red door or he pays 35 dollars",
    "D. He pays 35 dollars",
    # Letters beyond the options.
    "F",
    "F.",
    "(f)",
    "Answer: F",
    "The answer is Z.",
    "J",
    "(j)",
    "f",
    # Denials and second thoughts.
    "Not B",
    "not b",
    "B is wrong",
    "B: wrong",
    "B: incorrect",
    "B) is not right",
    "B. No, wait",
    "B. Sorry, it is another",
    "Answer: B is false",
    "(B) is incorrect",
    "B?",
    "Neither B nor C",
    "B. Actually the other one",
    "B. This is not the answer",
    # Lower-case letters that are not alone, and forms that are no standard.
    "b.",
    "b)",
    "b: text",
    "answer: b",
    "a b",
    "(B",
    "B]",
    "[B]",
    "{B}",
    "B;",
    "B,",
    "B - text",
    "B, because he leaves",
    "B because he leaves",
    "I choose B",
    "It is B",
    "My answer: B",
    "Let me think. The answer is B.",
    "B.text",
    "$B$",
    "Б",
    "Ｂ",
    "１",
    # Texts that are not an option's, or only part of one's.
    "opens the red door",
    "C closes the door, then leaves, then returns",
    "He pays -35 dollars",
    "He pays 3 5 dollars",
    "He pays 35 % dollars",
    "dollars",
]


@pytest.mark.parametrize("reply", UNREAD)
def test_parse_never_guesses(reply):
    assert answers.parse(reply, OPTIONS) is None


def test_the_pronoun_is_no_option_even_where_there_are_nine():
    assert answers.parse("I", TEN) == 8
    assert answers.parse("I.", TEN) == 8
    assert answers.parse("J", TEN) == 9
    assert answers.parse("B. Because I see it", TEN) == 1
    assert answers.parse("I) I see it", TEN) == 8
    for reply in (
        "I think so",
        "I am not sure",
        "I'm sure",
        "B. Or option I think",
        "B or I",
        "B. I or J",
    ):
        assert answers.parse(reply, TEN) is None


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        ("same", ("same", "Same."), None),  # equal texts: only a letter tells them apart
        ("B. same", ("same", "Same."), 1),
        ("B", ("B", "A"), None),  # the letter says one thing, the text another
        ("B", ("A", "B"), 1),
        ("2", ("1", "2"), 1),
        ("-5", ("5", "-5"), 1),
        ("no", ("yes", "no"), 1),
        ("The answer is no", ("yes", "no"), 1),
        ("A. yes", ("yes", "yes, twice"), 0),
        ("A. yes, twice", ("yes", "yes, twice"), None),
        ("B. yes, twice", ("yes", "yes, twice"), 1),
        ("B. yes, twice. Or just yes", ("yes", "yes, twice"), None),
        ("A or B", ("both", "A or B"), 1),
        ("?", ("?", "!"), None),
        ("A", (), None),
        ("", ("", "x"), None),
        ("A", ("", "x"), 0),
    ],
)
def test_parse_with_tricky_options(reply, options, expected):
    assert answers.parse(reply, options) == expected


pieces = st.sampled_from(
    [
        "A",
        "B",
        "I",
        "a",
        "(b)",
        "(",
        ")",
        ".",
        ":",
        " ",
        "\n",
        "*",
        "The answer is ",
        "Answer:",
        "option ",
        "or",
        "not ",
        "x",
        "yes",
        "no",
        "'s",
        "é",
        "İ",
        "ß",
        "\u2028",
        "3.5",
    ]
)
texts = st.one_of(st.text(max_size=30), st.lists(pieces, max_size=8).map("".join))


@settings(max_examples=300, deadline=None)
@given(texts, st.lists(texts, max_size=11))
def test_parse_never_raises_and_stays_within_the_options(reply, options):
    found = answers.parse(reply, options)
    assert found is None or 0 <= found < len(options)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("xyz ", min_size=1, max_size=8), min_size=2, max_size=10), st.data())
def test_every_letter_of_every_item_is_read_in_every_form(options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    letter = answers.LETTERS[index]
    text = options[index]
    for form in ("{}", "{}.", "({})", "Answer: {}", "The answer is {}.", "**{}**"):
        assert answers.parse(form.format(letter), options) == index
    assert answers.parse(f"{letter}. {text}", options) == index


finite = st.floats(-1e6, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(finite, st.integers(1, 50)), min_size=1, max_size=10))
def test_judge_takes_the_highest_mean(drawn):
    logprobs, tokens = zip(*drawn, strict=True)
    item = replace(ITEM, options=("x",) * len(drawn))
    found = Output(option_logprobs=logprobs, option_tokens=tokens)
    for scoring, values in (
        ("letter", list(logprobs)),
        ("cloze", [total / n for total, n in drawn]),
    ):
        status, choice, tied = answers.judge(found, item, scoring)
        assert status == "ok"
        assert values[choice] == max(values)
        assert tied == (values.count(max(values)) > 1)


def drawn_choice(item, *key, rotation=0, scoring="letter", tokens=(2, 4, 4, 3)):
    """Options 1, 2 and 3 of four tie, however they are listed."""
    totals = (-8.0, -4.0, -4.0, -4.0) if scoring == "letter" else (-8.0, -4.0, -4.0, -3.0)

    def listed(values):
        return (*values[rotation:], *values[:rotation])

    found = Output(option_logprobs=listed(totals), option_tokens=listed(tokens))
    return answers.judge(found, item, scoring, rotation=rotation, key=key)


@pytest.mark.parametrize("scoring", ["letter", "cloze"])
def test_a_tie_is_drawn_by_its_key_and_never_by_place(scoring):
    item = replace(ITEM, options=("p", "q", "r", "s"))
    keys = [(seed, "task", f"item {n}", "sha") for seed in (0, 1) for n in range(200)]
    found = [drawn_choice(item, *key, scoring=scoring) for key in keys]
    assert {(one.status, one.tied) for one in found} == {("ok", True)}
    chosen = [one.choice for one in found]
    assert [chosen.count(option) for option in range(4)] == [
        0,
        *(pytest.approx(400 / 3, abs=40) for _ in range(3)),
    ]
    # The same draw again, wherever the options were listed; another one under another seed.
    for rotation in range(4):
        again = [drawn_choice(item, *key, scoring=scoring, rotation=rotation) for key in keys]
        assert [one.choice for one in again] == chosen
    assert chosen[:200] != chosen[200:]


def test_an_option_that_joins_a_tie_changes_no_draw_between_others():
    item = replace(ITEM, options=("p", "q", "r"))
    for n in range(100):
        key = (0, "task", f"item {n}")
        two = answers.judge(output(-1.0, -1.0, -2.0), item, "letter", key=key)
        three = answers.judge(output(-1.0, -1.0, -1.0), item, "letter", key=key)
        assert three.choice in (two.choice, 2)


def test_a_reply_names_the_option_that_was_listed():
    item = replace(ITEM, options=("p", "q", "r"))
    assert answers.judge(Output(text="A"), item, "generate", rotation=2) == ("ok", 2, False)
    assert answers.judge(Output(text="C"), item, "generate", rotation=2) == ("ok", 1, False)


def test_the_mass_on_letters_is_that_of_the_options():
    found = output(math.log(0.25), math.log(0.125))
    assert answers.letter_mass(found, "letter") == pytest.approx(0.375, abs=1e-15)
    assert answers.letter_mass(output(-1.0, -INF), "letter") == pytest.approx(math.exp(-1))
    # A letter that a server did not list is only known to be less likely than the others.
    bounded = output(math.log(0.5), math.log(0.4), tokens=(1, 0))
    assert answers.letter_mass(bounded, "letter") == pytest.approx(0.5)
    assert answers.letter_mass(found, "cloze") is None
    assert answers.letter_mass(Output(text="A"), "generate") is None
    assert answers.letter_mass(Output(status="error", error="oom"), "letter") is None
