"""Texts in the place of infills that are not written yet, for dry runs."""

from __future__ import annotations

import re
from dataclasses import astuple, replace

from probes.core.hashing import sha256_json
from probes.core.types import FrameRef, Part, Request
from probes.models.base import frames_of
from probes.stimuli.words import filler

_MARK = re.compile(r"(\[not written yet(?: [0-9a-f]{8})+\])(?: [^.]*\.)?")
_NAMES = re.compile(r"\[not written yet((?: [0-9a-f]{8})+)\]")


def placeholder(prompt: Request, words: int) -> str:
    """Return a text in the place of one that is not written yet; it differs from gap to gap.

    Args:
        prompt: what the text would answer; the frames in it name the gap.
        words: number of words, the name included; it has no fewer than the name.
    """
    names = [name[:8] for name in frames_of(prompt)]
    if prompt.decoding is not None:  # another draw is another text
        names.append(sha256_json(astuple(prompt.decoding))[:8])
    if not names:  # the condenser's: its text names a gap already
        found = _NAMES.search("".join(map(str, prompt.parts)))
        names = found[1].split() if found else [sha256_json(list(map(str, prompt.parts)))[:8]]
    mark = f"[not written yet {' '.join(names)}]"
    return f"{mark} {filler(words - len(mark.split()), 0)}".strip()


def has_placeholder(prompt: Request) -> bool:
    """Return whether a prompt holds a text that is not written yet."""
    return any(_NAMES.search(part) for part in prompt.parts if isinstance(part, str))


def shortened(prompt: Request) -> Request:
    """Return a prompt for people: of a text that is not written yet only its name is left."""

    def short(part: Part) -> Part:
        return part if isinstance(part, FrameRef) else _MARK.sub(r"\1", part)

    return replace(prompt, parts=tuple(map(short, prompt.parts)), spans=())
