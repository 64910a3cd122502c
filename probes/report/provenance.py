"""The section on where the numbers come from: code, packages, machine, configuration, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from probes.core.text import flat
from probes.report.parts import DataTable, Paragraph, ReportPart, Section, counted, listed
from probes.report.study import Study


def section(study: Study) -> Section:
    """Return the runs' manifests: what they share, and what differs."""
    known = {run: _flat(manifest) for run, manifest in study.manifests.items() if manifest}
    parts: list[ReportPart] = [
        Paragraph(
            f"{counted(len(study.manifests), 'run')}: {listed([str(f) for f in study.folders], 50)}"
        )
    ]
    if lacking := [run for run in study.manifests if run not in known]:
        parts.append(Paragraph(f"Without a manifest: {listed(lacking, 50)}.", "note"))
    if any(manifest.get("dirty") for manifest in known.values()):
        parts.append(Paragraph("A run was made from code with uncommitted changes.", "note"))
    if not known:
        return Section("manifest", "Manifest", tuple(parts))
    names = list(dict.fromkeys(name for manifest in known.values() for name in manifest))
    same, differing = [], []
    for name in names:
        values = {run: str(manifest.get(name, "-")) for run, manifest in known.items()}
        if len(set(values.values())) == 1:
            same.append((name, next(iter(values.values()))))
        else:
            differing += [(name, _last(run), value) for run, value in values.items()]
    data = pd.DataFrame(
        [(run, name, value) for run, manifest in known.items() for name, value in manifest.items()],
        columns=["run", "key", "value"],
    )
    said = "Manifest" if len(known) == 1 else "What all manifests share"
    parts.append(DataTable("manifest", said, ("key", "value"), tuple(same), 2, data, folded=True))
    if differing:
        header = ("key", "run", "value")
        title = "What differs between manifests"
        parts.append(DataTable("manifest-differs", title, header, tuple(differing), 3, folded=True))
    return Section("manifest", "Manifest", tuple(parts))


def _last(run: str) -> str:
    return run.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a manifest to dotted keys; mappings within lists by their name or place."""
    return flat({str(key): _keyed(value) for key, value in manifest.items()})


def _keyed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _keyed(one) for key, one in value.items()}
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        return {
            str(one.get("name", place)) if isinstance(one, Mapping) else str(place): _keyed(one)
            for place, one in enumerate(value)
        }
    return value
