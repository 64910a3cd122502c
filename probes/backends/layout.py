"""From prompts to rows of token ids with a place for every token of every frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass

from probes.backends.tokens import FRAME, PromptTokens
from probes.types import FrameRef, ProbesError, Prompt, ScoringSpec


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt as a model takes it."""

    ids: tuple[int, ...]
    """Token ids; `FRAME` once for every token of every frame."""
    frames: tuple[str, ...]
    """sha256 of the frames, in order."""
    answers: tuple[tuple[int, ...], ...] = ()
    """Ids of every continuation; none where text is generated."""


def frames_of(prompt: Prompt) -> tuple[str, ...]:
    """Return the sha256 of a prompt's frames, in order."""
    return tuple(part.sha256 for part in prompt.parts if isinstance(part, FrameRef))


def lay_out(
    tokens: PromptTokens,
    prompts: Sequence[Prompt],
    features: Mapping[str, Sized],
    scoring: ScoringSpec,
    context: int,
) -> list[Row | str]:
    """Turn prompts into rows.

    Args:
        tokens: of the checkpoint.
        prompts: all of their frames are in `features`.
        features: by sha256; their lengths are the frames' numbers of tokens, so that text and
            features cannot disagree.
        scoring: `letter` wants one token per option.
        context: most positions that the model has.

    Returns:
        For every prompt its row, or why it has none.

    Raises:
        ProbesError: the tokenizer cannot write letters as single tokens.
    """
    texts = [tokens.render(prompt, scoring.answer_prefix) for prompt in prompts]
    if scoring.kind == "generate":
        encoded: list[tuple[list[int], list[list[int]]]] = [
            (ids, []) for ids in tokens.encode(texts)
        ]
    else:
        encoded = tokens.continuations(texts, [prompt.options for prompt in prompts])
    out: list[Row | str] = []
    for prompt, (ids, answers) in zip(prompts, encoded, strict=True):
        if scoring.kind == "letter":
            _check_letters(tokens, prompt.options, answers)
        out.append(_row(tokens, prompt, ids, answers, features, scoring, context))
    return out


def _row(
    tokens: PromptTokens,
    prompt: Prompt,
    ids: Sequence[int],
    answers: Sequence[Sequence[int]],
    features: Mapping[str, Sized],
    scoring: ScoringSpec,
    context: int,
) -> Row | str:
    names = frames_of(prompt)
    if problem := tokens.problem(ids, len(names)):
        return problem
    if scoring.kind != "generate" and not answers:
        return f"the prompt has no options to score by {scoring.kind}"
    if not all(answers):
        return "an option adds no token to the prompt"
    shown = iter(names)
    expanded: list[int] = []
    for token in ids:
        expanded += [FRAME] * len(features[next(shown)]) if token == FRAME else [token]
    more = {"letter": 0, "cloze": max(map(len, answers), default=0)}.get(
        scoring.kind, scoring.max_new_tokens
    )
    if len(expanded) + more > context:
        return (
            f"prompt of {len(expanded)} tokens and {more} more exceed the model's context of"
            f" {context} tokens"
        )
    return Row(tuple(expanded), names, tuple(map(tuple, answers)))


def _check_letters(
    tokens: PromptTokens, letters: Sequence[str], answers: Sequence[Sequence[int]]
) -> None:
    """Raise unless every letter is one token that no other letter has."""
    distinct = {
        tuple(answer) for answer in answers if len(answer) == 1 and not tokens.is_unknown(answer[0])
    }
    if len(distinct) == len(answers):
        return
    shown = ", ".join(f"{o!r} {list(a)}" for o, a in zip(letters, answers, strict=True))
    raise ProbesError(
        f"the tokenizer does not write each letter behind the prompt as one own token: {shown}",
        tokens.name,
        "score this member by cloze or generate, or change answer_prefix",
    )
