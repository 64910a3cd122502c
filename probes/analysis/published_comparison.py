"""A run beside the study's tables, cell by cell, with the uncertainty of both sides.

The study's answers per item are not public, so nothing here is paired with them: a published cell
has the binomial uncertainty of its own number of items, and a difference that of both sides.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import Any

import pandas as pd

from probes import analysis, stats
from probes.analysis.cells import SETTING
from probes.analysis.published import EGOSCHEMA_ITEMS, ITEMS
from probes.analysis.tables import Table, percent, points
from probes.config.paths import reference_dir
from probes.core.errors import ProbesError

PAIRS: Mapping[str, str] = {"llava_next_7b": "LLaVA-NeXT"}
"""The study's families by the pairs of conf/pair that are the same models. Which InternVL
checkpoints it took is not told: a pair of those is set beside it by name (`family`)."""
TABLES = ("egoschema", "iraven")
SOURCE = "arXiv 2511.12868; see results/reference/README.md"
COLUMNS = (
    *SETTING, "family", "name", "role", "arm", "configuration", "n", "estimate", "low", "high",
    "published_n", "published", "published_low", "published_high", "difference",
    "difference_low", "difference_high",
)  # fmt: skip
_SIGNS = {"accuracy": (1,), "gain": (1, -1), "drop": (1, -1), "transfer": (1, -1),
          "did": (1, -1, -1, 1)}  # fmt: skip


PublishedCells = Mapping[tuple[str, str, str, str], float]
"""Published accuracy by (role, frames, arm, configuration); empty where a table has no such."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95 % interval (proportions)."""

    estimate: float
    low: float
    high: float


def compare(frame: pd.DataFrame, family: str | None = None) -> pd.DataFrame:
    """Set the cells and contrasts of a run beside the study's.

    Args:
        frame: as returned by `probes.load`.
        family: which of the study's families all pairs of the frame are set beside; None: by
            `PAIRS`, other pairs are left out.

    Returns:
        One row per cell or contrast that both have: settings, family, name (accuracy, gain, drop,
        transfer or did), role, arm, configuration (of i-RAVEN; "all" over all seven), n and our
        estimate with low and high (clustered and, for contrasts, paired), published_n and the
        published figure with low and high (Wilson; for contrasts `combined` as if its cells were
        independent, which is wide), and the unpaired difference ours - published with low and high.
        Proportions. Differences are NaN where the task is not the study's: then the table shows the
        layout only. Empty where nothing is to be set side by side.

    Raises:
        ProbesError: an unknown family, or unreadable tables.
    """
    _known(family)
    rows: list[dict[str, Any]] = []
    for (task, pair), part in frame.groupby(["task", "pair"], sort=False):
        mine = family or PAIRS.get(str(pair), "")
        own = next((name for name in TABLES if str(task).startswith(name)), "")
        if not mine or not (own or family):
            continue
        part = part.copy()
        part.attrs.update(frame.attrs)
        table = own or TABLES[0]
        cells = _published(table, mine)
        n = EGOSCHEMA_ITEMS if table == "egoschema" else ITEMS[mine]
        for row, sources, size in _matches(part, table, cells, n):
            rows.append(_row(row, sources, size, mine, bool(own)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def families() -> tuple[str, ...]:
    """Return the names of the study's families."""
    return tuple(ITEMS)


def _known(family: str | None) -> None:
    if family is not None and family not in families():
        raise ProbesError(
            f"the study has no family {family!r}", "family", f"choose {' or '.join(families())}"
        )


def _published(table: str, family: str) -> PublishedCells:
    """Read the published accuracies of a family, as proportions."""
    file = reference_dir() / f"{table}.csv"
    with file.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["family"] == family]
    return {
        (row["role"], row.get("frames", ""), row.get("arm", "baseline"),
         row.get("configuration", "")): float(row["accuracy"]) / 100
        for row in rows
    }  # fmt: skip


PublishedMatch = tuple[Mapping[str, Any], list[float], int]
"""Our row, the published accuracies that the same number is made of, and items behind each."""


def _matches(
    frame: pd.DataFrame, table: str, cells: PublishedCells, n: int
) -> Iterator[PublishedMatch]:
    raven = table == "iraven"
    accuracies = analysis.accuracies(frame, by_stratum=raven)
    names = ("transfer",) if raven else ("gain", "drop", "transfer", "did")
    found = analysis.contrasts(frame, names=names, policies=["strict"], by_stratum=raven)
    for row in [*map(_as_contrast, _records(accuracies)), *_records(found)]:
        configuration = row["stratum"]
        if raven and not configuration:
            continue  # the whole, below
        places = _places(row, "" if raven else str(row["frames"]), configuration if raven else "")
        if all(place in cells for place in places):
            yield row, [cells[place] for place in places], n
    if raven:
        yield from _whole(frame, cells, n)


def _whole(frame: pd.DataFrame, cells: PublishedCells, n: int) -> Iterator[PublishedMatch]:
    """Set the means over all configurations side by side, each counting the same."""
    names = sorted({configuration for *_, configuration in cells})
    if not set(names) <= set(frame["stratum"]):
        return
    part = frame[frame["stratum"].isin(names)].copy()
    part.attrs.update(frame.attrs)
    accuracies = _records(analysis.accuracies(part, stratify=True))
    found = analysis.contrasts(part, names=("transfer",), policies=["strict"], stratify="strata")
    for row in [*map(_as_contrast, accuracies), *_records(found)]:
        places = [place for name in names for place in _places(row, "", name)]
        if row["arm"] == "baseline" and all(place in cells for place in places):
            yield {**row, "stratum": "all"}, [cells[place] for place in places], n


def _as_contrast(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "accuracy", "reference": "", **row, "estimate": row["accuracy"]}


def _places(
    row: Mapping[str, Any], frames: str, configuration: str
) -> list[tuple[str, str, str, str]]:
    """Return the published cells that make up one of our rows, in the order of `_SIGNS`."""
    arm, role, reference = row["arm"], row["role"], row["reference"]
    cells = {
        "accuracy": [(role, arm)],
        "gain": [(role, arm), (role, reference)],
        "drop": [(role, arm), (role, reference)],
        "transfer": [(role, arm), ("image", arm)],
        "did": [("image", arm), ("image", reference), (role, arm), (role, reference)],
    }[row["name"]]
    return [(who, frames, which, configuration) for who, which in cells]


def _row(
    row: Mapping[str, Any], sources: Sequence[float], n: int, family: str, same_task: bool
) -> dict[str, Any]:
    signs = _SIGNS[row["name"]]
    count = len(sources) // len(signs)
    each = [Figure(p, *stats.wilson(round(p * n), n)) for p in sources]
    published = combined(each, [sign / count for _ in range(count) for sign in signs])
    ours = Figure(row["estimate"], row["low"], row["high"])
    difference = combined([ours, published], [1, -1]) if same_task else Figure(nan, nan, nan)
    return {
        **{name: row[name] for name in SETTING},
        "family": family, "name": row["name"], "role": row["role"], "arm": row["arm"],
        "configuration": row["stratum"], "n": row["n"],
        "estimate": ours.estimate, "low": ours.low, "high": ours.high, "published_n": n * count,
        "published": published.estimate, "published_low": published.low,
        "published_high": published.high, "difference": difference.estimate,
        "difference_low": difference.low, "difference_high": difference.high,
    }  # fmt: skip


def combined(parts: Sequence[Figure], weights: Sequence[float]) -> Figure:
    """Return the weighted sum of independent figures with an interval made from theirs.

    Each part's distance to the end of its own interval adds in squares (the method of variance
    estimates recovery), so that lopsided intervals stay lopsided. Figures that rise and fall
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
        if weight < 0:
            down, up = up, down
        below += (weight * down) ** 2
        above += (weight * up) ** 2
    return Figure(estimate, estimate - sqrt(below), estimate + sqrt(above))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def table(compared: pd.DataFrame) -> Table:
    """Return what `compare` found as finished text, in percent and percentage points."""
    told = [name for name in ("task", "setting", "pair", "scoring", "seed")
            if compared[name].nunique() > 1]  # fmt: skip
    raven = bool((compared["configuration"] != "").any())
    header = (
        *told, "what", "member", *(["configuration"] if raven else []), "frames", "ours [95 %]",
        "published [95 %]", "difference [95 %]",
    )  # fmt: skip
    rows = []
    for row in _records(compared):
        words = f"{row['name']} {analysis.tables.arm_name(row['arm'])}"
        show = percent if row["name"] == "accuracy" else points
        rows.append((
            *(str(row[name]) for name in told), words, row["role"],
            *([row["configuration"]] if raven else []), str(row["frames"]),
            _interval(row, ("estimate", "low", "high"), show),
            _interval(row, ("published", "published_low", "published_high"), show),
            _interval(row, ("difference", "difference_low", "difference_high"), points),
        ))  # fmt: skip
    return Table("Ours, and the study's", header, tuple(rows), len(told) + 2 + raven)


def _interval(row: Mapping[str, Any], names: Sequence[str], show: Any) -> str:
    estimate, low, high = (float(row[name]) for name in names)
    if not isfinite(estimate):
        return "-"
    if not isfinite(low):
        return f"{show(estimate)} [undefined]"
    return f"{show(estimate)} [{show(low)}, {show(high)}]"


def notes(compared: pd.DataFrame) -> list[str]:
    """Return what a reader of the table must know."""
    ours = sorted(set(compared["n"]))
    theirs = sorted(set(compared["published_n"]))
    out = [
        f"Published figures: {SOURCE}. Percent and percentage points.",
        f"Items behind a figure: ours {_range(ours)}, published {_range(theirs)}. A published "
        "accuracy has Wilson's interval for its items, taken as independent.",
        "The difference (ours - published) is unpaired, for the study's answers to single items "
        "are not known: where both sides asked the same items its interval is too wide.",
    ]
    if set(compared["name"]) - {"accuracy"}:
        out.append(
            "The study reports no intervals of gains, drops, transfer and did. Those here take its "
            "cells for independent, although they share items: a conservative bound. Ours are "
            "paired and clustered."
        )
    if compared["difference"].isna().all():
        out.append(
            "The task is none of the study's: this shows the layout, and no difference is given."
        )
    return out


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}"
