"""The section on where the numbers come from: code, packages, machine, configuration, seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from probes.core.tables import Table
from probes.core.text import flat, listed, without_lists
from probes.report.parts import BulletList, Paragraph, ReportPart, Section, counted
from probes.report.study import Study

_FactRows = list[tuple[str, ...]]


def section(study: Study) -> Section:
    """Return the runs' manifests: what they share, and what differs."""
    manifests = {
        run: flat(without_lists(manifest, by="name"))
        for run, manifest in study.manifests.items()
        if manifest
    }
    folders = listed([str(folder) for folder in study.folders], 50)
    parts: list[ReportPart] = [Paragraph(f"{counted(len(study.manifests), 'run')}: {folders}")]
    if missing := [run for run in study.manifests if run not in manifests]:
        parts.append(Paragraph(f"Without a manifest: {listed(missing, 50)}.", "note"))
    if unbound := study.frame.attrs.get("unbound"):
        text = (
            "No manifest has the hashes of these tables, so nothing shows whether they are as the "
            f"run wrote them: {listed(list(unbound), 50)}."
        )
        parts.append(Paragraph(text, "note"))
    if any(manifest.get("dirty") for manifest in manifests.values()):
        parts.append(Paragraph("A run was made from code with uncommitted changes.", "note"))
    for run, manifest in study.manifests.items():
        if arrays := manifest.get("artifacts"):
            names, size = listed(arrays["names"], 10), f"{arrays['bytes'] / 2**20:,.1f} MiB"
            counts = f"{counted(arrays['arrays'], 'array')} ({names}; {size})"
            parts.append(Paragraph(f"{_last(run)} has {counts}: `probes.artifacts` reads them."))
    parts += _remarks(study)
    parts += _origins(study)
    if manifests:
        parts += _tables(manifests)
    return Section("manifest", "Manifest", tuple(parts))


def _remarks(study: Study) -> Iterator[ReportPart]:
    """Yield what has to be known of how members were run, each once."""
    found: dict[str, None] = {}
    for manifest in study.manifests.values():
        for one in manifest.get("remarks") or ():
            member = str(one.get("member") or "the pair")
            found[f"{member}: {one.get('text', '')}"] = None
    if found:
        yield Paragraph("How the members were run:")
        yield BulletList(tuple(found))


def _origins(study: Study) -> Iterator[ReportPart]:
    """Yield what computed the answers, in one table of all runs."""
    counts: Counter[tuple[str, str]] = Counter()
    for manifest in study.manifests.values():
        for member, found in (manifest.get("origins") or {}).items():
            for origin, count in found.items():
                counts[str(member), str(origin)] += int(count)
    rows = tuple((*names, f"{count:,}") for names, count in sorted(counts.items()))
    if rows:
        header = ("member", "computed by", "answers")
        yield Table("What computed the answers", header, rows, words=2, name="origins")
    members = Counter(member for member, _ in counts)
    if mixed := [member for member, number in members.items() if number > 1]:
        what = f"Answers of {listed(mixed, 10)} were computed by different versions or devices"
        yield Paragraph(f"{what}: they may differ in their last digits, or by more.", "note")


def _tables(manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    # An entry's name has the column `key` in the CSV files, which others read.
    shared, differing = _compared(manifests)
    entries = [
        (run, name, value)
        for run, manifest in manifests.items()
        for name, value in manifest.items()
    ]
    yield Table(
        "Manifest" if len(manifests) == 1 else "What all manifests share",
        header=("entry", "value"),
        rows=tuple(shared),
        name="manifest",
        data=pd.DataFrame(entries, columns=["run", "key", "value"]),
        folded=True,
    )
    if differing:
        yield Table(
            "What differs between manifests",
            header=("entry", "run", "value"),
            rows=tuple(differing),
            words=3,
            name="manifest-differs",
            data=pd.DataFrame(differing, columns=["key", "run", "value"]),
            folded=True,
        )


def _compared(manifests: Mapping[str, Mapping[str, Any]]) -> tuple[_FactRows, _FactRows]:
    """Return (name, value) of the entries that all share, (name, run, value) of the others."""
    shared: _FactRows = []
    differing: _FactRows = []
    for name in dict.fromkeys(name for manifest in manifests.values() for name in manifest):
        # An entry that is missing is a difference too: older manifests have fewer.
        values = {run: str(manifest.get(name, "-")) for run, manifest in manifests.items()}
        if len(set(values.values())) == 1:
            shared.append((name, next(iter(values.values()))))
        else:
            differing += [(name, _last(run), value) for run, value in values.items()]
    return shared, differing


def _last(run: str) -> str:
    # Runs may come from Windows, whose paths pathlib would not split elsewhere.
    return run.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
