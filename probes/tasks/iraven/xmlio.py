"""Problems as XML text, in the exchange format.

One line without declaration or white space:

    Data
      Panels: 16 Panel / Struct / Component / Layout / Entity
      Rules: Rule_Group / Rule
      Modified_attributes: 8 Candidate / Attribute

Values are levels. Parameters of rules are not stored. The target is the candidate without an
Attribute. Nothing here reads it back: what a run needs is in the npz.
"""

from __future__ import annotations

import functools
import json

from probes.tasks.iraven.problem import Modification, Panel, Problem, Rules
from probes.tasks.iraven.render import mask_runs, real_box
from probes.tasks.iraven.space import CONFIGURATIONS, Component, Configuration, Slot


def write(problem: Problem) -> str:
    """Return a problem's XML."""
    configuration = CONFIGURATIONS[problem.configuration]
    panels = "".join([_panel(configuration, panel) for panel in problem.panels])
    rules = "".join([_rule_group(index, rules) for index, rules in enumerate(problem.rules)])
    modified = "".join([_candidate(*numbered) for numbered in enumerate(problem.modified)])
    return (
        f"<Data><Panels>{panels}</Panels><Rules>{rules}</Rules>"
        f"<Modified_attributes>{modified}</Modified_attributes></Data>"
    )


def _panel(configuration: Configuration, panel: Panel) -> str:
    parts = [f'<Panel><Struct name="{configuration.structure}">']
    for index, (component, entities) in enumerate(
        zip(configuration.components, panel, strict=True)
    ):
        parts.append(
            f'<Component id="{index}" name="{component.name}"><Layout name="{component.layout}" '
            f'Number="{entities.number}" Position="{_slots(component)}" '
            f'Uniformity="{entities.uniformity}">'
        )
        looks = zip(entities.slots, *entities.values, strict=True)
        for slot, type_, size, color, angle in looks:
            place = _place(component.slots[slot], type_, size, angle)
            parts.append(
                f'<Entity {place} Type="{type_}" Size="{size}" Color="{color}" Angle="{angle}" />'
            )
        parts.append("</Layout></Component>")
    parts.append("</Struct></Panel>")
    return "".join(parts)


@functools.cache
def _slots(component: Component) -> str:
    return json.dumps(component.slots)


@functools.lru_cache(maxsize=8_192)  # there are 5,500
def _place(slot: Slot, type_: int, size: int, angle: int) -> str:
    """Return the attributes that say where an entity is; the mask is the costly one."""
    runs = mask_runs(slot, type_, size, angle).ravel().tolist()
    # The format has no spaces in masks, but ", " in boxes and positions.
    mask = json.dumps(runs, separators=(",", ":"))
    box = json.dumps(real_box(slot, type_, size, angle))
    return f'bbox="{json.dumps(slot)}" real_bbox="{box}" mask="{mask}"'


def _rule_group(index: int, rules: Rules) -> str:
    inner = "".join([f'<Rule name="{rule.name}" attr="{rule.attribute}" />' for rule in rules])
    return f'<Rule_Group id="{index}">{inner}</Rule_Group>'


def _candidate(index: int, modified: tuple[Modification, ...]) -> str:
    if not modified:
        return f'<Candidate id="{index}" />'
    inner = "".join([f'<Attribute component_id="{i}" name="{name}" />' for i, name in modified])
    return f'<Candidate id="{index}">{inner}</Candidate>'
