"""The cache of vision features: bounded, counted, and robust to bad frames."""

import threading

import numpy as np
import pytest

from probes.core.errors import MachineError
from probes.models.hf.vision_cache import FeatureCache, FramePrefetcher, FrameResults, TokenGrids


class Encoder:
    """Encodes a frame as 10 float32 (40 bytes) of its first value."""

    def __init__(self):
        self.batches = []

    def __call__(self, frames):
        self.batches.append(len(frames))
        assert len({frame.shape for frame in frames}) == 1
        return [np.full((2, 5), frame.flat[0], np.float32) for frame in frames]


@pytest.fixture
def frames():
    sizes = [(4, 4)] * 6 + [(2, 4)] * 2
    return {f"f{i}": np.full((*size, 3), i, np.uint8) for i, size in enumerate(sizes)}


def test_each_frame_is_encoded_once(frames):
    encoder = Encoder()
    cache = FeatureCache(encoder, 10_000, 4)
    for names in (["f0", "f1", "f0"], ["f1", "f2"], list(frames)):
        results = cache.get(names, frames)
        assert not results.errors
        assert {name: feature.flat[0] for name, feature in results.found.items()} == {
            name: int(name[1]) for name in names
        }
    assert (cache.encoded, cache.recomputed) == (8, 0)
    assert encoder.batches == [2, 1, 3, 2]  # at most 4, and one size at a time


def test_the_least_recently_used_leave_and_are_counted_when_they_return(frames):
    cache = FeatureCache(Encoder(), 80, 4)
    cache.get(["f0", "f1"], frames)
    cache.get(["f0"], frames)
    cache.get(["f2"], frames)  # f1 leaves
    cache.get(["f0"], frames)
    assert (cache.encoded, cache.recomputed) == (3, 0)
    cache.get(["f1"], frames)
    assert (cache.encoded, cache.recomputed) == (4, 1)


def test_a_request_larger_than_the_cache_is_whole(frames):
    cache = FeatureCache(Encoder(), 0, 2)
    assert set(cache.get(frames, frames).found) == set(frames)
    assert cache.get(["f0"], frames).found["f0"].flat[0] == 0
    assert cache.recomputed == 1


def test_frames_that_cannot_be_read_are_named(frames):
    frames["bad"] = np.zeros((4, 4), np.uint8)
    results = FeatureCache(Encoder(), 1000, 4).get(["f0", "bad", "gone"], frames)
    assert set(results.found) == {"f0"}
    assert set(results.errors) == {"bad", "gone"}
    assert "(4, 4)" in results.errors["bad"]


def test_a_frame_that_breaks_the_tower_costs_only_itself(frames):
    def encode_frames(batch):
        if any(frame.flat[0] == 3 for frame in batch):
            raise ValueError("corrupt")
        return [np.zeros((2, 5), np.float32) for _ in batch]

    results = FeatureCache(encode_frames, 1000, 4).get(frames, frames)
    assert set(results.errors) == {"f3"}
    assert "corrupt" in results.errors["f3"]
    assert set(results.found) == set(frames) - {"f3"}


class FullDisk(dict):
    """Frames on a disk that is full."""

    def __getitem__(self, name):
        raise MachineError("the disk is full")


def test_the_size_of_a_frame_is_asked_for_once(frames):
    asked = []

    def grid(height, width):
        asked.append((height, width))
        if height == 2:
            raise ValueError("too flat")
        return height, width

    grids = TokenGrids(grid)
    for _ in range(2):
        results = grids.of([*frames, "gone"], frames)
        assert results.found == dict.fromkeys(["f0", "f1", "f2", "f3", "f4", "f5"], (4, 4))
        assert set(results.errors) == {"f6", "f7", "gone"}
        assert "too flat" in results.errors["f6"]
        assert "KeyError" in results.errors["gone"]
    assert asked.count((4, 4)) == 1


def test_a_machine_error_is_not_an_error_of_a_frame():
    for look_up in (TokenGrids(lambda h, w: (1,)).of, FeatureCache(Encoder(), 1, 1).get):
        with pytest.raises(MachineError):
            look_up(["x"], FullDisk())


def test_frames_are_prefetched_by_another_thread_which_drops_errors(frames):
    reading: list[tuple[str, str]] = []

    class Slow(dict):
        def __getitem__(self, name):
            reading.append((name, threading.current_thread().name.partition("_")[0]))
            return super().__getitem__(name)

    prefetcher = FramePrefetcher()
    prefetcher.read(["f1", "gone", "f2"], Slow(frames))
    prefetcher.read(["f3"], Slow(frames))
    prefetcher._reading.result(timeout=60)
    prefetcher.close()
    assert ("f3", "frames") in reading
    assert set(reading) <= {(name, "frames") for name in ("f1", "gone", "f3")}  # not beyond gone


def test_a_mapping_that_knows_shapes_is_asked_for_no_pixels(frames):
    class Known(dict):
        def shape(self, name):
            return frames[name].shape

    results = TokenGrids(lambda height, width: (height * width,)).of(["f0", "f7"], Known())
    assert results == FrameResults({"f0": (16,), "f7": (8,)}, {})
