"""What a problem is: rules, sixteen panels of entities, and which candidate is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from probes.tasks.iraven.space import UNIFORM

RuleName = Literal["Progression", "Arithmetic", "Distribute_Three", "Constant"]
RuleAttribute = Literal["Number", "Position", "Number/Position", "Type", "Size", "Color"]
Levels = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one component; it governs each of the three rows."""

    name: RuleName
    attribute: RuleAttribute
    value: int = 0
    """Step of a Progression (-2, -1, 1, 2) or sign of an Arithmetic rule (1, -1); else 0."""

    @property
    def carrying(self) -> bool:
        """Whether this Number/Position rule keeps the entities of panel 1 in panels 2 and 3.

        The other Number/Position rules regenerate the entities in every panel.
        """
        return self.name == "Constant" or (
            self.attribute == "Position" and self.name != "Arithmetic"
        )


Rules = tuple[Rule, ...]
"""A component's four rules: for Number/Position, Type, Size, Color."""


@dataclass(frozen=True, slots=True)
class Entities:
    """The entities of one component in one panel, in list order (the order of generation)."""

    uniformity: int
    """Uniformity level, 0..3."""
    slots: Levels
    """Slot index of every entity; all different."""
    values: tuple[Levels, ...]
    """Type, Size, Color and Angle levels, one per entity each."""

    @property
    def number(self) -> int:
        """The Number level: count - 1."""
        return len(self.slots) - 1

    @property
    def uniform(self) -> bool:
        """Whether all entities of this component are alike by construction."""
        return self.uniformity == UNIFORM

    def at(self, slots: Levels) -> Entities:
        """Return the same entities in other slots."""
        return Entities(self.uniformity, slots, self.values)

    def with_levels(self, attribute: int, levels: Levels) -> Entities:
        """Return a copy whose value attribute (TYPE, SIZE, COLOR, ANGLE) has these levels."""
        values = (*self.values[:attribute], levels, *self.values[attribute + 1 :])
        return Entities(self.uniformity, self.slots, values)

    def picked(self, slots: Levels, picks: Levels) -> Entities:
        """Return copies of the entities at list places `picks`, put into `slots`."""
        values = tuple([tuple([levels[pick] for pick in picks]) for levels in self.values])
        return Entities(self.uniformity, slots, values)


Panel = tuple[Entities, ...]
"""One panel: its components' entities, in order of the component ids."""
Modification = tuple[int, str]
"""(component id, attribute name) of a change that made a candidate from the answer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem by its attributes; drawing adds nothing to it."""

    configuration: str
    """Name of the configuration."""
    rules: tuple[Rules, ...]
    """One set per component."""
    panels: tuple[Panel, ...]
    """Sixteen: eight context panels in reading order, then the candidates."""
    target: int
    """Index of the right candidate, 0..7."""
    modified: tuple[tuple[Modification, ...], ...]
    """Changes per candidate, in order of application; none for the answer."""

    @property
    def context(self) -> tuple[Panel, ...]:
        """The eight given panels."""
        return self.panels[:8]

    @property
    def candidates(self) -> tuple[Panel, ...]:
        """The eight candidates."""
        return self.panels[8:]
