"""A scripted HTTP server on loopback, and what tests of the server backend ask it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from probes.core.types import Request, ScoringSpec

LETTER, TEXT = ScoringSpec("letter"), ScoringSpec("generate", max_new_tokens=4)
PREFLIGHT = "What is shown?"
Reply = tuple[int, Any, dict[str, str]]


def chat(
    text: str | None = "B",
    logprobs: dict[str, float] | None = None,
    *,
    finish: str = "stop",
    hidden: int = 0,
    **message: Any,
) -> dict[str, Any]:
    """A chat completion, with the log-probabilities of its first token if there are any.

    Args:
        text: the content; None is null, as where nothing but a thought was written.
        logprobs: of the listed first tokens, the chosen one first.
        finish: why the reply ended.
        hidden: tokens of a thought that a hosted model counts and does not show.
        message: further fields of the message, e.g. `reasoning_content`.
    """
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "logprobs": None,
        "finish_reason": finish,
    }
    if logprobs is not None:
        listed = [{"token": token, "logprob": value} for token, value in logprobs.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    usage: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 1 + hidden}
    if hidden:
        usage["completion_tokens_details"] = {"reasoning_tokens": hidden}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


class LoopbackServer:
    """A server that answers by a function of (text of the prompt, number of the attempt)."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Reply | dict[str, Any] | None] = lambda text, n: chat()
        self.models: Reply = (200, {"data": [{"id": "m", "max_model_len": 9, "created": 1}]}, {})
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        self.tries: dict[str, int] = {}
        self.preflight: bool = True
        """Whether the preflight prompt gets a good reply, whatever `answer` is."""
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
                    if text == PREFLIGHT and loopback.preflight:
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


def ask(backend: Any, *texts: str, scoring: ScoringSpec = TEXT, frames: Any = None) -> list[Any]:
    prompts = [Request((text,), ("A", "B", "C")) for text in texts]
    found = dict(backend.score(prompts, frames or {}, scoring))
    backend.close()
    return [found[at] for at in range(len(prompts))]
