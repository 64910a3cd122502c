"""option_rotation: every option in every place, answers told in the item's own order, averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes import analysis, load
from probes.cli.main import main
from probes.core.types import Item, Video
from probes.stimuli.rotation import rotated


def test_options_and_answer_move_together() -> None:
    item = Item("a", "t", "Q?", ("w", "x", "y", "z"), 1, Video(Path("v.mp4")))
    for places in range(4):
        moved = rotated(item, places)
        assert moved.options[0] == item.options[places]
        assert moved.answer is not None and moved.options[moved.answer] == "x"
    assert rotated(item, 0) is item


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))

    def start(*overrides: str) -> int:
        return main(
            [
                "run",
                "task=iraven",
                "task.per_config=2",
                "limit=7",
                "option_rotation=true",
                f"hydra.run.dir={tmp_path / 'run'}",
                *overrides,
            ]
        )

    return start


def test_a_member_that_always_says_a_reaches_exactly_chance(
    run: Callable[..., int], tmp_path: Path
) -> None:
    assert run("backend=scripted", "backend.options.policy=first") == 0
    frame = load(tmp_path / "run")
    assert len(frame) == 7 * 8 * 2 * 7
    assert set(frame["rotation"]) == set(range(8))
    # The first place holds option number `rotation`: that is what was chosen, in the own order.
    assert (frame["choice"] == frame["rotation"]).all()
    best = [int(np.argmax(row)) for row in frame["option_logprobs"]]
    assert best == frame["choice"].tolist()
    cells = analysis.accuracies(frame)
    assert (cells["n"] == 7).all()
    assert cells["accuracy"].to_numpy() == pytest.approx(np.full(len(cells), 1 / 8))


def test_cloze_has_nothing_to_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path))
    arguments = ["run", "scoring=cloze", "option_rotation=true", "backend=scripted"]
    assert main([*arguments, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "nothing to rotate" in capsys.readouterr().err
