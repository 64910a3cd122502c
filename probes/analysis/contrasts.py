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
from probes.analysis.families import adjusted, declared
from probes.analysis.measures import POLICIES, Measure, Policy, named
from probes.analysis.pairing import Match, Paired, check, failures, matched, paired
from probes.config.settings import MOST_FAILED
from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import ALL_CONTRASTS


@dataclass(frozen=True, slots=True)
class Method(stats.ContrastMethod):
    """How intervals, tests and adjusted p-values are made."""

    stratify: Literal["", "items", "strata"] = ""
    """Empty: strata are ignored. Otherwise spread is measured within strata, and this is what
    counts the same in the mean."""
    family: Sequence[str] | None = None
    """Columns of the result; rows that agree in them are one family for `p_adjusted`. None: the
    declared primary comparisons are one family, and every other contrast is one by itself, over
    the frame counts of the run (`analysis.families`)."""
    adjust: Literal["holm", "bh"] = "holm"
    """`holm` (family-wise error) or `bh` (false discovery rate)."""
    most_failed: float | None = None
    """Largest share of a cell's items, in [0, 1], at which a machine may have failed; above it a
    contrast has no p-value. None: as the runs declare, else 0.02."""


def contrasts(
    frame: pd.DataFrame,
    *,
    names: Sequence[str] = ALL_CONTRASTS,
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
    `against` is an arm minus another than its reference (`pairing.BESIDE`), `control` the control
    minus the video member under one arm.

    Args:
        frame: as returned by `load`, or part of it.
        names: which contrasts.
        measure: a registered one by name, e.g. `accuracy` (proportions), `logit` (DiD only, in
            log-odds) or `margin` (nats); or a `Measure`, e.g. of `measures.of_extra`.
        policies: `strict` (unparsed answers are wrong; items at which a machine failed on either
            side are left out) and/or `complete` (so are those with an unparsed answer). A measure
            of scored answers only, such as a margin, has no strict version: its rows are always
            `complete`.
        by_stratum: adds a row per stratum.
        references: reference arm by arm, where not as the runs declare.
        **method: fields of `Method`.

    Returns:
        One row per contrast: settings, name, role, member, arm, reference, policy, measure,
        stratum, n, clusters, estimate, low, high, p, p_adjusted, se, sd (of an item's difference),
        design_effect (variance by clusters over that of independent items, by default at
        least 1), method, reason (why
        an interval or p is undefined), family (which family adjusted p), failed_share (the largest
        share of a cell's items at which a machine failed), failed_in (in which cell), verdict
        (False: that share is too large), worst_low and worst_high (the least and greatest estimate
        that failed answers could have made; strict accuracies over all items only), tokens_a and
        tokens_b (median input tokens of an answer in the arm and in its reference; of a DiD those
        of the other member),
        discordant, mean_a and mean_b (for a DiD: the two gains), headroom_image and headroom_other
        (for a DiD: 1 - accuracy in the reference arm; of drops that accuracy - chance), missing
        (ids that are on one side only), n_missing, left_out (items without a usable answer) and
        left_out_ids.

    Raises:
        ProbesError: cells that must not be compared: other seeds, scorings or settings, other
            right answers, no common item, other stimuli for the two members; or a combination of
            arguments that has no meaning.
    """
    check(names, policies)
    question = _question(named(measure), policies, by_stratum, Method(**method))
    most = _most_failed(frame, question.method.most_failed)
    rows: list[dict[str, Any]] = []
    for table, match in matched(frame, names, question.measure, references):
        rows += _rows(table, match, question, most)
    return _adjusted(pd.DataFrame(rows, columns=list(COLUMNS)), frame, question.method)


COLUMNS = (
    *SETTING,
    *MATCH,
    *"policy measure stratum n clusters estimate low high p p_adjusted se sd design_effect".split(),
    *"method reason discordant mean_a mean_b headroom_image headroom_other".split(),
    *"missing n_missing left_out left_out_ids".split(),
    *"family failed_share failed_in verdict worst_low worst_high tokens_a tokens_b".split(),
)


def _most_failed(frame: pd.DataFrame, given: float | None) -> float:
    """Return the share of failed answers that still gives a verdict: given, declared, or usual."""
    most = float(frame.attrs.get("most_failed", MOST_FAILED) if given is None else given)
    if not 0 <= most <= 1:
        raise ProbesError(f"{most:g} is no share", "most_failed", "give a number from 0 to 1")
    return most


@dataclass(frozen=True, slots=True)
class _ContrastQuestion:
    """What is asked of every match."""

    measure: Measure
    policies: Sequence[Policy]
    by_stratum: bool
    method: Method


def _question(
    measure: Measure, policies: Sequence[Policy], by_stratum: bool, asked: Method
) -> _ContrastQuestion:
    if measure.estimator and asked.stratify:
        raise ProbesError(
            f"the DiD of {measure.name} has no stratified version",
            f"measure={measure.name}",
            "leave stratify empty",
        )
    asked = replace(asked, weights=asked.stratify or "items")
    return _ContrastQuestion(measure, policies, by_stratum, asked)


def _rows(
    table: CellTable, match: Match, question: _ContrastQuestion, most_failed: float
) -> Iterator[dict[str, Any]]:
    failed_in, failed = max(failures(match), key=lambda one: one[1])
    known = failed <= most_failed
    refused = f"no verdict: a machine failed at {100 * failed:.1f} % of {failed_in}"
    tokens = [cell.tokens for cell in match.cells[-2:]]
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
            found = done[stratum]
            if not known:
                found = {
                    **found,
                    "p": nan,
                    "reason": "; ".join(filter(None, (found["reason"], refused))),
                }
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
                "family": "",
                "failed_share": failed,
                "failed_in": failed_in if failed else "",
                "verdict": known,
                "worst_low": part.worst[0],
                "worst_high": part.worst[1],
                "tokens_a": tokens[0],
                "tokens_b": tokens[1],
                **found,
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
        least = chance(known.n_options[items]) if match.drop else None
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


def _adjusted(out: pd.DataFrame, frame: pd.DataFrame, method: Method) -> pd.DataFrame:
    """Fill in the adjusted p-values, and which family adjusted them."""
    family, adjust = method.family, method.adjust
    if unknown := [name for name in family or () if name not in out.columns]:
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
    if family is None:
        out["p_adjusted"], out["family"] = adjusted(out, declared(frame), rules[adjust])
        return out
    columns = [out[name] for name in family]
    parts = out.groupby(columns, sort=False).indices.values() if columns else [np.arange(len(out))]
    p = out["p"].to_numpy(np.float64)
    values = np.full(len(out), nan)
    for rows in parts:
        values[rows] = rules[adjust](p[rows])
    out["p_adjusted"] = values
    out["family"] = f"all rows of one {' and '.join(family)}" if family else "all rows"
    return out
