"""How much of a contrast's spread is due to items, to texts and to donors, where these were drawn.

Every item has texts and donors of its own, so that their spread is measured within items: a text
that was drawn again moves the differences of its own item only. Answers to several draws are
averaged over an item before anything else, wherever items are compared.

Shape suffixes: N items, J donors, K texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes import stats
from probes.analysis.columns import MATCH, SETTING, where
from probes.analysis.pairing import matched
from probes.core.types import CONTRASTS

_DRAWS = ("donor_draw", "infill_draw")
COLUMNS = (
    *SETTING,
    *MATCH,
    *("n", "donors", "texts", "estimate", "sd_items", "sd_donors", "sd_texts", "sd_both"),
    *("se", "se_one", "lowest", "highest"),
)


def coverage(frame: pd.DataFrame) -> str:
    """Return what the intervals of a frame cover, and what they do not, in one sentence.

    Args:
        frame: as returned by `load`, or part of it.
    """
    several = {
        what
        for name, what in (("infill_draw", "texts"), ("donor_draw", "donors"))
        if name in frame and frame[name].nunique() > 1
    }
    drawn = [what for what in ("texts", "donors") if what in several]
    rest = [what for what in ("texts", "donors", "training seeds") if what not in several]
    covered = " and of ".join(["items", *drawn])
    uncovered = " or ".join([*filter(None, [", ".join(rest[:-1])]), rest[-1]])
    return f"Intervals cover the sampling of {covered}, not of {uncovered}."


def components(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the variance components of every contrast of accuracies with several draws.

    Args:
        frame: as returned by `load`, or part of it.

    Returns:
        One row per contrast of which some side has several donors or texts, over the items that
        were answered (not by an error) in every draw on all sides; no rows where nothing was drawn
        twice. Columns of settings and `MATCH`; `n` items; numbers of `donors` and `texts`;
        `estimate`; standard deviations of the per-item difference, as proportions: `sd_items` of
        its mean over all draws, `sd_donors`, `sd_texts` over draws within items, `sd_both` of what
        neither explains alone; `se` of the estimate as it is, and `se_one` as it would be with one
        draw of each (items taken as independent); `lowest` and `highest` estimate of single draws.
        What was not drawn twice is NaN.
    """
    if not {*_DRAWS} <= {*frame.columns} or not frame[list(_DRAWS)].to_numpy().any():
        return pd.DataFrame(columns=list(COLUMNS))
    known: dict[tuple[Any, ...], pd.DataFrame] = {}
    rows = []
    for table, match in matched(frame, CONTRASTS):
        of, sides = where(frame, table.settings), []
        for cell in match.cells:
            name = (*table.group, cell.role, cell.arm)
            if name not in known:
                known[name] = _answers(where(of, role=cell.role, arm=cell.arm))
            sides.append(known[name])
        if max(side.shape[1] for side in sides) > 1:
            found = _of_contrast(sides)
            rows.append({**table.settings, **match.columns, **found})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a cell's answers: items x (donor, text); means over what else was asked of a draw."""
    right = rows["correct"].to_numpy(np.float64, na_value=np.nan)
    # A failure is no answer; a reply that could not be parsed is a wrong one.
    right = np.where((rows["status"] == "error").to_numpy(bool), np.nan, right)
    keyed = rows[["item_id", *_DRAWS]].assign(right=right)
    return keyed.groupby(["item_id", *_DRAWS])["right"].mean().unstack([*_DRAWS])


def _of_contrast(sides: list[pd.DataFrame]) -> Mapping[str, Any]:
    """Return the components of one contrast, whose sides may have different draws."""
    donors, texts = (
        sorted({draw for side in sides for draw in side.columns.get_level_values(name)})
        for name in _DRAWS
    )
    items = sides[0].index
    for side in sides[1:]:
        items = items.intersection(side.index)
    weights = stats.DIFFERENCE_WEIGHTS if len(sides) == 2 else stats.DID_WEIGHTS
    grids = [_grid(side.loc[items], donors, texts) for side in sides]
    difference_NJK = sum(w * one for w, one in zip(weights, grids, strict=True))
    assert isinstance(difference_NJK, np.ndarray)
    whole = difference_NJK[~np.isnan(difference_NJK).any((1, 2))]
    return {"donors": len(donors), "texts": len(texts), **components_of(whole)}


def _grid(side: pd.DataFrame, donors: list[int], texts: list[int]) -> NDArray[np.float64]:
    """Return answers [N, J, K]; those of a side that draws nothing stand for all draws."""
    of_donor, of_text = (len(set(side.columns.get_level_values(name))) for name in _DRAWS)
    wanted = [
        (donor if of_donor > 1 else 0, text if of_text > 1 else 0)
        for donor in donors
        for text in texts
    ]
    # Items of few candidates have fewer donors than others: NaN, and left out.
    columns = [
        side[one].to_numpy(np.float64) if one in side else np.full(len(side), np.nan)
        for one in wanted
    ]
    return np.stack(columns, 1).reshape(len(side), len(donors), len(texts))


def components_of(difference_NJK: NDArray[np.float64]) -> dict[str, float]:
    """Return the components of a two-way layout within items, by the names of `COLUMNS`.

    Args:
        difference_NJK: per item and draw, without NaN.
    """
    count, donors, texts = difference_NJK.shape
    nan = float("nan")
    if count < 2:
        names = COLUMNS[COLUMNS.index("estimate") :]
        return {"n": count, **dict.fromkeys(names, nan)}
    item_N = difference_NJK.mean((1, 2))
    of_donor_NJ, of_text_NK = difference_NJK.mean(2), difference_NJK.mean(1)
    rest_NJK = (
        difference_NJK - of_donor_NJ[:, :, None] - of_text_NK[:, None] + item_N[:, None, None]
    )
    # Mean squares within items, whose expectations have the variance of `rest` in them.
    free = max(donors - 1, 1) * max(texts - 1, 1)
    crossed = donors > 1 and texts > 1
    both = float((rest_NJK**2).sum((1, 2)).mean()) / free if crossed else 0.0
    by_donor = float(of_donor_NJ.var(1, ddof=1).mean()) - both / texts if donors > 1 else nan
    by_text = float(of_text_NK.var(1, ddof=1).mean()) - both / donors if texts > 1 else nan
    # An estimate of a variance may come out below 0; the variance is not.
    drawn = {"sd_donors": by_donor, "sd_texts": by_text, "sd_both": both if crossed else nan}
    spread = {name: max(value, 0.0) if value == value else 0.0 for name, value in drawn.items()}
    observed = float(item_N.var(ddof=1))
    within = spread["sd_donors"] / donors + spread["sd_texts"] / texts
    within += spread["sd_both"] / (donors * texts)
    items = max(observed - within, 0.0)
    single = difference_NJK.mean(0)
    return {
        "n": count,
        "estimate": float(item_N.mean()),
        "sd_items": float(np.sqrt(items)),
        **{n: float(np.sqrt(spread[n])) if v == v else nan for n, v in drawn.items()},
        "se": float(np.sqrt(observed / count)),
        "se_one": float(np.sqrt((items + sum(spread.values())) / count)),
        "lowest": float(single.min()),
        "highest": float(single.max()),
    }
