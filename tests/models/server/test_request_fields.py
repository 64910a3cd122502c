"""Which fields are sent, to servers that take others, and what a refusal says to do."""

from __future__ import annotations

from typing import Any

import pytest
from loopback import LETTER, TEXT, LoopbackServer, Reply, ask, chat

from probes.core.errors import ProbesError
from probes.core.types import Decoding, Request

# As OpenAI's API says it.
NO_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead."
)
NO_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
    "value is supported."
)


def refused(message: str, status: int = 400) -> Reply:
    return status, {"error": {"message": message, "type": "invalid_request_error"}}, {}


@pytest.fixture
def strict(loopback: LoopbackServer) -> LoopbackServer:
    """A server that wants `max_completion_tokens`."""
    loopback.preflight = False

    def answer(text: str, number: int) -> Any:
        if "max_tokens" in loopback.bodies[-1]:
            return refused(NO_MAX_TOKENS)
        return chat("B", {"B": -0.5})

    loopback.answer = answer
    return loopback


def test_the_field_of_the_longest_length_is_the_servers(
    strict: LoopbackServer, opened: Any
) -> None:
    assert ask(opened(concurrency=1), "q", "r")[0].text == "B"
    assert [body.get("max_completion_tokens") for body in strict.bodies] == [None, 4, 4, 4]
    assert strict.tries["q"] == strict.tries["r"] == 1
    ask(opened(concurrency=1), "s", scoring=LETTER)
    assert strict.bodies[-1]["max_completion_tokens"] == 1


@pytest.mark.parametrize(
    "extra", [{"max_completion_tokens": 16}, {"max_tokens": None, "max_completion_tokens": 16}]
)
def test_what_the_user_gives_replaces_the_preflights_own(
    extra: dict[str, Any], strict: LoopbackServer, opened: Any
) -> None:
    backend = opened(concurrency=1, extra=extra | {"temperature": None, "seed": 3})
    assert ask(backend, "q", scoring=LETTER)[0].status == "ok"
    assert len(strict.bodies) == 2
    for body in strict.bodies:
        assert (body["max_completion_tokens"], body["seed"]) == (16, 3)
        assert not {"max_tokens", "temperature"} & body.keys()


def test_a_length_of_the_users_that_is_refused_says_which_to_give(
    strict: LoopbackServer, opened: Any
) -> None:
    with pytest.raises(ProbesError, match="Unsupported parameter") as caught:
        ask(opened(extra={"max_tokens": 16}), "q")
    assert "extra={max_tokens: null, max_completion_tokens: N}" in caught.value.fix


def test_a_sampled_text_has_its_own_temperature_and_seed(
    loopback: LoopbackServer, opened: Any
) -> None:
    loopback.preflight = False
    drawn = [
        Decoding("sample", (("seed", seed), ("temperature", 0.7), ("top_p", 1.0)), "1")
        for seed in (5, 6)
    ]
    prompts = [Request(("q",), decoding=one) for one in (None, *drawn)]
    backend = opened(concurrency=1, extra={"seed": 3})
    assert len(list(backend.score(prompts, {}, TEXT))) == 3
    sent = [(body["temperature"], body["seed"]) for body in loopback.bodies[-3:]]
    assert sent == [(0, 3), (0.7, 5), (0.7, 6)]


@pytest.mark.parametrize(
    ("reply", "fix"),
    [
        (refused("You are not allowed to request logprobs from this model.", 403), "generate"),
        (refused("No endpoints found that support the parameters: logprobs", 404), "generate"),
        (refused("unknown field log_probs"), "generate"),
        (refused("top_logprobs must be less than or equal to 5"), "backend.options.top_logprobs"),
        (refused(NO_TEMPERATURE), "extra={temperature: null}"),
        (refused("the prompt is too long"), "log"),
    ],
)
def test_a_refusal_of_letters_says_what_to_do(
    reply: Reply, fix: str, loopback: LoopbackServer, opened: Any
) -> None:
    loopback.preflight = False
    loopback.answer = lambda text, n: reply
    with pytest.raises(ProbesError, match="the server says 40") as caught:
        ask(opened(), "q", scoring=LETTER)
    assert fix in caught.value.fix


@pytest.mark.parametrize("logprobs", [None, {"content": []}])
def test_a_server_that_leaves_log_probabilities_out_is_told(
    logprobs: Any, loopback: LoopbackServer, opened: Any
) -> None:
    """Ollama and others take the field and do nothing about it."""
    reply = chat()
    reply["choices"][0]["logprobs"] = logprobs
    loopback.preflight = False
    loopback.answer = lambda text, n: reply
    with pytest.raises(ProbesError, match="no log-probabilities") as caught:
        ask(opened(), "q", scoring=LETTER)
    assert "scoring=generate" in caught.value.fix
