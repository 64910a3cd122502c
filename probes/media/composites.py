"""Sheets: several pictures composed into one, for models and layouts that show a single picture.

A sheet is described by the hashes of its pictures, so that what it shows is known, and its own hash
looked up, without drawing it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json

ASKED = "?"
"""A cell that is drawn empty with a question mark: what belongs here is the question."""
SIDE = 448
"""Longest side of a cell in pixels; larger pictures are reduced, so that 10 frames stay one picture
of some 1,800 x 1,400 pixels, which is more than any of the models' vision towers sees."""

# Of how a sheet is drawn: part of its key.
_VERSION = 1
_GAP = 8  # pixels between cells, and around them
_PAPER, _BLANK, _INK = 255, 200, 0


@dataclass(frozen=True, slots=True)
class CompositeGrid:
    """Cells in rows, filled from left to right."""

    cells: tuple[str | None, ...]
    """sha256 of a picture, `ASKED`, or None for a blank cell."""
    columns: int
    labels: tuple[str, ...] = ()
    """What stands above each cell; none, or one per cell."""


@dataclass(frozen=True, slots=True)
class Composite:
    """Blocks from top to bottom."""

    blocks: tuple[CompositeGrid, ...]

    def key(self) -> str:
        """Return what identifies the sheet's pixels: a hash of what stands where and how."""
        blocks = [[block.cells, block.columns, block.labels] for block in self.blocks]
        return sha256_json({"sheet": _VERSION, "side": SIDE, "blocks": blocks})

    def pictures(self) -> list[str]:
        """Return the hashes of the pictures on it, in order."""
        cells = (cell for block in self.blocks for cell in block.cells)
        return [cell for cell in cells if cell is not None and cell != ASKED]


def draw(sheet: Composite, frames: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Draw a sheet.

    Cells are as large as the largest picture (at most `SIDE`); a smaller or narrower one stands in
    the middle of its cell.

    Args:
        sheet: what stands where.
        frames: pictures by sha256, RGB uint8 [height, width, 3].

    Returns:
        RGB, uint8 [height, width, 3].

    Raises:
        ProbesError: the sheet shows no picture.
    """
    shown = {sha: _reduced(frames[sha]) for sha in dict.fromkeys(sheet.pictures())}
    if not shown:
        raise ProbesError("a sheet without pictures", "sheet", "show at least one frame on it")
    height = max(picture.shape[0] for picture in shown.values())
    width = max(picture.shape[1] for picture in shown.values())
    blocks = [_block(block, shown, height, width) for block in sheet.blocks]
    across = max(block.shape[1] for block in blocks)
    return np.concatenate([_pad(block, block.shape[0], across, _PAPER) for block in blocks])


def _block(
    block: CompositeGrid, shown: Mapping[str, NDArray[np.uint8]], height: int, width: int
) -> NDArray[np.uint8]:
    strip = max(20, height // 8) if block.labels else 0
    rows = -(-len(block.cells) // block.columns)
    down, right = strip + height + _GAP, width + _GAP
    paper = np.full((rows * down + _GAP, block.columns * right + _GAP, 3), _PAPER, np.uint8)
    for place, cell in enumerate(block.cells):
        row, column = divmod(place, block.columns)
        top, left = _GAP + row * down, _GAP + column * right
        if block.labels:
            _write(paper[top : top + strip, left : left + width], block.labels[place])
        inside = paper[top + strip : top + strip + height, left : left + width]
        if cell == ASKED:
            _write(inside, ASKED)
        else:
            blank = cell is None
            inside[:] = _BLANK if blank else _pad(shown[cell or ""], height, width, _PAPER)
        _frame(paper, top + strip, left, height, width)
    return paper


def _frame(paper: NDArray[np.uint8], top: int, left: int, height: int, width: int) -> None:
    """Draw the line around a cell, outside of its picture."""
    bottom, right = top + height, left + width
    paper[top - 1, left - 1 : right + 1] = paper[bottom, left - 1 : right + 1] = _INK
    paper[top - 1 : bottom + 1, left - 1] = paper[top - 1 : bottom + 1, right] = _INK


def _write(area: NDArray[np.uint8], text: str) -> None:
    """Write a short text into the middle of an area [height, width, 3]."""
    import cv2  # its Hershey letters are the same everywhere; a system's fonts are not

    height, width = area.shape[:2]
    scale = min(0.6 * height, 80) / 22
    thick = max(1, round(scale * 1.5))
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    canvas = np.ascontiguousarray(area)
    where = ((width - wide) // 2, (height + high) // 2)
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, (_INK,) * 3, thick)
    area[:] = canvas


def _pad(picture: NDArray[np.uint8], height: int, width: int, value: int) -> NDArray[np.uint8]:
    """Put a picture into the middle of a larger one of plain `value`."""
    down, right = height - picture.shape[0], width - picture.shape[1]
    if not down and not right:
        return picture
    edges = ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    return np.pad(picture, edges, constant_values=value)


def _reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    longest = max(picture.shape[:2])
    if longest <= SIDE:
        return picture
    import cv2

    height, width = (max(1, round(side * SIDE / longest)) for side in picture.shape[:2])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
