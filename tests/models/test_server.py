"""The server backend against a scripted HTTP server on loopback."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Prompt, ScoringSpec
from probes.models import chat_template, open_backend
from probes.models.server import http, messages
from probes.models.server.options import ServerOptions

ROOT = Path(__file__).resolve().parents[2]
LETTER, TEXT = ScoringSpec("letter"), ScoringSpec("generate", max_new_tokens=4)
TOKEN = "sk-loopback-7f3a9c"
PREFLIGHT = "What is shown?"
Reply = tuple[int, Any, dict[str, str]]


def chat(text: str = "B", logprobs: dict[str, float] | None = None) -> dict[str, Any]:
    """A chat completion, with the log-probabilities of its first token if there are any."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if logprobs is not None:
        listed = [{"token": token, "logprob": value} for token, value in logprobs.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}


class LoopbackServer:
    """A server that answers by a function of (text of the prompt, number of the attempt)."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Reply | dict[str, Any] | None] = lambda text, n: chat()
        self.models: Reply = (200, {"data": [{"id": "m", "max_model_len": 9, "created": 1}]}, {})
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        self.tries: dict[str, int] = {}
        self.now = self.most = 0
        lock, loopback = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def reply(self, status: int, body: Any, headers: dict[str, str]) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                loopback.authorizations.add(self.headers.get("Authorization"))
                self.reply(*loopback.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                content = body["messages"][0]["content"]
                text = "".join(part["text"] for part in content if part["type"] == "text")
                with lock:
                    loopback.bodies.append(body)
                    loopback.authorizations.add(self.headers.get("Authorization"))
                    loopback.tries[text] = loopback.tries.get(text, 0) + 1
                    number = loopback.tries[text]
                    loopback.now += 1
                    loopback.most = max(loopback.most, loopback.now)
                try:
                    if text == PREFLIGHT:
                        found: Any = chat(logprobs={"A": -1.0}) if body.get("logprobs") else chat()
                    else:
                        found = loopback.answer(text, number)
                finally:
                    with lock:
                        loopback.now -= 1
                if found is None:  # hang up without an answer
                    self.close_connection = True
                    return
                self.reply(*(found if isinstance(found, tuple) else (200, found, {})))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def loopback() -> Iterator[LoopbackServer]:
    made = LoopbackServer()
    yield made
    made.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts, which are noted and not waited."""
    noted: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            noted.append(timeout or 0.0)
            return self.is_set()

    # Only this module's waits: thread pools wait with threading's own.
    named = type("threading", (), {"Event": Event, "Lock": threading.Lock})
    monkeypatch.setattr(http, "threading", named)
    return noted


@pytest.fixture
def opened(
    loopback: LoopbackServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def make(spec: dict[str, Any] | None = None, **options: Any) -> Any:
        member = {"name": "tiny", "role": "image", "repo": "m", "frame_as": "image"} | (spec or {})
        given = {"base_url": loopback.url, "retries": 2, "timeout_s": 5, "concurrency": 2} | options
        return open_backend(settings(name="server", options=given), ModelSpec(**member))

    return make


def ask(backend: Any, *texts: str, scoring: ScoringSpec = TEXT, frames: Any = None) -> list[Any]:
    prompts = [Prompt((text,), ("A", "B", "C")) for text in texts]
    found = dict(backend.score(prompts, frames or {}, scoring))
    backend.close()
    return [found[at] for at in range(len(prompts))]


# What is sent


def test_pictures_and_texts_are_sent_in_their_order_and_without_loss(
    loopback: LoopbackServer, opened: Any, frames: dict[str, np.ndarray]
) -> None:
    one, two = list(frames)[:2]
    parts = ("before ", FrameRef(one), " between ", "<image> ", FrameRef(two), FrameRef(one), " ?")
    backend = opened(extra={"seed": 3})
    ((_, output),) = backend.score([Prompt(parts)], frames, TEXT)
    assert (output.text, output.input_tokens, output.output_tokens) == ("B", 7, 1)
    body = loopback.bodies[-1]
    content = body["messages"][0]["content"]
    kinds = [part["type"] for part in content]
    assert kinds == ["text", "image_url", "text", "image_url", "image_url", "text"]
    # A data set's "<image>" must not become a picture.
    assert content[2]["text"] == " between <\u200bimage> "
    for part, sha in zip((content[1], content[3], content[4]), (one, two, one), strict=True):
        data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        assert array_sha256(np.asarray(Image.open(io.BytesIO(data)))) == sha
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 4)
    assert body["seed"] == 3
    assert "logprobs" not in body
    assert backend.counters()["encoded"] == 2
    backend.close()


def test_letters_ask_for_one_token_and_the_likeliest_others(
    loopback: LoopbackServer, opened: Any
) -> None:
    loopback.answer = lambda text, n: chat("B", {" B": -0.5, "C": -1.0, "x": -3.0})
    (output,) = ask(opened(top_logprobs=3), "q", scoring=LETTER)
    assert loopback.bodies[-1]["max_tokens"] == 1
    assert (loopback.bodies[-1]["logprobs"], loopback.bodies[-1]["top_logprobs"]) == (True, 3)
    assert output.option_logprobs[1:] == (-0.5, -1.0)
    assert output.text == "B"


def test_no_more_requests_at_a_time_than_allowed(loopback: LoopbackServer, opened: Any) -> None:
    meeting = threading.Barrier(3)

    def answer(text: str, number: int) -> dict[str, Any]:
        meeting.wait(30)  # three at a time, or none is answered
        return chat()

    loopback.answer = answer
    outputs = ask(opened(concurrency=3), *(f"q{i}" for i in range(12)))
    assert [output.status for output in outputs] == ["ok"] * 12
    assert loopback.most == 3


def test_a_frame_that_cannot_be_read_costs_its_own_prompt(
    opened: Any, frames: dict[str, np.ndarray]
) -> None:
    asked = [Prompt((FrameRef("0" * 64), "?")), Prompt((FrameRef(next(iter(frames))), "?"))]
    found = dict(opened().score(asked, frames, TEXT))
    assert found[0].status == "error"
    assert "frame" in found[0].error
    assert found[1].status == "ok"


# What comes back


def letters(**logprobs: float) -> Any:
    return messages.letter_output(chat("x", logprobs), "ABC")


def test_variants_of_a_letter_are_one_letter() -> None:
    found = letters(**{"A": -2.5, " A": -1.5, "▁B": -1.25, "b": -1.0, "(C": -1.0, "ĠC": -9.0})
    assert found.option_logprobs == (-1.5, -1.25, -9.0)
    assert found.option_tokens == (1, 1, 1)


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
        None, [], "x", {}, {"choices": []}, {"choices": [3]}, {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": ["part"]}}]}, {"error": "quota"},
    ],
)  # fmt: skip
def test_a_reply_that_is_not_a_chat_completion_is_an_error(reply: Any) -> None:
    assert messages.text_output(reply).status == "error"
    assert messages.letter_output(reply, "AB").status == "error"


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": []}, {"content": [{"token": "A", "logprob": -1.0}]},
     {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": []}]}],
)  # fmt: skip
def test_logprobs_of_the_chosen_token_alone_do_not_count(logprobs: Any) -> None:
    reply = chat()
    reply["choices"][0]["logprobs"] = logprobs
    with pytest.raises(messages.NoLogprobsError):
        messages.letter_output(reply, "AB")


def test_a_chosen_token_outside_the_list_counts_once() -> None:
    reply = chat("A", {"B": -1.0})
    reply["choices"][0]["logprobs"]["content"][0] |= {"token": "A", "logprob": -0.5}
    assert messages.letter_output(reply, "AB").option_logprobs == (-0.5, -1.0)


def test_an_empty_reply_is_an_answer() -> None:
    assert messages.text_output({"choices": [{"message": {"content": None}}]}).text == ""


# Failures


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
    "429": "slow down", "500": "500", "garbage": "not JSON", "hang up": "broke", "cut off": "broke",
    "no choices": "not what was asked for: overloaded", "no message": "not what was asked for",
}  # fmt: skip


@pytest.mark.parametrize("kind", FAILURES)
def test_a_passing_failure_is_tried_again(
    kind: str, loopback: LoopbackServer, opened: Any, waits: list[float]
) -> None:
    loopback.answer = lambda text, n: FAILURES[kind] if n < 3 else chat("yes")
    backend = opened()
    assert dict(backend.score([Prompt(("q",))], {}, TEXT))[0].text == "yes"
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
    [("2.5", 2.5), ("-1", 0), ("nan", 0), ("soon", 0), ("", 0), ("1e9", 600),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Fri, 01 Jan 2100 00:00:00 GMT", 600)],
)  # fmt: skip
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
    monkeypatch.setitem(globals(), "PREFLIGHT", "")  # so that the preflight prompt is refused
    loopback.answer = lambda text, n: (status, {"detail": "no"}, {})
    with pytest.raises(ProbesError, match=f"says {status}: no") as caught:
        ask(backend, "q")
    assert fix in caught.value.fix
    assert "q" not in loopback.tries


def test_a_preflight_prompt_with_one_bad_reply_is_asked_again(
    loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setitem(globals(), "PREFLIGHT", "")  # so that it is answered as any other
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
        for at, _ in backend.score([Prompt((str(i),)) for i in range(50)], {}, TEXT):
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
    prompts = [Prompt((str(i),)) for i in range(100)]
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
    replies = opened(concurrency=2).score([Prompt((str(i),)) for i in range(50)], {}, TEXT)
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
    monkeypatch.setitem(globals(), "PREFLIGHT", "")
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
    assert dict(backend.score([Prompt(("q",))], {}, TEXT))[0].status == "ok"
    assert backend.describe()["served"] == {"listed": False}
    backend.close()


# What is refused


@pytest.mark.parametrize(
    ("scoring", "fix"),
    [(ScoringSpec("cloze"), "scoring=letter"),
     (ScoringSpec("letter", answer_prefix="Answer:"), "answer_prefix")],
)  # fmt: skip
def test_what_chat_endpoints_cannot_do_is_refused(
    scoring: ScoringSpec, fix: str, loopback: LoopbackServer, opened: Any
) -> None:
    with pytest.raises(ProbesError) as caught:
        ask(opened(), "q", scoring=scoring)
    assert fix in caught.value.fix
    assert not loopback.bodies


def test_frames_as_videos_are_refused(opened: Any) -> None:
    with pytest.raises(ProbesError) as caught:
        opened(spec={"frame_as": "video"})
    assert "pair.frame_as=image" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"url": "x"}, "backend.options"),
        ({"model": "one"}, "model"),
        ({"base_url": "localhost:8000/v1"}, "base_url"),
        ({"base_url": "http://u:secret@host/v1"}, "base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "base_url"),
        ({"base_url": "http://host:99999/v1"}, "base_url"),
        ({"base_url": {"video": "http://host/v1"}}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"retries": -1}, "retries"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": "soon"}, "timeout_s"),
        ({"top_logprobs": 0}, "top_logprobs"),
        ({"extra": "x"}, "extra"),
        ({"order_is_checked": "yes"}, "order_is_checked"),
        ({"api_key_env": "sk-secret"}, "api_key_env"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], where: str, opened: Any
) -> None:
    with pytest.raises(ProbesError) as caught:
        opened(**options)
    assert caught.value.where.endswith(where)
    assert "secret" not in str(caught.value)


def test_members_may_have_servers_and_names_of_their_own() -> None:
    options = {"base_url": {"image": "http://a/v1", "video": "http://b/v1/"},
               "model": {"video": "served"}}  # fmt: skip
    of = {role: ServerOptions.of(options, ModelSpec("x", role, "repo"))
          for role in ("image", "video")}  # fmt: skip
    assert (of["image"].base_url, of["image"].model) == ("http://a/v1", "")
    assert (of["video"].base_url, of["video"].model) == ("http://b/v1", "served")
    # A model outside the pair has a member's role, and must not get its weights with it.
    outside = ModelSpec("org/writer", "image", "org/writer")
    with pytest.raises(ProbesError, match="no base_url for org/writer"):
        ServerOptions.of(options, outside)
    options["base_url"] |= {"org/writer": "http://c/v1"}
    assert ServerOptions.of(options, outside).base_url == "http://c/v1"


# What answers depend on


def test_the_fingerprint_is_what_is_declared(opened: Any, tmp_path: Path) -> None:
    base = opened().fingerprint
    same = {"concurrency": 7, "timeout_s": 1, "retries": 0, "api_key_env": None}
    assert opened(**same).fingerprint == base
    other = [
        opened(base_url="http://elsewhere/v1"), opened(deployment="own"), opened(top_logprobs=5),
        opened(extra={"seed": 1}), opened(model={"image": "n"}), opened(spec={"revision": "r"}),
    ]  # fmt: skip
    assert len({one.fingerprint for one in other} | {base}) == len(other) + 1
    moved = opened(base_url="http://elsewhere/v1", deployment="own")
    assert moved.fingerprint == other[1].fingerprint


def test_a_folder_counts_by_its_files_and_is_the_servers_name_for_it(opened: Any) -> None:
    image, video = (opened(spec={"repo": f"embedded:{role}"}) for role in ("image", "video"))
    assert image.fingerprint != video.fingerprint
    folder = ROOT / "probes" / "tasks" / "egoworld" / "pair" / "checkpoints" / "image"
    assert image.describe()["model"] == str(folder)
    named = opened(spec={"repo": "embedded:image"}, model={"image": "served"})
    assert named.describe()["model"] == "served"
    assert named.describe()["repo"] == "embedded:image"


def test_the_manifest_has_what_the_server_lists(loopback: LoopbackServer, opened: Any) -> None:
    backend = opened()
    assert backend.describe()["served"] == {}
    list(backend.score([Prompt(("q",))], {}, TEXT))
    assert backend.describe()["served"] == {"id": "m", "max_model_len": 9}
    backend.close()


# The order of pictures and texts

FIRST = (
    "{% for m in messages %}{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}"
    "<image>{% endfor %}{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ p['text'] }}{% endfor %}{% endfor %}"
)
IN_PLACE = (
    "{{ bos_token }}{% for m in messages %}{% for p in m['content'] %}"
    "{% if p['type'] == 'text' %}{{ p['text'] }}{% else %}<image>{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "order"),
    [(FIRST, "moved"), (IN_PLACE, "kept"), ("{{ messages[0]['content'].nothing() }}", "unknown"),
     ("{{ raise_exception('no') }}", "unknown"), ("no messages", "unknown"), (None, "unknown")],
)  # fmt: skip
def test_the_template_decides_the_order(template: str | None, order: str, tmp_path: Path) -> None:
    if template is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    spec = ModelSpec("x", "image", str(tmp_path))
    local = chat_template.Checkpoint(tmp_path, str(tmp_path))
    assert chat_template.order_of_pictures(local, spec) == order


def test_the_template_of_the_docs_keeps_the_order(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "server.md").read_text("utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("{% for message"))
    (tmp_path / "chat_template.jinja").write_text(line)
    local = chat_template.Checkpoint(tmp_path, str(tmp_path))
    assert chat_template.order_of_pictures(local, ModelSpec("x", "image", str(tmp_path))) == "kept"


def test_a_name_that_is_not_in_the_cache_has_an_unknown_order() -> None:
    for repo in ("nobody/nothing", "a served name", "gpt"):
        spec = ModelSpec("x", "image", repo)
        assert chat_template.order_of_pictures(None, spec) == "unknown"


def test_a_template_that_moves_pictures_is_refused_until_checked(
    loopback: LoopbackServer, opened: Any, frames: Any, tmp_path: Path
) -> None:
    for name, content in (("config.json", '{"model_type": "x"}'), ("model.safetensors", "")):
        (tmp_path / name).write_text(content)
    (tmp_path / "chat_template.jinja").write_text(FIRST)
    shown = Prompt((FrameRef(next(iter(frames))), "q"))
    spec = {"repo": str(tmp_path)}
    with pytest.raises(ProbesError, match="all pictures before all text"):
        list(opened(spec=spec).score([shown], frames, TEXT))
    assert not loopback.bodies
    list(opened(spec=spec).score([Prompt(("q",))], frames, TEXT))  # no picture, no order
    backend = opened(spec=spec, order_is_checked=True)
    assert len(list(backend.score([shown], frames, TEXT))) == 1
    assert backend.describe()["interleaving"] == "kept, says the user"
    backend.close()


# The API token


def test_the_token_is_sent_and_cut_out_of_replies(
    loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(api_key_env="MY_TOKEN", retries=0)
    monkeypatch.setenv("MY_TOKEN", f" {TOKEN}\n")
    loopback.answer = lambda text, n: (400, {"error": {"message": f"Bearer {TOKEN} is poor"}}, {})
    (output,) = ask(backend, "q")
    assert loopback.authorizations == {f"Bearer {TOKEN}"}
    assert output.error == "the server says 400: Bearer *** is poor"
    monkeypatch.delenv("MY_TOKEN")
    ask(opened(api_key_env="MY_TOKEN"), "q")
    assert None in loopback.authorizations


def test_a_token_that_a_header_cannot_hold_is_refused_and_not_shown(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "sk-two\nlines")
    with pytest.raises(ProbesError) as caught:
        opened(api_key_env="MY_TOKEN")
    assert "two" not in str(caught.value)


def test_a_run_leaves_the_token_nowhere(loopback: LoopbackServer, tmp_path: Path) -> None:
    """The whole command, with failures that repeat the token: run folder, store and output."""

    def answer(text: str, number: int) -> Any:
        if "what" in text and number % 2:
            return (400, {"error": {"message": f"wrong: {TOKEN}"}}, {})
        return chat("A")

    loopback.answer = answer
    command = [
        sys.executable, "-m", "probes", "run", "backend=server", "pair.frame_as=image",
        "scoring=generate", "task.videos=3", "task.seconds=4", "frames=2", "limit=3",
        "~suite.arms.visual_perturbation", "~suite.arms.text_perturbation",
        f"backend.options.base_url={loopback.url}", "backend.options.api_key_env=MY_TOKEN",
        f"hydra.run.dir={tmp_path}/out",
    ]  # fmt: skip
    env = os.environ | {"MY_TOKEN": TOKEN, "PROBES_HOME": f"{tmp_path}/home", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr  # finished, and items failed
    assert loopback.authorizations == {f"Bearer {TOKEN}"}
    assert (tmp_path / "out" / "records.parquet").is_file()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("store" in path.parts for path in files)
    import pandas as pd

    errors = pd.read_parquet(tmp_path / "out" / "infills.parquet").error
    assert errors.str.contains("wrong: [*]{3}").any()  # Parquet may be compressed: read it too
    assert not errors.str.contains(TOKEN).any()
    for path in files:
        assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in done.stdout + done.stderr
