"""Cells -> matches: which cells are contrasted, and their answers to the same items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes import stats
from probes.analysis.cells import SETTING, Cell, CellTable, align, same_stimuli, tables
from probes.analysis.margins import margins
from probes.core.errors import ProbesError

Policy = Literal["strict", "complete"]
Measure = Literal["accuracy", "logit", "margin"]
NAMES = ("gain", "drop", "transfer", "did")

REFERENCES: Mapping[str, str] = {
    "baseline": "",
    "visual_perturbation": "vcot",
    "text_perturbation": "vcot",
}
"""What arms are compared with where a run does not say; any other arm with `baseline`."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two or four cells that make one contrast."""

    name: str
    """`gain`, `drop`, `transfer` or `did`."""
    cells: tuple[Cell, ...]
    """(a, b), or for did (image arm, image reference, other arm, other reference)."""
    role: str
    member: str
    arm: str
    reference: str


@dataclass(frozen=True, slots=True)
class Paired:
    """The answers of a match's cells under one policy."""

    policy: Policy
    values: NDArray[np.float64]
    """One row per item, one column per cell [n, 2 or 4]."""
    items: NDArray[np.intp]
    """Numbers into the table's `Items` [n]."""
    left_out: NDArray[np.intp]
    """Items that all cells asked, but that lack a usable answer in some."""
    missing: NDArray[np.intp]
    """Items that some cells did not ask."""

    @property
    def differences(self) -> NDArray[np.float64]:
        """What the contrast averages, per item [n]."""
        signs = np.array([1.0, -1.0]) if self.values.shape[1] == 2 else stats.DID_WEIGHTS
        found: NDArray[np.float64] = self.values @ signs
        return found


def references(frame: pd.DataFrame, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the reference arm of every arm in the frame (empty: it has none).

    Args:
        frame: as returned by `load`; what its runs declare counts before the default.
        given: counts before both.
    """
    known = {**frame.attrs.get("references", {}), **(given or {})}
    arms = [str(one) for one in frame["arm"].unique()]
    return {arm: known.get(arm, REFERENCES.get(arm, "baseline")) for arm in arms}


def check(names: Sequence[str], measure: str, policies: Sequence[str]) -> None:
    """Raise ProbesError where one of these is none of those that there are."""
    for where, given, known in (
        ("names", names, NAMES),
        ("measure", (measure,), get_args(Measure)),
        ("policies", policies, get_args(Policy)),
    ):
        if unknown := [one for one in given if one not in known]:
            raise ProbesError(
                f"{where}: there is no {unknown[0]!r}",
                "contrasts",
                f"choose from {', '.join(known)}",
            )


def matched(
    frame: pd.DataFrame,
    names: Sequence[str],
    measure: Measure = "accuracy",
    given: Mapping[str, str] | None = None,
) -> Iterator[tuple[CellTable, Match]]:
    """List all contrasts that a frame's cells make.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts, of `NAMES`.
        measure: `logit` knows did only.
        given: reference arm by arm, where not as the runs declare.

    Raises:
        ProbesError: cells that must not be compared.
    """
    whole = tables(frame, margins(frame) if measure == "margin" else None)
    refs = references(frame, given)
    sources = frame.attrs.get("infill_sources", ())
    for table in whole:
        _no_stray_reference(table, whole, refs)
        for match in _matches(table, refs, sources):
            if match.name in names and (measure != "logit" or match.name == "did"):
                yield table, match


def _matches(table: CellTable, refs: Mapping[str, str], sources: Sequence[str]) -> Iterator[Match]:
    """List a group's contrasts; a pair of cells of which one is not there makes none."""
    cells, roles = table.cells, table.roles
    for arm in table.arms:
        reference = refs.get(arm, "")
        kind = "drop" if reference and refs.get(reference) else "gain"
        for role in roles:
            if (role, arm) in cells and (role, reference) in cells:
                a, b = cells[role, arm], cells[role, reference]
                yield Match(kind, (a, b), role, a.member, arm, reference)
    image = "image"
    for other in roles:
        if other == image:
            continue
        for arm in table.arms:
            if (image, arm) not in cells or (other, arm) not in cells:
                continue
            mine, theirs = cells[image, arm], cells[other, arm]
            same_stimuli(table, mine, theirs, sources)
            yield Match("transfer", (theirs, mine), other, theirs.member, arm, "")
            reference = refs.get(arm, "")
            if (image, reference) in cells and (other, reference) in cells:
                four = (mine, cells[image, reference], theirs, cells[other, reference])
                yield Match("did", four, other, theirs.member, arm, reference)


def _no_stray_reference(
    table: CellTable, whole: Sequence[CellTable], refs: Mapping[str, str]
) -> None:
    """Raise ProbesError where an arm's reference exists, but under other settings only."""
    for role, arm in table.cells:
        reference = refs.get(arm, "")
        if not reference or (role, reference) in table.cells:
            continue
        for other in whole:
            near = dict(zip(SETTING, other.group, strict=True))
            here = dict(zip(SETTING, table.group, strict=True))
            if any(near[one] != here[one] for one in ("task", "pair", "frames")):
                continue
            if (role, reference) in other.cells:
                differing = ", ".join(
                    f"{one} {here[one]!r} against {near[one]!r}"
                    for one in SETTING
                    if near[one] != here[one]
                )
                raise ProbesError(
                    f"{arm} ({role}) and {reference} cannot be compared, they differ: {differing}",
                    table.name,
                    f"run {reference} with the same settings, or leave these rows out of the frame",
                )


def paired(
    table: CellTable, match: Match, measure: Measure, policies: Sequence[str]
) -> list[Paired]:
    """Put the answers of a match's cells side by side.

    Args:
        table: holds the match.
        match: of `matched`.
        measure: `margin` compares margins, the others right answers.
        policies: `strict` and/or `complete`; a margin needs a scored answer, so it has no strict
            version and comes as `complete` alone.

    Returns:
        One per policy. Both hold the same values where every answer could be parsed.

    Raises:
        ProbesError: cells without any item in common.
    """
    shared, places, missing = align(match.cells)
    if not len(shared) and all(len(cell.items) for cell in match.cells):
        raise ProbesError(
            f"{match.name} of {match.arm} ({match.role}): its cells have no item in common",
            table.name,
            "run both over the same items, or leave one of them out of the frame",
        )
    out: list[Paired] = []
    kinds: Sequence[Any] = ("complete",) if measure == "margin" else tuple(policies)
    for policy in kinds:
        columns = [
            cell.margin[place] if measure == "margin"
            else cell.strict[place] if policy == "strict"
            else cell.complete[place]
            for cell, place in zip(match.cells, places, strict=True)
        ]  # fmt: skip
        values = np.stack(columns, axis=1)
        known = ~np.isnan(values).any(axis=1)
        if known.all():
            out.append(Paired(policy, values, shared, shared[:0], missing))
        else:
            out.append(Paired(policy, values[known], shared[known], shared[~known], missing))
    return out


def differences(
    frame: pd.DataFrame,
    *,
    names: Sequence[str] = NAMES,
    measure: Literal["accuracy", "margin"] = "accuracy",
    policy: Policy = "strict",
    references: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return what the contrasts average, item by item: for plots, and for statistics of one's own.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts.
        measure: `accuracy`, or `margin` (nats).
        policy: see `contrasts`.
        references: see `contrasts`.

    Returns:
        One row per contrast and item: settings, name, role, member, arm, reference, item_id,
        cluster (equal numbers: one recording), stratum and difference (of accuracies: -1, 0 or 1
        for single answers, up to 2 for a did).
    """
    check(names, measure, (policy,))
    parts = []
    for table, match in matched(frame, names, measure, references):
        for one in paired(table, match, measure, (policy,)):
            known = table.items
            head = {
                **dict(zip(SETTING, table.group, strict=True)), "name": match.name,
                "role": match.role, "member": match.member, "arm": match.arm,
                "reference": match.reference,
            }  # fmt: skip
            columns: dict[str, Any] = {
                "item_id": known.ids[one.items], "cluster": known.clusters[one.items],
                "stratum": known.strata[one.items], "difference": one.differences,
            }  # fmt: skip
            parts.append(pd.DataFrame({**head, **columns}, columns=[*head, *columns]))
    names_of = (*SETTING, "name", "role", "member", "arm", "reference", "item_id", "cluster",
                "stratum", "difference")  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(names_of))
