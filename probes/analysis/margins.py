"""Margins: the log-probability of the right answer less that of the best other option."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray


def margins(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return each row's margin of the right answer over the best other option.

    The log-probability is the one that the choice was made by: the sum for `letter`, the mean per
    token for `cloze`. Except at ties, the margin is positive exactly where the right answer is
    chosen.

    Args:
        frame: as returned by `load`.

    Returns:
        nats [rows]; NaN where the right answer is withheld or options were not scored.
    """
    out = np.full(len(frame), np.nan)
    scores, starts, lengths = option_scores(frame)
    _, _, token_lengths = flat(frame["option_tokens"])
    answer = frame["answer"].to_numpy(np.float64, na_value=np.nan)
    # One option leads no other, and a generated reply was not scored: neither has a margin.
    usable = (lengths >= 2) & (lengths == token_lengths) & (answer >= 0) & (answer < lengths)
    if not usable.any():
        return out
    rows = np.flatnonzero(usable)
    answers = starts[rows] + answer[rows].astype(np.intp)
    right = scores[answers]
    others = scores.copy()
    others[answers] = -np.inf
    # Empty lists would break reduceat; every usable row has at least two options.
    ends = starts[rows] + lengths[rows]
    edges = np.stack([starts[rows], ends], axis=1).ravel()
    # Every second segment lies between two rows; the appended value makes the last end an index.
    best = np.maximum.reduceat(np.append(others, -np.inf), edges)[::2]
    out[rows] = right - best
    # An impossible option has -inf, and one of those would make every mean infinite.
    out[~np.isfinite(out)] = np.nan
    return out


def option_scores(
    frame: pd.DataFrame,
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Return what every row's choice was made by: log-probabilities, per token for `cloze`.

    Args:
        frame: as returned by `load`.

    Returns:
        All options' scores, and each row's start and number of options.
    """
    scores, starts, lengths = flat(frame["option_logprobs"])
    tokens, _, token_lengths = flat(frame["option_tokens"])
    cloze = (frame["scoring"] == "cloze").to_numpy(bool)
    per_token = np.repeat(cloze, lengths)
    if per_token.any():
        whole = np.repeat(lengths == token_lengths, lengths)
        divisor = np.ones(len(scores))
        counted = np.repeat(cloze & (lengths == token_lengths), token_lengths)
        divisor[per_token & whole] = tokens[counted]
        # An option of no token must not divide by zero.
        scores = scores / np.maximum(divisor, 1.0)
    return scores, starts, lengths


def in_arrow(column: pd.Series, kind: pa.DataType) -> pa.Array:
    """Return a column of lists or maps as one Arrow array of a type."""
    # The cast also takes object columns, as frames that were put together by hand have.
    whole = pa.array(column.array, kind)
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def flat(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Return a column of lists as one array of all values, each row's start, and its length."""
    whole = in_arrow(column, pa.list_(pa.float64()))
    # The length of a null list is null; it has no values, so 0.
    lengths = np.nan_to_num(
        whole.value_lengths().to_numpy(zero_copy_only=False).astype(np.float64)
    ).astype(np.intp)
    # flatten() heeds the offsets of a slice and skips nulls; `.values` does neither.
    values = whole.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp)
    return values, starts, lengths
