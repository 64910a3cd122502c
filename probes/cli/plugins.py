"""`probes plugins`: what other packages add, from where, and what of it cannot be loaded."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from probes.core import plugins
from probes.core.errors import ProbesError
from probes.core.plugins import Entry, Registry
from probes.core.text import nearest

# As texts: rooms are imported as their registries are listed, not with this module.
REGISTRIES = (
    "probes.tasks.registry:TASKS",
    "probes.models.hf.families:FAMILIES",
    "probes.models.registry:BACKENDS",
    "probes.models.interventions:INTERVENTIONS",
    "probes.models.controllers:CONTROLLERS",
    "probes.stimuli.frame_sources:FRAME_SOURCES",
    "probes.analysis.measures:MEASURES",
    "probes.report.sections:SECTIONS",
)
"""All registries, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a registry as it is listed."""

    group: str
    name: str
    source: str
    """The package with its version, or `built in`."""
    target: str
    problem: str
    """Why it cannot be used; empty where it can."""
    note: str = ""
    """What else there is to say of it."""


def main(arguments: Sequence[str]) -> int:
    """Run `probes plugins` with these arguments and return the exit code: 1 where one is broken."""
    parser = argparse.ArgumentParser(
        prog="probes plugins",
        description="List what installed packages add to this one: tasks, model families, "
        "backends, interventions, controllers, frame sources, measures and report sections. Each "
        "is loaded and checked; the exit code is 1 where one cannot be used.",
        epilog="A package adds an entry by an entry point of its group; docs/extend.md shows how.",
    )
    parser.add_argument("--all", action="store_true", help="also what is built in")
    parser.add_argument("--json", action="store_true", help="print JSON, not lines")
    given = parser.parse_args(arguments)
    found = list(listed(built_in=given.all))
    if given.json:
        fields = ("group", "name", "source", "target", "problem", "note")
        print(
            json.dumps([{name: getattr(one, name) for name in fields} for one in found], indent=2)
        )
    elif not found:
        groups = ", ".join(registry.group for registry in _registries())
        print(f"no installed package adds anything (entry points looked at: {groups})")
    else:
        print("\n".join(_lines(found)))
    return int(any(one.problem for one in found))


def listed(*, built_in: bool = False) -> Iterator[Listed]:
    """Load and check every installed entry.

    Args:
        built_in: also those that are built in.
    """
    for registry in _registries():
        for entry in registry.entries().values():
            if entry.distribution or built_in:
                yield _listed(registry, entry, _problem(registry, entry.name))
        # Whoever came first keeps the name: the loser would be passed over without a word.
        for entry, why in registry.unusable():
            yield _listed(registry, entry, why)
    groups = [registry.group for registry in _registries()]
    for group, entry in plugins.misspelt(groups):
        problem = f"there is no group {group}: {nearest(group, groups)}"
        yield Listed(group, entry.name, entry.distribution, entry.target, problem)


def _registries() -> Iterator[Registry[object]]:
    for target in REGISTRIES:
        registry = plugins.load(target)
        assert isinstance(registry, Registry)
        yield registry


def _problem(registry: Registry[object], name: str) -> str:
    try:
        registry.get(name, registry.group)
    except ProbesError as error:
        return error.what
    return ""


def _listed(registry: Registry[object], entry: Entry, problem: str) -> Listed:
    source, note = entry.distribution or "built in", ""
    if registry.group == "probes.sections" and entry.distribution and not problem:
        from probes.report.sections import lost  # heavy, and only where a section is installed

        note = lost(entry.name)
    return Listed(registry.group, entry.name, source, entry.target, problem, note)


def _lines(found: Sequence[Listed]) -> Iterator[str]:
    columns = [(one.group, one.name, one.source, one.target) for one in found]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    for one, texts in zip(found, columns, strict=True):
        padded = (f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
        yield "  ".join(padded).rstrip()
        if one.problem:
            yield f"    cannot be used: {one.problem}"
        if one.note:
            yield f"    note: {one.note}"
