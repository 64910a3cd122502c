"""What the server backend does about replies that are missing, late, broken or refusals."""

from __future__ import annotations

import threading
from itertools import chain
from typing import Any

import pytest
from loopback import LETTER, TEXT, LoopbackServer, Reply, ask, chat

from probes.core.errors import ProbesError
from probes.core.types import Request
from probes.models.server import http

FAILURES: dict[str, Any] = {
    "429": (429, {"error": {"message": "slow down"}}, {}),
    "500": (500, b"<html>", {}),
    "garbage": (200, b"{", {}),
    "hang up": None,
    "cut off": (200, b'{"choices": [', {"Content-Length": "999", "Connection": "close"}),
    "no choices": (200, {"error": {"message": "overloaded"}}, {}),
    "no message": (200, {"choices": [{"finish_reason": "stop"}]}, {}),
}
MESSAGES = {
    "429": "slow down",
    "500": "500",
    "garbage": "not JSON",
    "hang up": "broke",
    "cut off": "broke",
    "no choices": "not what was asked for: overloaded",
    "no message": "not what was asked for",
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_passing_failure_is_tried_again(
    kind: str, loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    loopback.answer = lambda text, n: FAILURES[kind] if n < 3 else chat("yes")
    backend = opened()
    assert dict(backend.score([Request(("q",))], {}, TEXT))[0].text == "yes"
    assert loopback.tries["q"] == 3
    assert backend.counters()["retried"] == 2
    first, second = waits
    assert 0 < first <= http.FIRST_WAIT_S < 2 * http.FIRST_WAIT_S
    assert first < second <= 2 * http.FIRST_WAIT_S or second >= http.FIRST_WAIT_S
    backend.close()


@pytest.mark.parametrize("kind", FAILURES)
def test_a_lasting_failure_is_an_error_of_its_prompt(
    kind: str, loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    loopback.answer = lambda text, n: FAILURES[kind] if text == "q" else chat("fine")
    bad, good = ask(opened(), "q", "other")
    assert (bad.status, good.text) == ("error", "fine")
    assert MESSAGES[kind] in bad.error
    assert loopback.tries["q"] == 3


def test_a_silent_server_is_not_waited_for(
    loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    silence = threading.Event()

    def answer(text: str, number: int) -> dict[str, Any]:
        silence.wait(20)
        return chat()

    loopback.answer = answer
    (output,) = ask(opened(timeout_s=0.05, retries=1), "q")
    silence.set()
    assert output.error == "the server did not answer in time"


def test_a_wait_that_the_server_asks_for_is_kept(
    loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    loopback.answer = lambda text, n: (429, {}, {"Retry-After": "31"}) if n == 1 else chat()
    assert ask(opened(), "q")[0].status == "ok"
    assert waits == [31.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2.5", 2.5),
        ("-1", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        ("1e9", 600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 600),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float) -> None:
    assert http._retry_after(value) == seconds


def test_a_bad_request_is_not_repeated(
    loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    loopback.answer = lambda text, n: (400, {"error": {"message": "prompt is too long"}}, {})
    (output,) = ask(opened(), "q")
    assert output.error == "the server says 400: prompt is too long"
    assert loopback.tries["q"] == 1


@pytest.mark.parametrize(
    ("status", "fix"),
    [(401, "OPENAI_API_KEY"), (403, "API token"), (404, "base_url"), (400, "message")],
)
def test_what_is_wrong_for_all_prompts_ends_the_run_first(
    status: int, fix: str, loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened()
    loopback.preflight = False
    loopback.answer = lambda text, n: (status, {"detail": "no"}, {})
    with pytest.raises(ProbesError, match=f"says {status}: no") as caught:
        ask(backend, "q")
    assert fix in caught.value.fix
    assert "q" not in loopback.tries


def test_a_preflight_prompt_with_one_bad_reply_is_asked_again(
    loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    loopback.preflight = False  # it is answered as any other
    loopback.answer = lambda text, n: {"object": "list"} if n == 1 else chat("yes")
    (output,) = ask(opened(), "q")
    assert output.text == "yes"
    loopback.answer = lambda text, n: {"object": "list"}
    with pytest.raises(ProbesError, match="not what was asked for") as caught:
        ask(opened(), "q")
    assert "OpenAI-compatible" in caught.value.fix


def test_a_refused_token_ends_the_run_with_the_answers_so_far(
    loopback: LoopbackServer, opened: Any
) -> None:
    loopback.answer = lambda text, n: chat() if text == "0" else (401, {"detail": "expired"}, {})
    backend = opened(concurrency=1)
    found = []
    with pytest.raises(ProbesError, match="expired"):
        for at, _ in backend.score([Request((str(i),)) for i in range(50)], {}, TEXT):
            found.append(at)
    assert found[0] == 0
    assert len(loopback.tries) < 10


def test_a_missing_server_ends_the_run_at_once(opened: Any, waits: list[float]) -> None:
    with pytest.raises(ProbesError, match="no server answers") as caught:
        ask(opened(base_url="http://127.0.0.1:9/v1"), "q")
    assert "start the server" in caught.value.fix
    assert waits == []


@pytest.mark.parametrize("block", [100, 1])
def test_a_server_that_goes_away_ends_the_run(
    block: int, loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    backend = opened(concurrency=1, retries=1)
    prompts = [Request((str(i),)) for i in range(100)]
    found = []
    with pytest.raises(ProbesError, match="no server answers"):
        for _, output in chain.from_iterable(
            backend.score(prompts[at : at + block], {}, TEXT) for at in range(0, 100, block)
        ):
            found.append(output.status)
            if len(found) == 1:
                loopback.answer = lambda text, n: None  # open connections end too
                loopback.server.shutdown()
                loopback.server.server_close()
    assert found[0] == "ok"
    assert len(found) < 20


def test_a_caller_that_stops_is_not_waited_for(
    loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: requests in flight are answered, retries and what was queued are dropped."""
    busy = {"error": {"message": "busy"}}
    loopback.answer = lambda text, n: chat() if text == "0" else (503, busy, {"Retry-After": "600"})
    replies = opened(concurrency=2).score([Request((str(i),)) for i in range(50)], {}, TEXT)
    assert next(replies)[0] == 0
    replies.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("request")]
    assert len(loopback.tries) < 10


def test_an_impossible_address_is_an_error(opened: Any) -> None:
    with pytest.raises(ProbesError, match="is not an address"):
        ask(opened(base_url="http://ä..b/v1"), "q")


def test_an_endpoint_without_logprobs_is_refused_before_the_first_prompt(
    loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback.preflight = False
    with pytest.raises(ProbesError, match="no log-probabilities") as caught:
        ask(opened(), "q", scoring=LETTER)
    assert "scoring=generate" in caught.value.fix
    assert "q" not in loopback.tries


def test_a_single_reply_without_logprobs_is_an_error(loopback: LoopbackServer, opened: Any) -> None:
    loopback.answer = lambda text, n: chat("B", {"A": -1.0, "B": -0.5} if text == "q" else None)
    good, bad = ask(opened(), "q", "r", scoring=LETTER)
    assert good.status == "ok"
    assert bad.error == "the reply has no log-probabilities"


@pytest.mark.parametrize(
    "reply", [(500, b"no cache folder", {}), (404, b"", {}), (200, b"<html>", {}), (200, [], {})]
)
def test_a_server_that_lists_no_models_may_still_answer(
    reply: Reply, loopback: LoopbackServer, opened: Any
) -> None:
    loopback.models = reply
    backend = opened()
    assert dict(backend.score([Request(("q",))], {}, TEXT))[0].status == "ok"
    assert backend.describe()["served"] == {"listed": False}
    backend.close()
