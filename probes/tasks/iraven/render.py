"""Drawing panels, bit for bit as the original does under OpenCV 3.4 to 4.x.

An entity is drawn alone as darkness (0 nothing, 255 black) on an empty panel, rotated about its
centre, and copied onto the panel wherever it is not 0. Entities are drawn once and kept as sprites:
drawing a panel then means copying a few small arrays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.tasks.iraven.problem import Panel
from probes.tasks.iraven.space import DEGREES, GREYS, SIDE, SIZES, Configuration, Slot

Pixels = NDArray[np.uint8]
PixelMap = NDArray[np.int16]
"""[height, width, 2]: whole part of a source pixel's (x, y), within a slot's window."""
PixelFractions = NDArray[np.uint16]
"""[height, width]: 32 times the 32nds of y, plus those of x."""

BLACK = len(GREYS) - 1
"""The Color level of a black filling."""
_PEN = 2
"""OpenCV's thickness; it comes out 3 pixels wide."""
_CACHED = 65_536
"""More than there are sprites (53,000); all of them together take about 100 MB."""


@functools.cache
def opencv() -> ModuleType:
    """Return cv2.

    Raises:
        ProbesError: it is missing, or a version that draws other pixels.
    """
    try:
        import cv2
    except ImportError as error:
        raise ProbesError(
            "OpenCV is needed to draw i-RAVEN panels, and it cannot be imported",
            str(error),
            "pip install 'opencv-python-headless>=4.6,<5'",
        ) from error
    if not cv2.__version__.startswith(("3.4.", "4.")):
        raise ProbesError(
            "this version of OpenCV does not draw i-RAVEN panels as the original does",
            f"OpenCV {cv2.__version__}",
            "pip install 'opencv-python-headless>=4.6,<5'",
        )
    return cv2


def draw(configuration: Configuration, panels: Sequence[Panel]) -> Pixels:
    """Draw panels: uint8 [n, 160, 160], white background.

    Layers follow component order, then list order; structures of two halves get a line on top.
    """
    images = np.full((len(panels), SIDE, SIDE), 255, np.uint8)
    for image, panel in zip(images, panels, strict=True):
        for component, entities in zip(configuration.components, panel, strict=True):
            for slot, *look in zip(entities.slots, *entities.values, strict=True):
                rows, columns, ink = sprite(component.slots[slot], *look)
                # Replaced, not blended: as in the original, a pale rotated rim hides what is below.
                np.copyto(image[rows, columns], ink, where=ink < 255)
    # Last: the line lies over entities that reach it.
    if configuration.structure == "Left_Right":
        images[:, :, SIDE // 2] = 0
    elif configuration.structure == "Up_Down":
        images[:, SIDE // 2, :] = 0
    return images


def look_alike(configuration: Configuration, one: Panel, other: Panel) -> bool:
    """Return whether two panels look alike, pixel for pixel."""
    first, second = draw(configuration, (one, other))
    return bool(np.array_equal(first, second))


@functools.lru_cache(maxsize=_CACHED)
def sprite(
    slot: Slot, type_: int, size: int, color: int, angle: int
) -> tuple[slice, slice, Pixels]:
    """Return rows, columns and pixels (255: transparent) of an entity in a slot."""
    rows, columns, whole, parts = _extent(slot, type_, size, angle)
    darkness = _turned(_upright(slot, type_, size, color), whole, parts)
    return rows, columns, np.invert(darkness)  # 255 - darkness


@functools.cache
def _extent(
    slot: Slot, type_: int, size: int, angle: int
) -> tuple[slice, slice, PixelMap, PixelFractions]:
    """Return the rows and columns that a rotated shape covers, and their part of `_turn`."""
    whole, parts = _turn(slot, angle)
    # One extent for all colours: a filling never shows outside the outline, always black.
    touched = _turned(_upright(slot, type_, size, BLACK), whole, parts) > 0
    down, across = (np.flatnonzero(touched.any(axis)) for axis in (1, 0))
    inner = slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)
    rows, columns = (
        slice(outer.start + part.start, outer.start + part.stop)
        for outer, part in zip(window(slot), inner, strict=True)
    )
    return rows, columns, whole[inner], parts[inner]


def _turned(upright: Pixels, whole: PixelMap, parts: PixelFractions) -> Pixels:
    cv2 = opencv()
    return cv2.remap(upright, whole, parts, cv2.INTER_LINEAR)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=_CACHED)
def _upright(slot: Slot, type_: int, size: int, color: int) -> Pixels:
    """Draw a shape alone, not rotated, within its slot's window: 0 nothing, 255 black.

    It is filled (unless unfilled: Color 0), then outlined.
    """
    cv2 = opencv()
    image = np.zeros((SIDE, SIDE), np.uint8)
    x, y = centre(slot)
    d = radius(slot, type_, size)
    strokes = [(255 - GREYS[color], -1), (255, _PEN)]
    # Color 0 is not filled with white: what lies below has to show through.
    for value, pen in strokes if color else strokes[1:]:
        if type_ == 5:
            cv2.circle(image, (x, y), d, value, pen)
        elif type_ == 2:
            cv2.rectangle(image, (x - d, y - d), (x + d, y + d), value, pen)
        else:
            points = np.array(vertices(slot, type_, size), np.int32).reshape(-1, 1, 2)
            if pen < 0:
                cv2.fillPoly(image, [points], value)
            else:
                cv2.polylines(image, [points], True, value, pen)
    # A view would keep the whole panel in the cache.
    return image[window(slot)].copy()


@functools.cache
def _turn(slot: Slot, angle: int) -> tuple[PixelMap, PixelFractions]:
    """Return where each pixel of a slot's window comes from when the panel is rotated.

    Circles are rotated too, which softens their rim. This is warpAffine's own fixed-point table
    (positions in 1/32 of a pixel), made once per slot and angle and only for the window: warping a
    whole panel per entity takes ten times as long.
    """
    (a, b, tx), (c, d, ty) = opencv().invertAffineTransform(rotation(slot, angle))
    rows, columns = window(slot)
    y = np.arange(rows.start, rows.stop)[:, None]
    x = np.arange(columns.start, columns.stop)[None, :]
    # Both terms are rounded by themselves, and 16 is half of a 32nd of a pixel: one rounding of
    # their sum would be cleaner, and differ from OpenCV's.
    fine_x = (np.rint(1024 * (b * y + tx)) + 16 + np.rint(1024 * a * x)).astype(np.int64) >> 5
    fine_y = (np.rint(1024 * (d * y + ty)) + 16 + np.rint(1024 * c * x)).astype(np.int64) >> 5
    whole = np.stack(((fine_x >> 5) - columns.start, (fine_y >> 5) - rows.start), axis=-1)
    parts = (fine_y & 31) * 32 + (fine_x & 31)
    return whole.astype(np.int16), parts.astype(np.uint16)


# --- geometry -------------------------------------------------------------------------------------


def centre(slot: Slot) -> tuple[int, int]:
    """Return a slot's centre (x, y) in whole pixels."""
    # Truncated, as the original does: rounding would move column .16 from pixel 25 to 26.
    return int(SIDE * slot[1]), int(SIDE * slot[0])


def window(slot: Slot) -> tuple[slice, slice]:
    """Return the rows and columns that hold every entity of a slot, however rotated."""
    x, y = centre(slot)
    # Two more: half of the pen lies outside of the shape, and rotation softens it further.
    reach = int(half_side(slot)) + 2
    rows, columns = (slice(max(0, at - reach), min(SIDE, at + reach + 1)) for at in (y, x))
    return rows, columns


def half_side(slot: Slot) -> float:
    """Return half the smaller side of a slot in pixels, not rounded."""
    return min(slot[2], slot[3]) * SIDE / 2


def radius(slot: Slot, type_: int, size: int) -> int:
    """Return a shape's extent from the centre in whole pixels: half the side of a square."""
    half = half_side(slot)
    if type_ == 2:
        # Its half diagonal is what `Size` scales: turned, it stays in the other shapes' circle.
        return int(half / 2 * math.sqrt(2) * SIZES[size])
    return int(half * SIZES[size])


def vertices(slot: Slot, type_: int, size: int) -> list[tuple[int, int]]:
    """Return a polygon's vertices (x, y) in whole pixels, before rotation."""
    d = radius(slot, type_, size)
    # From the whole d, and truncated again: both steps decide pixels.
    w, h = int(d / 2 * math.sqrt(3)), int(d / 2)
    if type_ == 1:
        around = [(0, -d), (w, h), (-w, h)]
    elif type_ == 2:
        around = [(-d, -d), (d, -d), (d, d), (-d, d)]
    elif type_ == 3:
        a, b = (int(d * f(math.radians(18))) for f in (math.cos, math.sin))
        p, q = (int(d * f(math.radians(36))) for f in (math.sin, math.cos))
        around = [(0, -d), (-a, -b), (-p, q), (p, q), (a, -b)]
    else:
        around = [(0, -d), (-w, -h), (-w, h), (0, d), (w, h), (w, -h)]
    x, y = centre(slot)
    return [(x + dx, y + dy) for dx, dy in around]


def rotation(slot: Slot, angle: int) -> NDArray[np.float64]:
    """Return the matrix [2, 3] that turns a panel about a slot's centre."""
    turned: NDArray[np.float64] = opencv().getRotationMatrix2D(centre(slot), DEGREES[angle], 1)
    return turned


# --- an entity's place, as files state it ---------------------------------------------------------


def real_box(slot: Slot, type_: int, size: int, angle: int) -> list[float]:
    """Return `real_bbox`: row centre, column centre, height and width, as shares of the side.

    The order of operations and numpy's rounding matter in the fourth decimal.
    """
    pen = 3 / SIDE
    if type_ == 5:
        x, y = centre(slot)
        extent = 2 * half_side(slot) * SIZES[size] / SIDE + pen  # the radius is not truncated here
        box = [y / SIDE, x / SIDE, extent, extent]
    else:
        matrix = rotation(slot, angle)
        points = np.array(vertices(slot, type_, size)) @ matrix[:, :2].T + matrix[:, 2]
        (left, top), (right, bottom) = points.min(axis=0) / SIDE, points.max(axis=0) / SIDE
        box = [(top + bottom) / 2, (left + right) / 2, bottom - top + pen, right - left + pen]
    return [float(value) for value in np.round(box, 4)]


def mask_runs(slot: Slot, type_: int, size: int, angle: int) -> NDArray[np.int64]:
    """Return `mask`: [runs, 2] of (start, length) over the flattened panel, starts from 1.

    The entity is drawn as black; softened rims, which are not exactly black, drop out.
    """
    rows, columns, ink = sprite(slot, type_, size, BLACK, angle)
    # An empty column on either side lets runs at the sprite's edges begin and end as well. No
    # entity reaches both sides of the panel, so that no run goes on in the next row.
    black = np.zeros((ink.shape[0], ink.shape[1] + 2), np.int8)
    black[:, 1:-1] = ink == 0
    steps = np.diff(black, axis=1)
    (row, start), (_, end) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    return np.stack(((rows.start + row) * SIDE + columns.start + start + 1, end - start), axis=1)
