"""What scoring itself may put into answers: ties, favourite letters, misplaced confidence.

An option's position is the place at which it was listed, i.e. its letter; under `option_rotation`
an item's options stand at every place in turn, and a favourite letter can be told from an answer.

Shape suffixes: R records, I items, K options or positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.analysis.columns import SETTING, groups
from probes.analysis.margins import flat
from probes.analysis.measures import Measure
from probes.core.text import listed
from probes.stats.estimate import Floats

CELL = (*SETTING, "role", "member", "arm")
ONE_LETTER = 0.95
"""Share of one letter among a member's answers from which its accuracy says nothing of it."""
LEAST_ANSWERS = 20
"""Answers below which a favourite letter may be chance."""
BINS = 10
"""Of equal width, over which the calibration error is summed."""


def probabilities(rows: pd.DataFrame) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Yield the probabilities of options among themselves, by the number of options.

    Args:
        rows: records, as `load` returns them.

    Yields:
        Places of records in `rows` [R], and probabilities [R, K] in the item's own order; records
        whose options were not scored, or not by numbers, are in none.
    """
    scores, starts, lengths = flat(rows["option_logprobs"])
    tokens, token_starts, token_lengths = flat(rows["option_tokens"])
    cloze = (rows["scoring"] == "cloze").to_numpy(bool)
    ok = (rows["status"] == "ok").to_numpy(bool) & (lengths == token_lengths)
    for count in np.unique(lengths[ok & (lengths > 1)]):
        at = np.flatnonzero(ok & (lengths == count))
        score_RK = scores[starts[at][:, None] + np.arange(count)]
        token_RK = tokens[token_starts[at][:, None] + np.arange(count)]
        # As the choice is made: by token under cloze.
        score_RK = np.where(cloze[at][:, None], score_RK / np.maximum(token_RK, 1), score_RK)
        usable = ~np.isnan(score_RK).any(1) & np.isfinite(score_RK.max(1))
        weight_RK = np.exp(score_RK[usable] - score_RK[usable].max(1, keepdims=True))
        yield at[usable], weight_RK / weight_RK.sum(1, keepdims=True)


def entropies(frame: pd.DataFrame) -> Floats:
    """Return the entropy of every record's option probabilities over its greatest value.

    Returns:
        [rows], in 0 (sure) to 1 (all options alike); NaN where options were not scored.
    """
    out = np.full(len(frame), np.nan)
    for at, p_RK in probabilities(frame):
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(p_RK > 0, p_RK * np.log(p_RK), 0.0)
        out[at] = np.clip(-terms.sum(1) / np.log(p_RK.shape[1]), 0, 1)
    return out


ENTROPY = Measure(
    "entropy",
    "entropy of the option probabilities over its greatest value: how undecided a member is",
    entropies,
    "share of the greatest",
    (0, 1),
)


def calibration_error(confidence: Floats, right: Floats) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy over `BINS`.

    Args:
        confidence: probability of the chosen option [n], in 0 to 1.
        right: whether it was right [n], 0 or 1.

    Returns:
        In 0 to 1; NaN where n is 0.
    """
    if not len(confidence):
        return float("nan")
    which = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    gaps = np.bincount(which, confidence - right, BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def discrimination(confidence: Floats, right: Floats) -> float:
    """Return how often a right answer is the surer of a right and a wrong one (AUROC).

    Ties count one half.

    Returns:
        In 0 to 1, 0.5 where confidence says nothing; NaN where all are right or all are wrong.
    """
    from scipy.stats import rankdata

    positive = right > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(confidence)[positive].sum() - n * (n + 1) / 2) / (n * m))


def positions(rows: pd.DataFrame) -> NDArray[np.intp]:
    """Return at which place every record's chosen option was listed, from 0; -1 without a choice.

    Under cloze, where no options are listed, the place is that in the item; so it is where the
    number of options is not known.
    """
    choice = rows["choice"].to_numpy(np.float64, na_value=np.nan)
    count = rows["n_options"].to_numpy(np.float64)
    turned = np.mod(choice - rows["rotation"].to_numpy(np.float64), np.maximum(count, 1))
    listed = np.where(count > 0, turned, choice)
    return np.where(np.isnan(listed), -1, np.nan_to_num(listed)).astype(np.intp)


def artefacts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what scoring may have put into the answers of every cell.

    Args:
        frame: as returned by `load`.

    Returns:
        One row per cell, by the columns of `CELL`: `answers` (parsed), `ties` (exact ones, among
        which a draw decided), `letter_mass` (mean), `choices` (answers by position), `top` (the
        most frequent position, from 0) and `top_share`; `entropy` (mean, normalised), `ece` and
        `auroc` of the chosen option's probability; where every item was asked with its options in
        all rotations, `letter_prior` (share of probability by position, whatever stands there),
        `letter_bias` (its distance from even shares, 0 to 1), `accuracy` (the mean over rotations)
        and `accuracy_corrected` (of the option with the best mean log-probability over rotations).
        What a cell has no value of is NaN, or empty.
    """
    rows = [{**head, **_of_cell(part.reset_index(drop=True))} for head, part in groups(frame, CELL)]
    return pd.DataFrame(rows)


def _of_cell(rows: pd.DataFrame) -> dict[str, Any]:
    places = positions(rows)
    chosen = places[places >= 0]
    most = int(rows["n_options"].max())
    counts = np.bincount(chosen, minlength=max(most, 1))
    mass = rows["letter_mass"].to_numpy(np.float64)
    return {
        "answers": len(chosen),
        "ties": int(rows["tied"].sum()),
        "letter_mass": float(np.nanmean(mass)) if np.isfinite(mass).any() else float("nan"),
        "choices": tuple(map(int, counts)),
        "top": int(counts.argmax()) if len(chosen) else -1,
        "top_share": float(counts.max() / len(chosen)) if len(chosen) else float("nan"),
        **_confidence(rows),
        **_rotated(rows),
    }


def _confidence(rows: pd.DataFrame) -> dict[str, float]:
    choice = rows["choice"].to_numpy(np.float64, na_value=np.nan)
    right = rows["correct"].to_numpy(np.float64, na_value=np.nan)
    sure = np.full(len(rows), np.nan)
    for at, p_RK in probabilities(rows):
        sure[at] = p_RK[np.arange(len(at)), choice[at].astype(np.intp)]
    known = ~np.isnan(sure) & ~np.isnan(right)
    entropy = entropies(rows)
    return {
        "entropy": float(np.nanmean(entropy)) if not np.isnan(entropy).all() else float("nan"),
        "ece": calibration_error(sure[known], right[known]),
        "auroc": discrimination(sure[known], right[known]),
    }


def _rotated(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what all rotations of the options show; of items that have all of them."""
    nan = float("nan")
    out: dict[str, Any] = {"letter_prior": (), "letter_bias": nan}
    out |= {"accuracy": nan, "accuracy_corrected": nan}
    # Draws of donors and texts are questions of their own.
    names = [n for n in ("item_id", "donor_id", "donor_task", "infill_draw") if n in rows]
    key = rows.groupby(names, dropna=False, sort=False).ngroup().to_numpy()
    rotation, prior, plain, corrected = rows["rotation"].to_numpy(np.intp), [], [], []
    sizes = {p_RK.shape[1] for _, p_RK in probabilities(rows)}
    if not rotation.any() or len(sizes) != 1:
        return out
    ((at, p_RK),) = probabilities(rows)
    answer = rows["answer"].to_numpy(np.float64, na_value=np.nan)[at]
    log_RK = np.log(np.maximum(p_RK, np.finfo(float).tiny))
    count = p_RK.shape[1]
    for one in np.unique(key[at]):
        own = np.flatnonzero(key[at] == one)
        if sorted(rotation[at][own]) != list(range(count)):
            continue
        # Of the option that is listed at place k under a rotation by r: it is number (k + r).
        listed = (np.arange(count) + rotation[at][own][:, None]) % count
        prior.append(np.take_along_axis(log_RK[own], listed, 1).mean(0))
        if not np.isnan(answer[own[0]]):
            plain.append(float((p_RK[own].argmax(1) == answer[own]).mean()))
            # Every option stood at every letter once, so that each letter's part cancels.
            corrected.append(float(log_RK[own].mean(0).argmax() == answer[own[0]]))
    if prior:
        share_K = np.exp(np.mean(prior, 0))
        share_K /= share_K.sum()
        out |= {"letter_prior": tuple(map(float, share_K))}
        out |= {"letter_bias": float(np.abs(share_K - 1 / count).sum() / 2)}
    if plain:
        out |= {"accuracy": float(np.mean(plain)), "accuracy_corrected": float(np.mean(corrected))}
    return out


def one_letter_lines(frame: pd.DataFrame) -> Iterator[str]:
    """Yield a line for every member that says one letter whatever it is asked.

    Args:
        frame: as returned by `load`. Cloze is passed over: it lists no options.
    """
    lettered = frame[(frame["scoring"] != "cloze") & (frame["n_options"] > 1)]
    for head, part in groups(lettered, ("role", "member")):
        several = [name for name in ("frames", "seed", "scoring") if part[name].nunique() > 1]
        by_cell = {
            _cell_name(cell, several): found
            for cell, some in groups(part, ("arm", "frames", "seed", "scoring"))
            if (found := _top(some))
        }
        favoured = {cell: found for cell, found in by_cell.items() if _is_one_letter(found)}
        if favoured:
            said = sum(found["said"] for found in favoured.values())
            answers = sum(found["answers"] for found in favoured.values())
            letters = "/".join(
                sorted({ascii_uppercase[found["top"]] for found in favoured.values()})
            )
            everywhere = len(favoured) == len(by_cell)
            under = "every arm" if everywhere else listed(list(favoured), 6)
            yield (
                f"one letter: {said:,} of {answers:,} answers of {head['member']} ({head['role']}) "
                f"are {letters}, under {under}: its accuracy is that of the letter, not of the "
                "member"
            )


def _cell_name(cell: Mapping[str, Any], several: Sequence[str]) -> str:
    """Return an arm, with those of its other settings of which there are several."""
    words = {"frames": "{} frames", "seed": "seed {}", "scoring": "{}"}
    more = [words[name].format(cell[name]) for name in several]
    return f"{cell['arm']} ({', '.join(more)})" if more else str(cell["arm"])


def _top(rows: pd.DataFrame) -> dict[str, int] | None:
    chosen = positions(rows)
    chosen = chosen[chosen >= 0]
    if not len(chosen):
        return None
    counts = np.bincount(chosen)
    return {"top": int(counts.argmax()), "said": int(counts.max()), "answers": len(chosen)}


def _is_one_letter(found: Mapping[str, int]) -> bool:
    enough = found["answers"] >= LEAST_ANSWERS
    return enough and found["said"] >= ONE_LETTER * found["answers"]
