"""Figures: every cell and contrast is drawn at its value, and files are written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import made_records
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from probes import analysis
from probes.core.errors import ProbesError
from probes.core.types import ROLES
from probes.report import figures as plots
from probes.report.figures import style

CONFIGURATIONS = (
    "center_single",
    "distribute_four",
    "distribute_nine",
    "in_center_single_out_center_single",
    "in_distribute_four_out_center_single",
    "left_center_single_right_center_single",
    "up_center_single_down_center_single",
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return analysis.from_records(made_records.study(items=40))


@pytest.fixture(scope="module")
def found(frame: pd.DataFrame) -> pd.DataFrame:
    return analysis.contrasts(frame, by_stratum=True)


def points(axis: Any) -> list[tuple[float, float]]:
    """Where an axis' error bars have their markers."""
    return [
        (float(x), float(y))
        for bars in axis.containers
        if hasattr(bars, "lines") and bars.lines[0] is not None
        for x, y in zip(*bars.lines[0].get_data(), strict=True)
    ]


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text)]


def test_arms_figure_draws_every_cell(tmp_path: Path) -> None:
    records = made_records.study(items=40)
    figure = plots.arms_figure(analysis.from_records(records))
    assert len(figure.axes) == 2
    for axis, count in zip(figure.axes, (5, 10), strict=True):
        for role, drawn in zip(("image", "video"), axis.containers, strict=True):
            heights = list(drawn.lines[0].get_ydata())
            for arm, height in zip(made_records.ARMS, heights, strict=True):
                cell = [
                    r.correct for r in records if (r.role, r.arm, r.frames) == (role, arm, count)
                ]
                assert height == pytest.approx(100 * sum(map(bool, cell)) / 40)
    paths = plots.save(figure, tmp_path / "plots" / "arms")
    assert [p.name for p in paths] == ["arms.png", "arms.svg"]
    assert all(p.stat().st_size > 1000 for p in paths)
    with Image.open(paths[0]) as picture:
        assert picture.width == round(style.WIDTH * style.PNG_DPI)


@pytest.mark.parametrize(("names", "count"), [(("gain", "drop"), 16), (("did",), 8)])
def test_forest_draws_every_contrast_with_its_interval(
    found: pd.DataFrame, names: tuple[str, ...], count: int
) -> None:
    figure = plots.forest_figure(found, names)
    (axis,) = figure.axes
    drawn = points(axis)
    assert len(drawn) == count
    rows = found[
        found["name"].isin(names) & (found["policy"] == "strict") & (found["stratum"] == "")
    ]
    assert sorted(x for x, _ in drawn) == pytest.approx(sorted(100 * rows["estimate"]))
    ends = [
        (segment[0, 0], segment[1, 0])
        for bars in axis.containers
        for segment in bars.lines[2][0].get_segments()
    ]
    assert np.array(sorted(ends)) == pytest.approx(
        np.array(sorted(zip(100 * rows["low"], 100 * rows["high"], strict=True)))
    )
    # Every line has its numbers as text.
    first = rows.iloc[0]
    assert f"{100 * first['estimate']:+5.1f} [" in "\n".join(texts(figure))


def test_an_undefined_interval_is_written_and_not_drawn(found: pd.DataFrame) -> None:
    alone = analysis.contrasts(
        analysis.from_records(
            [made_records.record(0, arm) for arm in ("baseline", "vcot", "blind")]
        ),
        names=("gain",),
    )
    alone.loc[alone["arm"] == "vcot", ["low", "high"]] = np.nan
    figure = plots.forest_figure(alone)
    assert any("[undefined]" in text for text in texts(figure))
    assert len(points(figure.axes[0])) == 2


def test_strata_are_listed_with_all_of_them_first(found: pd.DataFrame) -> None:
    figure = plots.strata_figure(found)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:4] == [
        "all, image  (n = 40)",
        "all, video  (n = 40)",
        "s0, image  (n = 14)",
        "s0, video  (n = 14)",
    ]
    assert len(labels) == 2 * 4 * 2


def test_frames_figure_has_a_line_per_arm(frame: pd.DataFrame) -> None:
    figure = plots.frames_figure(frame)
    cells = analysis.accuracies(frame)
    assert len(figure.axes) == 2
    for axis, role in zip(figure.axes, ("image", "video"), strict=True):
        assert len(axis.containers) == len(made_records.ARMS)
        for arm, bars in zip(made_records.ARMS, axis.containers, strict=True):
            drawn = cells[(cells["role"] == role) & (cells["arm"] == arm)].sort_values("frames")
            assert list(bars.lines[0].get_ydata()) == pytest.approx(list(100 * drawn["accuracy"]))
        assert [label.get_text() for label in axis.get_xticklabels()] == ["5", "10"]


def test_headroom_shows_gain_and_room(found: pd.DataFrame) -> None:
    figure = plots.headroom_figure(found)
    gains = found[
        (found["name"] == "gain")
        & (found["arm"] == "vcot")
        & (found["policy"] == "strict")
        & (found["stratum"] == "")
    ]
    text = "\n".join(texts(figure))
    for row in gains.to_dict("records"):
        assert f"{100 * row['estimate']:+.1f} of {100 * (1 - row['mean_b']):.1f}" in text


def test_configurations_have_one_panel_per_arm() -> None:
    rng = np.random.default_rng(1)
    records = [
        made_records.record(
            i,
            arm,
            role,
            bool(rng.random() < 0.2),
            frames=8,
            task="iraven",
            cluster=f"p{i}",
            stratum=CONFIGURATIONS[i % 7],
            option_logprobs=(-1.0,) * 8,
            option_tokens=(1,) * 8,
        )
        for role in ("image", "video")
        for arm in ("baseline", "vcot")
        for i in range(70)
    ]
    frame = analysis.from_records(records)
    figure = plots.configurations_figure(frame)
    assert len(figure.axes) == 2
    cells = analysis.accuracies(frame, by_stratum=True)
    for axis, arm in zip(figure.axes, ("baseline", "vcot"), strict=True):
        if arm == "baseline":  # the panels of a row share their labels
            labels = [label.get_text() for label in axis.get_yticklabels()]
            assert labels[3] == "in center single\nout center single"
        for role, bars in zip(("image", "video"), axis.containers, strict=True):
            drawn = cells[(cells["role"] == role) & (cells["arm"] == arm)].set_index("stratum")
            expected = [100 * drawn.loc[name, "accuracy"] for name in CONFIGURATIONS]
            assert list(bars.lines[0].get_xdata()) == pytest.approx(expected)
        (chance,) = [line for line in axis.lines if line.get_linestyle() == ":"]
        assert chance.get_xdata()[0] == pytest.approx(12.5)


def test_members_differ_in_more_than_hue() -> None:
    looks = [style.role_style(role) for role in (*ROLES, "other")]
    assert len({look["marker"] for look in looks}) == len(looks)
    arms = [style.arm_style(place) for place in range(24)]
    assert len({(one["marker"], one["linestyle"]) for one in arms}) == len(arms)
    # Nothing is so light that it is lost on white paper.
    for look in (*looks, *arms):
        red, green, blue = to_rgb(look["color"])
        assert 0.299 * red + 0.587 * green + 0.114 * blue < 0.75


def test_names_are_never_read_as_mathematics_and_long_ones_are_cut(tmp_path: Path) -> None:
    name = "$x_{$ </svg><script>alert(1)</script>" + "n" * 300
    records = [
        dataclasses.replace(
            r,
            pair=name,
            member=f"{name}{r.role}",
            stratum=name,
            arm=name if r.arm == "blind" else r.arm,
        )
        for r in made_records.study(items=12, frames=(5,))
    ]
    frame = analysis.from_records(records)
    found = analysis.contrasts(frame, by_stratum=True)
    for figure in (
        plots.arms_figure(frame),
        plots.forest_figure(found),
        plots.strata_figure(found),
        plots.frames_figure(frame),
        plots.headroom_figure(found),
        plots.configurations_figure(frame),
    ):
        content = plots.rendered(figure)
        assert b"<script" not in content["svg"]
        for text in figure.findobj(Text):
            assert max(map(len, text.get_text().split("\n"))) < 110


def test_equal_figures_give_equal_files(frame: pd.DataFrame, tmp_path: Path) -> None:
    first, second = (plots.rendered(plots.arms_figure(frame)) for _ in range(2))
    assert first == second
    figure = plots.arms_figure(frame)
    assert plots.rendered(figure) == plots.rendered(figure)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "records",
    [
        [made_records.record(0, arm) for arm in ("baseline", "vcot")],
        [
            made_records.record(i, arm, role)
            for i in range(4)
            for arm in made_records.ARMS
            for role in ("image", "video")
        ],
        [
            made_records.record(i, arm, role, answer=None if i else 0)
            for i in range(3)
            for arm in made_records.ARMS
            for role in ("image", "video", "control")
        ],
        [made_records.bad(i, "error", arm=arm) for i in range(3) for arm in made_records.ARMS],
    ],
)
def test_degenerate_runs_are_drawn_without_a_warning(records: list[Any]) -> None:
    frame = analysis.from_records(records)
    found = analysis.contrasts(frame, by_stratum=True)
    figures = [
        plots.arms_figure(frame),
        plots.forest_figure(found),
        plots.frames_figure(frame),
        plots.headroom_figure(found),
        plots.configurations_figure(frame),
    ]
    for figure in figures:
        assert plots.rendered(figure)["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "draw",
    [
        lambda frame, found: plots.arms_figure(frame.head(0)),
        lambda frame, found: plots.forest_figure(found, ("did",), policy="no such"),
        lambda frame, found: plots.strata_figure(found[found["stratum"] == ""]),
        lambda frame, found: plots.headroom_figure(found, "no_such_arm"),
        lambda frame, found: plots.configurations_figure(frame.assign(stratum="")),
    ],
)
def test_nothing_to_draw_is_an_error(draw: Any, frame: pd.DataFrame, found: pd.DataFrame) -> None:
    with pytest.raises(ProbesError):
        draw(frame, found)
