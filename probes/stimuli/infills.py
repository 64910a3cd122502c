"""Infills: what may have happened between two frames, written in the study's two steps.

A generator sees two neighbouring frames and nothing else: question and options are not among the
arguments of anything here, so they cannot leak into the text. Two identical frames are asked about
like any others: "nothing changed" is for the model to say, and a fixed sentence of ours would be a
text that no model wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import pairwise
from typing import NamedTuple

from probes.core.hashing import sha256_json
from probes.core.prompt_set import PromptSet
from probes.core.replies import THINKING, split_thought
from probes.core.types import (
    EMPTY_REPLY,
    NO_INFILL,
    Clip,
    Decoding,
    FrameRef,
    Infill,
    InfillStatus,
    Output,
    Part,
    Request,
)
from probes.stimuli.templates import fill

Generate = Callable[[Sequence[Request], int], list[Output]]
"""(prompts, max_new_tokens) -> one Output per prompt, in the order of the prompts."""
FramePair = tuple[str, str]
"""(sha256 of frame t, sha256 of frame t+1)."""


def tidy(text: str) -> str:
    """Strip a reply and make every run of white space one space; nothing else is changed."""
    return " ".join(text.split())


def pairs(clips: Iterable[Clip]) -> list[FramePair]:
    """Return every pair of neighbouring frames once, in the order of first appearance.

    Frames on either side of a break are no neighbours.
    """
    found: dict[FramePair, None] = {}
    for clip in clips:
        for gap, pair in enumerate(pairwise(clip.hashes)):
            if gap not in clip.breaks:
                found[pair] = None
    return list(found)


def of(clip: Clip, written: Mapping[FramePair, Infill]) -> tuple[Infill, ...]:
    """Return a clip's infills, one per gap (frames - 1); KeyError where one was not written."""
    return tuple(
        NO_INFILL if gap in clip.breaks else written[pair]
        for gap, pair in enumerate(pairwise(clip.hashes))
    )


def by_pair(clip: Clip, gaps: Sequence[Infill]) -> dict[FramePair, Infill]:
    """Return a clip's infills by the frames on either side: what `of` was made of."""
    between = enumerate(pairwise(clip.hashes))
    return {pair: gaps[gap] for gap, pair in between if gap not in clip.breaks}


def generator_fingerprint(
    model: str,
    prompts: PromptSet,
    *,
    condenser: str = "",
    max_new_tokens: int,
    decoding: Decoding | None = None,
) -> str:
    """Return the identity of what writes infills.

    Args:
        model: fingerprint of the model that sees the frames.
        prompts: texts of the steps; only those that are used count.
        condenser: fingerprint of the condensing model; empty where there is none.
        max_new_tokens: length limit of every step.
        decoding: how texts are written, where not greedily.
    """
    steps = {"common": prompts.common, "event": prompts.event}
    # Only then: editing a prompt that nobody is asked must not write all infills anew.
    if condenser:
        steps["condense"] = prompts.condense
    content = {
        "model": model,
        "prompts": steps,
        "condenser": condenser,
        "max_new_tokens": max_new_tokens,
    }
    return sha256_json(content | ({"decoding": astuple(decoding)} if decoding else {}))


def write(
    pairs: Sequence[FramePair],
    generate: Generate,
    prompts: PromptSet,
    *,
    generator: str,
    max_new_tokens: int,
    decoding: Decoding | None = None,
) -> dict[FramePair, Infill]:
    """Write the infill of every pair: common attributes, then the event.

    Each step is one pass over all pairs, so that a backend can batch as it likes. A pair whose
    step fails or comes back empty drops out: it is never asked the next step, and never gets a
    longer or shorter text than its neighbours in the place of the one that failed.

    Args:
        pairs: neighbouring frames; repeats are written once.
        generate: the model that sees the frames.
        prompts: wording of the steps.
        generator: of `generator_fingerprint`; kept with every infill.
        max_new_tokens: length limit of every step.
        decoding: how both steps are written; None = greedily.

    Returns:
        One infill per distinct pair, in the order of first appearance.
    """

    def shown(template: str, pair: FramePair, **texts: str) -> Request:
        frames = {"frame_a": FrameRef(pair[0]), "frame_b": FrameRef(pair[1])}
        values: dict[str, Part] = {**frames, **texts}
        parts = fill(template, {name: [part] for name, part in values.items()})
        return Request(parts, decoding=decoding)

    asked = {pair: shown(prompts.common, pair) for pair in pairs}
    commons = _replies("common", asked, generate, max_new_tokens)
    goes_on = {pair: common.text for pair, common in commons.items() if common.status == "ok"}
    asked = {pair: shown(prompts.event, pair, common=text) for pair, text in goes_on.items()}
    # Pairs that dropped out at the first step keep that reply as their end.
    ends = commons | _replies("event", asked, generate, max_new_tokens)
    return {
        pair: Infill(end.text, commons[pair].text, end.text, generator, end.status, end.error)
        for pair, end in ends.items()
    }


def condensed(
    written: Mapping[FramePair, Infill],
    condense: Generate,
    prompts: PromptSet,
    *,
    max_new_tokens: int,
) -> dict[FramePair, Infill]:
    """Have a text model shorten the events of infills; those that have none stay as they are.

    Args:
        written: by pair of frames.
        condense: the model that shortens.
        prompts: wording of the step.
        max_new_tokens: its length limit.

    Returns:
        The infills with their final texts, in the same order.
    """
    asked = {
        pair: Request(fill(prompts.condense, {"text": (infill.event,)}))
        for pair, infill in written.items()
        if infill.ok
    }
    texts = _replies("condense", asked, condense, max_new_tokens)
    shorter = {
        pair: replace(written[pair], text=reply.text, status=reply.status, error=reply.error)
        for pair, reply in texts.items()
    }
    # `written` first: it keeps the order, and the infills that had nothing to shorten.
    return {**written, **shorter}


class StepReply(NamedTuple):
    """What a step gave for a pair: a text, or why there is none."""

    text: str
    status: InfillStatus
    error: str = ""


def _replies(
    step: str, asked: Mapping[FramePair, Request], model: Generate, max_new_tokens: int
) -> dict[FramePair, StepReply]:
    """Ask equal prompts once."""
    distinct = list(dict.fromkeys(asked.values()))
    # Where no prompt is left, a model need not even be loaded.
    outputs = model(distinct, max_new_tokens) if distinct else []
    replies = {
        prompt: _reply(step, output) for prompt, output in zip(distinct, outputs, strict=True)
    }
    return {pair: replies[prompt] for pair, prompt in asked.items()}


def _reply(step: str, output: Output) -> StepReply:
    if output.status != "ok":
        return StepReply("", "failed", f"{step}: {output.error or output.status}")
    # A text that was cut off serves, as an infill has a longest length; a thought is none.
    thought, answer = split_thought(output.text)
    if text := tidy(answer or ""):
        return StepReply(text, "ok")
    return StepReply("", "empty", f"{step}: {THINKING if thought else EMPTY_REPLY}")
