"""The arithmetic: embeddings with features in place, and the log-probabilities of options.

Shape suffixes: B sequences of a batch, T padded tokens, D hidden width, V vocabulary, N scored
tokens, A axes of a position (1 or 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probes.models.hf.prefix_packing import (
    PackedBatch,
    PackedPrompts,
    PromptPlaces,
    Target,
    one_answer_each,
    packed_batch,
)
from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import TokenizedPrompt
from probes.models.interventions import Collected, Hook, HookBatch, applied

Features = Mapping[str, torch.Tensor]


def score_options(
    model: Any,
    packed: Sequence[PackedPrompts],
    features: Features,
    *,
    masked: bool,
    hook: Hook | None = None,
) -> tuple[list[list[float]], Sequence[Collected]]:
    """Return the summed log-probability (nats) of every continuation, from one pass.

    With a mask of our own a token sees the shared prefix, its own prompt's suffix and its own
    continuation, and positions go on from what it sees. Measured on one CPU thread (2 M parameters,
    prompts of 144 tokens, 5 options of 4 tokens, no shared prefix), in prompts per second: this 78;
    the prompt's key-value cache with all options in a second pass 74, with a row per option 58;
    prompt and option in a row of their own 12. It also keeps no cache in memory.

    Without one, which some attention kernels do not take, a continuation has a sequence of its own,
    unless it is a single token: padding is at the right, where causal attention never looks.

    Args:
        model: of one of the families.
        packed: sequences; of one prompt each where there is no mask.
        features: of their frames.
        masked: whether the pass gets a mask.
        hook: of an intervention.

    Returns:
        For every prompt, in the order of the packed prompts, the sums of its continuations; and
        what the hook collected.
    """
    prompts = [prompt for one in packed for prompt in one.prompts]
    rows = packed if masked else one_answer_each(packed)
    batch = packed_batch(rows)
    given: dict[str, Any] = {}
    if masked:
        given["attention_mask"] = _packed_mask(model, batch)[:, None]
    # A model that is given positions but no mask looks for sequences in them that it must keep
    # apart; a count it makes by itself.
    if masked or len(batch.position_ABT) > 1:
        given["position_ids"] = as_ids(batch.position_ABT, model)
    seen = hook_batch(model, hook, prompts, batch, features, given)
    answers = list(chain.from_iterable(batch.targets))
    with applied(hook, model, seen) as collected:
        frames = [name for one in rows for name in one.frames]
        hidden_BTD = hidden_states(model, batch.ids_BT, frames, features, **given)
        each = iter(_answer_logprobs(model, hidden_BTD, answers, _alternatives(prompts, answers)))
        seen.logprobs = [[next(each) for _ in prompt.answers] for prompt in prompts]
    # Summed as Python's numbers: in float32 long options would lose digits.
    sums = [[sum(one.tolist()) for one in some] for some in seen.logprobs]
    return sums, collected


def _alternatives(
    prompts: Sequence[TokenizedPrompt], answers: Sequence[Sequence[Target]]
) -> list[list[Target]]:
    """Return, for every continuation, the tokens that it can be written as instead."""
    each = iter(answers)
    out: list[list[Target]] = []
    for prompt in prompts:
        others = prompt.alternatives or ((),) * len(prompt.answers)
        for tokens in others:
            sequence, place, _ = next(each)[0]
            out.append([(sequence, place, token) for token in tokens])
    return out


def _answer_logprobs(
    model: Any,
    hidden_BTD: torch.Tensor,
    answers: Sequence[Sequence[Target]],
    alternatives: Sequence[Sequence[Target]],
) -> list[torch.Tensor]:
    """Return the log-probabilities [tokens] of every continuation.

    Where it can be written in several ways, one number: the log of their summed probability.
    """
    targets = [*chain.from_iterable(answers), *chain.from_iterable(alternatives)]
    logprobs_N = _token_logprobs(model, hidden_BTD, targets)
    sizes = [*map(len, answers), *map(len, alternatives)]
    split = torch.split(logprobs_N, sizes)
    own, other = split[: len(answers)], split[len(answers) :]
    return [
        torch.cat([a, b]).logsumexp(0, keepdim=True) if len(b) else a
        for a, b in zip(own, other, strict=True)
    ]


def hook_batch(
    model: Any,
    hook: Hook | None,
    prompts: Sequence[TokenizedPrompt],
    batch: PackedBatch,
    features: Features,
    given: Mapping[str, Any],
) -> HookBatch:
    """Return a batch as a hook sees it: what it has not stated to need is left out."""
    needs = frozenset() if hook is None else hook.needs
    return HookBatch(
        prompts=prompts,
        ids_BT=batch.ids_BT,
        position_ABT=batch.position_ABT,
        places=by_prompt(batch.places, prompts),
        features=features,
        mask_B1TT=given["attention_mask"] if "mask" in needs else None,
        layers=model.get_decoder().layers if needs & {"mask", "layers"} else (),
    )


def by_prompt(
    places: Sequence[PromptPlaces], prompts: Sequence[TokenizedPrompt]
) -> list[PromptPlaces]:
    """Join the places of prompts whose continuations have sequences of their own."""
    out, each = [], iter(places)
    for prompt in prompts:
        first = next(each)
        answers = first.answers
        while len(answers) < len(prompt.answers):
            answers += next(each).answers
        out.append(PromptPlaces(first.prompt, answers))
    return out


def _packed_mask(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Return what is added to attention scores [B, T, T], which serves `eager` and `sdpa` alike."""
    prompt_BT = torch.from_numpy(batch.prompt_BT).to(model.device)
    answer_BT = torch.from_numpy(batch.answer_BT).to(model.device)
    seen_BTT = (prompt_BT[:, None, :] == 0) | (prompt_BT[:, None, :] == prompt_BT[:, :, None]) & (
        (answer_BT[:, None, :] == 0) | (answer_BT[:, None, :] == answer_BT[:, :, None])
    )
    # Causal by place: what a token sees is written before it, in the prefix or its own part.
    return additive(model, seen_BTT.tril())


def additive(model: Any, seen: torch.Tensor) -> torch.Tensor:
    """Return a mask that is added to attention scores: 0 where a key is seen."""
    # The least number, not infinity: a query that sees nothing would get NaN, which spreads.
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
    return mask.masked_fill_(~seen, torch.finfo(model.dtype).min)


def as_ids(position_ABT: NDArray[np.int64], model: Any) -> torch.Tensor:
    """Return positions as a model takes them: [B, T], or [3, B, T]."""
    position = torch.from_numpy(position_ABT).to(model.device)
    return position[0] if len(position) == 1 else position


def hidden_states(
    model: Any, ids_BT: NDArray[np.int64], frames: Sequence[str], features: Features, **more: Any
) -> torch.Tensor:
    """Return the last layer's states [B, T, D].

    Args:
        model: of one of the families.
        ids_BT: token ids; `FRAME` in every feature's place.
        frames: sha256 of the frames whose features those are, in their order.
        features: of all of them.
        more: further arguments of the model.
    """
    ids = torch.from_numpy(ids_BT).to(model.device)
    embeds_BTD: torch.Tensor = model.get_input_embeddings()(ids.clamp(min=0))
    if frames:
        shown = torch.cat([features[name] for name in frames])
        embeds_BTD[ids == FRAME] = shown.to(embeds_BTD)
    # A model that is spread over devices has its embeddings on any of them.
    more = {
        n: v.to(embeds_BTD.device) if isinstance(v, torch.Tensor) else v for n, v in more.items()
    }
    use_cache = "past_key_values" in more
    output = model.model(inputs_embeds=embeds_BTD, use_cache=use_cache, **more)
    hidden_BTD: torch.Tensor = output.last_hidden_state
    return hidden_BTD


def _token_logprobs(
    model: Any, hidden_BTD: torch.Tensor, targets: Sequence[Target]
) -> torch.Tensor:
    """Return the log-probability [N] of every target."""
    # All continuations of a prompt begin behind the same place.
    numbers = {where: n for n, where in enumerate(dict.fromkeys((b, t) for b, t, _ in targets))}
    sequences, places = map(list, zip(*numbers, strict=True))
    # In float32 whatever the weights' dtype: in 16 bits different options would tie.
    logprobs_NV = model.lm_head(hidden_BTD[sequences, places]).float().log_softmax(-1)
    which = [numbers[b, t] for b, t, _ in targets]
    logprobs_N: torch.Tensor = logprobs_NV[which, [token for *_, token in targets]]
    return logprobs_N
