"""Pictures in a run's folder are the frames that were shown, whatever lay there or in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probes.core.errors import MachineError, ProbesError
from probes.core.hashing import array_sha256
from probes.engine import export
from probes.media import png_file
from probes.media.frame_store import FrameStore


def picture(number: int) -> np.ndarray:
    return np.full((4, 6, 3), number, np.uint8)


def names(*numbers: int) -> list[str]:
    return [array_sha256(picture(number)) for number in numbers]


def stored(home: Path, *numbers: int) -> FrameStore:
    """Return a store, of another process, in which pictures are stored."""
    for number, name in zip(numbers, names(*numbers), strict=True):
        FrameStore(home)._store(name, picture(number))
    return FrameStore(home)


class LostVideos(FrameStore):
    """A frame store whose videos are gone."""

    def __getitem__(self, sha256: str) -> np.ndarray:
        raise ProbesError("the file cannot be read: No such file or directory")


def test_frames_that_are_gone_with_their_video_do_not_cost_the_answers(tmp_path: Path) -> None:
    kept, gone, poisoned = names(1, 2, 3)
    stored(tmp_path / "home", 1, 3)
    frames, out = LostVideos(tmp_path / "home"), tmp_path / "frames"
    out.mkdir()
    for folder in (frames.path(poisoned).parent, out):
        (folder / f"{poisoned}.png").write_bytes(png_file.encode_png(picture(9)))
    (out / f"{gone}.png").write_bytes(b"left by someone")
    with pytest.warns(UserWarning, match="2 frames that were shown are gone"):
        assert export.frames(out, [gone, kept, poisoned], frames) == [gone, poisoned]
    assert [path.stem for path in out.iterdir()] == [kept]  # nothing wrong is left to be seen


def test_a_frame_whose_file_is_gone_is_written_from_memory(tmp_path: Path) -> None:
    frames, (name,) = FrameStore(tmp_path / "home"), names(7)
    frames._store(name, picture(7))
    frames.path(name).unlink()
    assert export.frames(tmp_path / "frames", [name], frames) == []
    with Image.open(tmp_path / "frames" / f"{name}.png") as written:
        assert np.array_equal(np.asarray(written), picture(7))


def test_a_picture_of_an_earlier_run_that_was_changed_is_replaced(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "frames"
    one, two = names(1, 2)
    export.frames(out, [one, two], stored(home, 1, 2))
    targets = [out / f"{name}.png" for name in (one, two)]
    stores = [FrameStore(home).path(name) for name in (one, two)]
    assert all(a.samefile(b) for a, b in zip(targets, stores, strict=True))
    # One was put there by another program; the other was edited in place, and with it the cache.
    targets[0].unlink()
    Image.fromarray(picture(9)).save(targets[0])
    with targets[1].open("r+b") as file:
        file.write(png_file.encode_png(picture(9)))
    frames = FrameStore(home)
    frames._memory.put(two, picture(2))  # in the place of its video
    assert export.frames(out, [one, two], frames) == []
    for name, number, target in zip((one, two), (1, 2), targets, strict=True):
        assert np.array_equal(np.asarray(Image.open(target)), picture(number))
        assert png_file.holds(target, name)


def test_a_sound_picture_of_another_program_stays(tmp_path: Path) -> None:
    (name,) = names(1)
    frames, target = stored(tmp_path / "home", 1), tmp_path / "frames" / f"{name}.png"
    target.parent.mkdir()
    Image.fromarray(picture(1)).save(target)
    before = target.read_bytes()
    assert export.frames(target.parent, [name], frames) == []
    assert target.read_bytes() == before


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    (name,) = names(1)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / f"{name}.png" / "mine").mkdir(parents=True)  # it is not to be removed
    with pytest.raises((MachineError, OSError)):
        export.frames(tmp_path / "frames", [name], stored(tmp_path / "home", 1))
