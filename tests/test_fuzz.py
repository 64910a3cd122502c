"""The fuzz target without its engine: good inputs, mended crashes, and crude mutations."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT

sys.path.insert(0, str(ROOT / "fuzz"))
import readers

CRASHERS = sorted((ROOT / "tests" / "data" / "crashers").iterdir())


@pytest.fixture(scope="module")
def room() -> Iterator[readers.Room]:
    room = readers.Room()
    yield room
    room.close()


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: path.name)
def test_what_once_crashed_a_reader(path: Path, room: readers.Room) -> None:
    told = readers.read(room, path.read_bytes())
    assert told.endswith("refused") or told == "frame_index"  # a damaged index is made anew


def test_what_is_good_is_read(room: readers.Room) -> None:
    told = [readers.read(room, data) for data in readers.seeds()]
    names = {target.__name__ for target in readers.TARGETS}
    # Of an archive cut down to its headers, and of a baseline's first line, nothing can be read.
    assert set(told) == names - {"arrays", "baseline"} | {"arrays refused", "baseline refused"}


def test_crude_mutations(room: readers.Room) -> None:
    draw = random.Random(0)
    seeds = readers.seeds()
    for _ in range(1_500):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(1, len(data))
            if draw.random() < 0.5:
                data[at] = draw.randrange(256)
            elif draw.random() < 0.5:
                del data[at : at + draw.randint(1, 30)]
            else:
                data[at:at] = draw.choice(readers.WORDS.split()).encode()
            if len(data) < 2:
                break
        readers.read(room, bytes(data))
