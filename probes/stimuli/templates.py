"""Putting parts in the place of placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from probes.core.errors import ProbesError
from probes.core.types import Part

if TYPE_CHECKING:
    pass


_PLACEHOLDER = re.compile(r"\{(frame_a|frame_b|common|text|infill|context|question|options)\}")


def fill(template: str, values: Mapping[str, Sequence[Part]]) -> tuple[Part, ...]:
    """Put parts in the place of a template's placeholders, in one pass.

    Inserted text is never looked at again, so braces in a question are harmless.

    Args:
        template: text with `{name}` for every key of `values`; other braces are plain text.
        values: the parts for each placeholder.

    Returns:
        Parts in order; neighbouring texts are one, empty ones are gone.

    Raises:
        ProbesError: if the template misses a placeholder or holds one that has no value here.
    """
    pieces = _PLACEHOLDER.split(template)  # text, name, text, name, ..., text
    names = pieces[1::2]
    if lacking := sorted(set(values) - set(names)):
        what = f"a prompt has no {{{lacking[0]}}}"
        raise ProbesError(what, repr(template), f"put {{{lacking[0]}}} where it belongs")
    if foreign := sorted(set(names) - set(values)):
        offered = ", ".join(f"{{{name}}}" for name in sorted(values))
        what = f"a prompt holds {{{foreign[0]}}}, which has no value here"
        raise ProbesError(what, repr(template), f"take it out; this prompt offers {offered}")
    parts: list[Part] = []
    for place, piece in enumerate(pieces):
        parts.extend(values[piece] if place % 2 else (piece,))
    return merged(parts)


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Join neighbouring texts and drop empty ones: one prompt has one form, hence one hash."""
    out: list[Part] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return tuple(out)
