"""Shards: whether all parts of a run are there, and which are missing.

A run with `shards=3` asks a third of its items. Its numbers are those of the whole sample only
together with the other two, so nothing reads some of them as if they were all.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.analysis import settings
from probes.analysis.settings import LoadedRun
from probes.core.errors import ProbesError
from probes.core.text import listed
from probes.records.manifest import FILE, REWRITE

PARTIAL = "or go on without: --partial (in Python partial=True)"
_SHOWN = 4
"""Most folders and commands that a message names."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Which part of a run's items a folder holds."""

    of: int
    """In how many shards the items are split."""
    numbers: frozenset[int]
    """Those that are here, from 0."""
    lost: tuple[str, ...] = ()
    """What a merge of several runs went on without, in words."""

    @property
    def missing(self) -> list[int]:
        """The shards that are not here."""
        return sorted(set(range(self.of)) - self.numbers)


WHOLE = Shards(1, frozenset({0}))


def of_run(manifest: Mapping[str, Any], where: Path) -> Shards:
    """Return the part of a run that a folder holds, by its manifest; the whole where it has none.

    Raises:
        ProbesError: the manifest names no part.
    """
    try:
        if given := manifest.get("partial"):
            numbers = frozenset(map(int, given["numbers"]))
            return Shards(int(given["shards"]), numbers, tuple(map(str, given["missing"])))
        config = manifest.get("config") or {}
        found = Shards(int(config.get("shards", 1)), frozenset({int(config.get("shard", 0))}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"the manifest does not say which shard it is of: {error}"
        raise ProbesError(what, str(where / FILE), REWRITE) from error
    if not found.numbers <= set(range(found.of)):
        what = f"the manifest names shard={min(found.numbers)} of shards={found.of}"
        raise ProbesError(what, str(where / FILE), REWRITE)
    return found


def check(
    runs: Sequence[LoadedRun], unfinished: Sequence[Path] = (), partial: bool = False
) -> tuple[str, ...]:
    """Refuse runs that are not whole.

    Args:
        runs: all that are read together.
        unfinished: folders of runs that have begun and not ended, which may be what is missing.
        partial: go on without what is missing.

    Returns:
        What is missing, a sentence each; empty where nothing is.

    Raises:
        ProbesError: shards of a run are missing, and not `partial`; or they are of different
            samples.
    """
    groups = _groups(runs)
    for group in groups:
        _check_sample(group)
        _check_count(group)
    gaps = [gap for group in groups if (gap := _gap(group)) is not None]
    if gaps and not partial:
        raise _refusal(gaps, unfinished)
    return tuple(gap.sentence() for gap in gaps)


def stated(runs: Sequence[LoadedRun], lacking: Sequence[str]) -> dict[str, Any]:
    """Return what the manifest of a merged run says of its missing parts; `of_run` reads it."""
    parts = [of_run(run.manifest, run.folder) for run in runs]
    sizes = {part.of for part in parts}
    one = len({settings.of_shards(run.config) for run in runs}) == 1 and len(sizes) == 1
    # Of several runs: which of them lacks which shard is not kept, so none can be added.
    numbers = sorted(set().union(*(part.numbers for part in parts))) if one else []
    return {"shards": max(sizes) if one else 1, "numbers": numbers, "missing": list(lacking)}


_Parts = list[tuple[LoadedRun, Shards]]
"""Runs that are the same but for which items they asked."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """A run of which something is missing."""

    group: _Parts

    def missing(self) -> Iterator[tuple[int, list[int]]]:
        """Yield numbers of shards, each with those that are missing."""
        # Of every number of shards: a set of thirds and one of quarters may both be begun.
        for shards in _together(self.group):
            yield shards.of, shards.missing

    def sentence(self) -> str:
        lost = dict.fromkeys(text for _, part in self.group for text in part.lost)
        if lost:
            return "; ".join(lost)
        names = listed([run.folder.name for run, _ in self.group], _SHOWN)
        parts = [
            f"{listed([f'shard={number}' for number in missing], 8)} of shards={of}"
            for of, missing in self.missing()
        ]
        are = "is" if sum(len(missing) for _, missing in self.missing()) == 1 else "are"
        return f"{' and '.join(parts)} {are} missing (there: {names})"


def _groups(runs: Sequence[LoadedRun]) -> list[_Parts]:
    """Return the runs that are parts of others, with all that are parts of the same one."""
    parts = [(run, of_run(run.manifest, run.folder)) for run in runs]
    if all(part == WHOLE for _, part in parts):
        return []
    # Runs without shards too: one of the same settings makes up for any shard.
    by_settings: dict[Hashable, _Parts] = defaultdict(list)
    for run, part in parts:
        if run.config:
            by_settings[settings.of_shards(run.config)].append((run, part))
    return [group for group in by_settings.values() if any(part != WHOLE for _, part in group)]


def _together(group: _Parts) -> list[Shards]:
    """Return what there is of a run by its number of shards: those of two numbers never mix."""
    numbers: dict[int, set[int]] = defaultdict(set)
    for _, part in group:
        numbers[part.of] |= part.numbers
    return [Shards(of, frozenset(there)) for of, there in sorted(numbers.items())]


def _gap(group: _Parts) -> _Gap | None:
    # One whole set is the whole run: what else is there repeats a part of it.
    whole = any(_is_whole(group, shards) for shards in _together(group))
    # What a merge lost without saying of which run cannot be made up for by others.
    lost = [part for _, part in group if part.lost and not part.numbers]
    return None if whole and not lost else _Gap(group)


def _is_whole(group: _Parts, shards: Shards) -> bool:
    # With more shards than items some hold none, and there are no runs of them.
    items = _items(group, shards.of)
    return not shards.missing or (items is not None and items[0] == items[1])


def _check_sample(group: _Parts) -> None:
    """Raise ProbesError where shards are of different samples: their data are not the same."""
    first: tuple[Any, LoadedRun] | None = None
    for run, _ in group:
        sample = run.manifest.get("sample")  # manifests once said nothing of it
        if not sample:
            continue
        if first is None:
            first = sample, run
        elif first[0] != sample:
            raise ProbesError(
                "shards of one run are parts of different samples: the task's data are not the "
                f"same ({first[0]} and {sample})",
                f"{first[1].folder} and {run.folder}",
                "run all shards over the same data",
            )


def _items(group: _Parts, of: int) -> tuple[int, int] | None:
    """Return how many items the shards of one number hold, and how many their sample has.

    None where a manifest does not say (older ones did not), or a shard is there twice.
    """
    parts = [(run.manifest, part) for run, part in group if part.of == of]
    numbers = [number for _, part in parts for number in part.numbers]
    try:
        held = sum(int(manifest["counts"]["items"]) for manifest, _ in parts)
        wanted = int(parts[0][0]["sample"]["items"])
    except (KeyError, TypeError, ValueError):
        return None
    return (held, wanted) if len(set(numbers)) == len(numbers) else None


def _check_count(group: _Parts) -> None:
    """Raise ProbesError where shards that are all there do not add up to the sample."""
    for shards in _together(group):
        items = None if shards.missing else _items(group, shards.of)
        if items is not None and items[0] != items[1]:
            raise ProbesError(
                f"the shards hold {items[0]} items, and their sample has {items[1]}",
                listed([str(run.folder) for run, _ in group], _SHOWN),
                "run all shards again with the same version: the same commands answer from the "
                "store",
            )


def _refusal(gaps: Sequence[_Gap], unfinished: Sequence[Path]) -> ProbesError:
    sizes = [str(of) for of in sorted({of for gap in gaps for of, _ in gap.missing()})]
    what = "the run is not whole: " + "; ".join(gap.sentence() for gap in gaps[:_SHOWN])
    if len(gaps) > _SHOWN:
        what += f"; and {len(gaps) - _SHOWN} more runs"
    if any(len(list(gap.missing())) > 1 for gap in gaps):
        what += f" (all shards of a run have the same `shards`, not {listed(sizes)})"
    folders = [str(run.folder) for gap in gaps for run, _ in gap.group]
    commands = [command for gap in gaps for command in _commands(gap)]
    fixes = ["name all folders of a run together"]
    if commands:
        fixes.append(f"run what is missing: {listed(commands, _SHOWN, '; ')}")
    if unfinished:
        names = listed([str(folder) for folder in unfinished], _SHOWN)
        fixes.append(f"wait for what has begun and not ended ({names})")
    return ProbesError(what, listed(folders, _SHOWN), ", ".join([*fixes, PARTIAL]))


def _commands(gap: _Gap) -> Iterator[str]:
    """Yield a command for every shard that is missing of the most complete set."""
    # One set is enough to make the run whole: that of which the largest part is there.
    of, missing = max(gap.missing(), key=lambda one: 1 - len(one[1]) / one[0])
    overrides = next(filter(None, (_overrides(run.folder) for run, _ in gap.group)), None)
    for number in missing:
        if overrides is None:
            yield f"probes run ... shard={number} shards={of}"
        else:
            others = [one for one in overrides if one.partition("=")[0] not in ("shard", "shards")]
            yield shlex.join(["probes", "run", *others, f"shard={number}", f"shards={of}"])


def _overrides(folder: Path) -> list[str] | None:
    """Return the settings that a run was given on its command line, as Hydra noted them."""
    import yaml

    try:
        found = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return [str(one) for one in found] if isinstance(found, list) else None
