"""Cells -> contrasts: every gain, drop, transfer and did, with interval and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes import stats
from probes.analysis import margins
from probes.analysis.cells import SETTING, Cell, Items, Table, align, same_stimuli, tables
from probes.types import ProbesError

Policy = Literal["strict", "complete"]
Measure = Literal["accuracy", "logit", "margin"]

REFERENCES: Mapping[str, str] = {
    "baseline": "",
    "visual_perturbation": "vcot",
    "text_perturbation": "vcot",
}
"""What arms are compared with where a run does not say; any other arm with `baseline`."""


@dataclass(frozen=True, slots=True)
class Method:
    """How intervals and tests are made."""

    interval: Literal["cr2", "cr1", "cr3", "percentile", "bca"] = "cr2"
    test: Literal["t", "permutation", "mcnemar"] = "t"
    level: float = 0.95
    stratify: Literal["", "items", "strata"] = ""
    """Empty: strata are ignored. Else spread is measured within strata, and this is what counts
    the same in the mean."""
    draws: int = 9999
    """Bootstrap samples; also random flips where an exact permutation test is out of reach."""
    seed: int = 0


def references(frame: pd.DataFrame, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the reference arm of every arm in the frame (empty: it has none).

    Args:
        frame: as returned by `load`; what its runs declare counts before the default.
        given: counts before both.
    """
    known = {**frame.attrs.get("references", {}), **(given or {})}
    arms = [str(one) for one in frame["arm"].unique()]
    return {arm: known.get(arm, REFERENCES.get(arm, "baseline")) for arm in arms}


def contrasts(
    frame: pd.DataFrame,
    *,
    names: Sequence[str] = ("gain", "drop", "transfer", "did"),
    measure: Measure = "accuracy",
    policies: Sequence[Policy] = ("strict", "complete"),
    by_stratum: bool = False,
    references: Mapping[str, str] | None = None,
    family: Sequence[str] = ("name", "policy"),
    adjust: Literal["holm", "bh"] = "holm",
    **method: Any,
) -> pd.DataFrame:
    """Contrast every cell of a frame with what it is to be compared with.

    `gain` is arm minus reference of one member; it is called `drop` where the reference has a
    reference of its own (a perturbation of vcot). `transfer` is another member minus the image
    member under one arm. `did` is the image member's gain (or drop) minus the other member's.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts.
        measure: `accuracy` (proportions); `logit` (did only, in log-odds); `margin` (change of the
            log-probability by which the key leads the best other option, in nats).
        policies: `strict` (unparsed and failed answers are wrong) and/or `complete` (items with
            such an answer on either side are left out).
        by_stratum: adds a row per stratum.
        references: reference arm by arm, where not as the runs declare.
        family: columns of the result; rows that agree in them are one family for `p_adjusted`.
        adjust: `holm` (family-wise error) or `bh` (false discovery rate).
        **method: fields of `Method`.

    Returns:
        One row per contrast: settings, name, role, member, arm, reference, policy, measure,
        stratum, n, clusters, estimate, low, high, p, p_adjusted, se, sd (of an item's difference),
        design_effect (variance by clusters over that of independent items), method, reason,
        discordant, mean_a and mean_b (for did: the two gains), headroom_image and headroom_other
        (1 - accuracy in the reference arm, for did), missing (ids that one side lacks), n_missing,
        left_out (items without a parsed answer, for `complete`).

    Raises:
        ProbesError: cells that must not be compared: other seeds, scorings or settings, other keys,
            other stimuli for the two members; or a combination of arguments that has no meaning.
    """
    how = Method(**method)
    _check(names, measure, policies, how)
    whole = tables(frame, margins.margins(frame) if measure == "margin" else None)
    refs = _references(frame, references)
    sources = frame.attrs.get("infill_sources", ())
    rows: list[dict[str, Any]] = []
    for table in whole:
        _no_stray_reference(table, whole, refs)
        for plan in _plans(table, refs, sources):
            if plan.name not in names or (measure == "logit" and plan.name != "did"):
                continue
            rows += _rows(table, plan, measure, policies, by_stratum, how)
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    return _adjusted(out, family, adjust)


COLUMNS = (
    *SETTING, "name", "role", "member", "arm", "reference", "policy", "measure", "stratum", "n",
    "clusters", "estimate", "low", "high", "p", "p_adjusted", "se", "sd", "design_effect", "method",
    "reason", "discordant", "mean_a", "mean_b", "headroom_image", "headroom_other",
    "missing", "n_missing", "left_out",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Plan:
    name: str
    cells: tuple[Cell, ...]
    """(a, b), or for did (image arm, image reference, other arm, other reference)."""
    role: str
    member: str
    arm: str
    reference: str


def _references(frame: pd.DataFrame, given: Mapping[str, str] | None) -> dict[str, str]:
    return references(frame, given)


def _check(names: Sequence[str], measure: Measure, policies: Sequence[str], how: Method) -> None:
    if unknown := sorted(set(names) - {"gain", "drop", "transfer", "did"}):
        raise ProbesError(
            f"there is no contrast called {unknown[0]}", "names",
            "choose from gain, drop, transfer, did",
        )  # fmt: skip
    if unknown := sorted(set(policies) - {"strict", "complete"}):
        raise ProbesError(
            f"there is no policy called {unknown[0]}", "policies", "choose strict and/or complete"
        )
    if measure not in ("accuracy", "logit", "margin"):
        raise ProbesError(
            f"there is no measure called {measure}", "measure", "choose accuracy, logit or margin"
        )
    if measure == "logit" and how.stratify:
        raise ProbesError(
            "the did of log-odds has no stratified version", "measure=logit", "leave stratify empty"
        )


def _plans(table: Table, refs: Mapping[str, str], sources: Sequence[str]) -> Iterator[_Plan]:
    """List a group's contrasts; a pair of cells of which one is not there makes none."""
    cells, roles = table.cells, table.roles
    for arm in table.arms:
        reference = refs.get(arm, "")
        kind = "drop" if reference and refs.get(reference) else "gain"
        for role in roles:
            if (role, arm) in cells and (role, reference) in cells:
                a, b = cells[role, arm], cells[role, reference]
                yield _Plan(kind, (a, b), role, a.member, arm, reference)
    image = "image"
    for other in roles:
        if other == image:
            continue
        for arm in table.arms:
            if (image, arm) not in cells or (other, arm) not in cells:
                continue
            mine, theirs = cells[image, arm], cells[other, arm]
            same_stimuli(table, mine, theirs, sources)
            yield _Plan("transfer", (theirs, mine), other, theirs.member, arm, "")
            reference = refs.get(arm, "")
            if (image, reference) in cells and (other, reference) in cells:
                four = (mine, cells[image, reference], theirs, cells[other, reference])
                yield _Plan("did", four, other, theirs.member, arm, reference)


def _no_stray_reference(table: Table, whole: Sequence[Table], refs: Mapping[str, str]) -> None:
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


def _rows(
    table: Table,
    plan: _Plan,
    measure: Measure,
    policies: Sequence[Policy],
    by_stratum: bool,
    how: Method,
) -> Iterator[dict[str, Any]]:
    shared, places, missing = align(plan.cells)
    ids = tuple(str(one) for one in table.items.ids[missing])
    # Whether any answer failed or could not be parsed; if none did, both policies are one.
    spoilt = any(not np.array_equal(cell.strict, cell.complete) for cell in plan.cells)
    done: dict[str, dict[str, Any]] = {}
    for policy in policies:
        if measure == "margin":
            if policy == "complete":
                # A margin needs a scored answer: there is no strict version to tell it from.
                continue
            columns = [cell.margin[place] for cell, place in zip(plan.cells, places, strict=True)]
        else:
            columns = [
                (cell.strict if policy == "strict" else cell.complete)[place]
                for cell, place in zip(plan.cells, places, strict=True)
            ]
        values = np.stack(columns, axis=1)
        known = ~np.isnan(values).any(axis=1)
        layers: list[str] = [""]
        if by_stratum:
            layers += sorted({str(one) for one in table.items.strata[shared]} - {""})
        for layer in layers:
            chosen = known if not layer else known & (table.items.strata[shared] == layer)
            asked = len(shared) if not layer else int((table.items.strata[shared] == layer).sum())
            if spoilt or layer not in done:
                done[layer] = _estimate(
                    values[chosen], shared[chosen], table.items, plan, measure, how
                )
            row = done[layer]
            yield {
                **dict(zip(SETTING, table.group, strict=True)),
                "name": plan.name, "role": plan.role, "member": plan.member, "arm": plan.arm,
                "reference": plan.reference, "measure": measure, "stratum": layer,
                "policy": "complete" if measure == "margin" else policy,
                "missing": ids, "n_missing": len(ids), "left_out": asked - int(chosen.sum()), **row,
            }  # fmt: skip


def _estimate(
    values: NDArray[np.float64],
    items: NDArray[np.intp],
    known: Items,
    plan: _Plan,
    measure: Measure,
    how: Method,
) -> dict[str, Any]:
    """Estimate one contrast from values [n, 2] or [n, 4]."""
    clusters = known.clusters[items]
    signs = np.array([1.0, -1.0]) if values.shape[1] == 2 else stats.SIGNS
    differences = values @ signs
    strata = known.strata[items] if how.stratify else None
    if measure == "logit":
        estimate = stats.did_logit(stats.Four(*values.T), clusters, level=how.level)
    else:
        bound = values.shape[1] / 2
        estimate = stats.contrast(
            differences, clusters, strata=strata, weights=how.stratify or "items",
            level=how.level, bounds=None if measure == "margin" else (-bound, bound),
            interval=how.interval, test=how.test, draws=how.draws, seed=how.seed,
        )  # fmt: skip
    means = values.mean(axis=0) if len(values) else np.full(values.shape[1], nan)
    four = len(means) == 4
    room = measure != "margin" and four
    sd = float(differences.std(ddof=1)) if len(differences) > 1 else nan
    alone = sd / sqrt(len(differences)) if sd > 0 and measure != "logit" else nan
    return {
        "n": estimate.n, "clusters": estimate.clusters, "estimate": estimate.estimate,
        "low": estimate.low, "high": estimate.high, "p": estimate.p, "p_adjusted": nan,
        "se": estimate.se, "sd": sd, "design_effect": (estimate.se / alone) ** 2,
        "method": estimate.method, "reason": estimate.reason, "discordant": estimate.discordant,
        "mean_a": means[0] - means[1] if four else means[0],
        "mean_b": means[2] - means[3] if four else means[1],
        "headroom_image": 1 - means[1] if room else nan,
        "headroom_other": 1 - means[3] if room else nan,
    }  # fmt: skip


def _adjusted(out: pd.DataFrame, family: Sequence[str], adjust: str) -> pd.DataFrame:
    if unknown := [name for name in family if name not in out.columns]:
        raise ProbesError(
            f"a family cannot be told by {unknown[0]}", "family",
            f"choose from {', '.join(out.columns)}",
        )  # fmt: skip
    correct = {"holm": stats.holm, "bh": stats.benjamini_hochberg}.get(adjust)
    if correct is None:
        raise ProbesError(f"there is no adjustment called {adjust}", "adjust", "choose holm or bh")
    if out.empty:
        return out
    keys = [out[name] for name in family]
    groups = out.groupby(keys, sort=False).indices.values() if keys else [np.arange(len(out))]
    p = out["p"].to_numpy(np.float64)
    adjusted = np.full(len(out), nan)
    for rows in groups:
        adjusted[rows] = correct(p[rows])
    out["p_adjusted"] = adjusted
    return out
