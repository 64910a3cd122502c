"""The arithmetic: embeddings with features in place, next tokens, continuations, greedy text.

Shape suffixes: B batch, T padded tokens, D hidden width, V vocabulary, O options, N scored tokens,
A axes of a position (1 or 3).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probes.models.hf.prefix_packing import PackedPrompts
from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import TokenizedPrompt, positions

Features = Mapping[str, torch.Tensor]

KEEP_UNTIL = 0.75
"""Share of a batch that is still being written below which finished rows are taken out of it."""


def next_token(
    model: Any, rows: Sequence[TokenizedPrompt], features: Features
) -> list[list[float]]:
    """Return the log-probability (nats) of every one-token answer, over the whole vocabulary.

    Padding stands at the right, where causal attention never looks: no mask is needed, and a
    prompt's numbers are those it has alone.
    """
    ids_BT = _padded([row.ids for row in rows])
    hidden_BTD = _hidden(model, ids_BT, _frames(rows), features, **_grid_positions(rows))
    last_B = [len(row.ids) - 1 for row in rows]
    logits_BV = model.lm_head(hidden_BTD[torch.arange(len(rows)), last_B])
    logprobs_BV = logits_BV.float().log_softmax(-1).cpu()
    return [
        [float(logprobs_V[answer[0]]) for answer in row.answers]
        for row, logprobs_V in zip(rows, logprobs_BV, strict=True)
    ]


def packed_answers(
    model: Any, bundles: Sequence[PackedPrompts], features: Features
) -> list[list[float]]:
    """Return the summed log-probability of every continuation, one pass over each bundle.

    Behind the trunk of a bundle stand its branches one after the other, and behind each branch its
    continuations. A token sees the trunk, its own branch and its own continuation, and positions go
    on from what it sees. Measured on one CPU thread (2 M parameters, prompts of 144 tokens, 5
    options of 4 tokens, a prompt a bundle), in prompts per second: this 78; the prompt's key-value
    cache with all options in a second pass 74, with a row per option 58; prompt and option in a row
    of their own 12. It also keeps no cache in memory.

    Returns:
        For every row of every bundle, in their order, the sums of its continuations.
    """
    size = (len(bundles), max(bundle.tokens for bundle in bundles))
    ids_BT = np.zeros(size, np.int64)
    # Padding is a branch of its own, which keeps its (unused) attention well defined.
    branch_BT, answer_BT = np.full(size, -1, np.int64), np.zeros(size, np.int64)
    each = [[positions(row) for row in bundle.rows] for bundle in bundles]
    axes = max(len(one) for ones in each for one in ones)
    position_ABT = np.zeros((axes, *size), np.int64)
    targets: list[list[list[tuple[int, int, int]]]] = []  # by row and continuation
    for at, bundle in enumerate(bundles):
        shared_prefix = end = bundle.shared_prefix
        ids_BT[at, :shared_prefix] = bundle.rows[0].ids[:shared_prefix]
        position_ABT[:, at, :shared_prefix] = each[at][0][:, :shared_prefix]
        branch_BT[at, :shared_prefix] = 0
        for number, (row, position) in enumerate(zip(bundle.rows, each[at], strict=True), 1):
            start, end = end, end + len(row.ids) - shared_prefix
            ids_BT[at, start:end] = row.ids[shared_prefix:]
            position_ABT[:, at, start:end] = position[:, shared_prefix:]
            branch_BT[at, start:end] = number
            last = end - 1 if end > start else shared_prefix - 1
            behind, mine = position.max() + 1, []
            for which, answer in enumerate(row.answers, 1):
                start, end = end, end + len(answer) - 1  # nothing is read off its last token
                ids_BT[at, start:end] = answer[:-1]
                position_ABT[:, at, start:end] = behind + np.arange(end - start)
                branch_BT[at, start:end], answer_BT[at, start:end] = number, which
                before = (last, *range(start, end))
                mine.append(
                    [(at, place, token) for place, token in zip(before, answer, strict=True)]
                )
            targets.append(mine)
    suffix = torch.from_numpy(branch_BT).to(model.device)
    answer_of = torch.from_numpy(answer_BT).to(model.device)
    seen_BTT = (suffix[:, None, :] == 0) | (suffix[:, None, :] == suffix[:, :, None]) & (
        (answer_of[:, None, :] == 0) | (answer_of[:, None, :] == answer_of[:, :, None])
    )
    # Added to the attention scores, which serves `eager` and `sdpa` alike.
    mask_BTT = torch.zeros(size[:1] + size[1:] * 2, dtype=model.dtype, device=model.device)
    mask_BTT.masked_fill_(~seen_BTT.tril(), torch.finfo(model.dtype).min)
    hidden_BTD = _hidden(
        model,
        ids_BT,
        [name for bundle in bundles for name in bundle.frames],
        features,
        attention_mask=mask_BTT[:, None],
        position_ids=_as_ids(position_ABT, model),
    )
    flat = [target for mine in targets for answer in mine for target in answer]
    scores = iter(_token_logprobs(model, hidden_BTD, flat))
    return [[sum(next(scores) for _ in answer) for answer in mine] for mine in targets]


def plain_answers(
    model: Any, rows: Sequence[TokenizedPrompt], features: Features
) -> list[list[float]]:
    """Return the same as `packed_answers` with one row per continuation.

    For attention kernels that take no mask of their own (flash attention, sliding windows).
    """
    pairs = [(at, answer) for at, row in enumerate(rows) for answer in row.answers]
    alone = [
        TokenizedPrompt(rows[at].ids + answer, rows[at].frames, rows[at].grids)
        for at, answer in pairs
    ]
    ids_BT = _padded([row.ids for row in alone])
    hidden_BTD = _hidden(model, ids_BT, _frames(alone), features, **_grid_positions(alone))
    targets = [
        (at, len(row.ids) - len(answer) - 1 + number, token)
        for at, (row, (_, answer)) in enumerate(zip(alone, pairs, strict=True))
        for number, token in enumerate(answer)
    ]
    scores = iter(_token_logprobs(model, hidden_BTD, targets))
    sums: list[list[float]] = [[] for _ in rows]
    for at, answer in pairs:
        sums[at].append(sum(next(scores) for _ in answer))
    return sums


def greedy(
    model: Any,
    rows: Sequence[TokenizedPrompt],
    features: Features,
    *,
    max_new_tokens: int,
    ends: Container[int],
) -> list[list[int] | None]:
    """Write text: the likeliest token at every step, until an end token or `max_new_tokens`.

    Logits are taken as they are: penalties and sampling of a checkpoint's generation config do
    not apply.

    Returns:
        For every row its new ids, the end token included; None where logits were not numbers.
    """
    from transformers import DynamicCache

    device = model.device
    width = max(len(row.ids) for row in rows)
    # Padding stands at the left here, so that all rows grow at the same end.
    pads = [width - len(row.ids) for row in rows]
    place_BT = torch.arange(width, device=device) - torch.tensor(pads, device=device)[:, None]
    # Without padding no mask is passed, which is the fast way through attention.
    mask_BT = (place_BT >= 0).long() if any(pads) else None
    position_ABT = _pad([positions(row) for row in rows], width, left=True)
    last_B1 = torch.from_numpy(position_ABT.max((0, 2)))[:, None].to(device)
    axes = len(position_ABT)
    cache = DynamicCache(config=model.config.get_text_config())
    hidden_BTD = _hidden(
        model,
        _padded([(0,) * pad + row.ids for pad, row in zip(pads, rows, strict=True)]),
        _frames(rows),
        features,
        past_key_values=cache,
        attention_mask=mask_BT,
        position_ids=_as_ids(position_ABT, model),
    )
    in_batch = list(range(len(rows)))
    open_rows, broken = set(in_batch), set()
    written: list[list[int]] = [[] for _ in rows]
    for step in range(max_new_tokens):
        logits_BV = model.lm_head(hidden_BTD[:, -1])
        tokens = logits_BV.argmax(-1).tolist()
        unfit = logits_BV.isnan().any(-1).tolist()
        for at, row in enumerate(in_batch):
            if row not in open_rows:
                continue
            written[row].append(tokens[at])
            if unfit[at]:
                broken.add(row)
            if unfit[at] or tokens[at] in ends:
                open_rows.remove(row)
        if not open_rows or step == max_new_tokens - 1:
            break
        going = [at for at, row in enumerate(in_batch) if row in open_rows]
        # Finished rows leave the batch; not each at once, as that copies the cache.
        if len(going) <= KEEP_UNTIL * len(in_batch):
            keep = torch.tensor(going, device=device)
            cache.batch_select_indices(keep)
            last_B1 = last_B1[keep]
            mask_BT = mask_BT[keep] if mask_BT is not None else None
            tokens = [tokens[at] for at in going]
            in_batch = [in_batch[at] for at in going]
        last_B1 = last_B1 + 1
        if mask_BT is not None:
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], 1)
        hidden_BTD = _hidden(
            model,
            np.array(tokens, np.int64)[:, None],
            (),
            features,
            past_key_values=cache,
            attention_mask=mask_BT,
            position_ids=last_B1 if axes == 1 else last_B1.expand(axes, -1, -1),
        )
    return [None if at in broken else ids for at, ids in enumerate(written)]


def _pad(each: Sequence[NDArray[np.int64]], width: int, *, left: bool = False) -> NDArray[np.int64]:
    """Stack positions [A, tokens] to [A, B, T]; padding has position 0.

    A row without grids has the same position on all axes.
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


def _grid_positions(rows: Sequence[TokenizedPrompt]) -> dict[str, Any]:
    """Return positions for rows padded at the right, where they are more than a count.

    A model counts by itself, and where it does, it needs no mask.
    """
    each = [positions(row) for row in rows]
    if max(map(len, each)) == 1:
        return {}
    return {"position_ids": torch.from_numpy(_pad(each, max(len(row.ids) for row in rows)))}


def _padded(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Stack ids to [B, T], padded at the right."""
    ids_BT = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    for at, sequence in enumerate(sequences):
        ids_BT[at, : len(sequence)] = sequence
    return ids_BT


def _frames(rows: Sequence[TokenizedPrompt]) -> list[str]:
    return [name for row in rows for name in row.frames]


def _hidden(
    model: Any, ids_BT: NDArray[np.int64], frames: Sequence[str], features: Features, **more: Any
) -> torch.Tensor:
    """Return the last layer's states [B, T, D].

    Args:
        model: of one of the families.
        ids_BT: token ids; `FRAME` wherever a feature stands.
        frames: sha256 of the frames whose features those are, in their order.
        features: of all of them.
        more: goes to the model.
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


def _token_logprobs(
    model: Any, hidden_BTD: torch.Tensor, targets: Sequence[tuple[int, int, int]]
) -> list[float]:
    """Return the log-probability of each (row, place, token), the token behind that place."""
    # All continuations of a prompt begin behind the same place.
    numbers = {where: n for n, where in enumerate(dict.fromkeys((b, t) for b, t, _ in targets))}
    rows, places = map(list, zip(*numbers, strict=True))
    logprobs_NV = model.lm_head(hidden_BTD[rows, places]).float().log_softmax(-1)
    which = [numbers[b, t] for b, t, _ in targets]
    scores: list[float] = logprobs_NV[which, [token for *_, token in targets]].tolist()
    return scores
