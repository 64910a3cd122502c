"""The server backend: members behind any OpenAI-compatible endpoint (vLLM, SGLang, ...).

What a server can and cannot do for a comparison:

- It receives pictures, so only `frame_as=image` is possible.
- It cannot prove its weights. Store keys depend on what the user declares: the deployment (by
  default the base URL), the model's name, the revision, and the files of a checkpoint folder if
  there is a local one. After a restart with other weights or settings under the same name,
  `revision` or `deployment` has to be changed, else old answers are taken for new ones; a server
  that says of the model what it did not say before is refused.
- Its chat template decides whether pictures stay between texts; see `chat_template`.
- `letter` needs `logprobs`; without them the letter is read strictly from text: `generate`. It
  scores the first token, so a model that thinks first is refused.
  `cloze` needs the log-probabilities of given text, which chat endpoints do not offer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

from probes.core import origins
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.replies import THINKING, all_thought
from probes.core.types import FramesByHash, ModelSpec, Origin, Output, Request, ScoringSpec
from probes.models.base import (
    BackendSettings,
    Capabilities,
    check_images,
    check_requests,
    error_output,
    refuse_adapter,
)
from probes.models.chat_template import (
    first_request,
    has_pictures,
    kept_order,
    local_checkpoint,
    opens_thought,
)
from probes.models.server import messages as protocol
from probes.models.server import request_fields
from probes.models.server.http import Endpoint, Failure
from probes.models.server.options import ServerOptions
from probes.models.server.served import check_same, served
from probes.models.server.special_tokens import cleaner

_log = logging.getLogger(__name__)
ADAPTER = "server-2"
"""Raised whenever the same prompt and served weights would get other numbers or another text."""
_PATH = "/chat/completions"
_THOUGHT_FIRST = "the reply begins with a thought, whose first token says nothing of the letters"
_FINAL = (401, 404)
"""Refusals that every further request would get too."""


_VERSION_AT = {"vllm": "/version", "sglang": "/get_server_info"}
"""Where an engine tells its version, by what it calls itself in GET /models."""


class ServerBackend:
    """A member that a server runs.

    Args:
        cfg: `options` as in conf/backend/server.yaml; `feature_cache_mb` bounds encoded frames.
        spec: the member; `repo` is the served model's name unless `options.model` has another.

    Raises:
        ProbesError: options that make no sense, or `frame_as` other than `image`.
    """

    adapter = ADAPTER

    def __init__(self, cfg: BackendSettings, spec: ModelSpec) -> None:
        if spec.adapter:
            raise refuse_adapter(spec, "server")
        check_images(spec, "a server")
        self._spec = spec
        self._options = ServerOptions.of(cfg.options, spec)
        self._capacity = cfg.feature_cache_mb * 2**20
        self._local = local_checkpoint(spec)
        self._model = self._options.model or (str(self._local.folder) if self._local else spec.repo)
        self.fingerprint = sha256_json(self._declared())
        self._endpoint: Endpoint | None = None
        self._preflighted: set[tuple[str, bool]] = set()
        self._length = request_fields.LENGTHS[0]
        self._order = "not looked up"
        self._served: dict[str, Any] = {}
        self._version = ""
        self._remarks: dict[str, str] = {}
        self._counts = {"requests": 0, "retried": 0, "encoded": 0}
        self._unreached = 0  # prompts in a row, over all calls, that found no server

    def remarks(self) -> tuple[str, ...]:
        """Return what the first replies showed; see `RemarkingBackend`."""
        return tuple(self._remarks.values())

    def libraries(self) -> dict[str, str]:
        """Return none: a server need not tell them; `deployment` stands for them in keys."""
        return {}

    def origin(self) -> Origin:
        """Return what the server said of itself when it was first asked."""
        engine = str(self._served.get("owned_by") or "")
        libraries = ((engine, self._version),) if engine and self._version else ()
        return Origin(libraries, "server", kernels="" if libraries else engine)

    def capabilities(self) -> Capabilities:
        """Return what this backend can do."""
        return Capabilities(
            ("letter", "generate"),
            reason="its model runs in another process",
            unscored="it has no log-probabilities of given text",
            answer_prefix=False,
            chat_template_kwargs=True,
            sampling=True,
        )

    def planning(self) -> None:
        """Return that lengths are not known without asking."""

    def describe(self) -> dict[str, Any]:
        """Return what is declared, and what the server said about itself if it was asked."""
        options, spec = self._options, self._spec
        return {
            "backend": "server",
            "adapter": ADAPTER,
            "fingerprint": self.fingerprint,
            "repo": spec.repo,
            "revision": spec.revision,
            "model": self._model,
            "deployment": options.deployment,
            "base_url": options.base_url,
            "frame_as": spec.frame_as,
            "dtype": "the server's",
            "attention": "the server's",
            "interleaving": self._order,
            "served": dict(self._served),
            "top_logprobs": options.top_logprobs,
            "extra": dict(options.extra),
        }

    def counters(self) -> dict[str, int]:
        """Return prompts asked, attempts beyond the first, and frames encoded."""
        counts = dict(self._counts)
        if self._endpoint is not None:
            counts["retried"] += self._endpoint.retried
        return counts

    def close(self) -> None:
        """Close all connections."""
        if self._endpoint is not None:
            # The endpoint goes, with the retries that it counted.
            self._counts = self.counters()
            self._endpoint.close()
            self._endpoint = None
            self._preflighted.clear()

    def score(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer prompts, `concurrency` at a time; see `Backend.score`."""
        check_requests(self.capabilities(), "server", prompts, scoring)
        if not prompts:
            return
        if self._endpoint is None:
            self._unreached = 0
            options = self._options
            self._endpoint = Endpoint(
                options.base_url,
                options.api_key_env,
                timeout_s=options.timeout_s,
                retries=options.retries,
                connections=options.concurrency,
            )
        endpoint = self._endpoint
        self._preflight(endpoint, scoring, has_pictures(prompts))
        encoded = protocol.EncodedFrames(frames, self._capacity)
        try:
            yield from self._ask_all(endpoint, prompts, encoded, scoring)
        finally:
            self._counts["encoded"] += encoded.encoded

    def _declared(self) -> dict[str, Any]:
        """Return what stands for the weights, which a server cannot prove."""
        options = self._options
        files = {"files": self._local.files} if self._local is not None else {}
        return files | {
            "server": options.deployment,
            # Files stand for themselves, wherever their folder is.
            "model": options.model or ("" if self._local is not None else self._spec.repo),
            "revision": self._spec.revision,
            "extra": dict(options.extra),
            "top_logprobs": options.top_logprobs,
        }

    def _preflight(self, endpoint: Endpoint, scoring: ScoringSpec, pictures: bool) -> None:
        """Ask one small question first: what is wrong for all prompts ends the run at once.

        Raises:
            ProbesError: no server, no such model, no right to use it, no pictures, no logprobs.
        """
        if (scoring.kind, pictures) in self._preflighted:
            return
        where = f"member {self._spec.name}, {self._options.base_url}"
        if not self._preflighted:
            listed = endpoint.get("/models")
            # Not every server lists what it serves: other failures show in the question.
            if isinstance(listed, Failure) and (
                listed.status in (401, 403) or not listed.connected
            ):
                raise endpoint.refusal(listed, where)
            self._served = served(listed, self._model)
            check_same(self._served, self.fingerprint, self._spec.role, where)
            self._version = _version(endpoint, self._served)
        if pictures or self._options.order_is_checked:
            self._order = kept_order(
                self._local,
                self._spec,
                by_user=self._options.order_is_checked,
                who="server",
                where=where,
                fix="serve the model with a template that keeps the order (docs/server.md has one)"
                " and then set backend.options.order_is_checked=true, or use backend=hf",
            )
        extra = self._options.extra.get("chat_template_kwargs")
        kwargs = extra if isinstance(extra, Mapping) else {}
        if scoring.kind == "letter" and opens_thought(self._local, self._spec, kwargs):
            raise _thinks(where, "the chat template ends every prompt with the mark of a thought")
        prompt, shown = first_request(pictures=pictures)
        reply = self._first_reply(endpoint, prompt, protocol.EncodedFrames(shown, 0), scoring)
        if isinstance(reply, Failure):
            raise endpoint.refusal(reply, where, request_fields.fix(reply.error, scoring.kind))
        try:
            output = self._output(reply, prompt, scoring)
        except protocol.NoLogprobsError:
            raise ProbesError(
                "the endpoint gives no log-probabilities, which scoring=letter needs",
                where,
                request_fields.WITHOUT_LOGPROBS,
            ) from None
        except protocol.ThinkingError:
            raise _thinks(where, "the first reply begins with one") from None
        if all_thought(output.text):
            _log.warning("%s: the first reply: %s", where, THINKING)
            self._remarks["first reply"] = f"the first reply: {THINKING}"
        self._preflighted.add((scoring.kind, pictures))

    def _first_reply(
        self,
        endpoint: Endpoint,
        prompt: Request,
        picture: Callable[[str], str],
        scoring: ScoringSpec,
    ) -> Any | Failure:
        """Ask a prompt by the field of its longest length that the server takes."""
        for name in request_fields.LENGTHS:
            self._length = name
            body = self._body(prompt, picture, scoring)
            reply = endpoint.post(_PATH, body, whole=protocol.is_completion, patient=False)
            if not (isinstance(reply, Failure) and request_fields.wants_other(reply.error, body)):
                break
        return reply

    def _body(
        self, prompt: Request, picture: Callable[[str], str], scoring: ScoringSpec
    ) -> dict[str, Any]:
        return request_fields.body(
            self._model,
            protocol.messages(prompt, picture),
            scoring,
            length=self._length,
            options=self._options,
            decoding=prompt.decoding,
        )

    @cached_property
    def _clean(self) -> Callable[[str], str]:
        return cleaner(self._local, self._spec)

    def _output(self, reply: Any, prompt: Request, scoring: ScoringSpec) -> Output:
        if scoring.kind == "letter":
            if not prompt.options:
                return error_output("the prompt has no options to score by letter")
            return protocol.letter_output(reply, prompt.options)
        return protocol.text_output(reply, self._clean)

    def _ask_all(
        self,
        endpoint: Endpoint,
        prompts: Sequence[Request],
        picture: Callable[[str], str],
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        def ask(at: int) -> Output | Failure:
            started = time.perf_counter()
            try:
                body = self._body(prompts[at], picture, scoring)
            except Exception as error:
                # A frame that cannot be read costs its own prompts, not the run.
                return error_output(f"a frame: {type(error).__name__}: {error}")
            reply = endpoint.post(_PATH, body, whole=protocol.is_completion)
            if isinstance(reply, Failure):
                return reply
            try:
                output = self._output(reply, prompts[at], scoring)
            except protocol.NoLogprobsError:
                return error_output("the reply has no log-probabilities")
            except protocol.ThinkingError:
                return error_output(_THOUGHT_FIRST)
            return replace(output, seconds=time.perf_counter() - started)

        todo = iter(range(len(prompts)))
        pool = ThreadPoolExecutor(self._options.concurrency, "request")
        running: dict[Future[Output | Failure], int] = {}
        try:
            while True:
                # Twice as many as run, so that no thread waits for this generator.
                for at in islice(todo, 2 * self._options.concurrency - len(running)):
                    running[pool.submit(ask, at)] = at
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    at, answer = running.pop(future), future.result()
                    self._counts["requests"] += 1
                    if isinstance(answer, Output):
                        self._unreached = 0
                        yield at, answer
                        continue
                    self._unreached = 0 if answer.connected else self._unreached + 1
                    # More than are under way at once: a short outage fails all of those.
                    lost = self._unreached > 2 * self._options.concurrency
                    if answer.status in _FINAL or lost:
                        raise endpoint.refusal(answer, f"member {self._spec.name}")
                    yield at, error_output(answer.error)
        except BaseException:
            # Ctrl-C and a caller that stops early too: threads must not sit out their retries.
            endpoint.stop()
            pool.shutdown(cancel_futures=True)
            self.close()
            raise
        finally:
            pool.shutdown()


def _thinks(where: str, seen: str) -> ProbesError:
    return ProbesError(
        f"the model thinks before it answers ({seen}), and scoring=letter reads the first token",
        where,
        "switch thinking off, e.g. with"
        " backend.options.extra={chat_template_kwargs: {enable_thinking: false}}, and start the"
        " server without a reasoning parser; or set scoring=generate",
    )


def _version(endpoint: Endpoint, served: dict[str, Any]) -> str:
    """Return major.minor of the engine that serves a model; empty where it does not tell."""
    path = _VERSION_AT.get(str(served.get("owned_by")))
    found = protocol.at(endpoint.get_beside(path), "version") if path else None
    return origins.major_minor(found) if isinstance(found, str) else ""
