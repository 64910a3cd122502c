"""Putting parts in the place of placeholders, and keeping track of what stands where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from probes.core.errors import ProbesError
from probes.core.types import Part, TextSpan

_PLACEHOLDER = re.compile(r"\{(frame_a|frame_b|common|text|infill|context|question|options)\}")


class NamedPart(NamedTuple):
    """A part on its way into a stimulus, and what it is or belongs to."""

    part: Part
    names: tuple[str, ...]
    """Names of spans, the outermost first; see `probes.core.types.TextSpan`."""


Piece = Part | NamedPart
"""What stimuli are put together from; a plain part belongs to no span."""


def fill(template: str, values: Mapping[str, Sequence[Piece]]) -> tuple[Part, ...]:
    """Put parts in the place of a template's placeholders; see `pieces` and `merged`."""
    return merged(pieces(template, values))[0]


def pieces(template: str, values: Mapping[str, Sequence[Piece]]) -> list[Piece]:
    """Put pieces in the place of a template's placeholders, in one pass.

    Inserted text is never looked at again, so braces in a question are harmless.

    Args:
        template: text with `{name}` for every key of `values`; other braces are plain text.
        values: the pieces for each placeholder.

    Raises:
        ProbesError: if the template misses a placeholder or holds one that has no value here.
    """
    split = _PLACEHOLDER.split(template)  # text, name, text, name, ..., text
    names = split[1::2]
    if lacking := sorted(set(values) - set(names)):
        what = f"a prompt has no {{{lacking[0]}}}"
        raise ProbesError(what, repr(template), f"put {{{lacking[0]}}} where it belongs")
    if foreign := sorted(set(names) - set(values)):
        offered = ", ".join(f"{{{name}}}" for name in sorted(values))
        what = f"a prompt holds {{{foreign[0]}}}, which has no value here"
        raise ProbesError(what, repr(template), f"take it out; this prompt offers {offered}")
    found: list[Piece] = []
    for place, one in enumerate(split):
        found.extend(values[one] if place % 2 else (one,))
    return found


def merged(given: Iterable[Piece]) -> tuple[tuple[Part, ...], tuple[TextSpan, ...]]:
    """Join neighbouring texts and drop empty ones: one prompt has one form, hence one hash.

    Returns:
        The parts; and what stands where in them, in order. A name that goes over several parts has
        a span in each, and an empty text has none.
    """
    parts: list[Part] = []
    spans: list[TextSpan] = []
    last: dict[str, int] = {}
    # Positions are counted while parts are joined: found by search, an option whose words are in
    # the question too would be found there.
    for piece in given:
        part, names = piece if isinstance(piece, NamedPart) else (piece, ())
        start = end = 0
        if isinstance(part, str):
            if not part:
                continue
            if parts and isinstance(before := parts[-1], str):
                start = len(before)
                part = before + part
                parts.pop()
            end = len(part)
        parts.append(part)
        for name in names:
            span = TextSpan(name, len(parts) - 1, start, end)
            at = last.get(name)
            # Only where nothing stands between: that would belong to the span as well.
            if at is not None and spans[at].part == span.part and spans[at].end == start:
                spans[at] = TextSpan(name, span.part, spans[at].start, end)
            else:
                last[name] = len(spans)
                spans.append(span)
    return tuple(parts), tuple(spans)
