"""Stored frames: any reader gives the pixels back, and files of any writer are read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from probes.core.hashing import array_sha256
from probes.media import png_file
from probes.media.frame_folder import FrameFolder
from probes.media.png_file import encode_png


def read(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        picture.load()
        return np.asarray(picture)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_every_picture_comes_back(height: int, width: int, seed: int, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), np.uint8)
    frame = frame // 64 * 64 if flat else frame
    assert (read(encode_png(frame)) == frame).all()


def test_a_view_of_a_larger_array_is_written_as_it_looks() -> None:
    whole = np.arange(20 * 20 * 3, dtype=np.uint32).reshape(20, 20, 3).astype(np.uint8)
    for view in (whole[2:9, 3:11], whole[::-1], whole.transpose(1, 0, 2)):
        assert (read(encode_png(view)) == view).all()


def test_an_older_opencv_writes_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "IMWRITE_PNG_FILTER", raising=False)
    frame = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    assert (read(encode_png(frame)) == frame).all()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3), np.float32),
    ],
    ids=["grey", "with alpha", "without channels", "16 bits", "floats"],
)
def test_what_is_not_an_rgb_picture_is_refused(frame: np.ndarray) -> None:
    with pytest.raises(TypeError, match="not uint8"):
        encode_png(frame)


@pytest.mark.parametrize("how", [{}, {"compress_level": 0}], ids=["small", "plain"])
def test_a_file_of_another_writer_is_read(tmp_path: Path, how: dict[str, Any]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (7, 5, 3), np.uint8)
    folder, sha = FrameFolder(tmp_path), array_sha256(frame)
    folder.path(sha).parent.mkdir()
    Image.fromarray(frame).save(folder.path(sha), **how)
    found = folder.read(sha)
    assert found is not None and np.array_equal(found, frame)
    assert folder.shape(sha) == (7, 5, 3)
    folder.write("0" * 64, frame)
    assert folder.read("0" * 64) is None  # its pixels have another hash


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """The file of a picture of 2 x 3 pixels, written by the encoder that OpenCV replaced."""
    stored = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000030000000208020000001216f14d00000015494441547801"
        "6362e093d1b2700b492a60aa83010030b6066b0b4307960000000049454e44ae426082"
    )
    frame = (np.arange(18).reshape(2, 3, 3) * 14).astype(np.uint8)
    folder, sha = FrameFolder(tmp_path), array_sha256(frame)
    folder.path(sha).parent.mkdir()
    folder.path(sha).write_bytes(stored)
    assert np.array_equal(folder.read(sha), frame)
    assert np.array_equal(read(encode_png(frame)), read(stored))


def test_a_sound_file_is_known_without_decoding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (9, 5, 3), np.uint8)
    sha, path = array_sha256(frame), tmp_path / "frame.png"
    path.write_bytes(png_file.encode(sha, frame))
    assert (read(path.read_bytes()) == frame).all()  # other programs skip the checksum
    assert (cv2.imread(str(path))[:, :, ::-1] == frame).all()
    found = png_file.read(path, sha)
    assert found is not None and np.array_equal(found, frame)
    monkeypatch.setattr(png_file, "_decoded", lambda data, sha: pytest.fail("decoded"))
    assert png_file.shape(path, sha) == (9, 5, 3)
    assert png_file.holds(path, sha)


def test_no_byte_of_a_file_can_change_unnoticed(tmp_path: Path) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (4, 3, 3), np.uint8)
    sha, path = array_sha256(frame), tmp_path / "frame.png"
    data = png_file.encode(sha, frame)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        # It may still show the frame, as with a changed checksum: then its pixels say so.
        found = png_file.read(path, sha)
        assert png_file.holds(path, sha) == (found is not None)
        assert found is None or np.array_equal(found, frame)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        assert not png_file.holds(path, sha) or png_file.read(path, sha) is not None
    path.write_bytes(data)
    assert not png_file.holds(path, "0" * 64)  # a sound file under another frame's name
    assert not png_file.holds(tmp_path / "none.png", sha)
