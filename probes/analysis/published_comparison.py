"""A run next to the study's tables, figure by figure, with the uncertainty of both sides.

The study's answers per item are not public, so nothing here is paired with them: a published
accuracy has the binomial uncertainty of its own number of items, and a difference that of both
sides. DiD is the difference in differences of two members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan, sqrt
from typing import Any, NamedTuple

import pandas as pd

from probes import analysis, stats
from probes.analysis.columns import BLOCK, SETTING, groups, rows_of
from probes.analysis.formats import bracketed, contrast_name, percent, points, span
from probes.analysis.published import EGOSCHEMA_ITEMS, ITEMS, TABLES, published_cells
from probes.core.errors import ProbesError
from probes.core.tables import Table
from probes.core.types import CONTRASTS

PAIRS: Mapping[str, str] = {"llava_next_7b": "LLaVA-NeXT"}
"""The study's families by the pairs of conf/pair that are the same models. Which InternVL
checkpoints it used is not published: such a pair is compared by name (`family`)."""
SOURCE = "arXiv 2511.12868; see results/reference/README.md"
_RESULTS = (
    *("estimate", "low", "high"),
    *("published", "published_low", "published_high"),
    *("difference", "difference_low", "difference_high"),
)
COLUMNS = (
    *SETTING,
    *"family name role arm configuration n".split(),
    *_RESULTS[:3],
    "published_n",
    *_RESULTS[3:],
)


class Figure(NamedTuple):
    """A number and its 95 % interval (proportions)."""

    estimate: float
    low: float
    high: float


def compare(frame: pd.DataFrame, family: str | None = None) -> pd.DataFrame:
    """Compare the cells and contrasts of a run with the study's.

    Args:
        frame: as returned by `probes.load`.
        family: which of the study's families all pairs of the frame are compared with; None: by
            `PAIRS`, other pairs are left out.

    Returns:
        One row per cell or contrast that both have: settings, family, name (accuracy, gain, drop,
        transfer or did), role, arm, configuration (of i-RAVEN; "all" over all seven), n and our
        estimate with low and high (clustered and, for contrasts, paired), published_n and the
        published figure with low and high (Wilson; for contrasts `combined` as if its cells were
        independent, which is wide), and the unpaired difference ours - published with low and high.
        Proportions. Differences are NaN where the task is not the study's: then the table shows the
        layout only. Empty where there is nothing to compare.

    Raises:
        ProbesError: an unknown family, or unreadable tables.
    """
    if family is not None and family not in ITEMS:
        known = " or ".join(ITEMS)
        raise ProbesError(f"the study has no family {family!r}", "family", f"choose {known}")
    rows: list[dict[str, Any]] = []
    replaced = frame.attrs.get("replaced", {})
    for head, part in groups(frame, ("task", "pair")):
        # A pair's name is no evidence where a member has other weights than its file names.
        of_pair = None if head["pair"] in replaced else PAIRS.get(str(head["pair"]))
        compared_with = family or of_pair
        own = next((name for name in TABLES if str(head["task"]).startswith(name)), None)
        if compared_with is None or (own is None and family is None):
            continue
        table = own or TABLES[0]
        every = published_cells(table)
        cells = {key[1:]: value for key, value in every.items() if key[0] == compared_with}
        n = EGOSCHEMA_ITEMS if table == "egoschema" else ITEMS[compared_with]
        for row, sources in _matches(part, table, cells):
            rows.append(_row(row, sources, n, compared_with, own is not None))
    return pd.DataFrame(rows, columns=list(COLUMNS))


OwnCells = Mapping[tuple[str, str, str, str], float]
"""A family's accuracies by (role, frames, arm, configuration)."""
PublishedMatch = tuple[Mapping[str, Any], list[float]]
"""Our row, and the published accuracies that the same number is made of."""


def _matches(frame: pd.DataFrame, table: str, cells: OwnCells) -> Iterator[PublishedMatch]:
    raven = table == "iraven"
    accuracies = analysis.accuracies(frame, by_stratum=raven)
    names = ("transfer",) if raven else CONTRASTS
    found = analysis.contrasts(frame, names=names, policies=["strict"], by_stratum=raven)
    for row in [*map(_as_contrast, rows_of(accuracies)), *rows_of(found)]:
        configuration = row["stratum"]
        if raven and not configuration:
            continue  # the whole, below
        sources = _sources(row, "" if raven else str(row["frames"]), configuration if raven else "")
        if all(source in cells for source in sources):
            yield row, [cells[source] for source in sources]
    if raven:
        yield from _whole(frame, cells)


def _whole(frame: pd.DataFrame, cells: OwnCells) -> Iterator[PublishedMatch]:
    """Yield the means over all configurations, each counting the same."""
    names = sorted({configuration for *_, configuration in cells})
    # A mean over some of the configurations is not the number that was published.
    if not set(names) <= set(frame["stratum"]):
        return
    part = frame[frame["stratum"].isin(names)]
    accuracies = rows_of(analysis.accuracies(part, stratify=True))
    found = analysis.contrasts(part, names=("transfer",), policies=["strict"], stratify="strata")
    for row in [*map(_as_contrast, accuracies), *rows_of(found)]:
        sources = [source for name in names for source in _sources(row, "", name)]
        if row["arm"] == "baseline" and all(source in cells for source in sources):
            yield {**row, "stratum": "all"}, [cells[source] for source in sources]


def _as_contrast(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "accuracy", "reference": "", **row, "estimate": row["accuracy"]}


def _sources(
    row: Mapping[str, Any], frames: str, configuration: str
) -> list[tuple[str, str, str, str]]:
    """Return the published cells that make up one of our rows, in the order of the weights."""
    arm, role, reference = row["arm"], row["role"], row["reference"]
    cells = {
        "accuracy": [(role, arm)],
        "gain": [(role, arm), (role, reference)],
        "drop": [(role, arm), (role, reference)],
        "transfer": [(role, arm), ("image", arm)],
        "did": [("image", arm), ("image", reference), (role, arm), (role, reference)],
    }[row["name"]]
    return [(role, frames, arm, configuration) for role, arm in cells]


def _row(
    row: Mapping[str, Any], sources: Sequence[float], n: int, family: str, same_task: bool
) -> dict[str, Any]:
    special = {"accuracy": [1.0], "did": stats.DID_WEIGHTS.tolist()}
    weights = special.get(row["name"], stats.DIFFERENCE_WEIGHTS.tolist())
    count = len(sources) // len(weights)
    # Published as percent with one decimal: the whole number of right answers is restored.
    each = [Figure(p, *stats.wilson(round(p * n), n)) for p in sources]
    published = combined(each, [weight / count for _ in range(count) for weight in weights])
    ours = Figure(row["estimate"], row["low"], row["high"])
    difference = combined([ours, published], [1, -1]) if same_task else Figure(nan, nan, nan)
    return {
        **{name: row[name] for name in (*SETTING, "name", "role", "arm", "n")},
        "family": family,
        "configuration": row["stratum"],
        "published_n": n * count,
        **dict(zip(_RESULTS, (*ours, *published, *difference), strict=True)),
    }


def combined(parts: Sequence[Figure], weights: Sequence[float]) -> Figure:
    """Return the weighted sum of independent figures with an interval made from theirs.

    Each part's distance to the end of its own interval adds in squares (the method of variance
    estimates recovery), so that asymmetric intervals stay asymmetric. Figures that vary
    together, as one model's accuracies under two arms, make the interval of their difference too
    wide, never too narrow.

    Args:
        parts: figures, with intervals of one level.
        weights: one per part; negative where it is subtracted.

    Returns:
        The sum; its interval is NaN where a part has none.
    """
    pairs = list(zip(parts, weights, strict=True))
    estimate = sum(weight * part.estimate for part, weight in pairs)
    below = above = 0.0
    for part, weight in pairs:
        down, up = part.estimate - part.low, part.high - part.estimate
        if weight < 0:  # what is subtracted pulls the other way
            down, up = up, down
        below += (weight * down) ** 2
        above += (weight * up) ** 2
    return Figure(estimate, estimate - sqrt(below), estimate + sqrt(above))


def table(compared: pd.DataFrame) -> Table:
    """Return what `compare` found as finished text, in percent and percentage points."""
    varying = [name for name in BLOCK if compared[name].nunique() > 1]
    raven = bool((compared["configuration"] != "").any())
    configuration = ["configuration"] if raven else []
    intervals = ("ours [95 %]", "published [95 %]", "difference [95 %]")
    header = (*varying, "what", "member", *configuration, "frames", *intervals)
    rows = []
    for row in rows_of(compared):
        what = f"{contrast_name(row['name'])} {analysis.tables.arm_name(row['arm'])}"
        show = percent if row["name"] == "accuracy" else points
        texts = (
            *(str(row[name]) for name in varying),
            what,
            row["role"],
            *(row[name] for name in configuration),
            str(row["frames"]),
            bracketed(row["estimate"], row["low"], row["high"], show),
            bracketed(row["published"], row["published_low"], row["published_high"], show),
            bracketed(row["difference"], row["difference_low"], row["difference_high"]),
        )
        rows.append(texts)
    return Table("Ours, and the study's", header, tuple(rows), len(varying) + 2 + raven)


def notes(compared: pd.DataFrame) -> list[str]:
    """Return what a reader of the table must know."""
    out = [
        f"Published figures: {SOURCE}. Percent and percentage points.",
        f"Items behind a figure: ours {span(compared['n'])}, published "
        f"{span(compared['published_n'])}. A published accuracy has Wilson's interval for its "
        "items, taken as independent.",
        "The difference (ours - published) is unpaired, because the study's answers to single "
        "items are not known: where both sides have the same items its interval is too wide.",
    ]
    if set(compared["name"]) - {"accuracy"}:
        out.append(
            "The study reports no intervals of gains, drops, transfer and DiD. Those here take its "
            "cells for independent, although they share items: a conservative bound. Ours are "
            "paired and clustered."
        )
    if compared["difference"].isna().all():
        out.append(
            "The task is not one of the study's: this shows the layout, and no difference is given."
        )
    return out
