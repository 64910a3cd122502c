"""Problems as XML text, in the exchange format, and back.

One line without declaration or white space:

    Data
      Panels: 16 Panel / Struct / Component / Layout / Entity
      Rules: Rule_Group / Rule
      Modified_attributes: 8 Candidate / Attribute (missing in files of the older RAVEN)

Values are levels. Parameters of rules are not stored. The target is the candidate without an
Attribute.
"""

from __future__ import annotations

import functools
import json
from typing import get_args
from xml.etree import ElementTree

from probes.core.errors import ProbesError
from probes.tasks.iraven.problem import (
    Entities,
    Levels,
    Modification,
    Panel,
    Problem,
    Rule,
    RuleAttribute,
    RuleName,
    Rules,
)
from probes.tasks.iraven.render import mask_runs, real_box
from probes.tasks.iraven.space import CONFIGURATIONS, VALUES, Component, Configuration, Slot

_NUMBER, _UNIFORMITY = range(9), range(4)


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
        types, sizes, colors, angles = entities.values
        for slot, type_, size, color, angle in zip(
            entities.slots, types, sizes, colors, angles, strict=True
        ):
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


# --- reading --------------------------------------------------------------------------------------


def parse(text: str | bytes, where: str = "") -> Problem:
    """Read a problem from XML; attributes are found by name, so their order does not matter.

    Args:
        text: the file's content.
        where: the file's name, for messages.

    Raises:
        ProbesError: the text is not XML, or not a problem of the seven configurations.
    """
    try:
        data = ElementTree.fromstring(text)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # odd encodings too
        raise _wrong(f"the XML cannot be parsed ({error})", where) from error
    try:
        return _problem(data)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise _wrong(f"the XML is not an i-RAVEN problem ({error!s})", where) from error


def _wrong(what: str, where: str) -> ProbesError:
    return ProbesError(
        what, where, "fetch or make the file again, or remove it: the npz alone is enough to run"
    )


def _problem(data: ElementTree.Element) -> Problem:
    elements = data.findall("Panels/Panel")
    if len(elements) != 16:
        raise ValueError(f"{len(elements)} panels where there should be 16")
    configuration = _configuration(elements[0])
    groups = tuple(_read_rules(group) for group in data.findall("Rules/Rule_Group"))
    if len(groups) != len(configuration.components):
        raise ValueError(f"{len(groups)} groups of rules")
    modified = tuple(
        tuple(
            (int(attribute.attrib["component_id"]), attribute.attrib["name"])
            for attribute in candidate
        )
        for candidate in data.findall("Modified_attributes/Candidate")
    )
    unmodified = [index for index, changes in enumerate(modified) if not changes]
    if modified and (len(modified) != 8 or len(unmodified) != 1):
        raise ValueError(f"{len(modified)} candidates, {len(unmodified)} of them unmodified")
    return Problem(
        configuration=configuration.name,
        rules=groups,
        panels=tuple(_read_panel(configuration, element) for element in elements),
        target=unmodified[0] if unmodified else None,
        modified=modified,
    )


def _configuration(panel: ElementTree.Element) -> Configuration:
    layouts = [layout.attrib["name"] for layout in panel.iter("Layout")]
    for configuration in CONFIGURATIONS.values():
        if [component.layout for component in configuration.components] == layouts:
            return configuration
    raise ValueError(f"no configuration has the layouts {layouts}")


def _read_rules(group: ElementTree.Element) -> Rules:
    rules = []
    for element in group:
        name, attribute = element.attrib["name"], element.attrib["attr"]
        if name not in get_args(RuleName) or attribute not in get_args(RuleAttribute):
            raise ValueError(f"unknown rule {name} of {attribute}")
        rules.append(Rule(name, attribute))  # type: ignore[arg-type]
    if len(rules) != 4:
        raise ValueError(f"{len(rules)} rules in a group where there should be 4")
    return rules[0], rules[1], rules[2], rules[3]


def _read_panel(configuration: Configuration, panel: ElementTree.Element) -> Panel:
    layouts = list(panel.iter("Layout"))
    if [layout.attrib["name"] for layout in layouts] != [
        c.layout for c in configuration.components
    ]:
        raise ValueError("panels of different layouts")
    return tuple(
        _read_entities(component, layout)
        for component, layout in zip(configuration.components, layouts, strict=True)
    )


def _read_entities(component: Component, layout: ElementTree.Element) -> Entities:
    elements = layout.findall("Entity")
    slots = tuple(
        component.slots.index(tuple(json.loads(element.attrib["bbox"]))) for element in elements
    )
    if len(elements) - 1 != _level(layout, "Number", _NUMBER) or len(set(slots)) != len(slots):
        raise ValueError("entities that do not fit their Number, or share a slot")
    types, sizes, colors, angles = (
        _read_levels(elements, name, component.levels(attribute))
        for attribute, name in enumerate(VALUES)
    )
    uniformity = _level(layout, "Uniformity", _UNIFORMITY)
    return Entities(uniformity, slots, (types, sizes, colors, angles))


def _read_levels(elements: list[ElementTree.Element], name: str, levels: range) -> Levels:
    return tuple(_level(element, name, levels) for element in elements)


def _level(element: ElementTree.Element, name: str, levels: range) -> int:
    level = int(element.attrib[name])
    if level not in levels:
        raise ValueError(f"{name} {level} outside {levels[0]}..{levels[-1]}")
    return level
