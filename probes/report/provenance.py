"""The section on where the numbers come from: code, packages, machine, configuration, seeds."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from probes.core.redaction import redacted
from probes.core.tables import Table
from probes.core.text import flat, listed, without_lists
from probes.report.parts import BulletList, Paragraph, ReportPart, Section, counted
from probes.report.shortening import folder_name, without_folders
from probes.report.study import Study

_OVERRIDES = Path(".hydra") / "overrides.yaml"
_FactRows = list[tuple[str, ...]]


def section(study: Study) -> Section:
    """Return the runs' manifests: what they share, and what differs."""
    manifests = {
        run: flat(without_lists(manifest, by="name"))
        for run, manifest in study.manifests.items()
        if manifest
    }
    parts: list[ReportPart] = [_runs(study)]
    if missing := [folder_name(run) for run in study.manifests if run not in manifests]:
        parts.append(Paragraph(f"Without a manifest: {listed(missing, 50)}.", "note"))
    if unbound := study.frame.attrs.get("unbound"):
        text = (
            "No manifest has the hashes of these tables, so nothing shows whether they are as the "
            f"run wrote them: {listed([folder_name(str(one)) for one in unbound], 50)}."
        )
        parts.append(Paragraph(text, "note"))
    if any(manifest.get("dirty") for manifest in manifests.values()):
        parts.append(Paragraph("A run was made from code with uncommitted changes.", "note"))
    for run, manifest in study.manifests.items():
        if arrays := manifest.get("artifacts"):
            names, size = listed(arrays["names"], 10), f"{arrays['bytes'] / 2**20:,.1f} MiB"
            counts = f"{counted(arrays['arrays'], 'array')} ({names}; {size})"
            parts.append(
                Paragraph(f"{folder_name(run)} has {counts}: `probes.artifacts` reads them.")
            )
    parts += _remarks(study)
    parts += _origins(study)
    if manifests:
        parts += _tables(manifests)
    return Section("manifest", "Manifest", tuple(parts))


def facts(study: Study) -> tuple[str, ...]:
    """Return date, version and command of the runs, as they stand on the first screen."""
    heads = [_head(run, manifest) for run, manifest in study.manifests.items()]
    dates, versions, commands = (list(dict.fromkeys(one)) for one in zip(*heads, strict=True))
    known = sorted(set(dates) - {"-"})
    ended = " to ".join(dict.fromkeys([known[0], known[-1]])) + " UTC" if known else "no date known"
    runs = "" if len(heads) == 1 else f"{len(heads)} runs, "
    line = f"{runs}{ended}, interframe-probes {listed(versions, 3)}"
    if commands == ["-"]:
        return (f"{line}; the command is not known (no {_OVERRIDES.as_posix()} in the run)",)
    if len(commands) > 1:
        return (f"{line}; {counted(len(commands), 'command')}, listed under Manifest",)
    return line, commands[0]


def _runs(study: Study) -> Table:
    """Return every run with its date, version and command."""
    rows = tuple(
        (folder_name(run), *_head(run, manifest)) for run, manifest in study.manifests.items()
    )
    header = ("run", "ended (UTC)", "version", "command")
    return Table(counted(len(rows), "run"), header, rows, words=4, name="runs")


def _head(run: str, manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return when a run ended, the version of the code, and the command; `-` where not known."""
    ended = str(manifest.get("created") or "-").replace("T", " ")[:16]
    version = str((manifest.get("packages") or {}).get("interframe-probes") or "-")
    if commit := str(manifest.get("git") or "")[:10]:
        version += f" ({commit}{', changed' if manifest.get('dirty') else ''})"
    return ended, version, _command(Path(run))


def _command(folder: Path) -> str:
    try:
        given = yaml.safe_load((folder / _OVERRIDES).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return "-"
    if not isinstance(given, list):
        return "-"
    words = []
    for one in map(str, given):
        name, equals, value = one.partition("=")
        if name.startswith("pair.") and name.endswith(".name") and value == "null":
            continue  # nobody typed that: composing adds it where weights are replaced
        # A secret is told from its name; a folder is of use on the machine of the run only.
        if not name.lstrip("+~").startswith("hydra."):
            words.append(name + equals + without_folders(str(redacted({name: value})[name])))
    return shlex.join(["probes", "run", *words])


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
            differing += [(name, folder_name(run), value) for run, value in values.items()]
    return shared, differing
