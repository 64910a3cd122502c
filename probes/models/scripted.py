"""A backend without a model: deterministic answers for tests of everything around it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import (
    FrameRef,
    FramesByHash,
    ModelSpec,
    Origin,
    Output,
    Request,
    ScoringSpec,
)
from probes.models.base import (
    NEEDS,
    BackendSettings,
    Capabilities,
    check_options,
    check_requests,
    error_output,
)

ADAPTER = "scripted-1"
OPTIONS = ("policy", "errors", "seconds")
POLICIES = ("hash", "first")
WORDS = tuple("a hand moves opens closes the red blue box cup then left".split())

Script = Callable[[Request], Output]


class ScriptedBackend:
    """Answers by a function, or by a policy: `hash` draws answers from prompt and name.

    Args:
        script: prompt -> output; None to answer by `policy`.
        name: becomes the fingerprint; two members of different names answer differently.
        policy: `hash`, or `first`: always the first option.
        errors: share of prompts, in [0, 1], that fail; not part of the fingerprint, so that a
            second run without errors can answer what failed in the first.
        seconds: pause before every answer, so that a run lasts; not part of the fingerprint.
    """

    adapter = ADAPTER

    def __init__(
        self,
        script: Script | None = None,
        *,
        name: str = "scripted",
        policy: str = "hash",
        errors: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        if policy not in POLICIES:
            raise ProbesError(
                f"the scripted backend has no policy {policy!r}",
                "backend.options.policy",
                f"use one of {', '.join(POLICIES)}",
            )
        self._script = script
        self._policy = policy
        self._errors = errors
        self._seconds = seconds
        self.fingerprint = sha256_json({"scripted": name, "policy": policy})
        self.calls = 0
        """How often `score` was called with prompts."""
        self.scored = 0
        """Prompts answered so far."""
        self.closed = False

    @classmethod
    def from_options(cls, spec: ModelSpec, options: Mapping[str, Any]) -> ScriptedBackend:
        """Make one from `backend.options`, which are `OPTIONS`."""
        numbers = {"errors": 0.0, "seconds": 0.0}
        check_options("scripted", options, OPTIONS)
        for option in numbers.keys() & options.keys():
            value = options[option]
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ProbesError(
                    f"{value!r} is not a number from 0 on", f"backend.options.{option}", "e.g. 0.1"
                )
            numbers[option] = float(value)
        return cls(
            name=f"{spec.name} {spec.repo}",
            policy=str(options.get("policy", "hash")),
            errors=numbers["errors"],
            seconds=numbers["seconds"],
        )

    def libraries(self) -> dict[str, str]:
        """Return none: its answers follow from the standard library alone."""
        return {}

    def origin(self) -> Origin:
        """Return that there is no model."""
        return Origin(kernels="scripted")

    def capabilities(self) -> Capabilities:
        """Return what it can do: only a script may answer otherwise under an intervention."""
        if self._script is None:
            return Capabilities(sampling=True, reason="there is no model")
        return Capabilities(needs=NEEDS, interventions=True, decoding=True)

    def planning(self) -> None:
        """Return that lengths are not known without asking."""

    def describe(self) -> dict[str, Any]:
        """Return the settings."""
        return {
            "backend": "scripted",
            "adapter": ADAPTER,
            "fingerprint": self.fingerprint,
            "policy": self._policy,
        }

    def counters(self) -> dict[str, int]:
        """Return how many calls and prompts were answered."""
        return {"calls": self.calls, "scored": self.scored}

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def score(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer prompts in their order, by the hashes of their frames and not by the pixels."""
        if not (can := self.capabilities()).interventions:
            check_requests(can, "scripted", prompts, scoring)
        self.calls += bool(prompts)
        for at, prompt in enumerate(prompts):
            self.scored += 1
            if self._seconds:
                time.sleep(self._seconds)
            yield at, self._answer(prompt, scoring)

    def _answer(self, prompt: Request, scoring: ScoringSpec) -> Output:
        if self._script is not None:
            return self._script(prompt)
        draw = _draws(self.fingerprint, prompt)
        if next(draw) < self._errors:
            return error_output("scripted error")
        tokens = sum(4 if isinstance(p, FrameRef) else len(p.split()) for p in prompt.parts)
        if scoring.kind == "generate":
            text = self._text(prompt, scoring, draw)
            return Output(text=text, input_tokens=tokens, output_tokens=len(text.split()))
        weights = [next(draw) for _ in prompt.options]
        if self._policy == "first":
            weights.sort(reverse=True)
        total = math.log(sum(math.exp(5 * weight) for weight in weights)) if weights else 0.0
        lengths = [
            1 if scoring.kind == "letter" else max(1, len(option.split()))
            for option in prompt.options
        ]
        # A sum over tokens, as a model gives it; the mean per token is what was drawn.
        sums = [(5 * w - total) * n for w, n in zip(weights, lengths, strict=True)]
        return Output(
            option_logprobs=tuple(sums), option_tokens=tuple(lengths), input_tokens=tokens
        )

    def _text(self, prompt: Request, scoring: ScoringSpec, draw: Iterator[float]) -> str:
        if prompt.options:
            at = 0 if self._policy == "first" else int(next(draw) * len(prompt.options))
            return prompt.options[at]
        count = min(max(1, scoring.max_new_tokens), 6)
        return " ".join(WORDS[int(next(draw) * len(WORDS))] for _ in range(count))


def open_scripted(cfg: BackendSettings, spec: ModelSpec) -> ScriptedBackend:
    """Open the backend as configured."""
    return ScriptedBackend.from_options(spec, cfg.options)


def _draws(fingerprint: str, prompt: Request) -> Iterator[float]:
    """Yield numbers in [0, 1) that depend on fingerprint and content only."""
    parts = [[p.sha256] if isinstance(p, FrameRef) else p for p in prompt.parts]
    # Only where there are some: a plain request draws what it did before there were any.
    inside = [astuple(one) for one in (prompt.intervention, prompt.decoding) if one is not None]
    seed = sha256_json([fingerprint, parts, list(prompt.options), *inside])
    counter = 0
    while True:
        digest = hashlib.sha256(f"{seed}{counter}".encode()).digest()
        # 48 bits fit into a float's 53: the number is exact, and never rounded up to 1.
        yield int.from_bytes(digest[:6], "big") / 2**48
        counter += 1
