"""The one decode loop: a controller chooses, the model reads what was chosen.

Shape suffixes: B texts of a batch, T padded tokens, Q queries and K keys of a pass, V vocabulary,
A axes of a position (1 or 3).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from probes.models.base import NOT_NUMBERS
from probes.models.controllers import Controller, Greedy
from probes.models.hf.forward import Features, additive, as_ids, hidden_states, hook_batch
from probes.models.hf.prefix_packing import PackedBatch, Places, PromptPlaces
from probes.models.hf.token_layout import TokenizedPrompt, positions
from probes.models.interventions import Collected, Hook, applied, hooks_restored

KEEP_UNTIL = 0.75
"""Share of a batch that is still being written below which finished texts are taken out of it."""


@dataclass(slots=True)
class DecodingState:
    """Where a batch of texts is, for the controller that chooses their next tokens."""

    model: Any
    prompts: Sequence[TokenizedPrompt]
    """Of all texts, with ids, frames and spans."""
    ends: Collection[int]
    """Tokens that end a text."""
    ids: list[list[int]]
    """What is written of every text."""
    collected: list[Collected]
    """What a controller adds to the output of every text."""
    rows: list[int]
    """Which texts are still computed, row by row; some of them may have ended."""
    unfinished: set[int]
    """Texts that have not ended."""
    cache: Any
    """Keys and values of all that was read."""
    seen_BK: torch.Tensor | None
    """Which keys are no padding (bool); None where none is, which is the fast way through
    attention."""
    last_B1: torch.Tensor
    """Position of the last token that was read."""
    axes: int
    """Of positions."""
    explicit: bool
    """Whether passes get the whole mask, for a hook; it has to find every text in its row."""
    logits_BV: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """Of the next token, row by row, in the model's dtype."""
    broken: dict[int, str] = field(default_factory=dict)
    """Why texts have no answer, where logits were not numbers."""


def write(
    model: Any,
    prompts: Sequence[TokenizedPrompt],
    features: Features,
    *,
    max_new_tokens: int,
    ends: Collection[int],
    controller: Controller | None = None,
    hook: Hook | None = None,
) -> tuple[list[list[int] | str], list[Collected]]:
    """Write text until an end token, the controller's end, or `max_new_tokens`.

    Logits are taken as they are: penalties and sampling of a checkpoint's generation config do
    not apply.

    Args:
        model: of one of the families.
        prompts: what is continued.
        features: of their frames.
        max_new_tokens: at least 1.
        ends: tokens that end a text.
        controller: chooses the tokens; None for the likeliest.
        hook: of an intervention.

    Returns:
        Of every prompt its new ids, with the end token, or why it has none; and what was collected.

    Raises:
        TypeError, ValueError: logits of the wrong form, or both give one extra or array.
    """
    batch = _padded(prompts)
    state = _begin(model, prompts, batch, ends, explicit=hook is not None and "mask" in hook.needs)
    given = {
        "attention_mask": _mask(state, batch.ids_BT.shape[1]),
        "position_ids": as_ids(batch.position_ABT, model),
    }
    seen = hook_batch(model, hook, prompts, batch, features, given)
    with (
        nullcontext() if controller is None else hooks_restored(model),
        applied(hook, model, seen) as read,
    ):
        _read(state, batch.ids_BT, _frames(prompts), features, **given)
        steps = (controller or Greedy()).start(state)
        for number in range(max_new_tokens):
            logits_BV = steps.step(state)
            if logits_BV is None:
                break
            if controller is not None:
                _check(state, logits_BV)
            tokens = logits_BV.argmax(-1).tolist()
            _add(state, tokens)
            if not state.unfinished or number == max_new_tokens - 1:
                break
            if hook is None:
                tokens = _drop_finished(state, tokens)
            _read_written(state, tokens)
        seen.texts = state.ids
    _merge(state.collected, read)
    texts = [state.broken.get(at, ids) for at, ids in enumerate(state.ids)]
    return texts, state.collected


def _frames(prompts: Sequence[TokenizedPrompt]) -> list[str]:
    return [name for prompt in prompts for name in prompt.frames]


def _merge(own: Sequence[Collected], read: Sequence[Collected]) -> None:
    """Add what a hook collected to what a controller did."""
    for one, more in zip(own, read, strict=True):
        for twice in (
            one.extras.keys() & more.extras.keys(),
            one.arrays.keys() & more.arrays.keys(),
        ):
            if twice:
                raise ValueError(f"hook and controller both give {min(map(repr, twice))}")
        one.extras |= more.extras
        one.arrays |= more.arrays


def _check(state: DecodingState, logits_BV: Any) -> None:
    """Note the texts for which a controller gives no choice; raise where it gives no logits."""
    if not isinstance(logits_BV, torch.Tensor) or logits_BV.shape != state.logits_BV.shape:
        found = list(getattr(logits_BV, "shape", ())) or type(logits_BV).__name__
        raise TypeError(f"`step` gives {found}, not logits {list(state.logits_BV.shape)}")
    # The largest of a row with NaN is NaN.
    none_B = ~(logits_BV.amax(-1) > -torch.inf)
    own_B = none_B & ~state.logits_BV.isnan().any(-1)
    for text, is_broken in zip(state.rows, own_B.tolist(), strict=True):
        if is_broken and text in state.unfinished:
            state.broken[text] = "the decoding's logits are NaN, or -inf for every token"


def _padded(prompts: Sequence[TokenizedPrompt]) -> PackedBatch:
    """Write prompts into arrays, padded at the left, so that all texts grow at the same end."""
    width = max(len(prompt.ids) for prompt in prompts)
    each = [positions(prompt) for prompt in prompts]
    size = (len(prompts), width)
    batch = PackedBatch(
        ids_BT=np.zeros(size, np.int64),
        position_ABT=np.zeros((max(map(len, each)), *size), np.int64),
        prompt_BT=np.full(size, -1, np.int64),
        answer_BT=np.zeros(size, np.int64),
        targets=[],
        places=[],
    )
    for row, (prompt, position_AT) in enumerate(zip(prompts, each, strict=True)):
        start = width - len(prompt.ids)
        batch.ids_BT[row, start:] = prompt.ids
        # One without grids has the same position on all axes.
        batch.position_ABT[:, row, start:] = position_AT
        batch.prompt_BT[row, start:] = 0
        batch.places.append(PromptPlaces(Places(row, np.arange(start, width))))
    return batch


def _begin(
    model: Any,
    prompts: Sequence[TokenizedPrompt],
    batch: PackedBatch,
    ends: Collection[int],
    *,
    explicit: bool,
) -> DecodingState:
    from transformers import DynamicCache

    last_B = torch.from_numpy(batch.position_ABT.max((0, 2)))
    seen_BK = torch.from_numpy(batch.prompt_BT == 0)
    return DecodingState(
        model=model,
        prompts=prompts,
        ends=ends,
        ids=[[] for _ in prompts],
        collected=[Collected() for _ in prompts],
        rows=list(range(len(prompts))),
        unfinished=set(range(len(prompts))),
        cache=DynamicCache(config=model.config.get_text_config()),
        seen_BK=seen_BK.to(model.device) if explicit or not seen_BK.all() else None,
        last_B1=last_B[:, None].to(model.device),
        axes=len(batch.position_ABT),
        explicit=explicit,
    )


def _mask(state: DecodingState, queries: int) -> torch.Tensor | None:
    """Return the mask of a pass over the last keys: [B, K], or what is added [B, 1, Q, K]."""
    seen_BK = state.seen_BK
    if seen_BK is None or not state.explicit:
        return None if seen_BK is None else seen_BK.long()
    own_KK = torch.eye(seen_BK.shape[1], dtype=torch.bool, device=seen_BK.device)
    before_KK = torch.ones_like(own_KK).tril()
    # Padding sees itself, so that its (unused) attention is well defined.
    seen_BQK = (before_KK & seen_BK[:, None] | own_KK)[:, -queries:]
    return additive(state.model, seen_BQK)[:, None]


def _read(state: DecodingState, ids_BT: Any, frames: Any, features: Any, **given: Any) -> None:
    """Read tokens into the cache, and compute the logits behind the last of them."""
    hidden_BTD = hidden_states(
        state.model, ids_BT, frames, features, past_key_values=state.cache, **given
    )
    state.logits_BV = state.model.lm_head(hidden_BTD[:, -1])


def _read_written(state: DecodingState, tokens: Sequence[int]) -> None:
    """Read one more token of every row."""
    state.last_B1 = state.last_B1 + 1
    if (seen_BK := state.seen_BK) is not None:
        state.seen_BK = torch.cat([seen_BK, seen_BK.new_ones(len(seen_BK), 1)], 1)
    last_B1, axes = state.last_B1, state.axes
    _read(
        state,
        np.array(tokens, np.int64)[:, None],
        (),
        {},
        attention_mask=_mask(state, 1),
        position_ids=last_B1 if axes == 1 else last_B1.expand(axes, -1, -1),
    )


def _add(state: DecodingState, tokens: Sequence[int]) -> None:
    """Add one token to every unfinished text, and note which texts end with it."""
    broken = state.logits_BV.isnan().any(-1).tolist()
    for text, token, is_broken in zip(state.rows, tokens, broken, strict=True):
        if text not in state.unfinished:
            continue
        state.ids[text].append(token)
        if is_broken:
            state.broken[text] = NOT_NUMBERS
        if text in state.broken or token in state.ends:
            state.unfinished.remove(text)


def _drop_finished(state: DecodingState, tokens: list[int]) -> list[int]:
    """Take finished texts out of the batch where they are many; return the tokens of the others.

    They do not leave one by one, as that would copy the cache each time.
    """
    going = [row for row, text in enumerate(state.rows) if text in state.unfinished]
    if len(going) > KEEP_UNTIL * len(state.rows):
        return tokens
    keep = torch.tensor(going, device=state.last_B1.device)
    state.cache.batch_select_indices(keep)  # copies what stays
    state.last_B1 = state.last_B1[keep]
    if state.seen_BK is not None:
        state.seen_BK = state.seen_BK[keep]
    state.rows = [state.rows[row] for row in going]
    return [tokens[row] for row in going]
