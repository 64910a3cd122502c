"""Which prompts share one pass over the prefix that they have in common, and how they are packed.

Prompts that begin alike, to the pixel, are packed into one sequence: their shared prefix, and
behind it the suffix of each prompt with its continuations. That applies to the rotations of one
question, and to several questions about one clip under the same arm.

Shape suffixes: B sequences of a batch, T padded tokens, A axes of a position (1 or 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import TokenizedPrompt, positions

LEAST = 0.5
"""Share of its longest prompt that a shared prefix has at least: attention goes over the whole
sequence, so that a short prefix would cost more than it saves. The arms of an item have about
0.15."""
MOST = 4
"""How many times its longest prompt a packed sequence may be long, for the same reason."""


@dataclass(frozen=True, slots=True)
class PackedPrompts:
    """Prompts that are packed into one sequence."""

    indices: tuple[int, ...]
    """Which of the given prompts."""
    prompts: tuple[TokenizedPrompt, ...]
    """Those prompts."""
    shared_prefix: int
    """Tokens that all of them begin with; of a single prompt, all of its."""

    @property
    def tokens(self) -> int:
        """Length of the sequence, continuations included but for the last token of each."""
        return self.shared_prefix + sum(
            len(prompt.ids) - self.shared_prefix + _behind(prompt) for prompt in self.prompts
        )

    @property
    def frames(self) -> tuple[str, ...]:
        """The frames (sha256) of the sequence, in its order."""
        first, *others = self.prompts
        own = (one.frames[_frames_within(one, self.shared_prefix) :] for one in others)
        return first.frames + tuple(chain.from_iterable(own))


def unpacked(prompts: Sequence[TokenizedPrompt], indices: Iterable[int]) -> list[PackedPrompts]:
    """Return a sequence of its own for each of the prompts at those indices."""
    return [PackedPrompts((at,), (prompts[at],), len(prompts[at].ids)) for at in indices]


def one_answer_each(packed: Iterable[PackedPrompts]) -> list[PackedPrompts]:
    """Return sequences for passes without a mask: a prompt, and at most one continuation.

    Answers of one token add none to a sequence, and stay together.
    """
    split: list[TokenizedPrompt] = []
    for prompt in chain.from_iterable(one.prompts for one in packed):
        if _behind(prompt):
            split += (replace(prompt, answers=(answer,)) for answer in prompt.answers)
        else:
            split.append(prompt)
    return unpacked(split, range(len(split)))


def pack(prompts: Sequence[TokenizedPrompt], most: int) -> list[PackedPrompts]:
    """Pack prompts that share enough of their beginning.

    Args:
        prompts: in any order.
        most: tokens that a sequence of several prompts may have.

    Returns:
        Packed prompts; every prompt in one of them.
    """
    contents = _contents(prompts)
    # In any order of the ids, neighbours have the longest beginnings in common; that of their bytes
    # is compared without a Python object per token.
    order = sorted(range(len(prompts)), key=lambda at: contents[at].tobytes())
    # What every prompt has in common with the one before it.
    common = [0, *(_common(contents[a], contents[b]) for a, b in pairwise(order))]
    begins = _cheapest_cuts([prompts[at] for at in order], common, most)
    out: list[PackedPrompts] = []
    end = len(order)
    while end > 0:
        indices = tuple(order[begins[end] : end])
        shared_prefix = min([len(prompts[indices[0]].ids), *common[begins[end] + 1 : end]])
        out.append(PackedPrompts(indices, tuple(prompts[at] for at in indices), shared_prefix))
        end = begins[end]
    return out[::-1]


def _cheapest_cuts(
    prompts: Sequence[TokenizedPrompt], common: Sequence[int], most: int
) -> list[int]:
    """Cut sorted prompts into packed sequences so that as many tokens as possible are saved.

    Args:
        prompts: sorted by content.
        common: tokens that each has in common with the one before it.
        most: tokens that a sequence of several prompts may have.

    Returns:
        For every number of prompts n, where the last sequence of the first n begins.
    """
    sizes = [len(prompt.ids) for prompt in prompts]
    saved, begins = [0], [0]
    for last, prompt in enumerate(prompts):
        best, begin = saved[last], last  # unpacked
        shared_prefix = longest = sizes[last]
        whole = sizes[last] + _behind(prompt)
        for first in range(last - 1, -1, -1):
            shared_prefix = min(shared_prefix, common[first + 1])
            longest = max(longest, sizes[first])
            whole += sizes[first] + _behind(prompts[first])
            saving = (last - first) * shared_prefix
            if shared_prefix < LEAST * longest or whole - saving > min(most, MOST * longest):
                break  # longer sequences share no more
            if saved[first] + saving > best:
                best, begin = saved[first] + saving, first
        saved.append(best)
        begins.append(begin)
    return begins


def _behind(prompt: TokenizedPrompt) -> int:
    """Return how many tokens of continuations are read: all but the last of each."""
    return sum(len(answer) - 1 for answer in prompt.answers)


def _frames_within(prompt: TokenizedPrompt, tokens: int) -> int:
    """Return how many frames the first tokens of a prompt hold; no frame is cut."""
    left, count = prompt.ids[:tokens].count(FRAME), 0
    for grid in prompt.grids:
        if left == 0:
            break
        left -= math.prod(grid)
        count += 1
    return count


def _contents(prompts: Sequence[TokenizedPrompt]) -> list[NDArray[np.int64]]:
    """Return the ids of every prompt, with a number of its own for every frame."""
    numbers: dict[str, int] = {}
    out = []
    for prompt in prompts:
        content = np.array(prompt.ids, np.int64)
        names = [numbers.setdefault(name, len(numbers)) for name in prompt.frames]
        sizes = [math.prod(grid) for grid in prompt.grids]
        # Below FRAME, where there is no token id: equal numbers are equal pixels.
        content[content == FRAME] = FRAME - 1 - np.repeat(np.array(names, np.int64), sizes)
        out.append(content)
    return out


def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Return the length of the longest common prefix."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size


Target = tuple[int, int, int]
"""A token whose log-probability is read: (sequence, place before it, token)."""


class Places(NamedTuple):
    """Where some tokens are in a batch."""

    row: int
    """Of which sequence."""
    at: NDArray[np.int64]
    """Their places within it, one per token."""


@dataclass(frozen=True, slots=True)
class PromptPlaces:
    """Where the tokens of a prompt and of its continuations are in a batch."""

    prompt: Places
    """Of every token of the prompt, the shared prefix included."""
    answers: tuple[Places, ...] = ()
    """Of every continuation, whose last token is not read and has no place."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Packed prompts as arrays, padded at the right; lists are by prompt, in their order."""

    ids_BT: NDArray[np.int64]
    """Token ids; `FRAME` for every token of every frame."""
    position_ABT: NDArray[np.int64]
    prompt_BT: NDArray[np.int64]
    """Whose token it is: 0 the shared prefix, n the n-th prompt's suffix or continuation, -1
    padding, which sees itself so that its (unused) attention is well defined."""
    answer_BT: NDArray[np.int64]
    """Of which of its prompt's continuations it is, from 1 on; 0 for none."""
    targets: list[list[list[Target]]]
    """By continuation."""
    places: list[PromptPlaces]


def packed_batch(packed: Sequence[PackedPrompts]) -> PackedBatch:
    """Write packed prompts into arrays, one sequence each."""
    size = (len(packed), max(one.tokens for one in packed))
    each = [[positions(prompt) for prompt in one.prompts] for one in packed]
    # Prompts without rows and columns have one axis, which is broadcast to the three of others.
    axes = max(len(position) for some in each for position in some)
    batch = PackedBatch(
        # Token 0 exists in every vocabulary, and no token of a prompt attends to padding.
        ids_BT=np.zeros(size, np.int64),
        position_ABT=np.zeros((axes, *size), np.int64),
        prompt_BT=np.full(size, -1, np.int64),
        answer_BT=np.zeros(size, np.int64),
        targets=[],
        places=[],
    )
    for row, one in enumerate(packed):
        end = one.shared_prefix
        batch.ids_BT[row, :end] = one.prompts[0].ids[:end]
        batch.position_ABT[:, row, :end] = each[row][0][:, :end]
        batch.prompt_BT[row, :end] = 0
        for number in range(len(one.prompts)):
            end = _write(batch, row, one, number, each[row][number], end)
    return batch


def _write(
    batch: PackedBatch,
    row: int,
    packed: PackedPrompts,
    number: int,
    position_AT: NDArray[np.int64],
    start: int,
) -> int:
    """Write a prompt's suffix and continuations from `start` on; return where they end."""
    prompt, prefix = packed.prompts[number], packed.shared_prefix
    end = start + len(prompt.ids) - prefix
    batch.ids_BT[row, start:end] = prompt.ids[prefix:]
    batch.position_ABT[:, row, start:end] = position_AT[:, prefix:]
    own = Places(row, np.concatenate([np.arange(prefix), np.arange(start, end)]))
    # Rotary positions go on from what a continuation sees, however far behind it is written.
    behind, targets, places = position_AT.max() + 1, [], []
    first = start
    for which, answer in enumerate(prompt.answers, 1):
        start, end = end, end + len(answer) - 1  # nothing is read off its last token
        batch.ids_BT[row, start:end] = answer[:-1]
        batch.position_ABT[:, row, start:end] = behind + np.arange(end - start)
        batch.answer_BT[row, start:end] = which
        places.append(Places(row, np.arange(start, end)))
        # The first token is read off the prompt's last place, however far ahead that is.
        before = (int(own.at[-1]), *range(start, end))
        targets.append([(row, place, token) for place, token in zip(before, answer, strict=True)])
    batch.prompt_BT[row, first:end] = number + 1
    batch.targets.append(targets)
    batch.places.append(PromptPlaces(own, tuple(places)))
    return end
