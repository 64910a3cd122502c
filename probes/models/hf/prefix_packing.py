"""Which prompts share one pass over what they have in common.

Prompts that begin alike, to the pixel, are laid out as one sequence: their common beginning, the
trunk, and behind it what each has of its own, a branch. That is so for the rotations of one
question, and for several questions about one clip under the same arm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import TokenizedPrompt

LEAST = 0.5
"""Share of its longest prompt that a trunk has at least: attention goes over the whole sequence, so
that a short trunk would cost more than it spares. The arms of an item have about 0.15."""
MOST = 4
"""How many times its longest prompt a bundle may be long, for the same reason."""


@dataclass(frozen=True, slots=True)
class PackedPrompts:
    """Prompts that are laid out as one sequence."""

    places: tuple[int, ...]
    """Which of the rows that were looked at."""
    rows: tuple[TokenizedPrompt, ...]
    """Those rows."""
    shared_prefix: int
    """Tokens that all of them begin with; of a single row, all of its."""

    @property
    def tokens(self) -> int:
        """Length of the sequence, continuations included but for the last token of each."""
        return self.shared_prefix + sum(
            len(row.ids) - self.shared_prefix + _behind(row) for row in self.rows
        )

    @property
    def frames(self) -> tuple[str, ...]:
        """The frames (sha256) of the sequence, in its order."""
        first, *others = self.rows
        own = (row.frames[_frames_within(row, self.shared_prefix) :] for row in others)
        return first.frames + tuple(chain.from_iterable(own))


def unpacked(rows: Sequence[TokenizedPrompt], places: Iterable[int]) -> list[PackedPrompts]:
    """Return a bundle of its own for each of the rows at those places."""
    return [PackedPrompts((at,), (rows[at],), len(rows[at].ids)) for at in places]


def pack(rows: Sequence[TokenizedPrompt], most: int) -> list[PackedPrompts]:
    """Bundle rows that share enough of their beginning.

    Args:
        rows: to be asked; any order.
        most: tokens that a bundle of several rows may have.

    Returns:
        Bundles; every row in one of them.
    """
    contents = _contents(rows)
    order = sorted(range(len(rows)), key=lambda at: contents[at].tobytes())
    # What every row has in common with the one before it.
    common = [0, *(_common(contents[a], contents[b]) for a, b in pairwise(order))]
    sizes = [len(rows[at].ids) for at in order]
    # Of all ways to cut this order into bundles, the one that spares most tokens.
    spared, begins = [0], [0]
    for last in range(len(order)):
        best, begin = spared[last], last  # alone
        shared_prefix = longest = sizes[last]
        whole = sizes[last] + _behind(rows[order[last]])
        for first in range(last - 1, -1, -1):
            shared_prefix, longest = (
                min(shared_prefix, common[first + 1]),
                max(longest, sizes[first]),
            )
            whole += sizes[first] + _behind(rows[order[first]])
            saved = (last - first) * shared_prefix
            if shared_prefix < LEAST * longest or whole - saved > min(most, MOST * longest):
                break  # longer ones share no more
            if spared[first] + saved > best:
                best, begin = spared[first] + saved, first
        spared.append(best)
        begins.append(begin)
    out: list[PackedPrompts] = []
    end = len(order)
    while end > 0:
        places = tuple(order[begins[end] : end])
        shared_prefix = min([len(rows[places[0]].ids), *common[begins[end] + 1 : end]])
        out.append(PackedPrompts(places, tuple(rows[at] for at in places), shared_prefix))
        end = begins[end]
    return out[::-1]


def _behind(row: TokenizedPrompt) -> int:
    """Return how many tokens are read behind a prompt: no continuation's last one."""
    return sum(len(answer) - 1 for answer in row.answers)


def _frames_within(row: TokenizedPrompt, tokens: int) -> int:
    """Return how many frames the first tokens of a row hold; none is cut."""
    left, count = row.ids[:tokens].count(FRAME), 0
    for grid in row.grids:
        if left == 0:
            break
        left -= math.prod(grid)
        count += 1
    return count


def _contents(rows: Sequence[TokenizedPrompt]) -> list[NDArray[np.int64]]:
    """Return the ids of every row, with a number of its own for every frame."""
    numbers: dict[str, int] = {}
    out = []
    for row in rows:
        content = np.array(row.ids, np.int64)
        names = [numbers.setdefault(name, len(numbers)) for name in row.frames]
        sizes = [math.prod(grid) for grid in row.grids]
        content[content == FRAME] = FRAME - 1 - np.repeat(np.array(names, np.int64), sizes)
        out.append(content)
    return out


def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Return the length of the longest common prefix."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size
