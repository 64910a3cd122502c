"""Put the files that the package needs at run time into a wheel, and only there.

An editable install reads them from the checkout. Copies under site-packages/probes would hide the
package: Python would take that folder for a namespace package.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = {
    "conf": "probes/conf",
    "tasks": "probes/task_definitions",
    "results/reference": "probes/reference",
}
"""Folders of the checkout, and their places in a wheel (`probes.config.paths` reads both)."""


class DataFolders(BuildHookInterface):
    """Add configuration, task definitions and published tables to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Set what is included; hatchling calls this before a build."""
        if version == "standard":
            build_data["force_include"].update(FOLDERS)
