"""The facts of a run that are not in its records: its configuration and its items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from probes.analysis.families import PRIMARY, Declared
from probes.config.labels import presets
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.text import flat, listed, without_lists
from probes.core.types import Arm
from probes.records import schema
from probes.records.manifest import FILE, REWRITE, read_manifest
from probes.records.schema import ItemRow
from probes.records.scored import exempt

# Settings that every record has as a column, or that cannot change an answer. A reader can only by
# what it reads, and that is compared itself.
_IGNORED = set(
    "shard shards out overwrite frames limit seed scoring donor_draws infill_draws suite hydra "
    "task.root task.unanswered pair.name pair.caveat task.name backend.batch_size "
    "backend.feature_cache_mb backend.device task.scoring pair.scoring task.reader answers "
    "primary most_failed".split()
)
_OF_THE_SAMPLE = set(
    "frames limit seed scoring donor_draws infill_draws suite pair.name pair.scoring task.name "
    "task.scoring".split()
)
"""What of that shards of one run share all the same."""
# Manifests once held these for every task, now for those that have them.
_OF_SOME_TASKS = set(
    "task.across_rows task.fps task.height task.include_path task.per_config task.seconds "
    "task.seed task.videos".split()
)
_OF_ARMS = {
    one.name: one.default
    for one in fields(Arm)
    if one.name in ("frames", "infills", "presentation", "intervention", "decoding")
}
"""What else than its name makes an arm what it is, with what older manifests do not state."""
_IGNORED_LAST = {"device", "caveat"}
_SHOWN = 40
"""Longest value that a label shows; a longer one (a prompt) is shown as a hash."""


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """One run folder."""

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's resolved configuration; empty where there is no manifest."""
    items: Mapping[tuple[str, str], ItemRow] = field(default_factory=dict)
    """By (task, item id), donors too."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint and adapter of every model that answered or wrote infills, by name."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Its whole content; empty where there is none."""


def read_run(folder: Path) -> LoadedRun:
    """Read a run's manifest and items, as far as they are there.

    Raises:
        ProbesError: a file that is there but cannot be read.
    """
    content = read_manifest(folder)
    try:
        config = dict(content.get("config") or {})
        models = {
            name: f"{facts.get('fingerprint', '')} {facts.get('adapter', '')}"
            for name, facts in (content.get("members") or {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        what = "the manifest's config or members are not groups of settings"
        raise ProbesError(what, str(folder / FILE), REWRITE) from error
    # Donors are shown too: what is borrowed from them must be the same in all runs as well.
    tables = (schema.read_rows(folder / f"{name}.parquet", ItemRow) for name in ("items", "donors"))
    items = {(row.task, row.id): row for table in tables for row in table}
    return LoadedRun(folder, config, items, models, content)


class RunKind(NamedTuple):
    """What the records of a run are of; mostly one pair, one task and one scoring."""

    pairs: frozenset[str]
    tasks: frozenset[str]
    scorings: frozenset[str]

    def meets(self, other: RunKind) -> bool:
        """Return whether two runs may have answered the same question: only those are compared."""
        return all(mine & theirs for mine, theirs in zip(self, other, strict=True))


def kind_of(table: pa.Table) -> RunKind:
    """Return what a table of records is of."""
    columns = (table.column(name).unique().to_pylist() for name in ("pair", "task", "scoring"))
    return RunKind(*(frozenset(map(str, values)) for values in columns))


def labels(runs: Sequence[LoadedRun], kinds: Sequence[RunKind]) -> list[str]:
    """Return, for each run, how its configuration differs from others of its kind.

    Args:
        runs: the runs.
        kinds: for each run, its pairs, tasks and scorings.

    Returns:
        e.g. `frame_as=image`; empty where nothing that can change an answer differs.
    """
    configs = [_relevant(run.config) for run in runs]
    out = []
    of_arms = [_what_arms_are(run.config.get("suite")) for run in runs]
    for own, arms, kind in zip(configs, of_arms, kinds, strict=True):
        alike = [one for one, of in zip(configs, kinds, strict=True) if one and of.meets(kind)]
        names = sorted({name for config in alike for name in config})
        differing = [name for name in names if _differs(name, alike)]
        # A run without a manifest is not labelled by what it does not say.
        shown = [f"{_short(name, differing)}={_value(own.get(name))}" for name in differing if own]
        # Only of arms that it has: a run without an arm does not differ in it.
        others = [one for one, of in zip(of_arms, kinds, strict=True) if of.meets(kind)]
        shown += [
            f"{name}={_value(value)}"
            for name, value in arms.items()
            if any(one.get(name, value) != value for one in others)
        ]
        out.append(", ".join(dict.fromkeys(shown)))
    return out


def _what_arms_are(suite: Any) -> dict[str, str]:
    """Return what the arms of a suite are, by dotted names, e.g. `noisy.intervention`."""
    return {
        f"{arm['name']}.{field}": _change(arm.get(field, default))
        for arm in (suite if isinstance(suite, list | tuple) else ())
        if isinstance(arm, Mapping) and "name" in arm
        for field, default in _OF_ARMS.items()
        if field in arm or default is None
    }


def _change(value: Any) -> str:
    """Return an arm's setting as one text, e.g. `frame_noise(strength=0.5)`."""
    if not isinstance(value, Mapping):
        return str(value or "none")
    given = value.get("params") or ()
    pairs = given.items() if isinstance(given, Mapping) else given
    params = ", ".join("=".join(map(str, pair)) for pair in pairs)
    version = f" {value['version']}" if value.get("version") else ""
    return f"{value.get('name')}({params}){version}"


def _differs(name: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    # Otherwise a missing setting is a difference: it may stand for another default.
    having = [one for one in configs if name in one or name not in _OF_SOME_TASKS]
    # repr, since lists cannot be in a set, where 1 and True would be one entry.
    return len({repr(one.get(name)) for one in having}) > 1


def _relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in flat(without_lists(config)).items()
        if name not in _IGNORED
        and name.split(".")[0] not in _IGNORED
        and name.rsplit(".", 1)[-1] not in _IGNORED_LAST
    }


def of_shards(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what the shards of one run have in common: all settings that say what is asked."""
    kept = _IGNORED - _OF_THE_SAMPLE
    return tuple(
        sorted(
            (name, repr(value))
            for name, value in flat(without_lists(config)).items()
            # A newer version has further settings, which are null until they are given.
            if value is not None
            and not {name, name.split(".")[0]} & kept
            and name.rsplit(".", 1)[-1] not in _IGNORED_LAST
        )
    )


def _short(name: str, differing: Sequence[str]) -> str:
    """Return the last part of a dotted name, or all of it where that would be ambiguous."""
    last = name.rsplit(".", 1)[-1]
    alike = [other for other in differing if other.rsplit(".", 1)[-1] == last]
    # The same change of both members of a pair is shown once.
    of_pair = {other.split(".")[0] for other in alike} == {"pair"}
    return last if len(alike) == 1 or of_pair else name


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN and "\n" not in text else sha256_json(text)[:8]


def attributes(runs: Sequence[LoadedRun]) -> dict[str, Any]:
    """Return what later steps need of the runs.

    Reference arms, infills, whose mass on letters is told, runs without a model, and pairs with
    members that are not those of their files.

    Raises:
        ProbesError: an arm that is compared with different arms in different runs.
    """
    references: dict[str, str] = {}
    infills: dict[str, str] = {}
    sources: set[str] = set()
    unweighed: set[str] = set()
    by_rule: list[str] = []
    writers: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for run in runs:
        unweighed |= exempt(run.config)
        replaced |= _replaced(run.config.get("pair"))
        backend = run.config.get("backend")
        if isinstance(backend, Mapping) and backend.get("name") == "scripted":
            by_rule.append(str(run.folder))
        for name, kind in _arms(run.config.get("suite"), "infills").items():
            # An arm of two kinds counts as one with text.
            infills[name] = kind if infills.get(name, kind) == kind else ""
        for name, reference in _arms(run.config.get("suite"), "reference").items():
            if references.setdefault(name, reference) != reference:
                raise ProbesError(
                    f"the arm {name} is compared with {references[name] or 'nothing'} in one run "
                    f"and with {reference or 'nothing'} in another",
                    str(run.folder),
                    "load these runs one by one",
                )
        infill = run.config.get("infill")
        if isinstance(infill, Mapping) and infill.get("source"):
            sources.add(str(infill["source"]))
            writers[str(run.folder)] = _writer(infill, run.config.get("pair"))
    found: dict[str, Any] = {
        "references": references,
        "infills": infills,
        "infill_sources": sorted(sources),
    }
    found |= {"without_mass": sorted(unweighed), "without_model": by_rule, "replaced": replaced}
    found["writers"] = writers
    # No failed answer at all may be what was declared.
    return {name: value for name, value in found.items() if value} | _declared(runs)


def _writer(infill: Mapping[str, Any], pair: Any) -> str:
    """Return who wrote a run's infills, e.g. `tiny-image (the image member), for all members`."""
    if infill["source"] != "shared":
        return "each member for itself" if infill["source"] == "self" else "a file"
    wanted = str(infill.get("generator") or "image")
    members = pair.get("members") if isinstance(pair, Mapping) else None
    for one in members if isinstance(members, list | tuple) else ():
        if isinstance(one, Mapping) and one.get("role") == wanted:
            return f"{one.get('name')} (the {wanted} member), for all members"
    return f"{wanted}, for all members"


def _declared(runs: Sequence[LoadedRun]) -> dict[str, Any]:
    """Return what runs declared before they began: primary comparisons, and most failed answers.

    Raises:
        ProbesError: two runs that allow other shares of failed answers.
    """
    declared: dict[str, Declared] = {}
    most: dict[float, Path] = {}
    for run in runs:
        frames, primary = run.config.get("frames"), run.config.get("primary")
        counts = tuple(frames) if isinstance(frames, list | tuple) else ()
        of_primary = tuple(map(str, primary)) if isinstance(primary, list | tuple) else PRIMARY
        if run.config:
            declared[str(run.folder)] = Declared(of_primary, counts)
        if isinstance(share := run.config.get("most_failed"), int | float):
            most.setdefault(float(share), run.folder)
    if len(most) > 1:
        raise ProbesError(
            f"runs allow different shares of failed answers ({listed(sorted(map(str, most)))})",
            " and ".join(str(folder) for folder in list(most.values())[:2]),
            "load them one by one, or run one again with most_failed of the other",
        )
    of_runs: dict[str, Any] = {"declared": declared} if declared else {}
    return of_runs | ({"most_failed": next(iter(most))} if most else {})


def _replaced(pair: Any) -> dict[str, str]:
    """Return by the pair's name which members have other weights than those of its file."""
    given = pair.get("members") if isinstance(pair, Mapping) else None
    known = presets().get(str(pair["name"]), {}) if isinstance(given, list | tuple) else {}
    other = [
        f"the {one['role']} member is {one['name']} ({one['repo']}"
        + (f" with {one['adapter']})" if one.get("adapter") else ")")
        for one in given or ()
        if isinstance(one, Mapping)
        and one.get("repo")
        and one.get("role") in known
        and (one["repo"] != known[one["role"]][1] or one.get("adapter"))
    ]
    name = pair["name"] if other else ""
    line = f"Not the weights of pair={name}: {' and '.join(other)}."
    return {str(name): line} if other else {}


def _arms(suite: Any, field: str) -> dict[str, str]:
    """Return every arm of a suite with the value of a field, where it states that."""
    return {
        str(arm["name"]): str(arm[field] or "")
        for arm in (suite if isinstance(suite, list | tuple) else ())
        if isinstance(arm, Mapping) and "name" in arm and field in arm
    }
