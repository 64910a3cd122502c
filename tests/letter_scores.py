"""Scores of letters by a tokenizer alone; nothing here knows of probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def letter_ids(tokenizer: Any, letter: str) -> list[int]:
    """Return the ids that a letter can be written as, each a token of its own."""
    unknown = tokenizer.unk_token_id
    found = set()
    for text in (letter, f" {letter}"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) == 1 and ids[0] != unknown:
            found.add(ids[0])
    if (piece := tokenizer.get_vocab().get(f"\N{LOWER ONE EIGHTH BLOCK}{letter}")) is not None:
        found.add(piece)
    return sorted(found)


def letter_scores(tokenizer: Any, logprobs_V: Any, letters: Sequence[str]) -> list[float]:
    """Return the log of each letter's summed probability, from those of all tokens [vocabulary]."""
    whole = torch.as_tensor(logprobs_V).double().exp()
    return [float(whole[letter_ids(tokenizer, one)].sum().log()) for one in letters]
