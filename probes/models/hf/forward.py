"""The arithmetic: embeddings with features in place, next tokens, continuations, greedy text.

Shape suffixes: B sequences of a batch, T padded tokens, D hidden width, V vocabulary, N scored
tokens, A axes of a position (1 or 3).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probes.models.hf.prefix_packing import PackedBatch, PackedPrompts, Target, packed_batch
from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import TokenizedPrompt, positions

Features = Mapping[str, torch.Tensor]

KEEP_UNTIL = 0.75
"""Share of a batch that is still being written below which finished texts are taken out of it."""


def next_token(
    model: Any, prompts: Sequence[TokenizedPrompt], features: Features
) -> list[list[float]]:
    """Return the log-probability (nats) of every one-token answer, over the whole vocabulary.

    Padding is at the right, where causal attention never looks: no mask is needed, and a prompt's
    numbers are those it has alone.
    """
    ids_BT = _padded([prompt.ids for prompt in prompts])
    hidden_BTD = _hidden(model, ids_BT, _frames(prompts), features, **_grid_positions(prompts))
    last_B = [len(prompt.ids) - 1 for prompt in prompts]
    logits_BV = model.lm_head(hidden_BTD[torch.arange(len(prompts)), last_B])
    logprobs_BV = logits_BV.float().log_softmax(-1).cpu()
    return [
        [float(logprobs_V[answer[0]]) for answer in prompt.answers]
        for prompt, logprobs_V in zip(prompts, logprobs_BV, strict=True)
    ]


def packed_answers(
    model: Any, packed: Sequence[PackedPrompts], features: Features
) -> list[list[float]]:
    """Return the summed log-probability of every continuation, one pass over packed prompts.

    A token sees the shared prefix, its own prompt's suffix and its own continuation, and positions
    go on from what it sees. Measured on one CPU thread (2 M parameters, prompts of 144 tokens, 5
    options of 4 tokens, no shared prefix), in prompts per second: this 78; the prompt's key-value
    cache with all options in a second pass 74, with a row per option 58; prompt and option in a row
    of their own 12. It also keeps no cache in memory.

    Returns:
        For every prompt, in the order of the packed prompts, the sums of its continuations.
    """
    batch = packed_batch(packed)
    hidden_BTD = _hidden(
        model,
        batch.ids_BT,
        [name for one in packed for name in one.frames],
        features,
        attention_mask=_packed_mask(model, batch)[:, None],
        position_ids=_as_ids(batch.position_ABT, model),
    )
    flat = [target for some in batch.targets for answer in some for target in answer]
    scores = iter(_token_logprobs(model, hidden_BTD, flat))
    return [[sum(next(scores) for _ in answer) for answer in some] for some in batch.targets]


def _packed_mask(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Return what is added to attention scores [B, T, T], which serves `eager` and `sdpa` alike."""
    prompt_BT = torch.from_numpy(batch.prompt_BT).to(model.device)
    answer_BT = torch.from_numpy(batch.answer_BT).to(model.device)
    seen_BTT = (prompt_BT[:, None, :] == 0) | (prompt_BT[:, None, :] == prompt_BT[:, :, None]) & (
        (answer_BT[:, None, :] == 0) | (answer_BT[:, None, :] == answer_BT[:, :, None])
    )
    mask_BTT = torch.zeros(seen_BTT.shape, dtype=model.dtype, device=model.device)
    return mask_BTT.masked_fill_(~seen_BTT.tril(), torch.finfo(model.dtype).min)


def plain_answers(
    model: Any, prompts: Sequence[TokenizedPrompt], features: Features
) -> list[list[float]]:
    """Return the same as `packed_answers` with one sequence per continuation.

    For attention kernels that take no mask of their own (flash attention, sliding windows).
    """
    pairs = [(at, answer) for at, prompt in enumerate(prompts) for answer in prompt.answers]
    joined = [
        TokenizedPrompt(prompts[at].ids + answer, prompts[at].frames, prompts[at].grids)
        for at, answer in pairs
    ]
    ids_BT = _padded([one.ids for one in joined])
    hidden_BTD = _hidden(model, ids_BT, _frames(joined), features, **_grid_positions(joined))
    targets = [
        (at, len(one.ids) - len(answer) - 1 + number, token)
        for at, (one, (_, answer)) in enumerate(zip(joined, pairs, strict=True))
        for number, token in enumerate(answer)
    ]
    scores = iter(_token_logprobs(model, hidden_BTD, targets))
    sums: list[list[float]] = [[] for _ in prompts]
    for at, answer in pairs:
        sums[at].append(sum(next(scores) for _ in answer))
    return sums


def greedy(
    model: Any,
    prompts: Sequence[TokenizedPrompt],
    features: Features,
    *,
    max_new_tokens: int,
    ends: Container[int],
) -> list[list[int] | None]:
    """Write text: the likeliest token at every step, until an end token or `max_new_tokens`.

    Logits are taken as they are: penalties and sampling of a checkpoint's generation config do
    not apply.

    Returns:
        For every prompt its new ids, the end token included; None where logits were not numbers.
    """
    writing, hidden_BTD = _read_prompts(model, prompts, features)
    texts = _GreedyTexts(ids=[[] for _ in prompts], unfinished=set(range(len(prompts))))
    for step in range(max_new_tokens):
        logits_BV = model.lm_head(hidden_BTD[:, -1])
        tokens = logits_BV.argmax(-1).tolist()
        texts.add(writing.in_batch, tokens, logits_BV.isnan().any(-1).tolist(), ends)
        if not texts.unfinished or step == max_new_tokens - 1:
            break
        tokens = _drop_finished(writing, texts.unfinished, tokens)
        hidden_BTD = _decode_step(model, writing, tokens)
    return [None if at in texts.broken else ids for at, ids in enumerate(texts.ids)]


@dataclass(slots=True)
class _GreedyTexts:
    """What greedy decoding has written so far, by prompt."""

    ids: list[list[int]]
    unfinished: set[int]
    broken: set[int] = field(default_factory=set)
    """Prompts whose logits were not numbers."""

    def add(
        self,
        in_batch: Sequence[int],
        tokens: Sequence[int],
        broken: Sequence[bool],
        ends: Container[int],
    ) -> None:
        """Add one token to every unfinished text, and note which texts end with it."""
        for prompt, token, is_broken in zip(in_batch, tokens, broken, strict=True):
            if prompt not in self.unfinished:
                continue
            self.ids[prompt].append(token)
            if is_broken:
                self.broken.add(prompt)
            if is_broken or token in ends:
                self.unfinished.remove(prompt)


@dataclass(slots=True)
class _Writing:
    """The batch that greedy decoding goes on with."""

    in_batch: list[int]
    """Which prompts are in it."""
    cache: Any
    """Keys and values of all that was read."""
    mask_BT: torch.Tensor | None
    """None without padding, which is the fast way through attention."""
    last_B1: torch.Tensor
    """Position of the last token that was read."""
    axes: int


def _read_prompts(
    model: Any, prompts: Sequence[TokenizedPrompt], features: Features
) -> tuple[_Writing, torch.Tensor]:
    """Read whole prompts into a new key-value cache; also return their states [B, T, D]."""
    from transformers import DynamicCache

    device = model.device
    width = max(len(prompt.ids) for prompt in prompts)
    # Padding is at the left here, so that all texts grow at the same end.
    pads = [width - len(prompt.ids) for prompt in prompts]
    place_BT = torch.arange(width, device=device) - torch.tensor(pads, device=device)[:, None]
    position_ABT = _pad([positions(prompt) for prompt in prompts], width, left=True)
    writing = _Writing(
        in_batch=list(range(len(prompts))),
        cache=DynamicCache(config=model.config.get_text_config()),
        mask_BT=(place_BT >= 0).long() if any(pads) else None,
        last_B1=torch.from_numpy(position_ABT.max((0, 2)))[:, None].to(device),
        axes=len(position_ABT),
    )
    hidden_BTD = _hidden(
        model,
        _padded([(0,) * pad + one.ids for pad, one in zip(pads, prompts, strict=True)]),
        _frames(prompts),
        features,
        past_key_values=writing.cache,
        attention_mask=writing.mask_BT,
        position_ids=_as_ids(position_ABT, model),
    )
    return writing, hidden_BTD


def _drop_finished(
    writing: _Writing, unfinished: Container[int], tokens: Sequence[int]
) -> list[int]:
    """Take finished texts out of the batch where they are many; return the tokens of the others.

    They do not leave one by one, as that would copy the cache each time.
    """
    going = [at for at, prompt in enumerate(writing.in_batch) if prompt in unfinished]
    if len(going) > KEEP_UNTIL * len(writing.in_batch):
        return list(tokens)
    keep = torch.tensor(going, device=writing.last_B1.device)
    writing.cache.batch_select_indices(keep)
    writing.last_B1 = writing.last_B1[keep]
    if writing.mask_BT is not None:
        writing.mask_BT = writing.mask_BT[keep]
    writing.in_batch = [writing.in_batch[at] for at in going]
    return [tokens[at] for at in going]


def _decode_step(model: Any, writing: _Writing, tokens: Sequence[int]) -> torch.Tensor:
    """Read one more token of every text in the batch; return the states [B, 1, D]."""
    writing.last_B1 = writing.last_B1 + 1
    if (mask_BT := writing.mask_BT) is not None:
        writing.mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], 1)
    last_B1, axes = writing.last_B1, writing.axes
    return _hidden(
        model,
        np.array(tokens, np.int64)[:, None],
        (),
        {},
        past_key_values=writing.cache,
        attention_mask=writing.mask_BT,
        position_ids=last_B1 if axes == 1 else last_B1.expand(axes, -1, -1),
    )


def _pad(each: Sequence[NDArray[np.int64]], width: int, *, left: bool = False) -> NDArray[np.int64]:
    """Stack positions [A, tokens] to [A, B, T]; padding has position 0.

    A prompt without grids has the same position on all axes.
    """
    axes = max(map(len, each))
    out_ABT = np.zeros((axes, len(each), width), np.int64)
    for at, one in enumerate(each):
        size = one.shape[1]
        out_ABT[:, at, slice(width - size, None) if left else slice(size)] = one
    return out_ABT


def _as_ids(position_ABT: NDArray[np.int64], model: Any) -> torch.Tensor:
    """Return positions as a model takes them: [B, T], or [3, B, T]."""
    position = torch.from_numpy(position_ABT).to(model.device)
    return position[0] if len(position) == 1 else position


def _grid_positions(prompts: Sequence[TokenizedPrompt]) -> dict[str, Any]:
    """Return positions for prompts padded at the right, where they are more than a count.

    A model counts by itself, and where it does, it needs no mask.
    """
    each = [positions(prompt) for prompt in prompts]
    if max(map(len, each)) == 1:
        return {}
    width = max(len(prompt.ids) for prompt in prompts)
    return {"position_ids": torch.from_numpy(_pad(each, width))}


def _padded(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Stack ids to [B, T], padded at the right."""
    ids_BT = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    for at, sequence in enumerate(sequences):
        ids_BT[at, : len(sequence)] = sequence
    return ids_BT


def _frames(prompts: Sequence[TokenizedPrompt]) -> list[str]:
    return [name for prompt in prompts for name in prompt.frames]


def _hidden(
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
    more = {
        n: v.to(embeds_BTD.device) if isinstance(v, torch.Tensor) else v for n, v in more.items()
    }
    use_cache = "past_key_values" in more
    output = model.model(inputs_embeds=embeds_BTD, use_cache=use_cache, **more)
    hidden_BTD: torch.Tensor = output.last_hidden_state
    return hidden_BTD


def _token_logprobs(model: Any, hidden_BTD: torch.Tensor, targets: Sequence[Target]) -> list[float]:
    """Return the log-probability of every target."""
    # All continuations of a prompt begin behind the same place.
    numbers = {where: n for n, where in enumerate(dict.fromkeys((b, t) for b, t, _ in targets))}
    sequences, places = map(list, zip(*numbers, strict=True))
    logprobs_NV = model.lm_head(hidden_BTD[sequences, places]).float().log_softmax(-1)
    which = [numbers[b, t] for b, t, _ in targets]
    scores: list[float] = logprobs_NV[which, [token for *_, token in targets]].tolist()
    return scores
