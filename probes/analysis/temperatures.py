"""Margins on one scale: each member's log-probabilities at its own temperature.

Two members that know the same can be sure of it by different degrees: halve a member's temperature
and every margin doubles, though no answer changes. So margins are divided by the temperature at
which the member's log-probabilities in its baseline fit the right answers best. Then a nat means
the same in all members, and answers that differ by temperature alone make no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.analysis.columns import SETTING
from probes.analysis.margins import margins, option_scores

_STEPS = 60
_LEAST_CERTAIN = 2.0
"""Standard errors by which an inverse temperature must exceed 0: else it may be any."""
_CELL = ("role", "member", "arm")
_LARGEST = 1e3
"""Inverse temperature above which the baseline is right without exception: there is no best one."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """Options' scores of rows with a right answer [m rows]."""

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    """All options of all these rows, less that of the row's right one."""
    owner: NDArray[np.intp]
    """Which of the m rows an option belongs to."""


def calibrated_margins(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return each row's margin at its member's temperature, as values whose means compare.

    The temperature is an estimate too. A cell's mean is exactly its mean margin divided by the
    temperature; single values carry besides what their item contributes to the temperature's own
    error, so that intervals of means (also by clusters) allow for it.

    Args:
        frame: as returned by `load`.

    Returns:
        nats [rows]; NaN where there is no margin, or the member has no temperature: no scored
        baseline under these settings, one that is right without exception, or one that is no
        better than chance.
    """
    raw = margins(frame)
    out = np.full(len(frame), np.nan)
    if not np.isfinite(raw).any():
        return out
    member = _codes(frame, (*SETTING, "role", "member"))
    fitted = np.isfinite(raw) & (frame["arm"] == _baseline(frame)).to_numpy(bool)
    if not fitted.any():
        return out
    given = _scores(frame, np.flatnonzero(fitted))
    of_row = member[given.rows]
    beta, slope, curve = _fit(given, of_row, int(member.max()) + 1)
    known = np.isfinite(beta)
    at = np.where(known, beta, 0.0)[member]
    # An item's pull on its member's inverse temperature, by the member and the item.
    item = _codes(frame, (*SETTING, "role", "member", "item_id"))
    count = int(item.max()) + 1
    pull = np.bincount(item[given.rows], weights=slope, minlength=count)
    fitted_items = np.unique(item[given.rows], return_index=True)[1]
    items_of = np.bincount(of_row[fitted_items], minlength=len(beta))
    cell = _codes(frame, (*SETTING, *_CELL))
    finite = np.isfinite(raw)
    size = np.bincount(cell[finite], minlength=int(cell.max()) + 1)
    total = np.bincount(cell[finite], weights=raw[finite], minlength=len(size))
    mean = total / np.maximum(size, 1)
    scale = np.where(known, items_of / np.where(curve > 0, curve, 1.0), 0.0)
    pulled = mean[cell] * pull[item] * scale[member]
    # Items of the cell need not be those of the baseline: the mean stays what it was.
    shift = np.bincount(cell[finite], weights=pulled[finite], minlength=len(size))
    pulled -= (shift / np.maximum(size, 1))[cell]
    usable = finite & known[member]
    out[usable] = (at * raw + pulled)[usable]
    return out


def temperatures(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the temperature of every member under every setting.

    Args:
        frame: as returned by `load`.

    Returns:
        settings, role, member, items (scored in the baseline), temperature and its standard error
        (by linearisation, of independent items); NaN where there is none, see
        `calibrated_margins`.
    """
    by = [name for name in (*SETTING, "role", "member") if name in frame]
    fitted = np.isfinite(margins(frame)) & (frame["arm"] == _baseline(frame)).to_numpy(bool)
    columns = [*by, "items", "temperature", "se"]
    if not fitted.any():
        return pd.DataFrame(columns=columns)
    given = _scores(frame, np.flatnonzero(fitted))
    heads = frame.iloc[given.rows]
    codes, _ = pd.factorize(pd.MultiIndex.from_frame(heads[by].fillna("")))
    beta, slope, curve = _fit(given, codes, int(codes.max()) + 1)
    spread = np.sqrt(np.bincount(codes, weights=slope**2, minlength=len(beta))) / curve
    out = heads.iloc[np.unique(codes, return_index=True)[1]][by].reset_index(drop=True)
    return out.assign(items=np.bincount(codes), temperature=1 / beta, se=spread / beta**2)


def _baseline(frame: pd.DataFrame) -> str:
    """Return the arm that others are compared with and that has no reference itself."""
    declared = frame.attrs.get("references", {})
    roots = [arm for arm, reference in declared.items() if not reference]
    return "baseline" if "baseline" in roots or not roots else str(roots[0])


def _codes(frame: pd.DataFrame, names: tuple[str, ...]) -> NDArray[np.intp]:
    codes = np.zeros(len(frame), dtype=np.int64)
    for name in names:
        if name in frame:
            own, labels = pd.factorize(frame[name])
            # Dense again after every column, or the products would overflow.
            codes = pd.factorize(codes * (len(labels) + 1) + own + 1)[0].astype(np.int64)
    return codes.astype(np.intp)


def _scores(frame: pd.DataFrame, rows: NDArray[np.intp]) -> _Scores:
    part = frame.iloc[rows]
    scores, starts, lengths = option_scores(part)
    owner = np.repeat(np.arange(len(part)), lengths)
    right = scores[starts + part["answer"].to_numpy(np.intp)]
    # An impossible option never wins at any temperature: it stays at -inf.
    return _Scores(rows, scores - right[owner], owner)


def _fit(
    given: _Scores, member: NDArray[np.intp], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return inverse temperatures [count], each row's slope [m] and members' curvature [count].

    Newton's method on the log-likelihood of the right answers, which is concave.
    """
    m = len(given.rows)
    finite = np.isfinite(given.scores)
    scores, owner = given.scores[finite], given.owner[finite]

    def derivatives(beta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with np.errstate(over="ignore"):
            power = beta[member][owner] * scores
        top = np.full(m, -np.inf)
        np.maximum.at(top, owner, power)
        weight = np.exp(power - top[owner])
        total = np.bincount(owner, weights=weight, minlength=m)
        mean = np.bincount(owner, weights=weight * scores, minlength=m) / total
        square = np.bincount(owner, weights=weight * scores**2, minlength=m) / total
        return -mean, square - mean**2

    size = np.sqrt(np.bincount(member[owner], weights=scores**2, minlength=count))
    size = size / np.sqrt(np.maximum(np.bincount(member[owner], minlength=count), 1))
    # Scores of another temperature start at another place, so that all of them take the same steps.
    unit = 1 / np.where(size > 0, size, 1.0)
    beta = 0.0 * unit
    for _ in range(_STEPS):
        slope, curve = derivatives(beta)
        gradient = np.bincount(member, weights=slope, minlength=count)
        bend = np.bincount(member, weights=curve, minlength=count).astype(np.float64)
        step = gradient / np.where(bend > 0, bend, 1.0)
        step = np.clip(step, -2 * unit, 2 * unit)
        beta = beta + step
        if np.all(np.abs(step) <= 1e-12 * unit):
            break
    slope, curve = derivatives(beta)
    bend = np.bincount(member, weights=curve, minlength=count).astype(np.float64)
    error = np.sqrt(np.bincount(member, weights=slope**2, minlength=count))
    certain = (bend > 0) & (beta * bend > _LEAST_CERTAIN * error) & (beta < _LARGEST * unit)
    return np.where(certain & (np.abs(step) <= 1e-6 * unit), beta, np.nan), slope, bend
