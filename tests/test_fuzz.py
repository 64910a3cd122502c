"""The fuzz target without its engine: valid inputs, fixed crashes, and crude mutations."""

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
def workspace() -> Iterator[readers.Workspace]:
    workspace = readers.Workspace()
    yield workspace
    workspace.close()


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: path.name)
def test_what_once_crashed_a_reader(path: Path, workspace: readers.Workspace) -> None:
    outcome = readers.read(workspace, path.read_bytes())
    # A damaged index of frames counts as empty; one of weights is not read next to a single file.
    assert outcome.endswith("refused") or outcome in ("frame_index", "checkpoint")


def test_valid_inputs_are_read(workspace: readers.Workspace) -> None:
    outcomes = [readers.read(workspace, data) for data in readers.seeds()]
    names = {target.__name__ for target in readers.TARGETS}
    # An archive cut down to its headers, and a baseline's first line, cannot be read.
    assert set(outcomes) == names - {"arrays", "baseline"} | {"arrays refused", "baseline refused"}


def test_crude_mutations(workspace: readers.Workspace) -> None:
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
        readers.read(workspace, bytes(data))
