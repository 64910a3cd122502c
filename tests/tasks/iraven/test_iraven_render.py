import sys
import types

import cv2
import numpy as np
import pytest
from problem_xml import read

from probes.core.errors import ProbesError
from probes.tasks.iraven import generate, reader, render
from probes.tasks.iraven.problem import Entities
from probes.tasks.iraven.space import COLOR, CONFIGURATIONS, DEGREES, SIDE, SIZE, TYPE

SLOTS = {
    slot: component
    for configuration in CONFIGURATIONS.values()
    for component in configuration.components
    for slot in component.slots
}


def test_every_panel_of_the_originals_is_redrawn_exactly(originals):
    panels = 0
    for path in sorted(originals.glob("*/*.npz")):
        tree = CONFIGURATIONS[path.parent.name]
        stored, problem = (
            reader.images(path),
            read(path),
        )
        drawn = render.draw(tree, problem.panels)
        np.testing.assert_array_equal(drawn, stored, err_msg=str(path))
        panels += len(drawn)
    assert panels == 8 * 16


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_panel_made_here_is_redrawn_exactly_from_its_xml(name, tmp_path):
    generate.make(tmp_path, 10, 6, [name])
    paths = sorted(tmp_path.glob("*/*.npz"))
    assert len(paths) == 10
    for path in paths:
        problem = read(path)
        np.testing.assert_array_equal(generate.images(problem), reader.images(path))


def test_sprites_are_what_opencv_draws_on_a_whole_panel():
    """Outline and filling, rotated by warpAffine: the sprites' shortcut changes no pixel."""
    rng = np.random.default_rng(0)
    for slot, component in SLOTS.items():
        for type_ in component.levels(TYPE):
            for angle in range(8):
                size = int(rng.choice(component.levels(SIZE)))
                color = int(rng.choice(component.levels(COLOR)))
                upright = np.zeros((SIDE, SIDE), np.uint8)
                upright[render.window(slot)] = render._upright(slot, type_, size, color)
                matrix = cv2.getRotationMatrix2D(render.centre(slot), DEGREES[angle], 1)
                whole = cv2.warpAffine(upright, matrix, (SIDE, SIDE))
                rows, columns, ink = render.sprite(slot, type_, size, color, angle)
                np.testing.assert_array_equal(255 - whole[rows, columns], ink)
                assert whole.sum() == (255 - ink.astype(int)).sum()


@pytest.mark.parametrize(
    ("half", "extents", "squares"),
    [
        (80, [32, 40, 48, 56, 64, 72], [22, 28, 33, 39, 45, 50]),
        (40, [16, 20, 24, 28, 32, 36], [11, 14, 16, 19, 22, 25]),
        (26.4, [10, 13, 15, 18, 21, 23], [7, 9, 11, 13, 14, 16]),
        (12, [4, 6, 7, 8, 9, 10], [3, 4, 5, 5, 6, 7]),
    ],
)
def test_extents(half, extents, squares):
    slots = [slot for slot in SLOTS if render.half_side(slot) == pytest.approx(half)]
    assert slots
    for slot in slots:
        for type_ in (1, 3, 4, 5):
            assert [render.radius(slot, type_, size) for size in range(6)] == extents
        assert [render.radius(slot, 2, size) for size in range(6)] == squares


def test_centres_are_truncated():
    found = {round(slot[1], 2): render.centre(slot)[0] for slot in SLOTS}
    assert found == {0.16: 25, 0.25: 40, 0.42: 67, 0.5: 80, 0.58: 92, 0.75: 120, 0.83: 132}


def test_no_shape_leaves_its_window_or_touches_another_slots():
    for configuration in CONFIGURATIONS.values():
        component = configuration.components[-1]
        taken = np.zeros((SIDE, SIDE), int)
        for slot in component.slots:
            touched = np.zeros((SIDE, SIDE), bool)
            for type_ in range(1, 6):
                for angle in range(8):
                    rows, columns, ink = render.sprite(slot, type_, 5, 9, angle)
                    touched[rows, columns] |= ink < 255
            taken += touched
        assert taken.max() == 1


def draw(tree, panel):
    return render.draw(tree, [panel])[0]


def one(slot=0, type_=2, size=5, color=0, angle=3):
    return Entities(0, (slot,), ((type_,), (size,), (color,), (angle,)))


def test_inner_layers_replace_outer_ones_but_unfilled_ones_do_not_hide():
    tree = CONFIGURATIONS["in_center_single_out_center_single"]
    pale = draw(tree, (one(type_=1, size=3), one(color=1)))
    assert pale[80, 80] == 224  # a pale filling over white
    empty = draw(tree, (one(type_=1, size=3), one(color=0)))
    assert empty[80, 80] == 255
    crossing = draw(tree, (one(type_=1, size=3, angle=7), one(color=1, size=5)))
    outer_alone = draw(tree, (one(type_=1, size=3, angle=7), one(color=1, size=0)))
    inner = slice(80 - 14, 80 + 15), slice(80 - 14, 80 + 15)  # within the inner square's outline
    assert (crossing[inner] == 224).all()
    assert (outer_alone[inner] == 0).any()


def test_halves_are_separated_by_a_line_on_top():
    right = CONFIGURATIONS["left_center_single_right_center_single"]
    down = CONFIGURATIONS["up_center_single_down_center_single"]
    panel = (one(size=0), one(size=0))
    line = np.flatnonzero((draw(right, panel) == 0).all(axis=0))
    assert line.tolist() == [80]
    line = np.flatnonzero((draw(down, panel) == 0).all(axis=1))
    assert line.tolist() == [80]


def test_a_square_outline_is_three_pixels_wide_without_its_corners():
    slot = CONFIGURATIONS["center_single"].components[0].slots[0]
    rows, columns, ink = render.sprite(slot, 2, 0, 0, 3)  # d = 22
    away = np.maximum(
        abs(np.arange(rows.start, rows.stop) - 80)[:, None],
        abs(np.arange(columns.start, columns.stop) - 80)[None, :],
    )
    outline = (away >= 21) & (away <= 23)
    outline[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    np.testing.assert_array_equal(ink == 0, outline)


def test_the_twins_of_inner_grids():
    """Squares of Size 2 and 3 are drawn alike there, and only there."""
    for name in ("in_distribute_four_out_center_single", "distribute_nine"):
        tree = CONFIGURATIONS[name]
        outer = (one(),) if len(tree.components) == 2 else ()
        panels = [(*outer, one(slot=1, size=size)) for size in range(2, 6)]
        alike = [
            (a, b)
            for a in range(4)
            for b in range(a)
            if render.look_alike(tree, panels[a], panels[b])
        ]
        assert alike == ([(1, 0)] if outer else [])


def test_another_opencv_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(__version__="5.0.0"))
    render.opencv.cache_clear()
    try:
        with pytest.raises(ProbesError, match=r"5\.0\.0"):
            render.opencv()
    finally:
        render.opencv.cache_clear()
