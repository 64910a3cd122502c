"""From prompts to token ids, with a place for every token of every frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.types import Request, ScoringSpec
from probes.models.base import Unaskable, frames_of
from probes.models.hf.prompt_encoder import FRAME, EncodedPrompt, PromptTokens
from probes.models.hf.spans import Span, locate

TokenGrid = tuple[int, ...]
"""How many tokens a frame takes: (tokens,), or (rows, columns) where positions depend on both."""


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt as a model takes it."""

    ids: tuple[int, ...]
    """Token ids; `FRAME` once for every token of every frame."""
    frames: tuple[str, ...]
    """sha256 of the frames, in order."""
    grids: tuple[TokenGrid, ...] = ()
    """How many tokens each of them takes."""
    answers: tuple[tuple[int, ...], ...] = ()
    """Ids of every continuation; none where text is generated."""
    locate: Callable[[TokenizedPrompt], tuple[Span, ...]] | None = field(
        default=None, compare=False, repr=False
    )
    """Finds the spans."""
    alternatives: tuple[tuple[int, ...], ...] = ()
    """Under `letter`: further tokens that each of them can be written as instead."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """Which tokens are a frame, an infill, the question, an option, `last`.

        Raises:
            ProbesError: the tokenizer or the chat template does not say where things are.
        """
        # Found when asked for: most prompts are never looked into, and finding takes as long as
        # tokenizing.
        return () if self.locate is None else self.locate(self)


def marked(text: str, placeholder: str, prompt: Request) -> str:
    """Replace every placeholder by `<frame SHA8>`, the first digits of its frame's hash."""
    first, *rest = text.split(placeholder)
    marks = [f"<frame {name[:8]}>" for name in frames_of(prompt)]
    return first + "".join(mark + piece for mark, piece in zip(marks, rest, strict=True))


def tokenize(
    tokens: PromptTokens,
    prompts: Sequence[Request],
    grids: Mapping[str, TokenGrid],
    scoring: ScoringSpec,
    context: int,
) -> list[TokenizedPrompt | Unaskable]:
    """Tokenize prompts.

    Args:
        tokens: of the checkpoint.
        prompts: all of their frames are in `grids`.
        grids: how many tokens a frame takes, by sha256.
        scoring: `letter` needs one token per option.
        context: most positions that the model has.

    Returns:
        One for every prompt, in order.

    Raises:
        ProbesError: the tokenizer cannot write letters as single tokens.
    """
    texts = [tokens.render(prompt, scoring.answer_prefix) for prompt in prompts]
    forms: dict[str, tuple[int, ...]] = {}
    if scoring.kind == "cloze":
        encoded = tokens.continuations(texts, [prompt.options for prompt in prompts])
    else:
        encoded = [EncodedPrompt(ids) for ids in tokens.encode(texts)]
    if scoring.kind == "letter":
        forms = letter_forms(tokens, [option for prompt in prompts for option in prompt.options])
        encoded = [
            EncodedPrompt(one.ids, [[forms[option][0]] for option in prompt.options])
            for one, prompt in zip(encoded, prompts, strict=True)
        ]
    out: list[TokenizedPrompt | Unaskable] = []
    for prompt, one in zip(prompts, encoded, strict=True):
        names = frames_of(prompt)
        reason = tokens.problem(one.ids, len(names)) or _unscorable(one, scoring)
        find = partial(locate, tokens, prompt, scoring.answer_prefix)
        made = Unaskable(reason) if reason else _expanded(one, names, grids, find)
        if isinstance(made, TokenizedPrompt):
            if any(len(forms[option]) > 1 for option in prompt.options if forms):
                made = replace(made, alternatives=tuple(forms[o][1:] for o in prompt.options))
            made = too_long(len(made.ids), _behind(one, scoring), context) or made
        out.append(made)
    return out


def _unscorable(encoded: EncodedPrompt, scoring: ScoringSpec) -> str | None:
    """Return why a prompt's options cannot be scored, if they cannot."""
    if scoring.kind != "generate" and not encoded.answers:
        return f"the prompt has no options to score by {scoring.kind}"
    if not all(encoded.answers):
        return "an option adds no token to the prompt"
    return None


def _expanded(
    encoded: EncodedPrompt,
    names: tuple[str, ...],
    grids: Mapping[str, TokenGrid],
    find: Callable[[TokenizedPrompt], tuple[Span, ...]],
) -> TokenizedPrompt:
    """Give every frame as many places as it has tokens."""
    taken = tuple(grids[name] for name in names)
    each = iter(taken)
    ids: list[int] = []
    for token in encoded.ids:
        ids += [FRAME] * math.prod(next(each)) if token == FRAME else [token]
    return TokenizedPrompt(tuple(ids), names, taken, tuple(map(tuple, encoded.answers)), find)


def _behind(encoded: EncodedPrompt, scoring: ScoringSpec) -> int:
    """Return how many positions are needed behind a prompt."""
    if scoring.kind == "letter":
        return 0
    if scoring.kind == "cloze":
        return max(map(len, encoded.answers), default=0)
    return scoring.max_new_tokens


def too_long(tokens: int, more: int, context: int) -> Unaskable | None:
    """Return that a prompt and what follows it exceed the context; None where they fit."""
    if tokens + more <= context:
        return None
    return Unaskable(
        f"prompt of {tokens} tokens and {more} more exceed the model's context of {context} tokens"
    )


def positions(prompt: TokenizedPrompt) -> NDArray[np.int64]:
    """Return the positions of a prompt's tokens.

    Text counts on by one. A frame with rows and columns is at one point of time: its tokens have
    the place where it begins as their first position, and count rows and columns from there; text
    goes on behind the longer side.

    Returns:
        [1, tokens], or [3, tokens] (time, height, width) where a frame has rows and columns.
    """
    size = len(prompt.ids)
    if all(len(grid) == 1 for grid in prompt.grids):
        return np.arange(size)[None]
    out = np.empty((3, size), np.int64)
    places = np.flatnonzero(np.array(prompt.ids) == FRAME)
    at = here = done = 0
    for height, width in prompt.grids:
        # Frames may touch: only the number of tokens done says where the next begins.
        start = int(places[done])
        end = start + height * width
        out[:, at:start] = np.arange(here, here + start - at)
        here += start - at
        out[0, start:end] = here
        out[1, start:end] = here + np.repeat(np.arange(height), width)
        out[2, start:end] = here + np.tile(np.arange(width), height)
        here += max(height, width)  # as in the class: no later text shares a position with it
        at, done = end, done + height * width
    out[:, at:] = np.arange(here, here + size - at)
    return out


def letter_forms(tokens: PromptTokens, letters: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the tokens that each letter can be written as; see `PromptTokens.letter_forms`.

    Raises:
        ProbesError: a letter has none, or one that another letter has as well.
    """
    forms = {letter: tokens.letter_forms(letter) for letter in dict.fromkeys(letters)}
    every = [token for found in forms.values() for token in found]
    if all(forms.values()) and len(set(every)) == len(every):
        return forms
    shown = ", ".join(f"{letter!r} {list(found)}" for letter, found in forms.items())
    raise ProbesError(
        f"the tokenizer does not write each letter as one token of its own: {shown}",
        tokens.name,
        "score this member by cloze or generate",
    )
