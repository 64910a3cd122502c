"""Power of a run that is only planned: the discordance is a guess, everything else a choice."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, inf, isfinite

import numpy as np

from probes import stats
from probes.analysis import Table, power_text
from probes.analysis.published import RECORDINGS
from probes.core.errors import ProbesError

_MOST_SIMULATED = 2e9
"""Items times draws: a minute or two."""
_MOST_CLUSTERS = 10**6


@dataclass(frozen=True, slots=True)
class _Truth:
    """What a plan takes to be true of the items (proportions)."""

    did: bool
    discordance: float
    other: float
    """The other member's discordance."""
    other_gain: float
    correlation: float

    @property
    def name(self) -> str:
        both = self.did and self.other != self.discordance
        return f"{100 * self.discordance:g} %" + (f" / {100 * self.other:g} %" if both else "")

    def spread(self) -> stats.Spread:
        if not self.did:
            return stats.sd_gain(self.discordance)
        return stats.sd_did(self.discordance, self.other, self.other_gain, self.correlation)

    def gains(self, effect: float) -> tuple[stats.TrueEffect, ...]:
        image = stats.TrueEffect(effect + self.other_gain, self.discordance)
        return (image, stats.TrueEffect(self.other_gain, self.other)) if self.did else (image,)


@dataclass(frozen=True, slots=True)
class _Design:
    """How the items are come by, and what is asked of the test."""

    shape: tuple[int, ...]
    """Sizes of clusters in their proportions."""
    icc: float
    power: float
    alpha: float

    @property
    def inflation(self) -> float:
        return stats.design_effect(self.shape, self.icc)

    def common(self, strata: int) -> dict[str, float]:
        per_cluster = sum(self.shape) / len(self.shape)
        return {
            "alpha": self.alpha, "design_effect": self.inflation, "per_cluster": per_cluster,
            "strata": float(strata),
        }  # fmt: skip

    def sizes(self, items: int) -> list[int]:
        """Return clusters of that shape that hold so many items; the last may be cut."""
        out: list[int] = []
        left = items
        rng = np.random.default_rng(0)
        while left:
            # Shuffled: part of the shape is to be as uneven as the whole.
            for size in rng.permutation(self.shape):
                out.append(min(int(size), left))
                left -= out[-1]
                if not left:
                    break
        return out


def answer(given: argparse.Namespace) -> list[str]:
    """Return the answer to a plan: items needed, least effect found, or power."""
    if given.effect is None and given.items is None:
        raise ProbesError(
            "nothing is asked", "probes power",
            "give --effect (how many items?), --items (what can they find?) or both",
        )  # fmt: skip
    for n in given.items or ():
        if not (isfinite(n) and n == int(n) and n >= 2):
            raise ProbesError(f"{n:g} items", "--items", "give whole numbers from 2 on")
    truths, design = _truths(given), _design(given)
    strata = 1 if given.strata is None else given.strata
    if strata < 1:
        raise ProbesError(f"{strata} strata", "--strata", "give 1 or more")
    try:
        table = _table(given, truths, design, strata)
    except ValueError as error:
        raise ProbesError(
            str(error), "probes power", "effects are in points, discordances in percent"
        ) from error
    notes = list(_notes(given, truths[0], design, strata))
    if any(cell == "-" for row in table.rows for cell in row):
        notes.append("-: not even the greatest effect that the discordance allows.")
    return list(power_text.lines([table], notes))


def _truths(given: argparse.Namespace) -> list[_Truth]:
    of = given.of or ["gain"]
    if len(of) > 1:
        raise ProbesError("a plan is of one contrast", "--of", "ask for one at a time")
    others = (given.other_discordance, given.other_gain, given.correlation)
    if given.other_gain is not None and not abs(given.other_gain) <= 100:
        raise ProbesError(
            f"a gain of {given.other_gain:g} points", "--other-gain", "it lies within 100 points"
        )
    if of[0] != "did" and any(one is not None for one in others):
        raise ProbesError("only a did has another member", "--of", "add --of did")
    if not given.discordance:
        raise ProbesError(
            "a plan needs the discordance", "--discordance",
            "guess it (10,20,40), or name a finished RUN, which tells it",
        )  # fmt: skip
    out = []
    for share in given.discordance:
        other = share if given.other_discordance is None else given.other_discordance
        for one in (share, other):
            if not 0 < one <= 100:
                raise ProbesError(
                    f"a discordance of {one:g} %", "--discordance", "it lies above 0, up to 100"
                )
        gain, correlation = (given.other_gain or 0.0) / 100, given.correlation or 0.0
        out.append(_Truth(of[0] == "did", share / 100, other / 100, gain, correlation))
    return out


def _design(given: argparse.Namespace) -> _Design:
    shape, icc = _shape(given.cluster_sizes), given.icc or 0.0
    if given.cluster_sizes is not None and given.icc is None:
        raise ProbesError(
            "what matters of clusters is how alike their items are", "--cluster-sizes",
            "add --icc, e.g. --icc 0.1",
        )  # fmt: skip
    if icc and max(shape) == 1:
        raise ProbesError("there are no clusters to be alike in", "--icc", "add --cluster-sizes")
    return _Design(shape, icc, given.power, given.alpha / given.family)


def _shape(given: str | None) -> tuple[int, ...]:
    if given is None:
        return (1,)
    parts = [one.partition("x") for one in given.split(",")]
    if given == "egoschema":
        pairs = list(RECORDINGS)
    else:
        try:
            pairs = [(int(size), int(count) if x else 1) for size, x, count in parts]
        except ValueError:
            pairs = []
    counts = sum(count for _, count in pairs)
    if not pairs or min(min(pair) for pair in pairs) < 1 or counts > _MOST_CLUSTERS:
        raise ProbesError(
            f"cluster sizes {given!r} cannot be read", "--cluster-sizes",
            "write 5, or 1x267,2x45, or egoschema",
        )  # fmt: skip
    return tuple(size for size, count in pairs for _ in range(count))


def _table(given: argparse.Namespace, truths: list[_Truth], design: _Design, strata: int) -> Table:
    effects = [one / 100 for one in given.effect or ()]
    asked = [int(one) for one in given.items or ()]
    # One stratum by itself, and the mean over all of them; items are always told per stratum.
    scopes = [1] if strata == 1 else [1, strata]
    rows = []
    for scope in scopes:
        for truth in truths:
            for n in asked if effects and asked else [0]:
                words = [] if strata == 1 else ["one" if scope == 1 else f"all {scope}"]
                cells = [truth.name, *([str(n)] if n else [])]
                cells += [_cell(given, truth, design, scope, one, n) for one in effects] or [
                    _cell(given, truth, design, scope, 0.0, one) for one in asked
                ]
                rows.append((*words, *cells))
    head = [*(["strata"] if strata > 1 else []), "discordance"]
    head += ["items"] if effects and asked else []
    head += [f"{100 * one:+g} points" for one in effects] or [f"{n} items" for n in asked]
    what = (given.of or ["gain"])[0]
    per = " per stratum" if strata > 1 else ""
    if effects and asked:
        title = f"Chance of finding a {what}" + (", by items per stratum" if per else "")
    elif effects:
        title = f"Items{per} needed to find a {what} with power {given.power:g}"
    else:
        title = f"Least {what}, in points, found with power {given.power:g}"
        title += ", by items per stratum" if per else ""
    title += " (power in simulated runs)" if given.simulate else ""
    return Table(title, tuple(head), tuple(rows), len(rows[0]) - len(head) + (strata > 1))


def _cell(
    given: argparse.Namespace, truth: _Truth, design: _Design, scope: int, effect: float, n: int
) -> str:
    """Answer for one truth and scope: no items (0) or no effect (0) is what is asked for."""
    spread, common = truth.spread(), design.common(scope)
    items = float(n * scope)
    if not n:
        total = stats.items_needed(effect, spread, power_wanted=design.power, **common)
        each = ceil(total / scope) if isfinite(total) else inf
        found, items = power_text.number(each, 0), each * scope
    elif not effect:
        # Beyond this the image member's gain would exceed its discordance.
        most = truth.discordance - truth.other_gain
        effect = stats.minimum_effect(
            int(items), spread, power_wanted=design.power, most=most, **common
        )
        found = power_text.number(100 * effect)
    else:
        found = power_text.number(stats.power(effect, spread, int(items), **common), 2)
    if not given.simulate or not (isfinite(items) and isfinite(effect)):
        return found
    if items * given.draws > _MOST_SIMULATED:
        raise ProbesError(
            f"{given.draws} runs of {items:.0f} items take too long to simulate", "--simulate",
            "give fewer --draws, or leave it out",
        )  # fmt: skip
    gains = truth.gains(effect)
    shared = 0.0
    if truth.did:
        image, other = gains
        shared = stats.latent_shared(image, other, truth.correlation)
    power = stats.power_by_simulation(
        gains, design.sizes(int(items)), draws=given.draws, seed=given.seed, alpha=design.alpha,
        alike=stats.latent_alike(gains, design.icc, shared), shared=shared,
    )  # fmt: skip
    return f"{found} ({power:.2f})"


def _notes(given: argparse.Namespace, truth: _Truth, design: _Design, strata: int) -> Iterator[str]:
    if truth.did:
        yield (
            "A did's variance over items: discordance - gain^2 of both members, less twice their "
            f"covariance. Correlation of gains {truth.correlation:g}, the other member's gain "
            f"{100 * truth.other_gain:+g} points."
        )
    else:
        yield "Variance over items: discordance - effect^2."
    units = "items" if max(design.shape) == 1 else "clusters"
    less = "1" if strata == 1 else f"1 (one stratum) or {strata} (all)"
    yield (
        f"Two-sided t test of the mean, alpha {given.alpha:g}"
        + (f" / {given.family}" if given.family > 1 else "")
        + f", degrees of freedom: {units} less {less}."
    )
    if max(design.shape) > 1:
        counts = np.array(design.shape)
        m = counts @ counts / counts.sum()
        yield (
            f"Clusters inflate the variance by 1 + (m - 1) icc = {design.inflation:.2f}: an item's "
            f"cluster has m = {m:.2f} items on average, icc {design.icc:g}."
        )
    if strata > 1:
        yield "All strata have this discordance and as many items, and count the same."
    if given.simulate:
        yield (
            f"Simulated: {given.draws} runs (seed {given.seed}) of latent normals with these "
            "discordances and correlations, without strata, tested as the harness tests (CR2)."
        )
