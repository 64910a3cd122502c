"""Cells -> matches: which cells are contrasted, and their answers to the same items.

DiD is the difference in differences: gain of the image member minus gain of the other member.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes import stats
from probes.analysis.cells import Cell, CellTable, align, same_stimuli, tables
from probes.analysis.columns import MATCH, SETTING
from probes.analysis.measures import ACCURACY, POLICIES, Measure, Policy, named
from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import ALL_CONTRASTS, CONTRASTS, ContrastName

PERTURBATIONS = ("visual_perturbation", "text_perturbation")

_OF_MEMBERS = ("transfer", "did")

REFERENCES: Mapping[str, str] = {"baseline": "", **dict.fromkeys(PERTURBATIONS, "vcot")}
"""What arms are compared with unless the run declares it; any other arm with `baseline`."""


BESIDE: Mapping[str, tuple[str, ...]] = {"vcot": ("infills_only", "filler", "captions")}
"""What an arm is also set against: the text alone, as much other text, captions."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two or four cells that make one contrast."""

    name: ContrastName
    cells: tuple[Cell, ...]
    """(a, b), or for a DiD (image arm, image reference, other arm, other reference)."""
    role: str
    member: str
    arm: str
    reference: str
    drop: bool = False
    """Whether less was expected: the reference is itself compared with another arm."""

    @property
    def columns(self) -> dict[str, str]:
        """What identifies it, by the names of `MATCH`."""
        return {name: getattr(self, name) for name in MATCH}


@dataclass(frozen=True, slots=True)
class Paired:
    """The answers of a match's cells under one policy."""

    policy: Policy
    values: NDArray[np.float64]
    """One row per item, one column per cell [n, 2 or 4]."""
    differences: NDArray[np.float64]
    """What the contrast averages, per item [n]."""
    items: NDArray[np.intp]
    """Numbers into the table's `Items` [n]."""
    left_out: NDArray[np.intp]
    """Items in all cells that have no usable answer in some of them."""
    missing: NDArray[np.intp]
    """Items that are in some cells only."""
    worst: tuple[float, float] = (nan, nan)
    """Least and greatest mean difference, whatever failed answers had been; NaN where unknown."""

    def in_stratum(self, name: str, strata: NDArray[np.object_]) -> Paired:
        """Return the part in one stratum, given the strata of all items of the table."""
        chosen = strata[self.items] == name
        return replace(
            self,
            values=self.values[chosen],
            differences=self.differences[chosen],
            items=self.items[chosen],
            left_out=self.left_out[strata[self.left_out] == name],
            missing=self.missing[strata[self.missing] == name],
            worst=(nan, nan),
        )


def references(frame: pd.DataFrame, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the reference arm of every arm in the frame (empty: it has none).

    Args:
        frame: as returned by `load`; what its runs declare overrides the default.
        given: overrides both.
    """
    known = {**frame.attrs.get("references", {}), **(given or {})}
    arms = [str(arm) for arm in frame["arm"].unique()]
    return {arm: known.get(arm, REFERENCES.get(arm, "baseline")) for arm in arms}


def check(names: Sequence[str], policies: Sequence[str]) -> None:
    """Raise ProbesError for a contrast or policy that does not exist."""
    for what, given, known in (("names", names, ALL_CONTRASTS), ("policies", policies, POLICIES)):
        for name in given:
            if name not in known:
                raise ProbesError(f"{what}: there is no {name!r}", what, nearest(name, known))


def matched(
    frame: pd.DataFrame,
    names: Sequence[str],
    measure: Measure = ACCURACY,
    given: Mapping[str, str] | None = None,
) -> Iterator[tuple[CellTable, Match]]:
    """List all contrasts that a frame's cells make.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts, of `ALL_CONTRASTS`.
        measure: what the cells hold; a measure may not have every contrast.
        given: reference arm by arm, where not as the runs declare.

    Raises:
        ProbesError: cells that must not be compared.
    """
    refs = references(frame, given)
    wanted = [name for name in names if name in measure.contrasts]
    across = measure.between_members
    # Cells of both kinds where members are compared on another scale than one member with itself.
    parts = [(measure, wanted)]
    if across is not measure:
        parts = [(measure, [name for name in wanted if name not in _OF_MEMBERS])]
        parts.append((across, [name for name in wanted if name in _OF_MEMBERS]))
    for taken, chosen in parts:
        whole = tables(frame, taken) if chosen or taken is measure else []
        for table in whole:
            _no_stray_reference(table, whole, refs)
            for match in _matches(table, refs, frame.attrs):
                if match.name in chosen:
                    yield table, match


def _matches(
    table: CellTable, refs: Mapping[str, str], declared: Mapping[Any, Any]
) -> Iterator[Match]:
    """List a group's contrasts; a pair of cells makes none where one of them is missing."""
    cells, roles = table.cells, table.roles
    for arm in table.arms:
        reference = refs.get(arm, "")
        # Against an arm that is itself a gain over something, less is what was expected.
        name: ContrastName = "drop" if reference and refs.get(reference) else "gain"
        for role in roles:
            if (role, arm) in cells and (role, reference) in cells:
                a, b = cells[role, arm], cells[role, reference]
                yield Match(name, (a, b), role, a.member, arm, reference)
            for beside in BESIDE.get(arm, ()):
                if beside != reference and {(role, arm), (role, beside)} <= set(cells):
                    a, b = cells[role, arm], cells[role, beside]
                    yield Match("against", (a, b), role, a.member, arm, beside)
    yield from _of_members(table, refs, declared)


def _of_members(
    table: CellTable, refs: Mapping[str, str], declared: Mapping[Any, Any]
) -> Iterator[Match]:
    """List a group's contrasts of two members."""
    cells, roles = table.cells, table.roles
    for arm in table.arms:
        if ("video", arm) in cells and ("control", arm) in cells:
            a, b = cells["control", arm], cells["video", arm]
            same_stimuli(table, a, b, declared)
            yield Match("control", (a, b), "control", a.member, arm, "")
    # Contrasts of members start from the image member; without it there are only gains.
    image = "image"
    for other in roles:
        if other == image:
            continue
        for arm in table.arms:
            if (image, arm) not in cells or (other, arm) not in cells:
                continue
            a, b = cells[image, arm], cells[other, arm]
            # Across members only: arms of one member are meant to differ in what is shown.
            same_stimuli(table, a, b, declared)
            # Other minus image: what video finetuning adds is positive.
            yield Match("transfer", (b, a), other, b.member, arm, "")
            reference = refs.get(arm, "")
            if (image, reference) in cells and (other, reference) in cells:
                of_did = (a, cells[image, reference], b, cells[other, reference])
                less = bool(refs.get(reference))
                yield Match("did", of_did, other, b.member, arm, reference, less)


def _no_stray_reference(
    table: CellTable, whole: Sequence[CellTable], refs: Mapping[str, str]
) -> None:
    """Raise ProbesError where an arm's reference exists, but under other settings only."""
    here = table.settings
    for role, arm in table.cells:
        reference = refs.get(arm, "")
        if not reference or (role, reference) in table.cells:
            continue
        for other in whole:
            there = other.settings
            # Another frame count is a question of its own; other settings suggest a mistake.
            alike = all(there[name] == here[name] for name in ("task", "pair", "frames"))
            if not alike or (role, reference) not in other.cells:
                continue
            differing = ", ".join(
                f"{name} {here[name]!r} against {there[name]!r}"
                for name in SETTING
                if there[name] != here[name]
            )
            raise ProbesError(
                f"{arm} ({role}) and {reference} cannot be compared, they differ: {differing}",
                table.name,
                f"run {reference} with the same settings, or leave these rows out of the frame",
            )


def paired(
    table: CellTable, match: Match, measure: Measure, policies: Sequence[Policy]
) -> list[Paired]:
    """Return the answers of a match's cells to the same items.

    Args:
        table: contains the match.
        match: of `matched`.
        measure: what the cells hold.
        policies: which, of those that the measure has; where it has one only, that one is taken.

    Returns:
        One per policy. Both have the same values where every answer could be parsed.

    Raises:
        ProbesError: cells without any item in common.
    """
    shared, positions, missing = align(match.cells)
    # A cell without any usable item is no mistake: its contrasts have n = 0.
    if not len(shared) and all(len(cell.items) for cell in match.cells):
        raise ProbesError(
            f"{match.name} of {match.arm} ({match.role}): its cells have no item in common",
            table.name,
            "run both over the same items, or leave one of them out of the frame",
        )
    weights = stats.DIFFERENCE_WEIGHTS if len(match.cells) == 2 else stats.DID_WEIGHTS
    out: list[Paired] = []
    for policy in policies if len(measure.policies) > 1 else measure.policies:
        columns = [cell.values[policy][at] for cell, at in zip(match.cells, positions, strict=True)]
        values = np.stack(columns, axis=1)
        # An item counts on both sides or on neither: means of other items would not be paired.
        known = ~np.isnan(values).any(axis=1)
        values = values[known]
        own = Paired(policy, values, values @ weights, shared[known], shared[~known], missing)
        if measure.is_share and policy == "strict":
            own = replace(own, worst=_worst(np.stack(columns, axis=1), weights))
        out.append(own)
    return out


def _worst(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and greatest mean difference if every failed answer might be any.

    Args:
        values: 0 to 1, NaN where an answer failed [n, cells].
        weights: of the cells.
    """
    if not len(values):
        return nan, nan
    least = np.where(np.isnan(values), np.where(weights > 0, 0.0, 1.0), values)
    most = np.where(np.isnan(values), np.where(weights > 0, 1.0, 0.0), values)
    return float((least @ weights).mean()), float((most @ weights).mean())


def failures(match: Match) -> list[tuple[str, float]]:
    """Return of every cell of a match the share of its items at which a machine failed.

    Returns:
        (role and arm, share), in the order of the cells; of the items that all cells have.
    """
    shared, positions, _ = align(match.cells)
    shares = [
        cell.broken[at].mean() if len(shared) else 0.0
        for cell, at in zip(match.cells, positions, strict=True)
    ]
    return [
        (f"{cell.role} {cell.arm}", float(one))
        for cell, one in zip(match.cells, shares, strict=True)
    ]


def differences(
    frame: pd.DataFrame,
    *,
    names: Sequence[str] = CONTRASTS,
    measure: str | Measure = "accuracy",
    policy: Policy = "strict",
    references: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return what the contrasts average, item by item, for plots and further statistics.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts.
        measure: see `contrasts`; not one that compares whole cells.
        policy: see `contrasts`.
        references: see `contrasts`.

    Returns:
        One row per contrast and item: settings, name, role, member, arm, reference, item_id,
        cluster (equal numbers: one recording), stratum and difference (of accuracies: -1, 0 or 1
        for single answers, up to 2 for a DiD).
    """
    check(names, (policy,))
    taken = per_item(measure)
    own = ("item_id", "cluster", "stratum", "difference")
    parts = [pd.DataFrame(columns=[*SETTING, *MATCH, *own])]
    for table, match in matched(frame, names, taken, references):
        for pairs in paired(table, match, taken, (policy,)):
            known, at = table.items, pairs.items
            values = (known.ids[at], known.clusters[at], known.strata[at], pairs.differences)
            columns = {**table.settings, **match.columns, **dict(zip(own, values, strict=True))}
            parts.append(pd.DataFrame(columns))
    # The empty part has columns without types: it serves only where there is nothing else.
    return pd.concat(parts[1:] or parts, ignore_index=True)


def per_item(measure: str | Measure) -> Measure:
    """Return a measure whose contrasts are means of per-item differences.

    Raises:
        ProbesError: there is no such measure, or it compares whole cells.
    """
    found = named(measure)
    if found.estimator is not None:
        raise ProbesError(
            f"the measure {found.name} compares whole cells: it has no difference per item",
            "measure",
            "take another one",
        )
    return found
