"""What the study's own numbers of items can resolve, from its published accuracies.

On how many items two answers differ is not published, and everything depends on that discordance.
So each published difference comes with the discordance below which it would be significant, the one
below which its number of items finds such an effect, and the range that the accuracies allow. DiD
is the difference in differences of two members.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

from scipy import special

from probes import stats
from probes.analysis.pairing import PERTURBATIONS
from probes.config.paths import reference_dir
from probes.core.errors import ProbesError
from probes.core.types import ContrastName

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
    name: ContrastName
    what: str
    """Role and frames, or configuration."""
    estimate: float
    n: int
    least: float
    """The least discordance that the accuracies allow (mean over members or strata)."""
    independent: float
    """The discordance if a model's two answers to an item were independent; they are not, so the
    truth is between `least` and this."""
    significant_below: float
    """The published difference has p < alpha if the discordance was below this; NaN if never."""
    found_below: float
    """This many items find such a true effect with the power wanted if the discordance is below
    this; NaN if they do not even at the least."""


@dataclass(frozen=True, slots=True)
class _PublishedDifference:
    name: ContrastName
    what: str
    pairs: tuple[tuple[float, float], ...]
    """(accuracy, reference accuracy): one pair; for a DiD (image, other); else one per stratum."""
    n: int

    @property
    def estimate(self) -> float:
        gains = [a - b for a, b in self.pairs]
        return gains[0] - gains[1] if self.name == "did" else sum(gains) / len(gains)


def resolved(
    task: str, *, power_wanted: float = 0.8, alpha: float = 0.05, icc: float = 0.0
) -> list[Resolved]:
    """Return for the study's published differences what its number of items can resolve.

    Args:
        task: `egoschema` (gains, drops and DiD) or `iraven` (transfer per configuration, and over
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
    test: stats.PowerOptions = {
        "alpha": alpha, "design_effect": inflation, "per_cluster": per_cluster,
    }  # fmt: skip
    return [
        _resolve(task, family, difference, power_wanted, test)
        for family, difference in differences(_rows(task))
    ]


def _resolve(
    task: str,
    family: str,
    difference: _PublishedDifference,
    power_wanted: float,
    test: stats.PowerOptions,
) -> Resolved:
    n, pairs = difference.n, difference.pairs
    ranges = [stats.discordance_range(a, b) for a, b in pairs]
    least, independent, _ = (sum(ends) / len(ranges) for ends in zip(*ranges, strict=True))
    estimate, squares = difference.estimate, [(a - b) ** 2 for a, b in pairs]
    of_did = difference.name == "did"
    members, strata = (2, 1) if of_did else (1, len(pairs))
    df = n / test["per_cluster"] - strata
    # Variance of an item's difference at a mean discordance q: members * q - square; two members'
    # gains are taken as uncorrelated.
    square = sum(squares) / strata
    t = float(special.stdtrit(df, 1 - test["alpha"] / 2))
    reach = estimate**2 * (n - strata) / (t * t * test["design_effect"])
    significant = (reach + square) / members

    def spread(discordance: float) -> float:
        return float((members * discordance - square) ** 0.5)

    found = nan
    if estimate:
        options: stats.PowerOptions = {**test, "strata": strata}
        found = stats.largest_discordance(
            estimate, n, spread, least=least, power_wanted=power_wanted, **options
        )
    return Resolved(
        task, family, difference.name, difference.what, estimate, n, least, independent,
        min(significant, 1.0) if estimate and significant >= least else nan, found,
    )  # fmt: skip


PublishedRows = Sequence[dict[str, str]]


def _rows(task: str) -> PublishedRows:
    with (reference_dir() / f"{task}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _egoschema(rows: PublishedRows) -> Iterator[tuple[str, _PublishedDifference]]:
    cells = {
        (row["family"], row["role"], row["frames"], row["arm"]): float(row["accuracy"]) / 100
        for row in rows
    }
    for family, frames in dict.fromkeys((family, frames) for family, _, frames, _ in cells):
        pairs = {}
        for role in ("image", "video"):
            vcot = cells[family, role, frames, "vcot"]
            pairs[role] = (vcot, cells[family, role, frames, "baseline"])
            yield (
                family,
                _PublishedDifference(
                    "gain", f"{role}, {frames} frames", (pairs[role],), EGOSCHEMA_ITEMS
                ),
            )
            for arm in PERTURBATIONS:
                if (family, role, frames, arm) in cells:
                    pair = (cells[family, role, frames, arm], vcot)
                    what = f"{role}, {frames} frames, {arm.split('_')[0]}"
                    yield family, _PublishedDifference("drop", what, (pair,), EGOSCHEMA_ITEMS)
        both = (pairs["image"], pairs["video"])
        yield family, _PublishedDifference("did", f"{frames} frames", both, EGOSCHEMA_ITEMS)


def _iraven(rows: PublishedRows) -> Iterator[tuple[str, _PublishedDifference]]:
    cells = {
        (row["family"], row["role"], row["configuration"]): float(row["accuracy"]) / 100
        for row in rows
    }
    for family, n in ITEMS.items():
        names = [name for of, role, name in cells if (of, role) == (family, "image")]
        pairs = [(cells[family, "video", name], cells[family, "image", name]) for name in names]
        for name, pair in zip(names, pairs, strict=True):
            yield family, _PublishedDifference("transfer", name, (pair,), n)
        yield (
            family,
            _PublishedDifference(
                "transfer", f"all {len(names)}, stratified", tuple(pairs), n * len(names)
            ),
        )
