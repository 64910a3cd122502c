"""A package of others, installed for one test: modules, and the entry points that name them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import pytest

from probes.core import plugins
from probes.core.plugins import Registry


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    registry: Registry[object],
    modules: Mapping[str, str],
) -> None:
    """Install `sample-plugin 1.0`, whose entries are what their modules call `ENTRY`.

    Args:
        monkeypatch: takes it away again.
        folder: where it is written.
        registry: the registry that finds it.
        modules: code by name of the entry.
    """
    site = folder / "site"
    facts = site / "sample_plugin-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: sample-plugin\nVersion: 1.0\n")
    lines = [f"[{registry.group}]"]
    for name, code in modules.items():
        # A module of this name may have been imported by an earlier test.
        module = f"{name}_{folder.name}"
        (site / f"{module}.py").write_text(code)
        lines.append(f"{name} = {module}:ENTRY")
    (facts / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(plugins, "installed", functools.cache(plugins.installed.__wrapped__))
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
