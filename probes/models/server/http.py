"""One HTTP endpoint: its API token, its retries, and what its refusals mean.

The token is read from the environment when a client is opened and goes into the Authorization
header only: it is cut out of every message that a server sends back.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError

if TYPE_CHECKING:
    import httpx

FIRST_WAIT_S = 0.5
"""Wait before the first retry; every further one waits twice as long."""
LONGEST_WAIT_S = 60.0
"""Bound of a wait of our own; a server's Retry-After may ask for more, up to the next bound."""
LONGEST_RETRY_AFTER_S = 600.0
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another attempt may not get."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN = 300
"""Characters of a server's message that are kept."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply."""

    error: str
    status: int = 0
    """HTTP status of the last attempt; 0 where there was no answer."""
    connected: bool = True
    """False where the server could not be reached at all."""
    again: bool = True
    """Whether another attempt may help."""
    after_s: float = 0.0
    """Seconds to wait before it, at least."""


def read_token(api_key_env: str | None) -> str | None:
    """Return the API token that an environment variable holds; None where it is not set.

    Raises:
        ProbesError: the argument is not a variable's name; it is not shown, as it may be a token.
    """
    if not api_key_env:
        return None
    if not isinstance(api_key_env, str) or not _NAME.fullmatch(api_key_env):
        raise ProbesError(
            "api_key_env is not the name of an environment variable",
            "backend.options.api_key_env",
            "put the API token into the environment and give the variable's name, e.g."
            " OPENAI_API_KEY; if it was the token itself, it is now in your shell's history",
        )
    token = os.environ.get(api_key_env, "").strip()
    # A line break would begin another header.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ProbesError(
            "the API token has characters that an HTTP header cannot hold",
            f"${api_key_env}",
            "set it again",
        )
    return token or None


class Endpoint:
    """A client of one server; many threads may use it.

    Args:
        base_url: up to and with `/v1`, without a trailing slash.
        api_key_env: name of the variable that holds the API token, or None.
        timeout_s: of one attempt, in seconds: to connect, and between two bytes of the answer.
        retries: attempts after the first.
        connections: most at the same time.
    """

    def __init__(
        self,
        base_url: str,
        api_key_env: str | None,
        *,
        timeout_s: float,
        retries: int,
        connections: int,
    ) -> None:
        import httpx

        self.base_url = base_url
        self.retried = 0
        """Attempts beyond the first."""
        self._token = read_token(api_key_env)
        self._token_env = api_key_env
        self._retries = retries
        self._lock = threading.Lock()
        self._closed = threading.Event()
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        # Redirects are not followed: a token must not travel to another host.
        self._client = httpx.Client(
            headers=headers,
            # To wait for a free connection is no fault of the server, and has no bound.
            timeout=httpx.Timeout(timeout_s, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def stop(self) -> None:
        """End all waits before retries; what is in flight is still answered."""
        self._closed.set()

    def close(self) -> None:
        """End waits and connections; nothing may be in flight."""
        self._closed.set()
        self._client.close()

    def get(self, path: str) -> Any | Failure:
        """Return the JSON at a path, asked for once."""
        return self._attempt(lambda: self._client.get(f"{self.base_url}{path}"))

    def get_beside(self, path: str) -> Any | Failure:
        """Return the JSON at a path of the server that is not below its /v1, asked for once."""
        return self._attempt(lambda: self._client.get(f"{self.base_url.removesuffix('/v1')}{path}"))

    def post(
        self,
        path: str,
        body: Any,
        *,
        whole: Callable[[Any], bool],
        patient: bool = True,
    ) -> Any | Failure:
        """Return the JSON reply to a JSON body.

        Statuses in `RETRIED`, timeouts, broken connections and replies that are not whole are tried
        again after a wait that doubles, with jitter, and is at least the server's Retry-After.
        Other refusals are final.

        Args:
            path: below the base URL.
            body: anything that JSON can hold.
            whole: returns whether a reply is of the kind that was asked for.
            patient: False to give up at once where no server listens.
        """
        # A lone surrogate (half of a character) has no UTF-8; JSON's escapes carry it all the same.
        content = json.dumps(body).encode()

        def send() -> httpx.Response:
            return self._client.post(
                f"{self.base_url}{path}",
                content=content,
                headers={"Content-Type": "application/json"},
            )

        wait_s = FIRST_WAIT_S
        for number in range(self._retries + 1):
            reply = self._attempt(send, whole)
            if not isinstance(reply, Failure) or not reply.again or number == self._retries:
                return reply
            if not reply.connected and not patient:
                return reply
            with self._lock:
                self.retried += 1
            # Between half and all of the wait: clients that failed together try again at
            # different times.
            if self._closed.wait(max(reply.after_s, wait_s * random.uniform(0.5, 1.0))):
                return reply
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        raise AssertionError("unreachable: the last attempt returns")

    def refusal(self, failure: Failure, where: str, fix: str = "") -> ProbesError:
        """Return the error for a failure that every further request would meet as well.

        Args:
            failure: of one request.
            where: of the message.
            fix: where its message has one that its status does not tell.
        """
        fixes = {
            0: "start the server, or correct backend.options.base_url (it ends in /v1)",
            200: "name an OpenAI-compatible API as backend.options.base_url (it ends in /v1)",
            401: f"set ${self._token_env} to a valid API token"
            if self._token_env
            else "name the variable that holds the API token: backend.options.api_key_env",
            403: f"use an API token (${self._token_env}) that may use this model",
            404: "correct backend.options.base_url (it ends in /v1) or backend.options.model: the"
            " server's name of the model; GET base_url/models lists them",
        }
        fix = fix or fixes.get(failure.status, "see the server's message and its log")
        return ProbesError(failure.error, where, fix)

    def _attempt(
        self, send: Callable[[], httpx.Response], whole: Callable[[Any], bool] | None = None
    ) -> Any | Failure:
        import httpx

        try:
            response = send()
        # Before all timeouts, of which the second is one: no server at all may end the run.
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            what = f"no server answers at {self.base_url}: {self._clean(str(error))}"
            return Failure(what, connected=False)
        except httpx.TimeoutException:
            return Failure("the server did not answer in time")
        # Not one of httpx's errors of requests, which are caught below.
        except httpx.InvalidURL as error:
            what = f"{self.base_url} is not an address: {self._clean(str(error))}"
            return Failure(what, connected=False, again=False)
        except httpx.RequestError as error:
            what = f"the connection broke: {type(error).__name__}: {self._clean(str(error))}"
            return Failure(what)
        status = response.status_code
        if status == 200:
            try:
                reply = response.json()
            except ValueError:  # a proxy's page, or an answer that was cut off
                return Failure("the reply is not JSON", status)
            if whole is None or whole(reply):
                return reply
            # Some servers report that they are overloaded with status 200.
            what = f"the reply is not what was asked for: {self._message(response)}"
            return Failure(what, status)
        what = f"the server says {status}: {self._message(response)}"
        after_s = _retry_after(response.headers.get("Retry-After", ""))
        return Failure(what, status, again=status in RETRIED, after_s=after_s)

    def _message(self, response: httpx.Response) -> str:
        """Return the message of a refusal, in one line and without the token."""
        text = response.text
        try:
            found = response.json()
        except ValueError:
            found = None
        for name in ("error", "message", "detail"):
            if isinstance(found, dict) and name in found:
                found = found[name]
        if found is not None:
            text = found if isinstance(found, str) else json.dumps(found)
        return self._clean(text) or response.reason_phrase

    def _clean(self, text: str) -> str:
        if self._token:
            # A server may quote the header. Cut out before shortening, so that no half is left.
            text = text.replace(self._token, "***")
        return " ".join(text.split())[:_SHOWN]


def _retry_after(value: str) -> float:
    """Return the seconds that a Retry-After header asks for: a number, or a date."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - datetime.fromtimestamp(time.time(), UTC)).total_seconds()
    return min(seconds, LONGEST_RETRY_AFTER_S) if seconds > 0 else 0.0  # NaN is not above 0
