"""Random damage to the files of a frame cache: the frames stay right, and one use heals it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filming import number_in

from probes.core import hash_memory, hashing
from probes.core.hashing import array_sha256, sha256_file
from probes.core.types import Clip, Video
from probes.media import png_file
from probes.media.composites import Composite, CompositeGrid
from probes.media.decoder_pool import DecoderPool
from probes.media.frame_store import FrameStore
from probes.media.media_index import MediaIndex

COUNTS = (2, 5)
HEX = "0123456789abcdef"


class Cache:
    """A home in which two videos and a composite are known, and what is right about them."""

    def __init__(self, home: Path, pool: DecoderPool, videos: list[Video]) -> None:
        self.home, self._pool, self._videos = home, pool, videos
        self.root, self.memory = home / "frames", home / "hashes.jsonl"
        home.mkdir(exist_ok=True)
        self._right: list[dict[int, Clip]] = []
        self._uses = 0
        self.use()
        self.sound = self.content()
        assert None not in self.sound.values()

    def content(self) -> dict[Path, object]:
        """Return what each file says; None for one that does not hold."""
        found: dict[Path, object] = {}
        for path in (path for path in self.root.rglob("*") if path.is_file()):
            if path.suffix == ".json":
                found[path] = MediaIndex.from_json(path.read_bytes(), path.stem)
            else:
                # Not the bytes: a file without its last one shows the frame all the same.
                found[path] = png_file.shape(path, path.stem)
        return found

    def use(self) -> None:
        """Ask for everything, as a run in a new process does, and compare it to what is right."""
        frames = FrameStore(self.home)
        frames._decoder_pool = self._pool
        clips = [frames.clips(video, COUNTS) for video in self._videos]
        self._right = self._right or clips
        assert clips == self._right
        shown = dict.fromkeys(sha for clip in clips for sha in clip[5].hashes)
        slots = (*clips[0][2].hashes, None, "?", *clips[1][2].hashes)
        drawn = frames.compose(Composite((CompositeGrid(slots, 3),)))
        self._uses += 1
        out = self.home.parent / f"shown{self._uses % 2}"  # half of them find an earlier run's
        out.mkdir(exist_ok=True)
        for sha in (*shown, drawn):
            assert frames.shape(sha) == frames[sha].shape
            assert array_sha256(frames[sha]) == sha
            frames.save(sha, out / f"{sha}.png")
            assert png_file.read(out / f"{sha}.png", sha) is not None
        for clip in clips:
            numbers = [number_in(frames[sha]) for sha in clip[5].hashes]
            assert numbers == list(clip[5].indices)
        frames._folder.end()


@pytest.fixture
def cache(
    tmp_path: Path, pool: DecoderPool, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Cache:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hashing, "LARGE", 1)
    monkeypatch.setattr(hash_memory, "SETTLED_NS", 0)
    monkeypatch.setattr(hash_memory, "_mount_of", lambda handle: ("ext4", "/dev/test"))
    videos = [Video(clips[name]) for name in ("constant", "variable")]
    return Cache(tmp_path / "home", pool, videos)


def bytes_changed(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def cut(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.choice((0, 1, len(data) - 1, rng.randrange(len(data))))])


def grown(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    at = rng.randrange(len(data) + 1)
    file.write_bytes(data[:at] + rng.randbytes(rng.choice((1, 40, 5_000))) + data[at:])


def zeroed(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data))
    data[at : at + 4_096] = bytes(len(data[at : at + 4_096]))
    file.write_bytes(data)


def deleted(file: Path, rng: random.Random) -> None:
    file.unlink()


def digit_changed(file: Path, rng: random.Random) -> None:
    """Change one digit of a hash, or of any number: what is left is a sound text."""
    data = bytearray(file.read_bytes())
    at = rng.choice([n for n, byte in enumerate(data) if chr(byte) in HEX])
    data[at] = ord(rng.choice(HEX))
    file.write_bytes(data)


def taken_from(file: Path, other: Path, rng: random.Random) -> None:
    """Put another file of its kind in its place."""
    how = rng.choice(("copied", "renamed", "swapped"))
    mine, data = file.read_bytes(), other.read_bytes()
    file.unlink()
    file.write_bytes(data)
    if how == "renamed":
        other.unlink()
    elif how == "swapped":
        other.unlink()
        other.write_bytes(mine)


def hashes_swapped(file: Path, rng: random.Random) -> None:
    content = json.loads(file.read_bytes())
    one, other = rng.sample(content["frames"], min(2, len(content["frames"]))) * 2
    one[2], other[2] = other[2], one[2][::-1]
    file.write_bytes(json.dumps(content).encode())


def of_an_earlier_version(file: Path, rng: random.Random) -> None:
    content = json.loads(file.read_bytes())
    frames = {number: [time_s, sha[::-1]] for number, time_s, sha in content["frames"]}
    old = {"version": 1, "count": content["count"], "decoder": "decord", "frames": frames}
    file.write_bytes(json.dumps(old).encode())


def other_picture(file: Path, rng: random.Random) -> None:
    """Put a sound picture there, of another size or the same."""
    shape = rng.choice(((64, 128, 3), (8, 8, 3)))
    frame = np.full(shape, rng.randrange(256), np.uint8)
    encoded = png_file.encode_png(frame)
    # In place: a run's folder may have a link to the same file.
    file.write_bytes(rng.choice((encoded, png_file.encode(array_sha256(frame), frame))))


ANY: list[Callable[[Path, random.Random], None]] = [bytes_changed, cut, grown, zeroed, deleted]


def damage(cache: Cache, rng: random.Random) -> str:
    """Do some harm to some files of a kind; return what."""
    kind = rng.choice(("index", "picture", "memory"))
    if kind == "memory":
        how = rng.choice([*ANY, digit_changed])
        how(cache.memory, rng)
        return f"{how.__name__} of hashes"
    suffix = ".json" if kind == "index" else ".png"
    files = sorted(path for path in cache.sound if path.suffix == suffix)
    special = [digit_changed, hashes_swapped, of_an_earlier_version]
    hows = [*ANY, *(special if kind == "index" else [other_picture]), None]
    file, other = rng.sample(files, 2)
    how = rng.choice(hows)
    if how is None:
        taken_from(file, other, rng)
        return f"taken from another {kind}"
    how(file, rng)
    return f"{how.__name__} of {kind}"


@pytest.mark.parametrize(
    ("seed", "times"), [(0, 60), pytest.param(1, 600, marks=pytest.mark.slow)], ids=["60", "600"]
)
def test_whatever_is_damaged_the_frames_are_right_and_the_cache_heals(
    cache: Cache, seed: int, times: int
) -> None:
    rng = random.Random(seed)
    for number in range(times):
        done = " and ".join(damage_safely(cache, rng) for _ in range(rng.choice((1, 1, 3))))
        try:
            cache.use()
            assert cache.content() == cache.sound
            if cache.memory.exists():
                lines = filter(None, cache.memory.read_bytes().split(b"\n"))
                assert None not in map(hash_memory._entry, lines)
        except BaseException as error:
            raise AssertionError(f"damage {number}: {done}") from error


def damage_safely(cache: Cache, rng: random.Random) -> str:
    """Do some harm; where an earlier one of the same use left nothing to harm, nothing."""
    try:
        return damage(cache, rng)
    except (OSError, ValueError, IndexError, LookupError, TypeError):
        return "nothing"


def test_a_wrong_hash_that_was_remembered_gives_no_other_frames(
    cache: Cache, clips: dict[str, Path]
) -> None:
    one, two = clips["constant"], clips["variable"]
    lines = cache.memory.read_bytes().split(b"\n")
    # What no disk does by itself: a line with a right checksum that says the other's hash.
    entries = [entry for line in lines if (entry := hash_memory._entry(line))]
    memory = hash_memory.HashMemory(cache.memory)
    for state, _ in entries:
        memory.put(state, sha256_file(two if state.path == str(one) else one)[::-1])
    for _ in range(2):  # nothing is known under such a hash: both would be decoded, and are hashed
        cache.use()
        assert cache.content() == cache.sound
    found = {state.path: memory.get(state) for state, _ in entries}
    assert found == {str(path): sha256_file(path) for path in (one, two)}
