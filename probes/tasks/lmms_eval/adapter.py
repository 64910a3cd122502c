"""The rule that turns a doc of any lmms-eval task into a question with options and an answer.

A task does not say whether it is multiple choice, so its functions are tried: options come from
`doc_to_choice`, else from the lines "(A) ...", "A. ..." or "A) ..." of its text; the right answer
from `doc_to_target`. `probes.tasks.lmms_eval.judging` then lets the task's own scorer confirm it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

Doc = Mapping[str, Any]

LETTERS = "ABCDEFGHIJ"
_LINE = re.compile(r"\s*(?:[-*•]\s*)?(?:\(([A-J])\)|([A-J])\s*[.):])\s*(\S.*?)\s*")
_LABEL = re.compile(r"\(?([A-Ja-j])\s*[.):]+\s*(.*)", re.DOTALL)
# A line that only says how to reply; in this harness the prompt set does that.
_HOW = re.compile(
    r"\W*(?:(?:please|only|directly|then|now|and)\s+)*"
    r"(?:answer|respond|reply|select|choose|pick|output|give|provide|return|write)\b"
    r".*\b(?:letters?|options?|choices?|alternatives?|answers?|directly|word|phrase)\b.*"
    r"|\W*(?:(?:the|your)\s+)?(?:(?:best|correct|final)\s+)?(?:answer|option|options|choices)"
    r"(?:\s+(?:is|are))?\s*[:.]?\s*\(?\s*",
    re.IGNORECASE | re.DOTALL,
)
_HEAD = re.compile(r"\A(?:question|q)\s*:\s*", re.IGNORECASE)
_CHOOSING = re.compile(r"\b(?:options?|choices?|letters?|alternatives)\b", re.IGNORECASE)


class Stage(IntEnum):
    """What a task was refused for, in the order of the checks."""

    UNKNOWN = 0
    """Something that only real docs can show."""
    TEXT = 1
    """Its text, options or media."""
    ANSWER = 2
    """Its target names no option."""
    SCORER_FAILS = 3
    SCORER_DIFFERS = 4
    """Its scorer does not credit exactly the right answer."""
    JUDGE = 5
    """Its scorer asks a judge over the network."""


class RefusedError(Exception):
    """Why a task is not multiple choice that can be scored here.

    Args:
        reason: a text that follows the task's name.
        stage: what it was refused for.
    """

    def __init__(self, reason: str, stage: Stage = Stage.TEXT) -> None:
        self.stage = stage
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class DocQuestion:
    """What a doc asks."""

    text: str
    """Without options and without the lines that say how to reply."""
    options: tuple[str, ...]
    target: Any
    """What `doc_to_target` returned."""


def question(task: Any, doc: Doc) -> DocQuestion:
    """Return what a doc asks.

    Args:
        task: a task of lmms-eval.
        doc: one of its docs; pictures may be left out.

    Raises:
        RefusedError: it offers no options, or more than there are letters.
    """
    text = task.doc_to_text(doc)
    if not isinstance(text, str):
        raise RefusedError(f"its text is not text but a {type(text).__name__}")
    before, listed, after = split(text)
    # Asked of the config first: without a setting lmms-eval's method fails on its own variable.
    given = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else None
    options = listed if given is None else [str(one) for one in given]
    if listed and len(listed) == len(options) and set(options) <= set(LETTERS):
        options = listed  # doc_to_choice gave the letters
    if options and [*options] == [*LETTERS[: len(options)]]:
        raise RefusedError(
            "its options are letters without texts (pictures, perhaps)", Stage.UNKNOWN
        )
    if len(options) < 2:
        raise RefusedError("it is open-ended: no options in doc_to_choice or in its text")
    if len(options) > len(LETTERS):
        raise RefusedError(f"{len(options)} options, but only {len(LETTERS)} letters")
    # Options leave the question: the prompts of this harness list them.
    lines = [*before, *after] if listed else text.splitlines()
    asked = "\n".join(line for line in lines if not _HOW.fullmatch(line)).strip()
    asked = _HEAD.sub("", asked)
    return DocQuestion(asked, tuple(_without_labels(options)), single(task.doc_to_target(doc)))


def speaks_of_options(text: str) -> bool:
    """Return whether a text asks to choose, wherever the options are listed."""
    return _CHOOSING.search(text) is not None


def split(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the lines before the last run of option lines, the options, and the lines after it."""
    lines = text.splitlines()
    found = [_LINE.fullmatch(line) for line in lines]
    starts = [at for at, match in enumerate(found) if match and (match[1] or match[2]) == "A"]
    # The last run: a question may list something itself before it lists the options.
    for start in reversed(starts):
        options: list[str] = []
        at = start
        while at < len(lines):
            match = found[at]
            if match and (match[1] or match[2]) == LETTERS[len(options)]:
                options.append(match[3])
            elif lines[at].strip() or len(options) == len(LETTERS):
                break
            at += 1
        if len(options) > 1:
            return lines[:start], options, lines[at:]
    return lines, [], []


def _without_labels(options: Sequence[str]) -> list[str]:
    """Return options without their labels, where all have the label of their position."""
    labels = [_LABEL.fullmatch(option.strip()) for option in options]
    # All or none: one option alone that begins with "A." is a sentence.
    if all(m and m[1].upper() == a and m[2] for m, a in zip(labels, LETTERS, strict=False)):
        return [match[2].strip() for match in labels if match]
    return [option.strip() for option in options]


def single(target: Any) -> Any:
    """Return the only element of a list of one; anything else unchanged."""
    if isinstance(target, list | tuple) and len(target) == 1:
        return target[0]
    return target


# --- the right answer -----------------------------------------------------------------------------


def _by_letter(target: Any, options: Sequence[str]) -> int | None:
    if not isinstance(target, str):
        return None
    bare = target.strip().strip("().:* ")
    # "E. coli" is a text, not letter E: what follows a letter has to be an option.
    if match := _LABEL.fullmatch(target.strip()):
        rest = match[2].strip()
        bare = match[1] if not rest or rest in options else ""
    index = LETTERS.find(bare.upper()) if len(bare) == 1 else -1
    return index if 0 <= index < len(options) else None


def _by_text(target: Any, options: Sequence[str]) -> int | None:
    wanted = plain(target)
    found = [i for i, option in enumerate(options) if plain(option) == wanted]
    # Of two options with the same text it is not known which one is meant.
    return found[0] if len(found) == 1 else None


def _by_index(target: Any, options: Sequence[str], first: int = 0) -> int | None:
    # For Python True is the number 1.
    if isinstance(target, bool):
        return None
    with suppress(TypeError, ValueError):
        index = int(target) - first  # of 1.5 too: a number that is none is compared once more
        return index if 0 <= index < len(options) and float(target) == index + first else None
    return None


def plain(value: object) -> str:
    """Return a text without case, repeated spaces and full stop, for comparison."""
    return " ".join(str(value).casefold().split()).rstrip(".")


# In the order of trial, as are FORMS: the first that the scorer confirms is taken.
READINGS: dict[str, Callable[[Any, Sequence[str]], int | None]] = {
    "letter": _by_letter,
    "text": _by_text,
    "index": _by_index,
    "number": lambda target, options: _by_index(target, options, first=1),
}
"""Readings of a target: (what doc_to_target returned, options) -> index of the answer, or None."""

FORMS: dict[str, Callable[[int, Sequence[str]], str]] = {
    "letter": lambda index, options: LETTERS[index],
    "text": lambda index, options: options[index],
    "labelled text": lambda index, options: f"{LETTERS[index]}. {options[index]}",
    "bracketed letter": lambda index, options: f"({LETTERS[index]})",
    "index": lambda index, options: str(index),
}
"""Forms of a reply that names an option: (index, options) -> reply."""
