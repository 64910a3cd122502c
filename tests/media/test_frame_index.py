"""A frame whose picture is gone is traced to a media file that holds it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from probes.core.types import Video
from probes.media.frame_index import FrameIndex

ZEROS = "ab" * 31 + "00"


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_where_a_frame_is_from() -> None:
    known = {
        "one": {n: sha(n) for n in range(50)},
        "other": {3: sha(49), 2**32 - 1: ZEROS},
        "not asked for": {0: sha(99)},
    }
    asked: list[str] = []

    def frames_of(media_sha: str) -> dict[int, str]:
        asked.append(media_sha)
        return known[media_sha]

    index, one, other = FrameIndex(frames_of), Video(Path("/one.mp4")), Video(Path("/other.mp4"))
    index.add("one", one)
    index.add("other", other)
    assert asked == []  # nothing is looked up until a frame is missing
    assert index.find(sha(7)) == (one, 7, "one")
    assert index.find(sha(49)) == (one, 49, "one")
    assert index.find(ZEROS) == (other, 2**32 - 1, "other")
    for unknown in (sha(99), "", "zz", "ab"):
        assert index.find(unknown) is None
        assert unknown not in index
    assert list(index) == [*(sha(n) for n in range(50)), ZEROS]
    assert len(index) == 51
    assert asked == ["one", "other"]


def test_frames_that_were_read_later_are_found() -> None:
    known = {"one": {0: sha(0)}}
    index = FrameIndex(lambda media_sha: known[media_sha])
    index.add("one", Video(Path("/one.mp4")))
    assert index.find(sha(1)) is None
    known["one"][1] = sha(1)
    index.add("one", Video(Path("/one.mp4")))
    assert index.find(sha(1)) == (Video(Path("/one.mp4")), 1, "one")
