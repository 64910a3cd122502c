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
from probes.analysis.cells import SETTING, Cell, CellTable, Items
from probes.analysis.pairing import NAMES, Match, Measure, Paired, Policy, check, matched, paired
from probes.core.errors import ProbesError


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


def contrasts(
    frame: pd.DataFrame,
    *,
    names: Sequence[str] = NAMES,
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
        left_out (items without a parsed answer, for `complete`) and left_out_ids.

    Raises:
        ProbesError: cells that must not be compared: other seeds, scorings or settings, other keys,
            no common item, other stimuli for the two members; or a combination of arguments that
            has no meaning.
    """
    check(names, measure, policies)
    how = Method(**method)
    if measure == "logit" and how.stratify:
        raise ProbesError(
            "the did of log-odds has no stratified version", "measure=logit", "leave stratify empty"
        )
    rows: list[dict[str, Any]] = []
    for table, match in matched(frame, names, measure, references):
        rows += _rows(table, match, measure, policies, by_stratum, how)
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    return _adjusted(out, family, adjust)


COLUMNS = (
    *SETTING, "name", "role", "member", "arm", "reference", "policy", "measure", "stratum", "n",
    "clusters", "estimate", "low", "high", "p", "p_adjusted", "se", "sd", "design_effect", "method",
    "reason", "discordant", "mean_a", "mean_b", "headroom_image", "headroom_other",
    "missing", "n_missing", "left_out", "left_out_ids",
)  # fmt: skip


def _rows(
    table: CellTable,
    match: Match,
    measure: Measure,
    policies: Sequence[Policy],
    by_stratum: bool,
    how: Method,
) -> Iterator[dict[str, Any]]:
    done: dict[str, dict[str, Any]] = {}
    before: Paired | None = None
    for one in paired(table, match, measure, policies):
        strata = table.items.strata[one.items]
        layers: list[str] = [""]
        if by_stratum:
            layers += sorted({str(name) for name in strata} - {""})
        # Where every answer was parsed, both policies are one.
        if before is None or not np.array_equal(before.values, one.values):
            done = {}
        before = one
        aside, absent = (table.items.strata[some] for some in (one.left_out, one.missing))
        for layer in layers:
            chosen = slice(None) if not layer else strata == layer
            left = one.left_out if not layer else one.left_out[aside == layer]
            lacking = one.missing if not layer else one.missing[absent == layer]
            missing = tuple(str(name) for name in table.items.ids[lacking])
            if layer not in done:
                done[layer] = _estimate(
                    one.values[chosen], one.differences[chosen], one.items[chosen], table.items,
                    match, measure, how,
                )  # fmt: skip
            yield {
                **dict(zip(SETTING, table.group, strict=True)),
                "name": match.name, "role": match.role, "member": match.member, "arm": match.arm,
                "reference": match.reference, "measure": measure, "stratum": layer,
                "policy": one.policy, "missing": missing, "n_missing": len(missing),
                "left_out": len(left),
                "left_out_ids": tuple(str(name) for name in table.items.ids[left]),
                **done[layer],
            }  # fmt: skip


def _estimate(
    values: NDArray[np.float64],
    differences: NDArray[np.float64],
    items: NDArray[np.intp],
    known: Items,
    match: Match,
    measure: Measure,
    how: Method,
) -> dict[str, Any]:
    """Estimate one contrast from values [n, 2] or [n, 4]."""
    clusters = known.clusters[items]
    four = values.shape[1] == 4
    strata = known.strata[items] if how.stratify else None
    if measure == "logit":
        estimate = stats.did_logit(stats.DidCells(*values.T), clusters, level=how.level)
    else:
        bound = values.shape[1] / 2
        estimate = stats.contrast(
            differences, clusters, strata=strata, weights=how.stratify or "items",
            level=how.level, bounds=None if measure == "margin" else (-bound, bound),
            interval=how.interval, test=how.test, draws=how.draws, seed=how.seed,
        )  # fmt: skip
    means = values.mean(axis=0) if len(values) else np.full(values.shape[1], nan)
    sd = float(differences.std(ddof=1)) if len(differences) > 1 else nan
    alone = sd / sqrt(len(differences)) if sd > 0 and measure != "logit" else nan
    room = (nan, nan)
    if four and measure == "margin":
        room = _room(match.cells[1], items), _room(match.cells[3], items)
    elif four:
        room = 1 - means[1], 1 - means[3]
    return {
        "n": estimate.n, "clusters": estimate.clusters, "estimate": estimate.estimate,
        "low": estimate.low, "high": estimate.high, "p": estimate.p, "p_adjusted": nan,
        "se": estimate.se, "sd": sd, "design_effect": (estimate.se / alone) ** 2,
        "method": estimate.method, "reason": estimate.reason, "discordant": estimate.discordant,
        "mean_a": means[0] - means[1] if four else means[0],
        "mean_b": means[2] - means[3] if four else means[1],
        "headroom_image": room[0], "headroom_other": room[1],
    }  # fmt: skip


def _room(cell: Cell, items: NDArray[np.intp]) -> float:
    """Return 1 - accuracy of a cell over some of its items: margins do not tell it."""
    return stats.headroom(cell.strict[np.searchsorted(cell.items, items)])


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
