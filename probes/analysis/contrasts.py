"""Cells -> contrasts: every gain, drop, transfer and DiD, with interval and test.

DiD is the difference in differences: gain of the image member minus gain of the other member.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes import stats
from probes.analysis.accuracies import chance
from probes.analysis.cells import Cell, CellTable, Items
from probes.analysis.columns import MATCH, SETTING
from probes.analysis.measures import POLICIES, Measure, Policy, named
from probes.analysis.pairing import Match, Paired, check, matched, paired
from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import CONTRASTS


@dataclass(frozen=True, slots=True)
class Method(stats.ContrastMethod):
    """How intervals, tests and adjusted p-values are made."""

    stratify: Literal["", "items", "strata"] = ""
    """Empty: strata are ignored. Otherwise spread is measured within strata, and this is what
    counts the same in the mean."""
    family: Sequence[str] = ("name", "policy")
    """Columns of the result; rows that agree in them are one family for `p_adjusted`."""
    adjust: Literal["holm", "bh"] = "holm"
    """`holm` (family-wise error) or `bh` (false discovery rate)."""


def contrasts(
    frame: pd.DataFrame,
    *,
    names: Sequence[str] = CONTRASTS,
    measure: str | Measure = "accuracy",
    policies: Sequence[Policy] = POLICIES,
    by_stratum: bool = False,
    references: Mapping[str, str] | None = None,
    **method: Any,
) -> pd.DataFrame:
    """Contrast every cell of a frame with the cell it is to be compared with.

    `gain` is arm minus reference of one member; it is called `drop` where the reference has a
    reference of its own (a perturbation of vcot). `transfer` is another member minus the image
    member under one arm. `did` is the image member's gain (or drop) minus the other member's.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts.
        measure: a registered one by name, e.g. `accuracy` (proportions), `logit` (DiD only, in
            log-odds) or `margin` (nats); or a `Measure`, e.g. of `measures.of_extra`.
        policies: `strict` (unparsed and failed answers are wrong) and/or `complete` (items with
            such an answer on either side are left out). A measure of scored answers only, such as
            a margin, has no strict version: its rows are always `complete`.
        by_stratum: adds a row per stratum.
        references: reference arm by arm, where not as the runs declare.
        **method: fields of `Method`.

    Returns:
        One row per contrast: settings, name, role, member, arm, reference, policy, measure,
        stratum, n, clusters, estimate, low, high, p, p_adjusted, se, sd (of an item's difference),
        design_effect (variance by clusters over that of independent items, by default at least 1),
        method, reason, discordant, mean_a and mean_b (for a DiD: the two gains), headroom_image and
        headroom_other (what the members could still gain in the reference arm, 1 - accuracy; or of
        a drop lose, accuracy - chance; for a DiD), missing (ids that are on one side only),
        n_missing, left_out (items without a parsed answer, for `complete`) and left_out_ids.

    Raises:
        ProbesError: cells that must not be compared: other seeds, scorings or settings, other
            right answers, no common item, other stimuli for the two members; or a combination of
            arguments that has no meaning.
    """
    check(names, policies)
    asked = Method(**method)
    asked = replace(asked, weights=asked.stratify or "items")
    question = _ContrastQuestion(named(measure), policies, by_stratum, asked)
    if question.measure.estimator and question.method.stratify:
        name = question.measure.name
        raise ProbesError(
            f"the DiD of {name} has no stratified version",
            f"measure={name}",
            "leave stratify empty",
        )
    rows: list[dict[str, Any]] = []
    for table, match in matched(frame, names, question.measure, references):
        rows += _rows(table, match, question)
    return _adjusted(pd.DataFrame(rows, columns=list(COLUMNS)), question.method)


COLUMNS = (
    *SETTING,
    *MATCH,
    *"policy measure stratum n clusters estimate low high p p_adjusted se sd design_effect".split(),
    *"method reason discordant mean_a mean_b headroom_image headroom_other".split(),
    *"missing n_missing left_out left_out_ids".split(),
)


@dataclass(frozen=True, slots=True)
class _ContrastQuestion:
    """What is asked of every match."""

    measure: Measure
    policies: Sequence[Policy]
    by_stratum: bool
    method: Method


def _rows(table: CellTable, match: Match, question: _ContrastQuestion) -> Iterator[dict[str, Any]]:
    ids = table.items.ids
    done: dict[str, dict[str, Any]] = {}
    before: Paired | None = None
    for pairs in paired(table, match, question.measure, question.policies):
        # Where every answer was parsed, both policies are one.
        if before is None or not np.array_equal(before.values, pairs.values):
            done = {}
        before = pairs
        for stratum, part in _parts(pairs, table.items.strata, question.by_stratum):
            if stratum not in done:
                done[stratum] = _estimate(part, table.items, match, question)
            missing = tuple(str(name) for name in ids[part.missing])
            left_out = tuple(str(name) for name in ids[part.left_out])
            yield {
                **table.settings,
                **match.columns,
                "policy": pairs.policy,
                "measure": question.measure.name,
                "stratum": stratum,
                "missing": missing,
                "n_missing": len(missing),
                "left_out": len(left_out),
                "left_out_ids": left_out,
                **done[stratum],
            }


def _parts(
    pairs: Paired, strata: NDArray[np.object_], by_stratum: bool
) -> Iterator[tuple[str, Paired]]:
    """Yield all pairs, named "", and those of each stratum."""
    yield "", pairs
    if by_stratum:
        for stratum in sorted({str(name) for name in strata[pairs.items]} - {""}):
            yield stratum, pairs.in_stratum(stratum, strata)


def _estimate(
    pairs: Paired, known: Items, match: Match, question: _ContrastQuestion
) -> dict[str, Any]:
    """Estimate one contrast from its pairs."""
    values, differences, items = pairs.values, pairs.differences, pairs.items
    measure, method = question.measure, question.method
    n, cells = values.shape
    if measure.estimator:
        found = measure.estimator(values, known.clusters[items], level=method.level)
    else:
        found = stats.contrast(
            differences,
            known.clusters[items],
            strata=known.strata[items] if method.stratify else None,
            bounds=measure.difference_bounds(cells),
            step=measure.step,
            method=method,
        )
    sd = float(differences.std(ddof=1)) if n > 1 else nan
    # The DiD of log-odds has no spread of items in its own unit to compare its error with.
    independent = sd / sqrt(n) if sd > 0 and not measure.estimator else nan
    means = values.mean(axis=0) if n else np.full(cells, nan)
    if cells == 4:
        # A share of items leaves the rest as room; what other measures leave is not in them.
        # A perturbation that takes all information away leaves guesses: a drop ends at chance.
        least = chance(known.n_options[items]) if match.falling else None
        room = [
            stats.headroom(values[:, at], least)
            if measure.is_share
            else _headroom(match.cells[at], items, least)
            for at in (1, 3)
        ]
        means = means[[0, 2]] - means[[1, 3]]
    else:
        room = [nan, nan]
    taken = "n clusters estimate low high p se method reason discordant".split()
    return {
        **{name: getattr(found, name) for name in taken},
        "p_adjusted": nan,
        "sd": sd,
        # NaN without spread, with one item, or on the log-odds scale.
        "design_effect": (found.se / independent) ** 2,
        "mean_a": means[0],
        "mean_b": means[1],
        "headroom_image": room[0],
        "headroom_other": room[1],
    }


def _headroom(cell: Cell, items: NDArray[np.intp], least: float | None) -> float:
    """Return the room of a cell over those of some items whose right answer is known."""
    # Items are sorted and all of these are in the cell, so each is found.
    right = cell.right[np.searchsorted(cell.items, items)]
    return stats.headroom(right[~np.isnan(right)], least)


def _adjusted(out: pd.DataFrame, method: Method) -> pd.DataFrame:
    """Fill in the adjusted p-values."""
    family, adjust = method.family, method.adjust
    if unknown := [name for name in family if name not in out.columns]:
        raise ProbesError(
            f"a family cannot be defined by {unknown[0]}",
            "family",
            nearest(unknown[0], list(out.columns)),
        )
    rules = {"holm": stats.holm, "bh": stats.benjamini_hochberg}
    if adjust not in rules:
        raise ProbesError(
            f"there is no adjustment called {adjust}", "adjust", nearest(adjust, rules)
        )
    if out.empty:
        return out
    columns = [out[name] for name in family]
    parts = out.groupby(columns, sort=False).indices.values() if columns else [np.arange(len(out))]
    p = out["p"].to_numpy(np.float64)
    adjusted = np.full(len(out), nan)
    for rows in parts:
        adjusted[rows] = rules[adjust](p[rows])
    out["p_adjusted"] = adjusted
    return out
