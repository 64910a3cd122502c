"""Our own PNG files: any reader gives the pixels back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from probes.media import png


def read(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        picture.load()
        return np.asarray(picture)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_every_picture_comes_back(height, width, seed, flat):
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), np.uint8)
    frame = frame // 64 * 64 if flat else frame
    assert (read(png.encode(frame)) == frame).all()


def test_a_view_of_a_larger_array_is_written_as_it_looks():
    whole = np.arange(20 * 20 * 3, dtype=np.uint32).reshape(20, 20, 3).astype(np.uint8)
    for view in (whole[2:9, 3:11], whole[::-1], whole.transpose(1, 0, 2)):
        assert (read(png.encode(view)) == view).all()


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4), np.uint8)[..., None], np.zeros((4, 4, 3), np.float32)]
)
def test_what_is_not_an_rgb_picture_is_refused(frame):
    with pytest.raises(TypeError, match="not uint8"):
        png.encode(frame)
