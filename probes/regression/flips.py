"""Answers that change in simulated re-runs: at random, or because a cell got worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from probes.regression.snapshot import CellAnswers, ItemFacts
from probes.stats.estimate import Floats


@dataclass(frozen=True, slots=True)
class Flips:
    """Answers of one cell that became right or wrong, over all simulated re-runs."""

    rerun: NDArray[np.intp]
    answer: NDArray[np.intp]
    change: Floats
    """1 or -1."""


class CellOdds:
    """A cell's answers as the simulation needs them."""

    def __init__(self, cell: CellAnswers, known: Mapping[tuple[str, str], ItemFacts]) -> None:
        # Items without a public answer have no metric, those that failed are left out of it.
        failed = {one.item_id for one in cell.answers if one.status == "error"}
        kept = [one for one in cell.answers if one.item_id not in failed]
        facts = [
            (one, answer)
            for one in kept
            if (answer := known[cell.name.task, one.item_id].answer) is not None
        ]
        self.items = [one.item_id for one, _ in facts]
        self.right = np.array([one.choice == answer for one, answer in facts], dtype=bool)
        # A reply that was read has no scores; there the options are those that anybody chose.
        seen = max((max(answer, one.choice or 0) for one, answer in facts), default=1) + 1
        options = np.array([len(one.logprobs) or seen for one, _ in facts], dtype=np.float64)
        # A reply that could not be parsed can become any option, an answer any other one.
        others = options - np.array([one.choice is not None for one, _ in facts], dtype=np.float64)
        self.luck = 1 / np.maximum(others, 1.0)
        """Chance that a wrong answer becomes right when it is replaced."""

    def flips(self, rng: np.random.Generator, reruns: int, rate: float) -> Flips:
        """Replace a share of the answers by another option at random."""
        rerun, answer = np.divmod(_hits(rng, reruns * len(self.right), rate), len(self.right))
        right = self.right[answer]
        gained = ~right & (rng.random(len(answer)) < self.luck[answer])
        moved = right | gained
        return Flips(rerun[moved], answer[moved], np.where(right, -1.0, 1.0)[moved])

    def fallen(
        self, flips: Flips, rng: np.random.Generator, reruns: int, points: float
    ) -> Flips | None:
        """Turn right answers wrong, besides the flips; None where there are not enough."""
        accuracy = float(self.right.mean())
        if points / 100 > accuracy:
            return None
        at = np.flatnonzero(self.right)
        rerun, which = np.divmod(_hits(rng, reruns * len(at), points / 100 / accuracy), len(at))
        size = len(self.right)
        lost = rerun * size + at[which]
        # An answer that a flip has made wrong cannot be lost twice.
        lost = np.setdiff1d(lost, flips.rerun * size + flips.answer, assume_unique=True)
        return Flips(
            np.concatenate([flips.rerun, lost // size]),
            np.concatenate([flips.answer, lost % size]),
            np.concatenate([flips.change, np.full(len(lost), -1.0)]),
        )


def _hits(rng: np.random.Generator, trials: int, rate: float) -> NDArray[np.intp]:
    """Return which of so many independent trials succeed, in increasing order."""
    if rate <= 0 or trials == 0:
        return np.empty(0, dtype=np.intp)
    # Gaps between successes are geometric: 1.5 % of the random numbers that all trials would take.
    found, last = [], -1
    while last < trials - 1:
        expected = (trials - last) * rate
        gaps = rng.geometric(rate, int(expected + 5 * sqrt(expected)) + 10)
        found.append(last + np.cumsum(gaps))
        last = int(found[-1][-1])
    at = np.concatenate(found)
    return at[at < trials].astype(np.intp)
