"""Painting the table as the camera wearer sees it: from above."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from probes.tasks.egoworld.world import AWAY, THINGS, State

COLOURS = {
    "red": (200, 40, 40),
    "blue": (45, 80, 205),
    "green": (30, 140, 60),
    "yellow": (225, 185, 30),
}
TONES = ((196, 164, 124), (176, 150, 122), (205, 186, 158), (160, 140, 116))
"""Colours of tables (RGB); one per recording."""
SKIN = (226, 178, 148)
DARK = (38, 34, 32)
PAGE = (246, 243, 232)
PHASES = 4
"""Steps of the hand's reach, from the edge of the picture to the thing."""
_SUPER = 8  # drawn this much larger, then averaged: smooth edges at any height
_CENTRES = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # (x, y) of PLACES


class Painter:
    """Paints frames of one size.

    Args:
        height: pixels.
        width: pixels, at least `height`; the table's four places fill the central square.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._left = (width - height) // 2

    def frame(
        self,
        things: Sequence[int],
        state: State,
        tone: Sequence[int],
        shift: tuple[int, int] = (0, 0),
        hand: tuple[int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """Paint one frame.

        Args:
            things: indices into THINGS.
            state: where they are and which are open.
            tone: RGB of the table.
            shift: (x, y) pixels by which the head has moved.
            hand: (place, phase) of the reaching hand, phase in 0..PHASES-1; None: no hand.

        Returns:
            uint8 [height, width, 3].
        """
        picture = np.empty((self.height, self.width, 3), np.float32)
        picture[:] = tone
        for thing, place, opened in zip(things, state.places, state.opened, strict=True):
            if place != AWAY:
                self._paste(picture, _thing(thing, opened, self.height), place, shift)
        if hand is not None:
            _blend(picture, _hand(hand[0], hand[1], self.height), (self._left + shift[0], shift[1]))
        return np.rint(picture).astype(np.uint8)

    def _paste(
        self,
        picture: NDArray[np.float32],
        sprite: NDArray[np.float32],
        place: int,
        shift: tuple[int, int],
    ) -> None:
        x, y = _CENTRES[place]
        side = sprite.shape[0]
        left = self._left + round(x * self.height - side / 2) + shift[0]
        _blend(picture, sprite, (left, round(y * self.height - side / 2) + shift[1]))


def _blend(
    picture: NDArray[np.float32], sprite: NDArray[np.float32], corner: tuple[int, int]
) -> None:
    """Blend a premultiplied RGBA sprite into the picture at (x, y), clipped at the edges."""
    x, y = corner
    top, left = max(0, y), max(0, x)
    bottom = min(picture.shape[0], y + sprite.shape[0])
    right = min(picture.shape[1], x + sprite.shape[1])
    if bottom <= top or right <= left:
        return
    part = sprite[top - y : bottom - y, left - x : right - x]
    area = picture[top:bottom, left:right]
    area *= 1 - part[..., 3:]
    area += part[..., :3]


def _finish(image: Image.Image, height: int, width: int) -> NDArray[np.float32]:
    """Average a supersampled RGBA drawing down to premultiplied float32 [height, width, 4]."""
    big = np.asarray(image, np.float32)
    big = np.concatenate([big[..., :3] * (big[..., 3:] / 255), big[..., 3:] / 255], axis=-1)
    channels = [
        np.asarray(Image.fromarray(big[..., c]).resize((width, height), Image.Resampling.BOX))
        for c in range(4)
    ]
    return np.stack(channels, axis=-1)


@functools.lru_cache(maxsize=512)
def _thing(thing: int, opened: bool, height: int) -> NDArray[np.float32]:
    colour, kind = THINGS[thing].split()
    side = max(8, round(0.42 * height))
    size = side * _SUPER
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    pen = _Pen(ImageDraw.Draw(image), size, COLOURS[colour])
    _KINDS[kind](pen, opened)
    return _finish(image, side, side)


@functools.lru_cache(maxsize=64)
def _hand(place: int, phase: int, height: int) -> NDArray[np.float32]:
    scale = 4
    size = height * scale
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    x, y = _CENTRES[place]
    start = np.array([0.5 + 0.3 * (x - 0.5), 1.15])
    tip = start + (np.array([x, y]) - start) * (0.45 + 0.5 * phase / (PHASES - 1))
    (x0, y0), (x1, y1) = start * size, tip * size
    draw.line([x0, y0, x1, y1], fill=(*SKIN, 255), width=round(0.11 * size))
    radius = 0.075 * size
    draw.ellipse(
        [x1 - radius, y1 - radius, x1 + radius, y1 + radius],
        fill=(*SKIN, 255),
        outline=(150, 105, 80, 255),
        width=max(1, round(0.008 * size)),
    )
    return _finish(image, height, height)


class _Pen:
    """Draws in a unit square with one colour and a darker shade of it."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: int, colour: tuple[int, int, int]) -> None:
        self.draw, self.size, self.colour = draw, size, colour
        self.deep = tuple(round(0.55 * c) for c in colour)
        self.line = max(1, round(0.025 * size))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: Sequence[int], r: float = 0
    ) -> None:
        self.draw.rounded_rectangle(
            [v * self.size for v in (x0, y0, x1, y1)],
            r * self.size,
            fill=(*fill, 255),
            outline=(*DARK, 255),
            width=self.line,
        )

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: Sequence[int]) -> None:
        self.draw.ellipse(
            [v * self.size for v in (x0, y0, x1, y1)],
            fill=(*fill, 255),
            outline=(*DARK, 255),
            width=self.line,
        )

    def shape(self, points: Sequence[tuple[float, float]], fill: Sequence[int]) -> None:
        self.draw.polygon(
            [(x * self.size, y * self.size) for x, y in points],
            fill=(*fill, 255),
            outline=(*DARK, 255),
            width=self.line,
        )


# An open thing shows a bright inside and a closed one does not: one frame is enough to see which.


def _box(pen: _Pen, opened: bool) -> None:
    if opened:
        pen.shape([(0.2, 0.3), (0.02, 0.08), (0.3, 0.08), (0.5, 0.3)], pen.deep)
        pen.shape([(0.8, 0.3), (0.98, 0.08), (0.7, 0.08), (0.5, 0.3)], pen.deep)
        pen.box(0.12, 0.28, 0.88, 0.94, pen.colour)
        pen.box(0.2, 0.34, 0.8, 0.8, PAGE)
    else:
        pen.box(0.14, 0.28, 0.86, 0.92, pen.colour)
        pen.box(0.14, 0.28, 0.86, 0.44, pen.deep)
        pen.box(0.46, 0.28, 0.54, 0.92, pen.deep)


def _jar(pen: _Pen, opened: bool) -> None:
    pen.box(0.26, 0.3, 0.74, 0.96, pen.colour, 0.14)
    pen.box(0.26, 0.62, 0.74, 0.7, pen.deep)
    if opened:
        pen.oval(0.2, 0.12, 0.8, 0.54, PAGE)
    else:
        pen.box(0.3, 0.1, 0.7, 0.34, pen.deep, 0.05)


def _book(pen: _Pen, opened: bool) -> None:
    if opened:
        pen.box(0.02, 0.2, 0.98, 0.84, pen.colour)
        pen.box(0.07, 0.25, 0.5, 0.79, PAGE)
        pen.box(0.5, 0.25, 0.93, 0.79, PAGE)
    else:
        pen.box(0.26, 0.12, 0.76, 0.9, pen.colour)
        pen.box(0.26, 0.12, 0.36, 0.9, pen.deep)
        pen.box(0.45, 0.26, 0.68, 0.36, pen.deep)


def _pot(pen: _Pen, opened: bool) -> None:
    pen.box(0.02, 0.46, 0.98, 0.6, pen.deep, 0.05)
    pen.oval(0.14, 0.16, 0.86, 0.88, pen.colour)
    if opened:
        pen.oval(0.22, 0.24, 0.78, 0.8, PAGE)
    else:
        pen.oval(0.24, 0.26, 0.76, 0.78, pen.deep)
        pen.oval(0.42, 0.44, 0.58, 0.6, pen.colour)


def _bag(pen: _Pen, opened: bool) -> None:
    pen.oval(0.34, 0.04, 0.66, 0.5, pen.deep)
    pen.shape([(0.22, 0.3), (0.78, 0.3), (0.95, 0.92), (0.05, 0.92)], pen.colour)
    if opened:
        pen.oval(0.14, 0.2, 0.86, 0.6, PAGE)
    else:
        pen.box(0.2, 0.27, 0.8, 0.38, pen.deep)


def _laptop(pen: _Pen, opened: bool) -> None:
    if opened:
        pen.box(0.08, 0.06, 0.92, 0.56, pen.colour, 0.03)
        pen.box(0.14, 0.12, 0.86, 0.5, PAGE)
        pen.shape([(0.1, 0.56), (0.9, 0.56), (1.0, 0.9), (0.0, 0.9)], pen.deep)
    else:
        pen.box(0.06, 0.38, 0.94, 0.86, pen.colour, 0.08)
        pen.oval(0.43, 0.54, 0.57, 0.68, pen.deep)


_KINDS = {"box": _box, "jar": _jar, "book": _book, "pot": _pot, "bag": _bag, "laptop": _laptop}
