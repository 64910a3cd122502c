"""A controller: the likeliest token that is not the one before it."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class NoRepeat:
    """No token twice in a row; how often that changed the choice is an extra."""

    version: ClassVar[str] = "1"

    def is_identity(self):
        """Return that it may write another text than greedy decoding."""
        return False

    def start(self, state):
        """Return what chooses the tokens of one batch: it keeps nothing."""
        return self

    def step(self, state):
        """Return the logits, without the last token of every text."""
        logits = state.logits_BV.clone()
        for row, text in enumerate(state.rows):
            if not state.ids[text]:
                state.collected[text].extras["repeats_avoided"] = 0.0
            elif text in state.unfinished:
                last = state.ids[text][-1]
                avoided = int(logits[row].argmax()) == last
                state.collected[text].extras["repeats_avoided"] += avoided
                logits[row, last] = float("-inf")
        return logits
