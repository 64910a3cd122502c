"""The fields of a request, and what a refusal of one of them asks the user to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from probes.core.types import Decoding, Scoring, ScoringSpec
from probes.models.server.options import ServerOptions

LENGTHS = ("max_tokens", "max_completion_tokens")
"""Fields of the longest length of a reply, in the order in which they are tried: all servers but
OpenAI's own take the first, whose newer models take the second only."""
_SAMPLING = ("temperature", "top_p", "seed")
WITHOUT_LOGPROBS = "set scoring=generate: the letter is then read strictly from the reply"
"""The way out where there are no log-probabilities."""


def body(
    model: str,
    messages: list[dict[str, Any]],
    scoring: ScoringSpec,
    *,
    length: str,
    options: ServerOptions,
    decoding: Decoding | None = None,
) -> dict[str, Any]:
    """Return what is sent.

    Args:
        model: the server's name of the model.
        messages: the prompt.
        scoring: how it is answered.
        length: the field of the longest length, one of `LENGTHS`.
        options: `extra` replaces fields of ours, and takes out those that it sets to null.
        decoding: of the controller `sample`, whose parameters are fields of the protocol.
    """
    extra = options.extra
    made: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0}
    if not extra.keys() & set(LENGTHS):  # two of them would contradict each other
        made[length] = 1 if scoring.kind == "letter" else scoring.max_new_tokens
    if scoring.kind == "letter":
        made |= {"logprobs": True, "top_logprobs": options.top_logprobs}
    made |= dict(extra)
    if decoding is not None:
        # Last: under a seed of the user's all draws would be one text.
        made |= {name: value for name, value in decoding.params if name in _SAMPLING}
    return {name: value for name, value in made.items() if value is not None}


def wants_other(refusal: str, body: Mapping[str, Any]) -> bool:
    """Return whether a refusal asks for the other field of the longest length than was sent."""
    # By its text: OpenAI's status, 400, and its code say only that some parameter is unsupported.
    return LENGTHS[1] in refusal and LENGTHS[0] in body


def fix(refusal: str, scoring: Scoring) -> str:
    """Return what a server's message asks the user to do; empty where that is not known."""
    if scoring == "letter" and re.search("log_?prob", refusal, re.IGNORECASE):
        fewer = "; or, if it lists fewer tokens, lower backend.options.top_logprobs"
        return WITHOUT_LOGPROBS + (fewer if "top_logprobs" in refusal else "")
    if LENGTHS[1] in refusal:
        return "set backend.options.extra={max_tokens: null, max_completion_tokens: N}"
    if "temperature" in refusal:
        return (
            "set backend.options.extra={temperature: null} to send none; where the server then"
            " samples, answers differ from run to run"
        )
    return ""
