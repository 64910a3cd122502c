"""What a wheel carries besides the package: configuration, task definitions, published tables.

An editable install finds them in the checkout. Were they copied for it too, their folder in
site-packages would hide the package itself (it would be a namespace package of that name).
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DATA = {
    "conf": "probes/conf",
    "tasks": "probes/task_definitions",
    "results/reference": "probes/reference",
}


class DataHook(BuildHookInterface):
    """Adds the folders of data to a wheel that is not editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Choose what goes in."""
        if version == "standard":
            build_data["force_include"].update(DATA)
