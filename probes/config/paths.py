"""The folders of files that belong to the package: configuration, task definitions, reference.

In a checkout they are at the top level (`conf/`, `tasks/`, `results/reference/`); in a wheel they
are data of the package (`probes/conf`, `probes/task_definitions`, `probes/reference`).
"""

from __future__ import annotations

from pathlib import Path

from probes.core.errors import ProbesError

_PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """Return the folder of YAML and prompt files."""
    return _folder("conf", "conf", "config.yaml")


def task_definitions() -> Path:
    """Return the folder of lmms-eval's YAML files for our tasks: its `--include_path`."""
    return _folder("task_definitions", "tasks", "iraven/iraven.yaml")


def reference_dir() -> Path:
    """Return the folder of the published tables."""
    return _folder("reference", "results/reference", "egoschema.csv")


def _folder(in_wheel: str, in_checkout: str, file: str) -> Path:
    for folder in (_PACKAGE / in_wheel, _PACKAGE.parent / in_checkout):
        # By a file in it: next to an installed package there may be a foreign folder `tasks`.
        if (folder / file).is_file():
            return folder
    raise ProbesError(
        f"the folder {in_checkout} of the package is missing",
        str(_PACKAGE),
        "install the package again",
    )
