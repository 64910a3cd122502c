"""Composites: every picture is whole in its slot, and the digest depends on what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.media.composites import ASKED, SIDE, Composite, CompositeGrid, draw


def noise(seed: int, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def found(small: NDArray[np.uint8], big: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return where a picture is found pixel by pixel within another."""
    windows = np.lib.stride_tricks.sliding_window_view(big, small.shape)[:, :, 0]
    return [tuple(corner) for corner in np.argwhere((windows == small).all(axis=(2, 3, 4)))]


FRAMES = {name: noise(seed) for seed, name in enumerate("abcd")}


def test_every_picture_is_there_once_in_reading_order() -> None:
    picture = draw(Composite((CompositeGrid(tuple("abcd"), 2, tuple("1234")),)), FRAMES)
    corners = [found(FRAMES[name], picture) for name in "abcd"]
    assert all(len(corner) == 1 for corner in corners)
    (a,), (b,), (c,), (d,) = corners
    assert a[0] == b[0] < c[0] == d[0] and a[1] == c[1] < b[1] == d[1]
    labels = picture[: a[0], :]
    assert (labels < 128).any()  # numbers are written above


def test_blank_and_asked_slots_differ() -> None:
    blank = draw(Composite((CompositeGrid(("a", None), 2),)), FRAMES)
    asked = draw(Composite((CompositeGrid(("a", ASKED), 2),)), FRAMES)
    assert blank.shape == asked.shape and not np.array_equal(blank, asked)


def test_grids_are_below_each_other_in_the_middle() -> None:
    composite = Composite((CompositeGrid(("a",), 1), CompositeGrid(("b", "c", "d"), 3)))
    picture = draw(composite, FRAMES)
    ((top, left),) = found(FRAMES["a"], picture)
    ((below, middle),) = found(FRAMES["c"], picture)
    assert top < below and left == middle


def test_large_pictures_are_reduced_and_small_ones_centred() -> None:
    frames = {"big": noise(1, 900, 1200), "small": noise(2, 30, 30)}
    picture = draw(Composite((CompositeGrid(("big", "small"), 2),)), frames)
    assert picture.shape[0] < SIDE and 2 * SIDE < picture.shape[1] < 2 * SIDE + 50
    assert len(found(frames["small"], picture)) == 1


def test_the_digest_distinguishes_composites() -> None:
    composites = [
        Composite((CompositeGrid(("a", "b"), 2),)),
        Composite((CompositeGrid(("b", "a"), 2),)),
        Composite((CompositeGrid(("a", "b"), 1),)),
        Composite((CompositeGrid(("a", "b"), 2, ("1", "2")),)),
        Composite((CompositeGrid(("a", None), 2),)),
        Composite((CompositeGrid(("a",), 2), CompositeGrid(("b",), 2))),
    ]
    assert len({composite.digest() for composite in composites}) == len(composites)
    assert Composite((CompositeGrid(("a", "b"), 2),)).digest() == composites[0].digest()


def test_a_composite_needs_a_picture() -> None:
    with pytest.raises(ProbesError, match="without pictures"):
        draw(Composite((CompositeGrid((None, ASKED), 2),)), FRAMES)
