"""What a loaded class allows, found out by comparing its own passes: see `prove`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.core.types import FrameArray, FrameRef, Request
from probes.models.hf.families.generic_prompts import ONE, GenericModel
from probes.models.hf.shared_features import (
    TOLERANCE,
    Composition,
    FeatureMethods,
    FrameFeatures,
    compose,
    kept,
    learn,
    made_of,
    pixel_sums,
)

if TYPE_CHECKING:
    import torch

_NATS = {"float32": 1e-3}
"""By dtype: by how much a log-probability of a likely token may differ; else `_NATS_16_BITS`."""
_NATS_16_BITS = 0.25
_LIKELY = 20
"""How many tokens are compared: those that come first."""
_FRAME = FrameRef("0" * 64)
_TEXTS = ("One.", "Two is what follows it, and a few words more.")


@dataclass(frozen=True, slots=True)
class Proven:
    """How a model may be run."""

    methods: FeatureMethods | None = None
    recipe: Composition | None = None
    """How features of frames are put together; None: its frames are not encoded once."""
    whole: str = ""
    """Why they are not; empty where they are."""
    alone: str = ""
    """Why prompts are run one by one; empty where they are run in batches."""


def prove(model: Any, reader: GenericModel) -> Proven:
    """Compare passes of a model on made prompts.

    Frames are encoded once where features made of those of single frames equal those of a prompt of
    three, and so do the log-probabilities of its next token. Prompts are run in batches where
    those of two prompts of different length equal those of each alone.
    """
    small, wide, other = (
        _frame(seed, size) for seed, size in enumerate([(96, 128)] * 2 + [(128, 96)])
    )
    frames, prompt = [small, wide, other], Request((_FRAME, _TEXTS[0], _FRAME, _FRAME, _TEXTS[1]))
    methods, recipe, whole = None, None, ""
    try:
        methods = FeatureMethods(model)
        recipe = _proven_recipe(model, reader, methods, frames, prompt)
    except Exception as error:  # whatever a class fails with: it is run whole then
        whole = str(error) or type(error).__name__
    alone = ""
    try:
        _prove_batches(model, reader, [[small], [wide, other]])
        _prove_batches(model, reader, [[], []])
    except Exception as error:
        alone = str(error) or type(error).__name__
    return Proven(methods, recipe, whole, alone)


def logprobs(model: Any, inputs: Any, count: int) -> torch.Tensor:
    """Return log-probabilities [batch, count + 1, vocabulary]: of the last tokens and of the next.

    Args:
        model: of transformers.
        inputs: padded on the left, on the model's device.
        count: how many of the last tokens.
    """
    # The first of the tokens is read off the place before it. Not every class can leave out the
    # other places, whose logits take gigabytes for a long prompt.
    keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
    logits_BTV = model(**inputs, **({"logits_to_keep": count + 1} if keeps else {})).logits
    # The place before a token predicts it; float32, as sums over 16 bits are too coarse.
    found: torch.Tensor = logits_BTV[:, -count - 1 :].float().log_softmax(-1).cpu()
    return found


def encoder(
    model: Any, reader: GenericModel, methods: FeatureMethods, recipe: Composition | None
) -> Callable[[Sequence[FrameArray]], list[FrameFeatures]]:
    """Return a function that has the class compute the features of frames, each alone."""
    text = reader.render(ONE)

    def encode(frames: Sequence[FrameArray]) -> list[FrameFeatures]:
        found = []
        for frame in frames:
            inputs = reader.batch([text], [[frame]])
            sums = pixel_sums(inputs)
            value = methods.computed(inputs.to(model.device, model.dtype))
            found.append(FrameFeatures(kept(value, recipe), sums))
        return found

    return encode


def _proven_recipe(
    model: Any,
    reader: GenericModel,
    methods: FeatureMethods,
    frames: Sequence[FrameArray],
    prompt: Request,
) -> Composition:
    inputs = reader.batch([reader.render(prompt)], [frames])
    single = encoder(model, reader, methods, None)(frames)
    if not made_of(pixel_sums(inputs), [one.pixels for one in single]):
        raise ValueError("its processor prepares a frame otherwise where a prompt has several")
    inputs = inputs.to(model.device, model.dtype)
    values = [one.value for one in single]
    recipe = learn(methods.computed(inputs), values, TOLERANCE[_dtype(model)])
    expected = logprobs(model, inputs, 0)
    with methods.serving(compose(recipe, values)):
        _compare(model, logprobs(model, inputs, 0), expected, "the class needs more than features")
    return recipe


def _prove_batches(model: Any, reader: GenericModel, shown: Sequence[Sequence[FrameArray]]) -> None:
    """Raise unless two prompts get the same log-probabilities together as alone."""
    texts = [
        reader.render(Request((*[_FRAME] * len(frames), text)))
        for frames, text in zip(shown, _TEXTS, strict=True)
    ]
    both = logprobs(model, reader.batch(texts, shown).to(model.device, model.dtype), 0)
    for at, (text, frames) in enumerate(zip(texts, shown, strict=True)):
        inputs = reader.batch([text], [frames]).to(model.device, model.dtype)
        _compare(model, both[at : at + 1], logprobs(model, inputs, 0), "padding changes answers")


def _compare(model: Any, found: Any, expected: Any, reason: str) -> None:
    likely = expected.topk(_LIKELY).indices
    apart = float((found.gather(-1, likely) - expected.gather(-1, likely)).abs().max())
    # Not "greater": what is no number compares with nothing.
    if not apart <= _NATS.get(_dtype(model), _NATS_16_BITS):
        raise ValueError(f"{reason} (by {apart:.2g} nats)")


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")


def _frame(seed: int, size: tuple[int, int]) -> FrameArray:
    height, width = size
    slope = np.linspace(0, 180, width)[None, :, None] * np.ones((height, 1, 3))
    noise = np.random.default_rng(seed).integers(0, 75, (height, width, 3))
    return (slope + noise).astype(np.uint8)
