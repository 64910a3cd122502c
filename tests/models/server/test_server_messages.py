"""Replies of a chat endpoint as outputs: texts and log-probabilities of letters."""

from __future__ import annotations

import math
from typing import Any

import pytest
from loopback import chat

from probes.models.server import messages


def letters(**logprobs: float) -> Any:
    return messages.letter_output(chat("x", logprobs), "ABC")


def test_the_forms_of_a_letter_add_up() -> None:
    found = letters(**{"A": -2.5, " A": -1.5, "▁B": -1.25, "b": -1.0, "(C": -1.0, "ĠC": -9.0})
    both = math.log(math.exp(-2.5) + math.exp(-1.5))
    assert found.option_logprobs == (pytest.approx(both, abs=1e-12), -1.25, -9.0)
    assert found.option_tokens == (1, 1, 1)


def test_a_letter_in_other_company_is_none() -> None:
    found = letters(**{"A": -1.0, "A\n": -0.5, "  A": -0.5, "\nB": -0.5, "C.": -0.5, "*C": -0.5})
    assert found.option_logprobs[0] == -1.0
    assert found.option_tokens == (1, 0, 0)


def test_forms_of_no_probability_are_no_nan() -> None:
    found = letters(**{"A": -float("inf"), " A": -float("inf"), "B": -0.5})
    assert found.option_logprobs[:2] == (-float("inf"), -0.5)


def test_a_letter_that_is_not_listed_is_a_bound_and_never_wins() -> None:
    found = letters(B=-2.0)  # as likely as the last that is listed: a tie would go to A
    assert found.option_tokens == (0, 1, 0)
    assert found.option_logprobs[0] < found.option_logprobs[1] == -2.0
    assert found.option_logprobs[0] == pytest.approx(-2.0)


def test_without_any_letter_nothing_is_chosen() -> None:
    found = letters(The=-0.1, a=-0.2)
    assert found.status == "error"
    assert "'The'" in found.error


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        "x",
        {},
        {"choices": []},
        {"choices": [3]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": ["part"]}}]},
        {"error": "quota"},
    ],
)
def test_a_reply_that_is_not_a_chat_completion_is_an_error(reply: Any) -> None:
    assert messages.text_output(reply).status == "error"
    assert messages.letter_output(reply, "AB").status == "error"


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": []},
        {"content": [{"token": "A", "logprob": -1.0}]},
        {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": []}]},
    ],
)
def test_logprobs_of_the_chosen_token_alone_do_not_count(logprobs: Any) -> None:
    reply = chat()
    reply["choices"][0]["logprobs"] = logprobs
    with pytest.raises(messages.NoLogprobsError):
        messages.letter_output(reply, "AB")


def test_a_chosen_token_outside_the_list_counts_once() -> None:
    reply = chat("A", {"B": -1.0})
    reply["choices"][0]["logprobs"]["content"][0] |= {"token": "A", "logprob": -0.5}
    assert messages.letter_output(reply, "AB").option_logprobs == (-0.5, -1.0)


def test_a_chosen_token_with_another_rounding_counts_once() -> None:
    reply = chat("A", {"A": -0.5, "B": -1.0})
    reply["choices"][0]["logprobs"]["content"][0] |= {"token": "A", "logprob": -0.5000001}
    assert messages.letter_output(reply, "AB").option_logprobs == (-0.5, -1.0)


def test_an_empty_reply_is_an_answer() -> None:
    assert messages.text_output({"choices": [{"message": {"content": None}}]}).text == ""
