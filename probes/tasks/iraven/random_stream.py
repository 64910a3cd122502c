"""Random choices of one problem, which depend on nothing but which problem it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")

_BLOCK = 256


class RandomStream:
    """A stream of choices that depends on `seed` and `numbers` only.

    Every choice comes from uniform doubles drawn in blocks: numpy's scalar calls would cost ten
    times as much, and its integer and permutation methods may change their streams between
    versions.

    Args:
        seed: non-negative integer.
        numbers: further non-negative integers, e.g. (configuration, k, attempt).
    """

    __slots__ = ("_block", "_generator")

    def __init__(self, seed: int, *numbers: int) -> None:
        # As spawn_key, not added to the seed: (1, 2) and (2, 1) would be the same stream.
        sequence = np.random.SeedSequence(entropy=seed, spawn_key=numbers)
        self._generator = np.random.Generator(np.random.PCG64(sequence))
        self._block: list[float] = []

    def uniform(self) -> float:
        """Return a uniform number in [0, 1)."""
        # Taken from the end, which is cheap; the order is part of what a seed means.
        if not self._block:
            self._block = self._generator.random(_BLOCK).tolist()
        return self._block.pop()

    def below(self, n: int) -> int:
        """Return a uniform integer in 0..n-1, for n >= 1."""
        if not self._block:
            self._block = self._generator.random(_BLOCK).tolist()
        return int(self._block.pop() * n)

    def choice(self, options: Sequence[Choice]) -> Choice:
        """Return one of the options, uniformly."""
        return options[self.below(len(options))]

    def sample(self, n: int, k: int) -> tuple[int, ...]:
        """Return a uniform ordered sample of k of the integers 0..n-1, without replacement."""
        # The first k steps of a Fisher-Yates shuffle. It takes k doubles whatever comes out, where
        # rejection would take a varying number.
        numbers = list(range(n))
        for i in range(k):
            j = i + self.below(n - i)
            numbers[i], numbers[j] = numbers[j], numbers[i]
        return tuple(numbers[:k])
