"""From a prompt's parts to token ids: chat template, placeholders, continuations.

Placeholders and text are composed into one text body first: the official LLaVA chat templates put
all pictures before all text, which would undo interleaving.

Shape suffixes: N tokens of a piece of text, 2 where each begins and ends.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Params, Request
from probes.models.hf.chat_layout import MARK, ChatLayout, PartLayout, chat_layout

FRAME = -1
"""Stands for a frame among token ids: once, or once for each of its tokens in `TokenizedPrompt`."""
BREAK = "\u200b"
"""Zero-width space, put behind the first character of a special token in a text."""
_REMEMBERED = 8_192  # pieces of text whose ids are kept between calls
_PromptPiece = tuple[bool, str, bool]  # (behind a placeholder, text, before a placeholder)


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """Token ids of a rendered prompt and of its continuations."""

    ids: list[int]
    """Of the prompt, or of what the prompt and all of its continuations begin with."""
    answers: list[list[int]] = field(default_factory=list)
    """Of every continuation, from there on; empty where an answer adds no token."""


def join(text: str, answer: str) -> str:
    r"""Append an answer, behind a space unless one of the two sides has white space there.

    >>> join("ASSISTANT:", "B"), join("assistant\n", "B")
    ('ASSISTANT: B', 'assistant\nB')
    """
    spaced = not text or text[-1].isspace() or answer[:1].isspace()
    return text + answer if spaced else f"{text} {answer}"


def broken(special: re.Pattern[str], text: str) -> str:
    """Return a text with a zero-width space in everything that a pattern finds."""
    return special.sub(lambda found: found[0][0] + BREAK + found[0][1:], text)


def interleaved(prompt: Request, escape_special_tokens: Callable[[str], str]) -> list[str | None]:
    """Return a prompt's texts with special tokens escaped, and None for every frame.

    Neighbouring texts are one: "<vid" and "eo>" make a placeholder too.
    """
    out: list[str | None] = []
    for is_frame, parts in groupby(prompt.parts, lambda part: isinstance(part, FrameRef)):
        if is_frame:
            out += [None for _ in parts]
        else:
            out.append(
                escape_special_tokens("".join(part for part in parts if isinstance(part, str)))
            )
    return out


class PromptTokens:
    """Composes, renders and tokenizes the prompts of one checkpoint.

    Args:
        tokenizer: a Hugging Face tokenizer.
        placeholder: the special token that stands for one frame.
        processor: its chat template is used before the tokenizer's.
        before: what a family writes before a frame's placeholder.
        after: what it writes behind it.
        kind: what a frame is to the template: `image` or `video`.
        token: what the template writes for a frame; by default the placeholder.
        variables: further variables of the template (`chat_template_kwargs`).

    Raises:
        ProbesError: the chat template takes no message, or does not read a variable.
    """

    def __init__(
        self,
        tokenizer: Any,
        placeholder: str,
        processor: Any = None,
        *,
        before: str = "",
        after: str = "",
        kind: str = "image",
        token: str = "",
        variables: Params = (),
    ) -> None:
        self._tokenizer = tokenizer
        self.placeholder = placeholder
        self.chat: ChatLayout = chat_layout(
            processor, tokenizer, kind, token or placeholder, variables
        )
        # A template may write all of it itself, or more (InternVL's breaks the line behind).
        ahead, behind = self.chat.around
        self.before = ahead if ahead.endswith(before) else ahead + before
        after = behind if behind.startswith(after) else after + behind
        self.frame = self.before + placeholder + after
        """What stands for a frame in a text."""
        self._placeholder_id: int = tokenizer.convert_tokens_to_ids(placeholder)
        added = tokenizer.added_tokens_decoder.values()
        special = {str(token) for token in added if token.special}
        special |= set(tokenizer.all_special_tokens) | {placeholder, "<image>", "<video>"}
        special |= {self.chat.token} - {""}
        # A token of one character cannot be broken, and is ordinary text.
        longest_first = sorted((one for one in special if len(one) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)))
        pictures = {placeholder, "<image>", "<video>", self.chat.token} - {""}
        self._pictures = re.compile("|".join(map(re.escape, sorted(pictures, key=len)[::-1])))
        self._written = re.compile(
            f"(?:{re.escape(before)})?{re.escape(self.chat.token)}(?:{re.escape(after)})?"
        )
        whole, bare = (
            list(tokenizer("a", add_special_tokens=add)["input_ids"]) for add in (True, False)
        )
        # Only the start: an end token behind the prompt would end it unanswered.
        self._start: list[int] = whole[: _find(whole, bare)]
        self._pieces: dict[_PromptPiece, array[int]] = {}
        self._bounds: dict[_PromptPiece, NDArray[np.int64]] = {}

    def escape_special_tokens(self, text: str) -> str:
        """Return `text` with every special token in it broken by a zero-width space.

        Text of a data set must not become a picture, an end of turn or padding. A person sees the
        same characters; the model sees a few tokens of plain text.
        """
        return broken(self._special, text)

    def breaks(self, text: str) -> list[int]:
        """Return the characters of `text`, by number, that have a zero-width space before them."""
        return [found.start() + 1 for found in self._special.finditer(text)]

    @property
    def layout(self) -> PartLayout:
        """What the chat template does with texts and pictures."""
        return self.chat.layout

    def render(self, prompt: Request, answer_prefix: str = "") -> str:
        """Return the text that is tokenized, with one placeholder per frame.

        It is one user message, followed by the generation prompt and `answer_prefix`.
        """
        text = self._rendered(interleaved(prompt, self.escape_special_tokens))
        return join(text, self.prefix(answer_prefix)) if answer_prefix else text

    def prefix(self, answer_prefix: str) -> str:
        """Return an answer prefix as it is rendered.

        Its special tokens are meant, e.g. the one that ends a thought; but it shows no picture.
        """
        return broken(self._pictures, answer_prefix)

    def with_answer(self, text: str, answer: str) -> str:
        """Return a rendered text and an answer, by the rule of `join`."""
        return join(text, self.escape_special_tokens(answer))

    def body(self, prompt: Request) -> str:
        """Return what a prompt shows, in one text."""
        return self._body(interleaved(prompt, self.escape_special_tokens))

    def placed(self, prompt: Request) -> tuple[str, NDArray[np.int64]]:
        """Return a rendered prompt, and where each character of its body is in that text.

        Returns:
            The text, and [characters of the body]: of each its place, or -1 where the template
            drops it (white space around a text).

        Raises:
            ProbesError: the template changes more than that.
        """
        parts = interleaved(prompt, self.escape_special_tokens)
        text = self._rendered(parts)
        if self.chat.by_parts:
            return text, self._placed_parts(text, parts)
        body = self._body(parts)
        # Found by what the template writes around any body: a short one may occur in that too.
        before, _, after = self._rendered([MARK]).partition(MARK)
        within = text[len(before) : len(text) - len(after)]
        at = body.find(within)
        if at < 0 or len(body.strip()) > len(within) or text != before + within + after:
            raise self._not_located("the chat template changes them")
        places = np.full(len(body), -1)
        places[at : at + len(within)] = np.arange(len(before), len(before) + len(within))
        return text, places

    def _placed_parts(self, text: str, parts: Sequence[str | None]) -> NDArray[np.int64]:
        """Find parts that a template writes one by one, each behind the one before it."""
        before, _, _ = self._rendered([MARK]).partition(MARK)
        places: list[int] = []
        here = len(before)  # a short text may occur in what stands there too
        for part in parts:
            piece = self.frame if part is None else part
            shown = self.placeholder if part is None else part.strip()
            at = text.find(shown, here)
            if at < 0:
                raise self._not_located("the chat template changes them")
            lead = piece.index(shown)
            places += [-1] * lead + list(range(at, at + len(shown)))
            places += [-1] * (len(piece) - lead - len(shown))
            here = at + len(shown)
        return np.array(places, np.int64)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of rendered texts, `FRAME` for every placeholder, start token included.

        A tokenizer splits at special tokens before anything else, so the pieces between
        placeholders are tokenized once each and remembered: arms, frame counts and options
        share most of them. Each piece is tokenized between its neighbours, as white space may be
        stripped next to a special token.
        """
        split = [self._split(text) for text in texts]
        self._learn(chain.from_iterable(split))
        return [self._assemble(text, pieces) for text, pieces in zip(texts, split, strict=True)]

    def count(self, text: str) -> int:
        """Return the number of tokens of a text by itself."""
        return len(self.encode([text])[0])

    def bounds(self, text: str) -> NDArray[np.int64]:
        """Return the characters of a rendered text that its ids stand for, as `encode` gives them.

        Returns:
            [tokens, 2]: where each begins and ends; a start token that is not in the text has none.

        Raises:
            ProbesError: the tokenizer is one of those that do not say.
        """
        if not self._tokenizer.is_fast:
            raise self._not_located("a slow tokenizer does not tell which characters a token has")
        pieces = self._split(text)
        new = [piece for piece in pieces if piece not in self._bounds]
        for piece, offsets in self._tokenized(new, "offset_mapping", return_offsets_mapping=True):
            own_N2 = np.array(offsets, np.int64).reshape(-1, 2)
            self._bounds[piece] = own_N2 - len(self.placeholder) * piece[0]
        out = [np.zeros((len(self._start_of(text)), 2), np.int64)]
        at = 0
        for piece in pieces:
            if piece[0]:
                out.append(np.array([[at, at + len(self.placeholder)]]))
                at += len(self.placeholder)
            out.append(self._bounds[piece] + at)
            at += len(piece[1])
        return np.concatenate(out)

    def continuations(
        self, texts: Sequence[str], answers: Sequence[Sequence[str]]
    ) -> list[EncodedPrompt]:
        """Split (text + answer) into a prefix shared by all answers and each answer's own ids.

        Text and answer are tokenized jointly. Where the boundary merges (the text ends in a
        space, say, and the tokenizer has " A"), the prefix is cut back to what the text and all
        of its joint forms have in common, and every answer is scored from there: the
        probabilities are of the same text, and comparable within a prompt.

        Args:
            texts: rendered prompts.
            answers: for every text, its answers; joined by the rule of `join`.
        """
        split = [self._split(text) for text in texts]
        joint = [
            [self._split(self.with_answer(text, answer))[-1] for answer in given]
            for text, given in zip(texts, answers, strict=True)
        ]
        self._learn(chain(*split, *joint))
        out = []
        for text, pieces, ends in zip(texts, split, joint, strict=True):
            whole = self._assemble(text, pieces)
            last = self._pieces[pieces[-1]]
            tails = [self._pieces[end] for end in ends]
            common = min((_common(last, tail) for tail in tails), default=len(last))
            prefix = whole[: len(whole) - len(last) + common]
            out.append(EncodedPrompt(prefix, [list(tail[common:]) for tail in tails]))
        return out

    def letter_forms(self, letter: str) -> tuple[int, ...]:
        """Return the single tokens that a letter can be written as where an answer begins.

        These are what the tokenizer makes of "A" and of " A", each where it is one token, and the
        piece "▁A" where the vocabulary has it: which of them a model says there is its template's
        matter, and their probabilities add up.
        """
        made = [
            self._tokenizer(t, add_special_tokens=False)["input_ids"]
            for t in (letter, f" {letter}")
        ]
        found = [ids[0] for ids in made if len(ids) == 1]
        piece = self._tokenizer.convert_tokens_to_ids(f"\u2581{letter}")
        found += [] if piece is None else [piece]
        return tuple(dict.fromkeys(one for one in found if not self.is_unknown(one)))

    @property
    def name(self) -> str:
        """Class and origin of the tokenizer, for messages."""
        return f"{type(self._tokenizer).__name__} of {self._tokenizer.name_or_path}"

    def is_unknown(self, token: int) -> bool:
        """Return whether a token stands for text that the vocabulary does not have."""
        return bool(token == self._tokenizer.unk_token_id)

    def problem(self, ids: Sequence[int], frames: int) -> str | None:
        """Return why these ids cannot stand for a prompt of `frames` frames; None if they can."""
        found = list(ids).count(FRAME) + list(ids).count(self._placeholder_id)
        if found == frames:
            return None
        return f"{frames} frames became {found} placeholders {self.placeholder}"

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens and outer white space."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def _body(self, parts: Iterable[str | None]) -> str:
        return "".join(self.frame if part is None else part for part in parts)

    def _rendered(self, parts: Sequence[str | None]) -> str:
        """Return texts and frames (None) in the chat template."""
        if self.chat.owner is None:
            return self._body(parts)
        if not self.chat.by_parts:
            return self.chat.render([self._body(parts)])
        # A template may write what the family does, or leave it to the class's processor.
        return self._written.sub(lambda _: self.frame, self.chat.render(filter(_shown, parts)))

    def _split(self, text: str) -> list[_PromptPiece]:
        pieces = text.split(self.placeholder)
        last = len(pieces) - 1
        return [(i > 0, piece, i < last) for i, piece in enumerate(pieces)]

    def _learn(self, pieces: Iterable[_PromptPiece]) -> None:
        if len(self._pieces) > _REMEMBERED:
            self._pieces.clear()
            self._bounds.clear()
        new = [piece for piece in pieces if piece not in self._pieces]
        for piece, ids in self._tokenized(new, "input_ids"):
            self._pieces[piece] = array("i", ids)

    def _tokenized(
        self, pieces: Iterable[_PromptPiece], what: str, **more: bool
    ) -> Iterator[tuple[_PromptPiece, list[Any]]]:
        """Yield every different piece and what the tokenizer makes of it between its neighbours."""
        different = list(dict.fromkeys(pieces))
        if not different:
            return
        mark = self.placeholder
        texts = [mark * left + text + mark * right for left, text, right in different]
        encoded = self._tokenizer(texts, add_special_tokens=False, **more)[what]
        for piece, found in zip(different, encoded, strict=True):
            left, _, right = piece
            yield piece, found[left : len(found) - right]

    def _assemble(self, text: str, pieces: Sequence[_PromptPiece]) -> list[int]:
        ids = list(self._start_of(text))
        for piece in pieces:
            if piece[0]:
                ids.append(FRAME)
            ids += self._pieces[piece]
        return ids

    def _start_of(self, text: str) -> list[int]:
        """Return the ids before a text; none where its template writes the start token itself."""
        bos = self._tokenizer.bos_token
        return [] if bos and text.startswith(bos) else self._start

    def _not_located(self, reason: str) -> ProbesError:
        return ProbesError(
            f"the places of a prompt's texts among its tokens cannot be known: {reason}",
            self.name,
            "use the checkpoint's fast tokenizer and a chat template that leaves texts as they"
            " are, or leave out interventions that need spans",
        )


def _shown(part: str | None) -> bool:
    return part != ""


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the longest common prefix."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


def _find(whole: list[int], part: list[int]) -> int:
    """Return where `part` begins in `whole`; 0 if it does not occur."""
    starts = range(len(whole) - len(part) + 1)
    return next((at for at in starts if whole[at : at + len(part)] == part), 0)
