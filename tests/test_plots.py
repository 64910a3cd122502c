"""Pictures: every cell is drawn at its accuracy, and files come out."""

from __future__ import annotations

from pathlib import Path

import made_records
import pytest
from PIL import Image

from probes import analysis, plots


def test_arms_figure_draws_every_cell(tmp_path: Path) -> None:
    records = made_records.study(items=40)
    frame = analysis.from_records(records)
    figure = plots.arms_figure(frame)
    assert len(figure.axes) == 2
    for axis, count in zip(figure.axes, (5, 10), strict=True):
        for role, drawn in zip(("image", "video"), axis.containers, strict=True):
            heights = list(drawn.lines[0].get_ydata())
            for arm, height in zip(made_records.ARMS, heights, strict=True):
                cell = [
                    r.correct for r in records
                    if (r.role, r.arm, r.frames) == (role, arm, count)
                ]  # fmt: skip
                assert height == pytest.approx(100 * sum(map(bool, cell)) / 40)
    paths = plots.save(figure, tmp_path / "plots", "arms")
    assert [p.suffix for p in paths] == [".png", ".svg"]
    assert all(p.stat().st_size > 1000 for p in paths)
    with Image.open(paths[0]) as picture:
        assert picture.width > 600
