"""Neutral texts as long as infills, by whatever counts tokens."""

from __future__ import annotations

import random
import re

import pytest

from probes.core.hashing import sha256_json
from probes.stimuli import fillers
from probes.stimuli.fillers import Cost

COUNTS: dict[str, Cost] = {
    "words": lambda text: 4 + len(text.split()),
    "characters": lambda text: 4 + len(text),
    # As a small vocabulary of another world does: what it does not know is spelled out.
    "pieces": lambda text: 1 + sum(1 if len(w) < 4 else len(w) + 1 for w in text.split()),
    "syllables": lambda text: 2 + len(re.findall(r"[^aeiou\W]*[aeiou]+|\w", text)),
}
WORDS = "a man in red walks to the table takes his cup and goes slowly out of the kitchen".split()


def clip(gaps: int, most: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, most))) for _ in range(gaps)]


@pytest.mark.parametrize("cost", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("most", [4, 40])
def test_a_clip_has_as_many_tokens_as_its_infills(cost: Cost, most: int) -> None:
    ratios = []
    for number in range(40):
        own = clip(4, most, number)
        made = fillers.matched(own, cost, 0, f"item{number}", "filler")
        assert all(made)
        ratios.append(fillers.tokens(made, cost) / fillers.tokens(own, cost))
    assert abs(sum(ratios) / len(ratios) - 1) < 0.03
    assert sum(abs(ratio - 1) <= 0.1 for ratio in ratios) >= 36


def test_it_is_keyed_and_says_nothing_of_the_infills() -> None:
    own, cost = clip(4, 40, 0), COUNTS["words"]
    made = {
        fillers.matched(own, cost, seed, item, arm)
        for seed in (0, 1)
        for item in ("i", "j")
        for arm in ("filler", "other")
    }
    assert len(made) == 8
    assert fillers.matched(own, cost, 0, "i", "filler") in made
    telling = {"man", "red", "walks", "table", "takes", "cup", "goes", "slowly", "kitchen"}
    assert not telling & {word for texts in made for text in texts for word in text.split()}


def test_a_bare_gap_stays_bare_and_another_never_becomes_so() -> None:
    made = fillers.matched(["", "a", "", "b"], lambda text: 40 + len(text), 0, "i")
    assert [bool(text) for text in made] == [False, True, False, True]


def test_the_same_infills_get_the_same_filler_under_every_version() -> None:
    # Raise `fillers.VERSION` where this changes: texts that were stored would go on being shown.
    found = [fillers.matched(clip(4, 40, 7), cost, 0, "item") for cost in COUNTS.values()]
    assert (fillers.VERSION, sha256_json(found)[:16]) == ("1", "046d687e28964f8d")
