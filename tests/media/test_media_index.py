"""An index is used as it was written, for the media it was written for, or not at all."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from probes.core.hashing import sha256_json
from probes.media.media_index import MediaIndex

KEY = "5" * 64


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


VIDEO = MediaIndex(9, "decord", {0: (0.0, sha(0)), 4: (1.5, sha(4)), 8: (3.0, sha(8))})
PANELS = MediaIndex(2, "pictures", {n: (0.0, sha(n)) for n in range(6)})
COMPOSITE = MediaIndex(1, "sheet", {0: (0.0, sha(0))})


def content(index: MediaIndex = VIDEO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(index.to_json(KEY))
    del found["sha256"]
    return found


def with_checksum(content: dict[str, Any]) -> bytes:
    return json.dumps(content | {"sha256": sha256_json(content)}).encode()


@pytest.mark.parametrize("index", [VIDEO, PANELS, COMPOSITE], ids=["video", "panels", "composite"])
def test_what_is_written_is_read(index: MediaIndex) -> None:
    assert MediaIndex.from_json(index.to_json(KEY), KEY) == index
    assert with_checksum(content(index)) == index.to_json(KEY)


def test_one_of_another_version_is_empty_and_that_of_another_file_damaged() -> None:
    old = {"version": 1, "count": 9, "decoder": "decord", "frames": {"0": [0.0, sha(0)]}}
    assert MediaIndex.from_json(json.dumps(old).encode(), KEY) == MediaIndex()
    assert MediaIndex.from_json(VIDEO.to_json(KEY), "6" * 64) is None


def test_every_byte_counts() -> None:
    data = VIDEO.to_json(KEY)
    for at in range(len(data)):
        for byte in {data[at] ^ 1, ord("0"), ord("f")} - {data[at]}:
            changed = data[:at] + bytes([byte]) + data[at + 1 :]
            found = MediaIndex.from_json(changed, KEY)
            # A changed space, or a number written otherwise, says the same; a version, nothing.
            assert found in (None, MediaIndex(), VIDEO), changed
    for cut in range(len(data)):
        assert MediaIndex.from_json(data[:cut], KEY) is None


FRAME = [0, 0.0, sha(0)]


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"count": -3},
        {"count": 8},  # one of its frames is behind the end
        {"count": 10**9},
        {"count": 9.0},
        {"count": True},
        {"count": None},
        {"decoder": 3},
        {"decoder": "pictures"},
        {"frames": [[-1, 0.0, sha(0)]]},
        {"frames": [[True, 0.0, sha(0)]]},
        {"frames": [["0", 0.0, sha(0)]]},
        {"frames": [[0, float("nan"), sha(0)]]},
        {"frames": [[0, float("inf"), sha(0)]]},
        {"frames": [[0, 1, sha(0)]]},
        {"frames": [[0, 0.0, sha(0).upper()]]},
        {"frames": [[0, 0.0, "../" + sha(0)[3:]]]},
        {"frames": [[0, 0.0, sha(0) + "\n"]]},
        {"frames": [[0, 0.0, None]]},
        {"frames": [FRAME, FRAME]},
        {"frames": [[*FRAME, 1]]},
        {"frames": [[[], 0.0, sha(0)]]},
        {"frames": {"0": [0.0, sha(0)]}},
        {"frames": None},
        {"version": "2"},
        {"version": True},
    ],
    ids=str,
)
def test_what_no_media_file_can_have_is_damaged(change: dict[str, Any]) -> None:
    assert MediaIndex.from_json(with_checksum(content() | change), KEY) is None


def test_pictures_are_known_all_together() -> None:
    for frames in ([], [FRAME], [[n, 0.0, sha(n)] for n in (0, 1, 3)]):
        found = content(PANELS) | {"frames": frames}
        assert MediaIndex.from_json(with_checksum(found), KEY) is None


def test_huge_numbers_and_depths_are_no_errors() -> None:
    for data in (b"9" * 5_000, b"[" * 100_000, b'{"version": 2, "sha256": ' + b"[" * 100_000):
        assert MediaIndex.from_json(data, KEY) is None
