"""Which tokens are a frame, an infill, the question or an option.

A request says what stands where in its texts, in characters. On the way to tokens these shift: the
chat template writes around the texts, special tokens in them are broken by a character more, and
tokens begin and end where the tokenizer wants. A token that overlaps a span belongs to it.

Shape suffix: T tokens of a prompt.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from probes.core.types import FrameRef, Request, TextSpan
from probes.models.hf.prompt_encoder import FRAME, PromptTokens, join

if TYPE_CHECKING:
    from probes.models.hf.token_layout import TokenizedPrompt


class Span(NamedTuple):
    """Which tokens of a prompt are something, as a half-open range."""

    name: str
    """As of the `TextSpan`s of the request, and further: `answer prefix`; and `last`, the token
    that the first token of an answer is read from. A name may occur more than once."""
    start: int
    stop: int


def locate(
    tokens: PromptTokens,
    request: Request,
    answer_prefix: str,
    prompt: TokenizedPrompt,
) -> tuple[Span, ...]:
    """Return the spans of a prompt.

    Args:
        tokens: of the checkpoint.
        request: with its `spans`; where these name no picture, pictures are `frame T` in order.
        answer_prefix: as rendered.
        prompt: what became of the request. Where the beginnings of answers are merged into its end
            it lacks that end, which is then in no span.

    Raises:
        ProbesError: the tokenizer or the chat template does not say where things are.
    """
    text, places = tokens.placed(request)
    named = []
    for name, first, end in _in_body(tokens, request):
        if len(there := places[first:end][places[first:end] >= 0]):
            named.append((name, int(there[0]), int(there[-1]) + 1))
    if answer_prefix:
        written = tokens.prefix(answer_prefix)
        text = join(text, written)
        named.append(("answer prefix", len(text) - len(written), len(text)))
    sizes = map(math.prod, prompt.grids)
    counts = [next(sizes) if token == FRAME else 1 for token in tokens.encode([text])[0]]
    begins_T, ends_T = np.repeat(tokens.bounds(text), counts, axis=0)[: len(prompt.ids)].T
    spans = []
    for name, first, end in named:
        (found,) = np.nonzero((begins_T < end) & (ends_T > first))
        if len(found):
            spans.append(Span(name, int(found[0]), int(found[-1]) + 1))
    return (*spans, Span("last", len(prompt.ids) - 1, len(prompt.ids)))


def _in_body(tokens: PromptTokens, request: Request) -> Iterator[tuple[str, int, int]]:
    """Yield name and characters within the body of everything that a request names."""
    spans = request.spans
    pictures = [at for at, part in enumerate(request.parts) if isinstance(part, FrameRef)]
    if not {span.part for span in spans} & set(pictures):
        spans = (*(TextSpan(f"frame {t}", at) for t, at in enumerate(pictures)), *spans)
    by_part: dict[int, list[TextSpan]] = {}
    for span in spans:
        by_part.setdefault(span.part, []).append(span)
    at = 0  # within the body
    runs = groupby(enumerate(request.parts), lambda part: isinstance(part[1], FrameRef))
    for is_frame, run in runs:
        if is_frame:
            for number, _ in run:
                first, end = at + len(tokens.before), at + len(tokens.before + tokens.placeholder)
                yield from ((span.name, first, end) for span in by_part.get(number, ()))
                at += len(tokens.frame)
            continue
        texts = [(number, part) for number, part in run if isinstance(part, str)]
        whole = "".join(part for _, part in texts)
        breaks = tokens.breaks(whole)
        before = 0  # within the texts that are joined
        for number, part in texts:
            for span in by_part.get(number, ()):
                # The place of a character, not of the gap before it: a break may be in that gap.
                first, last = before + span.start, before + span.end - 1
                if last >= first:
                    yield (
                        span.name,
                        at + first + bisect_right(breaks, first),
                        at + last + bisect_right(breaks, last) + 1,
                    )
            before += len(part)
        at += len(whole) + len(breaks)
