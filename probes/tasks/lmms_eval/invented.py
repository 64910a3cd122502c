"""Docs that have every field a task's functions ask for, to look at a task without its data.

A shape says how a data set might write options and answers; a field's value follows from its name.
Fields have no further meaning, and no shape is taken from a data set.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

WORDS = ("opens the box", "closes the jar", "moves the cup", "takes the bag", "returns the book")
LETTERS = "ABCDE"

_NUMBERED = re.compile(r"(?:answer_?choice|option|choice|candidate|opt|a|ans|answer)[ _]?([0-4])")
_LETTERED = re.compile(r"(?:(?:option|choice|candidate|opt|answer)[ _]?)?([A-E])|choice_([a-e])")
_OPTIONS = re.compile(r"(?:\w+_)?(?:options?|choices?|candidates?|alternatives)(?:_\w+)?|mc_\w+")
_ANSWER = re.compile(
    r"(?:\w+_)?(?:answers?|gt|ground_?truth|solution|target|label|correct\w*|ans|truth|gold)"
    r"(?:_?(?:id|idx|index|number|letter|option|choice|text|key|label))?"
)
_INDEX = re.compile(r".*(?:_id|_idx|_index|index|idx|label|number)")
_QUESTION = re.compile(
    r"(?:\w+_)?(?:question|query|prompt|problem|instruction|text|input)(?:_text)?"
)
_KIND = re.compile(r"(?:\w+_)?(?:question_?type|answer_?type|format|output_?format)")
_PICTURES = re.compile(r"(?:images|frames|pictures)(?:_list)?")
_PICTURE = re.compile(r"(?:\w+_)?(?:image|img|picture|frame)(?:_?\d+)?|decoded_image")
_AMOUNT = re.compile(
    r"(?:\w+_)?(?:start|end|duration|time|fps|length|seconds|width|height|size)\w*"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a data set might write its options and answers."""

    count: int
    """Number of options."""
    options: str
    """`list`, `labelled` ("A. ..."), `bracketed` ("(A) ..."), `lines`, `json` or `dict`."""
    answer: str
    """`letter`, `index`, `number` (from 1), `digit` (an index as text), `text` or `written` (as
    the option is written in the list)."""
    inline: bool
    """Whether the question's text lists the options."""
    kind: str
    """The value of a field that names the kind of question."""


def shapes(kinds: Sequence[str]) -> Iterator[Shape]:
    """Yield shapes, the most usual first.

    Args:
        kinds: possible values of fields that name the kind of question.
    """
    ways = ("list", "labelled", "bracketed", "dict", "lines", "json")
    answers = ("letter", "index", "text", "written", "digit", "number")
    for inline, count, kind, answer, options in itertools.product(
        (False, True), (4, 5, 3, 2), kinds, answers, ways
    ):
        yield Shape(count, options, answer, inline, kind)


class Invented(dict[str, Any]):
    """A doc that invents a field when it is first asked for.

    Args:
        shape: how it writes options and answer.
        answer: index of its right option, taken modulo the number of options.
    """

    def __init__(self, shape: Shape, answer: int) -> None:
        super().__init__()
        self.shape, self.answer = shape, answer % shape.count

    def __missing__(self, name: str) -> Any:
        """Invent a field from its name."""
        self[name] = _value(str(name), self.shape, self.answer)
        return self[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field; where there is a default, that for names without a meaning."""
        # `get` of a dict never calls __missing__: code that asks by it would find an empty doc.
        if name in self or _has_meaning(name):
            return self[name]
        return default if default is not None else self[name]

    def __contains__(self, name: object) -> bool:
        """Return whether the field was asked for, or its name says what it holds."""
        return super().__contains__(name) or (isinstance(name, str) and _has_meaning(name))


def _has_meaning(name: str) -> bool:
    return any(pattern.fullmatch(name.lower()) for pattern in (_KIND, _OPTIONS, _ANSWER, _QUESTION))


def _value(name: str, shape: Shape, answer: int) -> Any:
    lower = name.lower()
    if numbered := _NUMBERED.fullmatch(lower):
        return WORDS[int(numbered[1])]
    # Case counts: column "A" holds an option, "a" is any name.
    if lettered := _LETTERED.fullmatch(name):
        return WORDS[LETTERS.index((lettered[1] or lettered[2]).upper())]
    for pattern, make in _MAKERS:
        if pattern.fullmatch(lower):
            return make(lower, shape, answer)
    if lower == "id":  # as some data sets write it: split, subject, number
        return f"validation_Art_{answer}"
    if lower.endswith("path"):
        return f"data/videos/{answer}.mp4"
    return str(answer) if lower.endswith(("id", "idx", "index")) else f"{name} {answer}"


def _options(_: str, shape: Shape, __: int) -> Any:
    plain = WORDS[: shape.count]
    labelled = [f"{a}. {word}" for a, word in zip(LETTERS, plain, strict=False)]
    made: dict[str, Any] = {
        "list": list(plain),
        "labelled": labelled,
        "bracketed": [f"({a}) {word}" for a, word in zip(LETTERS, plain, strict=False)],
        "dict": dict(zip(LETTERS, plain, strict=False)),
        "lines": "\n".join(labelled),
        "json": json.dumps(list(plain)),
    }
    return made[shape.options]


def _answer(name: str, shape: Shape, answer: int) -> Any:
    letter, text = LETTERS[answer], WORDS[answer]
    written = _options("", shape, answer)
    made: dict[str, Any] = {
        "letter": letter,
        "index": answer,
        "number": answer + 1,
        "digit": str(answer),
        "text": text,
        "written": written[answer] if isinstance(written, list) else f"{letter}. {text}",
    }
    # Where the answer is a text, a field named after an index still holds a number.
    return answer if _INDEX.fullmatch(name) and shape.answer == "text" else made[shape.answer]


def _question(_: str, shape: Shape, __: int) -> str:
    listed = [f"{a}. {word}" for a, word in zip(LETTERS, WORDS[: shape.count], strict=False)]
    return "\n".join(["What does the camera wearer do?", *(listed if shape.inline else [])])


def _picture() -> Any:
    from PIL import Image

    return Image.new("RGB", (32, 32))


# The first that fits counts: "correct_option" is an answer, not a list of options.
_MAKERS: tuple[tuple[re.Pattern[str], Callable[[str, Shape, int], Any]], ...] = (
    (_KIND, lambda name, shape, answer: shape.kind),
    (_ANSWER, _answer),
    (_OPTIONS, _options),
    (_QUESTION, _question),
    (_PICTURES, lambda name, shape, answer: [_picture(), _picture()]),
    (_PICTURE, lambda name, shape, answer: _picture()),
    (_AMOUNT, lambda name, shape, answer: 1.0),
)
