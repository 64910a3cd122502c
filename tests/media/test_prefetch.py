"""Clips are decoded ahead, a bounded way, in whatever order they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from probes.core.errors import MachineError, ProbesError
from probes.core.scratch import Scratch
from probes.core.types import Clip, ClipKey, Item, ItemKey, Video
from probes.media.prefetch import ClipPrefetcher

ITEMS = [Item(f"i{n}", "t", "?", ("a", "b"), 0, Video(Path(f"/none/{n}.mp4"))) for n in range(20)]


def clip(item_id: str, count: int) -> ClipKey:
    return ClipKey("t", item_id, count)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path))


class Camera:
    """Makes clips, and notes which items it was asked for; some fail, some wait to be let go."""

    def __init__(self, fails: Mapping[str, Exception] | None = None) -> None:
        self.begun: list[str] = []
        self.fails = fails or {}
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()

    def __call__(self, item: Item) -> dict[int, Clip]:
        with self.lock:
            self.begun.append(item.id)
        assert self.gate.wait(30)
        if item.id in self.fails:
            raise self.fails[item.id]
        return {
            k: Clip(tuple(range(k)), (0.0,) * k, tuple(f"{item.id}/{t}" for t in range(k)))
            for k in (2, 4)
        }


@contextmanager
def prefetching(camera: Camera, **settings: Any) -> Iterator[ClipPrefetcher]:
    made = ClipPrefetcher(ITEMS, (2, 4), camera, Scratch(), **settings)
    try:
        yield made
    finally:
        made.stop()
        camera.gate.set()
        made.join()


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_it_is_the_clips_of_all_items_in_their_order(threads: int) -> None:
    camera = Camera()
    with prefetching(camera, threads=threads) as clips:
        assert clips[clip("i7", 4)].hashes == ("i7/0", "i7/1", "i7/2", "i7/3")
        assert list(clips) == [item.key.clip(count) for item in ITEMS for count in (2, 4)]
        assert len(clips) == 40
        assert clip("i3", 3) not in clips
    assert sorted(camera.begun) == sorted(item.id for item in ITEMS)  # each once


def test_nothing_is_decoded_before_it_is_wanted_nor_far_ahead_of_what_was() -> None:
    camera = Camera()
    with prefetching(camera, ahead=3) as clips:
        assert camera.begun == []
        clips[clip("i5", 2)]
        clips[clip("i8", 2)]  # 3 further ones were allowed
        clips[clip("i2", 2)]  # long there: allows nothing more
        clips.stop()
        clips.join()
        assert camera.begun == [f"i{n}" for n in range(len(camera.begun))]
        assert 9 <= len(camera.begun) <= 12


def test_an_item_that_fails_costs_itself_alone() -> None:
    camera = Camera({"i4": ProbesError("it is\nbroken", "/none/4.mp4", "repair it")})
    with prefetching(camera) as clips:
        assert clips.problem(ItemKey("t", "i4")) == "it is broken (/none/4.mp4)"
        assert clips.problem(ItemKey("t", "i5")) is None
        assert clips.get(clip("i4", 2)) is None
        with pytest.raises(KeyError):
            clips[clip("i4", 4)]
        assert clips.broken() == {ItemKey("t", "i4"): "it is broken (/none/4.mp4)"}
        assert len(clips) == 38


@pytest.mark.parametrize(
    "error", [MachineError("the disk is full"), ZeroDivisionError("a bug"), KeyError("another")]
)
def test_what_is_no_items_fault_reaches_each_waiting_caller(error: Exception) -> None:
    with prefetching(Camera({"i4": error})) as clips:
        assert clips[clip("i3", 2)]
        for _ in range(2):
            with pytest.raises(RuntimeError if isinstance(error, KeyError) else type(error)):
                clips[clip("i4", 2)]
        with pytest.raises(RuntimeError if isinstance(error, KeyError) else type(error)):
            clips[clip("i19", 2)]
        assert clips[clip("i0", 2)]  # what there is stays


def test_waiting_tells_how_far_it_is() -> None:
    reported: list[tuple[int, int]] = []
    with prefetching(Camera(), ahead=0) as clips:
        clips.wait(3, lambda *steps: reported.append(steps))
        assert reported == [(1, 3), (2, 3), (3, 3)]
        clips.wait(99, lambda *steps: reported.append(steps))
        assert reported[-1] == (20, 20)


def test_stopping_ends_the_threads_and_the_waiting() -> None:
    camera = Camera()
    camera.gate.clear()

    def wait(clips: ClipPrefetcher) -> None:
        with pytest.raises(RuntimeError, match=r"stopped|shutdown"):
            clips.wait(9, lambda *_: None)

    with prefetching(camera) as clips:
        waiting = threading.Thread(target=wait, args=[clips])
        waiting.start()
        clips.stop()
        clips.join(0.01)  # one item may have been begun: its decoder does not answer
        camera.gate.set()
        waiting.join(10)
        assert not waiting.is_alive()
        clips.join()
        assert len(camera.begun) <= 1
