"""Levels, slots and the seven configurations: everything about i-RAVEN that is fixed.

All rules work on *levels* (small integers):

| attribute | levels | meaning |
|---|---|---|
| Number | 0..8 | level + 1 entities |
| Uniformity | 0..3 | 3: all entities of a component alike; 0..2: not |
| Type | 1..5 | triangle, square, pentagon, hexagon, circle |
| Size | 0..5 | share of the slot's half side |
| Color | 0..9 | grey, from unfilled (white) to black |
| Angle | 0..7 | degrees, counter-clockwise on screen |
"""

from __future__ import annotations

from dataclasses import dataclass

SIDE = 160
"""Height and width of a panel in pixels."""
TYPES = ("none", "triangle", "square", "pentagon", "hexagon", "circle")
SIZES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GREYS = (255, 224, 196, 168, 140, 112, 84, 56, 28, 0)
DEGREES = (-135, -90, -45, 0, 45, 90, 135, 180)
UNIFORM = 3
"""The one of the four Uniformity levels at which all entities of a component are alike."""

TYPE, SIZE, COLOR, ANGLE = range(4)
"""Indices of the four value attributes wherever they come together."""
VALUES = ("Type", "Size", "Color", "Angle")

Slot = tuple[float, float, float, float]
"""(row centre, column centre, height, width) as fractions of a panel's side; row first."""


# Compared by identity: there is one object per component, and caches look it up by that.
@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One component of a configuration: where entities may be, and which levels they may have."""

    name: str
    """Component name in files, e.g. `Left`."""
    layout: str
    """Layout name in files, e.g. `Left_Center_Single`."""
    slots: tuple[Slot, ...]
    """Boxes, in slot order."""
    sizes: range = range(6)
    """Original range of Size."""
    colors: range = range(10)
    """Original range of Color."""

    @property
    def numbers(self) -> range:
        """Original range of Number: one level per slot."""
        return range(len(self.slots))

    def levels(self, attribute: int) -> range:
        """Return the original range of a value attribute (TYPE, SIZE, COLOR or ANGLE)."""
        return (range(1, 6), self.sizes, self.colors, range(8))[attribute]


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """One of the seven fixed trees Scene / Structure / Component / Layout."""

    name: str
    """Folder name."""
    structure: str
    """Structure name in files, e.g. `Left_Right`."""
    components: tuple[Component, ...]
    """In order of their ids."""


_WHOLE: tuple[Slot, ...] = ((0.5, 0.5, 1, 1),)  # integers, and written as such in files
_FOUR: tuple[Slot, ...] = tuple((r, c, 0.5, 0.5) for r in (0.25, 0.75) for c in (0.25, 0.75))
_NINE: tuple[Slot, ...] = tuple(
    (r, c, 0.33, 0.33) for r in (0.16, 0.5, 0.83) for c in (0.16, 0.5, 0.83)
)
_INNER_FOUR: tuple[Slot, ...] = tuple(
    (r, c, 0.15, 0.15) for r in (0.42, 0.58) for c in (0.42, 0.58)
)


def _single(name: str, *slot: float) -> Component:
    """Return a component with one slot."""
    row, column, height, width = slot
    return Component(name, f"{name}_Center_Single", ((row, column, height, width),))


def _outer() -> Component:
    """Return the frame of the two out/in configurations: large and never filled."""
    return Component("Out", "Out_Center_Single", _WHOLE, sizes=range(3, 6), colors=range(1))


def _grid(layout: str, slots: tuple[Slot, ...]) -> tuple[Component]:
    return (Component("Grid", layout, slots),)


CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        Configuration("center_single", "Singleton", _grid("Center_Single", _WHOLE)),
        Configuration("distribute_four", "Singleton", _grid("Distribute_Four", _FOUR)),
        Configuration("distribute_nine", "Singleton", _grid("Distribute_Nine", _NINE)),
        Configuration(
            "left_center_single_right_center_single",
            "Left_Right",
            (_single("Left", 0.5, 0.25, 0.5, 0.5), _single("Right", 0.5, 0.75, 0.5, 0.5)),
        ),
        Configuration(
            "up_center_single_down_center_single",
            "Up_Down",
            (_single("Up", 0.25, 0.5, 0.5, 0.5), _single("Down", 0.75, 0.5, 0.5, 0.5)),
        ),
        Configuration(
            "in_center_single_out_center_single",
            "Out_In",
            (_outer(), _single("In", 0.5, 0.5, 0.33, 0.33)),
        ),
        Configuration(
            "in_distribute_four_out_center_single",
            "Out_In",
            (_outer(), Component("In", "In_Distribute_Four", _INNER_FOUR, sizes=range(2, 6))),
        ),
    )
}
"""The seven configurations by folder name; their order is the order of tables."""
