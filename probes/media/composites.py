"""Composites: several pictures drawn as one, for models and layouts that show a single picture.

A composite is described by the hashes of its pictures, so that what it shows is known, and its own
hash can be looked up, without drawing it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import FrameArray, FramesByHash

ASKED = "?"
"""A slot that is drawn empty with a question mark: what belongs there is the question."""
SIDE = 448
"""Longest side of a slot in pixels; larger pictures are reduced, so that 10 frames make a picture
of some 1,800 x 1,400 pixels, more than any of the models' vision towers uses."""

_VERSION = 1  # of how a composite is drawn: part of its digest
_GAP = 8  # pixels between slots, and around them
_PAPER, _BLANK, _INK = 255, 200, 0


@dataclass(frozen=True, slots=True)
class CompositeGrid:
    """Slots in rows, filled from left to right."""

    slots: tuple[str | None, ...]
    """sha256 of a picture, `ASKED`, or None for a blank slot."""
    columns: int
    labels: tuple[str, ...] = ()
    """Text above each slot; none, or one per slot."""


@dataclass(frozen=True, slots=True)
class Composite:
    """Grids from top to bottom."""

    grids: tuple[CompositeGrid, ...]

    def digest(self) -> str:
        """Return a hash of what is drawn where and how, which identifies the pixels."""
        grids = [[grid.slots, grid.columns, grid.labels] for grid in self.grids]
        # The names are part of what is hashed: drawn composites are found by it.
        return sha256_json({"sheet": _VERSION, "side": SIDE, "blocks": grids})

    def pictures(self) -> list[str]:
        """Return the hashes of the pictures on it, in order."""
        slots = (slot for grid in self.grids for slot in grid.slots)
        return [slot for slot in slots if slot is not None and slot != ASKED]


def draw(composite: Composite, frames: FramesByHash) -> FrameArray:
    """Draw a composite.

    Slots are as large as the largest picture (at most `SIDE`); a smaller picture is in the middle
    of its slot.

    Args:
        composite: what is drawn where.
        frames: pictures by sha256, RGB uint8 [height, width, 3].

    Returns:
        RGB, uint8 [height, width, 3].

    Raises:
        ProbesError: the composite shows no picture.
    """
    # Each picture once, and reduced at once, so that no full-size copies are held here.
    shown = {sha: _reduced(frames[sha]) for sha in dict.fromkeys(composite.pictures())}
    if not shown:
        raise ProbesError(
            "a composite without pictures", "composite", "show at least one frame on it"
        )
    height = max(picture.shape[0] for picture in shown.values())
    width = max(picture.shape[1] for picture in shown.values())
    drawn = [_draw_grid(grid, shown, height, width) for grid in composite.grids]
    across = max(picture.shape[1] for picture in drawn)
    return np.concatenate([_pad(picture, picture.shape[0], across, _PAPER) for picture in drawn])


def _draw_grid(grid: CompositeGrid, shown: FramesByHash, height: int, width: int) -> FrameArray:
    """Draw a grid whose slots have this height and width, their labels left out."""
    import cv2

    strip = max(20, height // 8) if grid.labels else 0
    rows = -(-len(grid.slots) // grid.columns)
    down, right = strip + height + _GAP, width + _GAP
    paper = np.full((rows * down + _GAP, grid.columns * right + _GAP, 3), _PAPER, np.uint8)
    for number, slot in enumerate(grid.slots):
        row, column = divmod(number, grid.columns)
        top, left = _GAP + row * down, _GAP + column * right
        if grid.labels:
            _write(paper[top : top + strip, left : left + width], grid.labels[number])
        inside = paper[top + strip : top + strip + height, left : left + width]
        if slot == ASKED:
            _write(inside, ASKED)
        else:
            inside[:] = _BLANK if slot is None else _pad(shown[slot], height, width, _PAPER)
        corner = (left - 1, top + strip - 1)  # the line is outside of the picture
        cv2.rectangle(paper, corner, (left + width, top + strip + height), (_INK,) * 3)
    return paper


def _write(area: FrameArray, text: str) -> None:
    """Write a short text into the middle of an area [height, width, 3]."""
    import cv2  # its Hershey letters are the same everywhere; a system's fonts are not

    height, width = area.shape[:2]
    # At scale 1 this font's capitals are 22 pixels high; 80 keeps large slots from huge letters.
    scale = min(0.6 * height, 80) / 22
    thick = max(1, round(scale * 1.5))
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    canvas = np.ascontiguousarray(area)
    corner = ((width - text_width) // 2, (height + text_height) // 2)
    cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, (_INK,) * 3, thick)
    area[:] = canvas


def _pad(picture: FrameArray, height: int, width: int, value: int) -> FrameArray:
    """Put a picture into the middle of a larger one of constant `value`."""
    down, right = height - picture.shape[0], width - picture.shape[1]
    if not down and not right:
        return picture
    # An odd rest goes below and to the right, always: a composite is known by its pixels' hash.
    edges = ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    return np.pad(picture, edges, constant_values=value)


def _reduced(picture: FrameArray) -> FrameArray:
    """Reduce a picture to `SIDE`; one that is small enough stays as it is."""
    longest = max(picture.shape[:2])
    if longest <= SIDE:
        return picture
    import cv2

    height, width = (max(1, round(side * SIDE / longest)) for side in picture.shape[:2])
    # Each pixel is the mean of those it replaces: other ways would let thin lines vanish.
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
