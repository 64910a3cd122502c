"""What the study's own numbers of items can resolve, read off its published accuracies.

Accuracies do not tell on how many items two answers differ, and everything depends on that. So each
published difference is set against the discordance below which it would be significant, and below
which its number of items finds such an effect; what the accuracies themselves allow stands beside.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

from scipy import special

from probes import stats
from probes.config.paths import reference_dir
from probes.core.errors import ProbesError

ITEMS = {"LLaVA-NeXT": 100, "InternVL": 500}
"""i-RAVEN problems per configuration, by family of models."""
EGOSCHEMA_ITEMS = 500
RECORDINGS = ((1, 267), (2, 45), (3, 16), (4, 11), (5, 3), (6, 2), (7, 1), (8, 1), (9, 1))
"""EgoSchema's 500 public answers: (items of one recording, how many such recordings there are)."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One published difference and what its number of items can say about it (proportions)."""

    task: str
    family: str
    name: str
    """`gain`, `drop`, `transfer` or `did`."""
    what: str
    """Role and frames, or configuration."""
    estimate: float
    n: int
    least: float
    """The least discordance that the accuracies allow (mean over members or strata)."""
    independent: float
    """The discordance if a model's two answers to an item had nothing in common; real answers
    have, so the truth lies between `least` and this."""
    significant_below: float
    """The published difference has p < alpha if the discordance was below this; NaN if never."""
    found_below: float
    """This many items find such a true effect with the power wanted if the discordance is below
    this; NaN if they do not even at the least."""


@dataclass(frozen=True, slots=True)
class _Difference:
    name: str
    what: str
    pairs: tuple[tuple[float, float], ...]
    """(accuracy, reference accuracy): one pair; for a did (image, other); else one per stratum."""
    n: int

    @property
    def estimate(self) -> float:
        gains = [a - b for a, b in self.pairs]
        return gains[0] - gains[1] if self.name == "did" else sum(gains) / len(gains)


def resolved(
    task: str, *, power_wanted: float = 0.8, alpha: float = 0.05, icc: float = 0.0
) -> list[Resolved]:
    """Set the study's published differences against what its number of items can resolve.

    Args:
        task: `egoschema` (gains, drops and did) or `iraven` (transfer per configuration, and over
            all seven).
        power_wanted: chance of finding a true effect of the published size.
        alpha: level of the two-sided t test.
        icc: correlation of the differences of EgoSchema's items within a recording.

    Returns:
        One entry per difference, in the order of the published tables.
    """
    differences = {"egoschema": _egoschema, "iraven": _iraven}.get(task)
    if differences is None:
        raise ProbesError(
            f"there is no published table of {task!r}", "task", "choose egoschema or iraven"
        )
    sizes = [size for size, count in RECORDINGS for _ in range(count)]
    clustered = task == "egoschema" and icc != 0
    inflation = stats.design_effect(sizes, icc) if clustered else 1.0
    per_cluster = EGOSCHEMA_ITEMS / len(sizes) if clustered else 1.0
    return [
        _resolve(task, family, one, power_wanted, alpha, inflation, per_cluster)
        for family, one in differences(_rows(task))
    ]


def _resolve(
    task: str,
    family: str,
    one: _Difference,
    power_wanted: float,
    alpha: float,
    inflation: float,
    per_cluster: float,
) -> Resolved:
    ranges = [stats.discordance_range(a, b) for a, b in one.pairs]
    least, independent, _ = (sum(ends) / len(ranges) for ends in zip(*ranges, strict=True))
    estimate, squares = one.estimate, [(a - b) ** 2 for a, b in one.pairs]
    members = 2 if one.name == "did" else 1
    strata = len(one.pairs) if one.name != "did" else 1
    df = one.n / per_cluster - strata
    # Variance of an item's difference at a mean discordance q: members * q - about; two members'
    # gains are taken as uncorrelated.
    about = sum(squares) / strata
    t = float(special.stdtrit(df, 1 - alpha / 2))
    significant = (estimate**2 * (one.n - strata) / (t * t * inflation) + about) / members

    def spread(discordance: float) -> float:
        return float((members * discordance - about) ** 0.5)

    found = nan
    if estimate:
        found = stats.largest_discordance(
            estimate, one.n, spread, least=least, power_wanted=power_wanted, alpha=alpha,
            design_effect=inflation, per_cluster=per_cluster, strata=strata,
        )  # fmt: skip
    return Resolved(
        task, family, one.name, one.what, estimate, one.n, least, independent,
        min(significant, 1.0) if estimate and significant >= least else nan, found,
    )  # fmt: skip


Rows = Sequence[dict[str, str]]


def _rows(task: str) -> Rows:
    with (reference_dir() / f"{task}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _egoschema(rows: Rows) -> Iterator[tuple[str, _Difference]]:
    cells = {
        (row["family"], row["role"], row["frames"], row["arm"]): float(row["accuracy"]) / 100
        for row in rows
    }
    places = dict.fromkeys((family, frames) for family, _, frames, _ in cells)
    for family, frames in places:
        pairs = {}
        for role in ("image", "video"):
            vcot = cells[family, role, frames, "vcot"]
            pairs[role] = (vcot, cells[family, role, frames, "baseline"])
            yield (
                family,
                _Difference("gain", f"{role}, {frames} frames", (pairs[role],), EGOSCHEMA_ITEMS),
            )
            for arm in ("visual_perturbation", "text_perturbation"):
                if (family, role, frames, arm) in cells:
                    pair = (cells[family, role, frames, arm], vcot)
                    what = f"{role}, {frames} frames, {arm.split('_')[0]}"
                    yield family, _Difference("drop", what, (pair,), EGOSCHEMA_ITEMS)
        both = (pairs["image"], pairs["video"])
        yield family, _Difference("did", f"{frames} frames", both, EGOSCHEMA_ITEMS)


def _iraven(rows: Rows) -> Iterator[tuple[str, _Difference]]:
    cells = {
        (row["family"], row["role"], row["configuration"]): float(row["accuracy"]) / 100
        for row in rows
    }
    for family, n in ITEMS.items():
        names = [name for who, role, name in cells if (who, role) == (family, "image")]
        pairs = [(cells[family, "video", name], cells[family, "image", name]) for name in names]
        for name, pair in zip(names, pairs, strict=True):
            yield family, _Difference("transfer", name, (pair,), n)
        yield (
            family,
            _Difference("transfer", f"all {len(names)}, stratified", tuple(pairs), n * len(names)),
        )
