"""From a backend's output to a choice: by log-probability, or by a parser that never guesses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from probes.core.errors import ProbesError
from probes.core.types import Item, Output, Scoring, Status
from probes.stimuli.donors import draw_seed, rank
from probes.stimuli.rotation import rotated
from probes.stimuli.words import WORD, words

LETTERS = "ABCDEFGHIJ"
"""Names of the options, in order; an item whose options are named has at most this many."""

# "The correct answer is", "Answer:", "Option": what may come before a letter or an option's text.
_PREFIX = re.compile(
    r"(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice)"
    r"(?:\s+is\b)?(?:\s*:\s*|\s+)(?:option\s+)?",
    re.IGNORECASE,
)
# "(B)", "(b)", "B.", "B)", "B:", or a bare "B" at the end of a line. A bare letter before a word
# is none: "A man opens it", "I think so", and EgoSchema's "C washes a cup" (C wears the camera).
_LETTER = re.compile(r"(?:\(([A-Za-z])\)[.:]?|([A-Z])[.):])(?=\s|\Z)|([A-Z])(?=[^\S\n]*(?:\n|\Z))")
_LOWER = re.compile(r"[a-z]")
# A letter by itself, as in "A or C" and "(c)", but not in "C's" or "T-shirt".
_MENTION = re.compile(r"(?<![\w'’-])([A-Z])(?![\w'’-])|\(([a-z])\)")
# What follows the article or the pronoun, and never the name of an option.
_PLAIN_WORD = re.compile(r"\s+(?!(?:is|was|are|or|and|nor|seems|can|cannot|could|would)\b)[a-z]")
_NAMING = {"option", "answer", "choice", "letter", "or", "and", "not", "nor", "than", "is"}
# A reply that takes back or disowns the letter it began with.
_DENIAL = re.compile(
    r"\A\W*(?:(?:is|are|was)\s+)?(?:not?|isn['’]t|never|n?or|neither)\b"
    r"|\b(?:wrong|incorrect|false|wait|actually|sorry|instead)\b"
    r"|\bnot\s+(?:(?:the|a)\s+)?(?:right|correct|answer)\b",
    re.IGNORECASE,
)


def letters(count: int) -> tuple[str, ...]:
    """Return the names of so many options; ProbesError where there are more than letters."""
    if count > len(LETTERS):
        what = f"{count} options, but only the letters A to {LETTERS[-1]}"
        raise ProbesError(what, fix="use scoring=cloze, which needs no letters")
    return tuple(LETTERS[:count])


def scored_options(item: Item, scoring: Scoring) -> tuple[str, ...]:
    """Return what is scored: the options' texts for `cloze`, else their letters."""
    return item.options if scoring == "cloze" else letters(len(item.options))


class JudgedAnswer(NamedTuple):
    """What an output comes to."""

    status: Status
    choice: int | None = None
    """Index of the chosen option in the item's own order; None where there is none."""
    tied: bool = False
    """Whether the best score was that of several options exactly."""


def judge(
    output: Output,
    item: Item,
    scoring: Scoring,
    *,
    rotation: int = 0,
    key: Sequence[int | str] = (),
) -> JudgedAnswer:
    """Turn an output into a choice.

    Args:
        output: what the backend returned, of the options as they were listed.
        item: in its own order.
        scoring: `letter`: highest log-probability; `cloze`: highest mean log-probability per
            token; `generate`: what `parse` reads.
        rotation: places by which the listed options were rotated to the left.
        key: what a draw among options of exactly the same score depends on.

    Returns:
        `ok` with the choice, `unparsed`, or `error` where `fault` finds one.
    """
    listed = rotated(item, rotation)
    if fault(output, listed, scoring):
        return JudgedAnswer("error")
    count = len(item.options)
    if scoring == "generate":
        choice = parse(output.text, listed.options)
        if choice is None:
            return JudgedAnswer("unparsed")
        return JudgedAnswer("ok", (choice + rotation) % count)
    scores = list(output.option_logprobs)
    if scoring == "cloze":
        # Per token: by the sum, the option of fewest tokens would mostly win.
        scores = [total / n for total, n in zip(scores, output.option_tokens, strict=True)]
    best = [(at + rotation) % count for at, score in enumerate(scores) if score == max(scores)]
    # Never the first: options in one place would win every tie. Each option has a rank of its own,
    # so that neither the place it was listed at nor the number of others changes who wins.
    choice = max(best, key=lambda option: rank(draw_seed(*key), str(option)))
    return JudgedAnswer("ok", choice, len(best) > 1)


def letter_mass(output: Output, scoring: Scoring) -> float | None:
    """Return the probability that a member puts on the options' letters altogether.

    Letters that a server did not list count as nothing: what is known of them is a bound.

    Returns:
        A share in [0, 1]; None where letters were not scored.
    """
    if scoring != "letter" or output.status != "ok" or not output.option_logprobs:
        return None
    both = zip(output.option_logprobs, output.option_tokens, strict=False)
    return math.fsum(math.exp(logprob) for logprob, tokens in both if tokens)


def fault(output: Output, item: Item, scoring: Scoring) -> str:
    """Say why an output cannot be judged; empty where it can."""
    if output.status != "ok":
        return output.error or f"the backend reports {output.status}"
    if scoring == "generate":
        return ""
    scores, count = output.option_logprobs, len(item.options)
    if not scores or len(scores) != count:
        return f"{len(scores)} log-probabilities for {count} options"
    if any(math.isnan(s) or s == math.inf for s in scores):
        return "a log-probability is NaN or infinite"
    # One of -inf is a score like others; if all are, `judge` would choose the first.
    if all(s == -math.inf for s in scores):
        return "every option has probability zero"
    if scoring == "cloze" and (len(output.option_tokens) != count or min(output.option_tokens) < 1):
        return "an option has no tokens"
    return ""


def parse(reply: str, options: Sequence[str]) -> int | None:
    """Read which option a free reply names; None wherever a reader could doubt it.

    Read are: one letter ("B", "B.", "B)", "B:", "(B)", a lone "b" or "(b)"), which text may follow
    after white space (a bare letter: on the next line); the same after "The answer is", "Answer:"
    and the like; and one option's whole text, without case, white space, punctuation and emphasis.
    The reply must begin with it. Another option's letter or text, a denial, or letter and text
    that disagree make it unparsed.

    Args:
        reply: what the model wrote.
        options: texts of the options.

    Returns:
        Index of the option, or None.
    """
    # Markdown's emphasis: "**B**" is a B.
    text = reply.replace("*", "").replace("`", "").strip()
    prefix = _PREFIX.match(text)
    body = text[prefix.end() :] if prefix else text
    # With what comes before as well: an option may itself begin with "The answer".
    whole = [words(text), words(body)]
    found = {i for i, option in enumerate(options) if words(option) and words(option) in whole}
    # Two options of the same text are distinguished by a letter only.
    named = _named(body, options, lone=prefix is None)
    if named is not None:
        found = {named} if not found or named in found else found | {named}
    return found.pop() if len(found) == 1 else None


def _named(body: str, options: Sequence[str], *, lone: bool) -> int | None:
    """Return the option whose letter the text begins with, if nothing after it speaks against."""
    # Only by itself: "The answer is a" may have broken off before a word.
    if lone and _LOWER.fullmatch(body):
        index, rest = LETTERS.find(body.upper()), ""
    elif match := _LETTER.match(body):
        index = LETTERS.find(next(letter for letter in match.groups() if letter).upper())
        rest = body[match.end() :]
    else:
        return None
    if not 0 <= index < len(options):
        return None
    said, own = words(rest), words(options[index])
    beyond = _beyond(rest, own)
    for other in map(words, options):
        # An option that is part of the named one's text counts only where it is named again.
        heard = words(beyond) if _within(other, own) else said
        if other != own and _within(other, heard):
            return None
    return None if _DENIAL.search(beyond) or _mentions(beyond, index, len(options)) else index


def _beyond(rest: str, own: list[str]) -> str:
    """Return what follows the named option's own text, which may break off at the token limit."""
    said = list(WORD.finditer(rest))
    heard = [word.group().casefold() for word in said]
    if len(heard) > 1 and heard[:-1] == own[: len(heard) - 1]:
        cut_short = own[len(heard) - 1 : len(heard)]
        if cut_short and cut_short[0].startswith(heard[-1]):
            return ""
    if own and heard[: len(own)] == own:
        return rest[said[len(own) - 1].end() :]
    return rest


def _within(part: list[str], whole: list[str]) -> bool:
    """Return whether `part` (not empty) is in `whole` as a run of words."""
    size = len(part)
    return size > 0 and any(whole[i : i + size] == part for i in range(len(whole) - size + 1))


def _mentions(text: str, index: int, count: int) -> bool:
    """Tell whether the text names another option's letter."""
    for match in _MENTION.finditer(text):
        letter = (match[1] or match[2]).upper()
        # Letters of no option, and the named one again, speak against nothing.
        if LETTERS.find(letter) in (-1, index, *range(count, len(LETTERS))):
            continue
        before = text[: match.start()].rstrip(" \t")
        plain = match[1] and _PLAIN_WORD.match(text, match.end())
        article = letter == "A" and (not before or before[-1] in '.!?:;"“(\n')
        # After "option" or "or" it is the ninth letter, elsewhere the pronoun.
        pronoun = letter == "I" and not _NAMING.intersection(before.casefold().split()[-1:])
        if plain and (article or pronoun):
            continue
        return True
    return False
