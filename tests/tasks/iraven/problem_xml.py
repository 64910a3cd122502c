"""Problems read back from XML, to be held against what the npz next to it shows."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from probes.tasks.iraven.problem import Entities, Levels, Panel, Problem, Rule, Rules
from probes.tasks.iraven.space import CONFIGURATIONS, VALUES, Component


def read(npz: Path) -> Problem:
    """Read the XML next to an npz."""
    return parse(npz.with_suffix(".xml").read_text(encoding="ascii"))


def parse(text: str) -> Problem:
    """Read a problem; attributes are found by name. The parameters of its rules are not in it."""
    data = ElementTree.fromstring(text)
    panels = data.findall("Panels/Panel")
    layouts = [layout.attrib["name"] for layout in panels[0].iter("Layout")]
    (tree,) = (
        one for one in CONFIGURATIONS.values() if [c.layout for c in one.components] == layouts
    )
    modified = tuple(
        tuple((int(change.attrib["component_id"]), change.attrib["name"]) for change in candidate)
        for candidate in data.findall("Modified_attributes/Candidate")
    )
    return Problem(
        configuration=tree.name,
        rules=tuple(_rules(group) for group in data.findall("Rules/Rule_Group")),
        panels=tuple(_panel(tree.components, panel) for panel in panels),
        target=modified.index(()),
        modified=modified,
    )


def _rules(group: ElementTree.Element) -> Rules:
    position, type_, size, color = (
        Rule(one.attrib["name"], one.attrib["attr"])  # type: ignore[arg-type]
        for one in group
    )
    return position, type_, size, color


def _panel(components: tuple[Component, ...], panel: ElementTree.Element) -> Panel:
    layouts = list(panel.iter("Layout"))
    return tuple(_entities(*pair) for pair in zip(components, layouts, strict=True))


def _entities(component: Component, layout: ElementTree.Element) -> Entities:
    found = layout.findall("Entity")
    assert len(found) == int(layout.attrib["Number"]) + 1
    boxes = [tuple(json.loads(one.attrib["bbox"])) for one in found]
    types, sizes, colors, angles = (_levels(found, name) for name in VALUES)
    return Entities(
        int(layout.attrib["Uniformity"]),
        tuple(component.slots.index(box) for box in boxes),
        (types, sizes, colors, angles),
    )


def _levels(entities: list[ElementTree.Element], name: str) -> Levels:
    return tuple(int(one.attrib[name]) for one in entities)
