"""Nodes of installed tasks as Hydra stores them: the defaults are read once a task is chosen."""

from __future__ import annotations

import contextlib
from typing import Any

from hydra.core.config_store import ConfigNode
from omegaconf import OmegaConf

from probes.config.tasks import installed_defaults
from probes.core.errors import ProbesError


class TaskNode(ConfigNode):  # type: ignore[misc]  # Hydra has no types
    """An option of the group `task` whose package is imported only where it is chosen.

    Args:
        name: of the task.
    """

    def __init__(self, name: str) -> None:
        self._task, self._values = name, None
        super().__init__(f"{name}.yaml", None, "task", None, "probes")

    # Hydra reads the attribute of the chosen option alone, and sets that of its own copy.
    @property
    def node(self) -> Any:
        """The settings: of a task that cannot be loaded its reader only; `typed` says why."""
        if self._values is None:
            values = {"name": self._task, "reader": self._task}
            with contextlib.suppress(ProbesError):
                values = installed_defaults(self._task)
            return OmegaConf.create(values)
        return self._values

    @node.setter
    def node(self, values: Any) -> None:
        self._values = values
