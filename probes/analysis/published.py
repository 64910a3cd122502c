"""What the study's own numbers of items can resolve, from its published accuracies.

On how many items two answers differ is not published, and everything depends on that discordance.
So each published difference comes with the discordance below which it would be significant, the one
below which its number of items finds such an effect, and the range that the accuracies allow. DiD
is the difference in differences of two members.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan

from scipy import special

from probes import stats
from probes.analysis.pairing import PERTURBATIONS
from probes.config.paths import reference_dir
from probes.core.errors import ProbesError
from probes.core.types import ContrastName

TABLES = ("egoschema", "iraven")
"""The study's published tables, by task."""
ITEMS = {"LLaVA-NeXT": 100, "InternVL": 500}
"""i-RAVEN problems per configuration, by family of models."""
EGOSCHEMA_ITEMS = 500
RECORDINGS = ((1, 267), (2, 45), (3, 16), (4, 11), (5, 3), (6, 2), (7, 1), (8, 1), (9, 1))
"""EgoSchema's 500 public answers: (items of one recording, how many such recordings there are)."""
PublishedCells = Mapping[tuple[str, str, str, str, str], float]
"""Published accuracy by (family, role, frames, arm, configuration); "" for what a table lacks."""


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
    family: str
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
    task: str, *, power_wanted: float = stats.POWER, alpha: float = stats.ALPHA, icc: float = 0.0
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
    test: stats.PowerOptions = {"alpha": alpha, "design_effect": 1.0, "per_cluster": 1.0}
    if task == "egoschema" and icc:
        test["design_effect"] = stats.design_effect(sizes, icc)
        test["per_cluster"] = EGOSCHEMA_ITEMS / len(sizes)
    return [_resolve(task, one, power_wanted, test) for one in differences(published_cells(task))]


def _resolve(
    task: str, difference: _PublishedDifference, power_wanted: float, test: stats.PowerOptions
) -> Resolved:
    n, pairs, estimate = difference.n, difference.pairs, difference.estimate
    ranges = [stats.discordance_range(a, b) for a, b in pairs]
    least, independent, _ = (sum(ends) / len(ranges) for ends in zip(*ranges, strict=True))
    members, strata = (2, 1) if difference.name == "did" else (1, len(pairs))
    df = n / test["per_cluster"] - strata
    # Variance of an item's difference at a mean discordance q: members * q - square; two members'
    # gains are taken as uncorrelated.
    square = sum((a - b) ** 2 for a, b in pairs) / strata
    t = float(special.stdtrit(df, 1 - test["alpha"] / 2))
    reach = estimate**2 * (n - strata) / (t * t * test["design_effect"])
    # The t statistic set to its critical value and solved for the discordance.
    significant = (reach + square) / members

    def spread(discordance: float) -> float:
        return float((members * discordance - square) ** 0.5)

    found = nan
    # No number of items finds an effect of exactly zero.
    if estimate:
        options: stats.PowerOptions = {**test, "strata": strata}
        found = stats.largest_discordance(
            estimate, n, spread, least=least, power_wanted=power_wanted, **options
        )
    same = ("family", "name", "what", "estimate", "n")
    return Resolved(
        task=task,
        **{name: getattr(difference, name) for name in same},
        least=least,
        independent=independent,
        significant_below=min(significant, 1.0) if estimate and significant >= least else nan,
        found_below=found,
    )


def published_cells(table: str) -> PublishedCells:
    """Read a table of the study, `egoschema` or `iraven`, as proportions."""
    with (reference_dir() / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return {
            (
                row["family"],
                row["role"],
                row.get("frames", ""),
                row.get("arm", "baseline"),
                row.get("configuration", ""),
            ): float(row["accuracy"]) / 100
            for row in csv.DictReader(file)
        }


def _egoschema(cells: PublishedCells) -> Iterator[_PublishedDifference]:
    n = EGOSCHEMA_ITEMS
    for family, frames in dict.fromkeys((family, frames) for family, _, frames, *_ in cells):
        gains = []
        for role in ("image", "video"):
            key = (family, role, frames)
            own = {arm: value for (*of, arm, _), value in cells.items() if tuple(of) == key}
            what = f"{role}, {frames} frames"
            gains.append((own["vcot"], own["baseline"]))
            yield _PublishedDifference(family, "gain", what, (gains[-1],), n)
            for arm in PERTURBATIONS:
                if arm in own:
                    of_arm, pair = f"{what}, {arm.split('_')[0]}", (own[arm], own["vcot"])
                    yield _PublishedDifference(family, "drop", of_arm, (pair,), n)
        yield _PublishedDifference(family, "did", f"{frames} frames", tuple(gains), n)


def _iraven(cells: PublishedCells) -> Iterator[_PublishedDifference]:
    for family, n in ITEMS.items():
        own = {(role, name): at for (of, role, *_, name), at in cells.items() if of == family}
        pairs = {
            name: (own["video", name], at) for (role, name), at in own.items() if role == "image"
        }
        for name, pair in pairs.items():
            yield _PublishedDifference(family, "transfer", name, (pair,), n)
        name = f"all {len(pairs)}, stratified"
        yield _PublishedDifference(family, "transfer", name, tuple(pairs.values()), n * len(pairs))
