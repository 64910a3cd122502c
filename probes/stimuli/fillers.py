"""Neutral text that is as long as infills by the tokens of the model that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice

from probes.stimuli.words import filler, keyed_start

VERSION = "1"
"""Raised whenever the same infills would get another text."""
Cost = Callable[[str], int]
"""Tokens that a text takes in its gap, the words of the template around it included."""

# Besides long words many that most vocabularies have as one token, the tiny pair's too: its gaps
# are of three tokens, and "passage" has eight there. Nothing of any scene, order or answer.
_PASSAGE = (
    "this passage is only here to take up some room and it has to do with what is of use to it "
    "and to what it is of and so it is passed over as is the text of it without any loss at all"
).split()
_SAFE = 0.8
"""Share of the length that words are taken for at once, before they are tried one by one."""


def matched(texts: Sequence[str], cost: Cost, seed: int, *salt: str | int) -> tuple[str, ...]:
    """Return neutral texts that take as many tokens as given ones.

    No text need hit its own length: what one gap is too long or too short by, the next makes up
    for, so that the sum over a clip is matched to a word's tokens.

    Args:
        texts: a clip's infills, one per gap; an empty one leaves its gap bare here too.
        cost: by the reader's own tokenizer.
        seed: with `salt`, decides where in the neutral passage each text begins.
        salt: whatever the choice is keyed by.
    """
    known: dict[str, int] = {}

    def of(text: str) -> int:
        if text not in known:
            known[text] = cost(text)
        return known[text]

    owed, found = 0, []
    for gap, text in enumerate(texts):
        if not text:
            found.append("")
            continue
        aim = of(text) + owed
        start = keyed_start(seed, *salt, gap) % len(_PASSAGE)
        made = _as_long_as(aim, of, [*_PASSAGE[start:], *_PASSAGE[:start]])
        owed = aim - of(made)
        found.append(made)
    return tuple(found)


def tokens(texts: Sequence[str], cost: Cost) -> int:
    """Return the tokens of a clip's texts together; bare gaps take none."""
    return sum(cost(text) for text in texts if text)


def _as_long_as(aim: int, cost: Cost, passage: Sequence[str]) -> str:
    """Return a text of `aim` tokens, or of as few less as the passage's words allow."""
    each = cost(" ".join(passage)) / len(passage)
    chosen = list(islice(cycle(passage), int(_SAFE * aim / each)))
    if chosen and cost(" ".join(chosen)) > aim:
        chosen = []
    refused = 0
    for word in islice(cycle(passage), len(chosen) % len(passage), None):
        size = cost(" ".join([*chosen, word]))
        if size <= aim:
            chosen.append(word)
        # Words that are too long for what is left are passed over: a shorter one may fit.
        refused = 0 if size <= aim else refused + 1
        if size == aim or refused == len(passage):
            break
    # A gap with an infill is never bare: its place between the frames is part of the control.
    return " ".join(chosen) or min(passage, key=cost)


def by_words(texts: Sequence[str], seed: int, *salt: str | int) -> tuple[str, ...]:
    """Return neutral texts of as many words as given ones, for readers that count no tokens."""
    return tuple(filler(len(text.split()), seed, *salt, gap) for gap, text in enumerate(texts))
