"""Power of a run that is only planned: the discordance is a guess, everything else a choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, inf, isfinite

import numpy as np

from probes import stats
from probes.analysis.formats import number
from probes.analysis.power_settings import PlanQuestion, PowerTarget, Simulation
from probes.analysis.published import RECORDINGS
from probes.core.errors import ProbesError
from probes.core.tables import Table, listing

_MOST_SIMULATED = 2e9
"""Items times draws: a minute or two."""
_MOST_CLUSTERS = 10**6


@dataclass(frozen=True, slots=True)
class _Truth:
    """What a plan takes to be true of the items (proportions)."""

    did: bool
    """Whether the effect is a difference in differences (DiD) of two members."""
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
    """How items are clustered."""

    shape: tuple[int, ...]
    """Sizes of clusters in their proportions."""
    icc: float

    @property
    def inflation(self) -> float:
        return stats.design_effect(self.shape, self.icc)

    def options(self, alpha: float, strata: int) -> stats.PowerOptions:
        return {
            "alpha": alpha,
            "design_effect": self.inflation,
            "per_cluster": sum(self.shape) / len(self.shape),
            "strata": float(strata),
        }

    def sizes(self, items: int) -> list[int]:
        """Return clusters of that shape for so many items; the last may be cut."""
        out: list[int] = []
        left = items
        # A fixed seed: clusters are part of the plan, --seed is of the draws.
        rng = np.random.default_rng(0)
        while left:
            # Shuffled: part of the shape is to be as uneven as the whole.
            for size in rng.permutation(self.shape):
                out.append(min(int(size), left))
                left -= out[-1]
                if not left:
                    break
        return out


@dataclass(frozen=True, slots=True)
class _PowerPlan:
    """A plan whose settings were checked."""

    name: str
    """The contrast, as it is printed."""
    truths: tuple[_Truth, ...]
    design: _Design
    strata: int
    effects: tuple[float, ...]
    """Proportions; empty: the least effect is asked for."""
    items: tuple[int, ...]
    """Per stratum; empty: the items needed are asked for."""
    target: PowerTarget
    simulation: Simulation | None


def answer(question: PlanQuestion) -> list[str]:
    """Return the answer to a plan: items needed, least effect found, or power.

    Raises:
        ProbesError: settings that have no meaning, alone or together.
    """
    plan = _checked(question)
    try:
        # What is impossible together, as a gain beyond its discordance, shows in computing.
        table = Table(_title(plan), *_table(plan))
    except ValueError as error:
        raise ProbesError(
            str(error), "probes power", "effects are in points, discordances in percent"
        ) from error
    notes = list(_notes(plan))
    if any(text == "-" for row in table.rows for text in row):
        notes.append("-: not even the greatest effect that the discordance allows.")
    return listing([table], notes, 120)


def _checked(question: PlanQuestion) -> _PowerPlan:
    if not question.effects and not question.items:
        raise ProbesError(
            "nothing is asked",
            "probes power",
            "give --effect (how many items?), --items (what can they find?) or both",
        )
    for n in question.items:
        if not (isfinite(n) and n == int(n) and n >= 2):
            raise ProbesError(f"{n:g} items", "--items", "give whole numbers from 2 on")
    truths, design = _truths(question), _design(question)
    strata = 1 if question.strata is None else question.strata
    if strata < 1:
        raise ProbesError(f"{strata} strata", "--strata", "give 1 or more")
    (name,) = question.names
    effects = tuple(points / 100 for points in question.effects)
    items = tuple(int(n) for n in question.items)
    shown = "DiD" if name == "did" else name
    return _PowerPlan(
        shown, truths, design, strata, effects, items, question.target, question.simulation
    )


def _truths(question: PlanQuestion) -> tuple[_Truth, ...]:
    if len(question.names) > 1:
        raise ProbesError("a plan is of one contrast", "--of", "ask for one at a time")
    did = question.names == ("did",)
    other_gain = question.other_gain
    if other_gain is not None and not abs(other_gain) <= 100:
        raise ProbesError(
            f"a gain of {other_gain:g} points", "--other-gain", "it is within 100 points"
        )
    of_other = (question.other_discordance, other_gain, question.correlation)
    if not did and any(value is not None for value in of_other):
        raise ProbesError("only a DiD has another member", "--of", "add --of did")
    if not question.discordances:
        raise ProbesError(
            "a plan needs the discordance",
            "--discordance",
            "guess it (10,20,40), or give a finished RUN, which has one",
        )
    gain, correlation = (other_gain or 0.0) / 100, question.correlation or 0.0
    out = []
    for share in question.discordances:
        other = share if question.other_discordance is None else question.other_discordance
        for value in (share, other):
            if not 0 < value <= 100:
                raise ProbesError(
                    f"a discordance of {value:g} %", "--discordance", "it lies above 0, up to 100"
                )
        out.append(_Truth(did, share / 100, other / 100, gain, correlation))
    return tuple(out)


def _design(question: PlanQuestion) -> _Design:
    shape, icc = _shape(question.cluster_sizes), question.icc or 0.0
    if question.cluster_sizes is not None and question.icc is None:
        raise ProbesError(
            "the effect of clusters depends on how alike their items are",
            "--cluster-sizes",
            "add --icc, e.g. --icc 0.1",
        )
    if icc and max(shape) == 1:
        raise ProbesError("there are no clusters to be alike in", "--icc", "add --cluster-sizes")
    return _Design(shape, icc)


def _shape(text: str | None) -> tuple[int, ...]:
    if text is None:
        return (1,)
    if text == "egoschema":
        pairs = list(RECORDINGS)
    else:
        parts = [part.partition("x") for part in text.split(",")]
        try:
            pairs = [(int(size), int(count) if x else 1) for size, x, count in parts]
        except ValueError:
            pairs = []
    counts = sum(count for _, count in pairs)
    if not pairs or min(min(pair) for pair in pairs) < 1 or counts > _MOST_CLUSTERS:
        raise ProbesError(
            f"cluster sizes {text!r} cannot be read",
            "--cluster-sizes",
            "write 5, or 1x267,2x45, or egoschema",
        )
    return tuple(size for size, count in pairs for _ in range(count))


def _title(plan: _PowerPlan) -> str:
    power, several = plan.target.power, plan.strata > 1
    by_items = ", by items per stratum" if several else ""
    if plan.effects and plan.items:
        title = f"Chance of finding a {plan.name}{by_items}"
    elif plan.effects:
        per_stratum = " per stratum" if several else ""
        title = f"Items{per_stratum} needed to find a {plan.name} with power {power:g}"
    else:
        title = f"Least {plan.name}, in points, found with power {power:g}{by_items}"
    return title + (" (power in simulated runs)" if plan.simulation else "")


def _table(plan: _PowerPlan) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], int]:
    """Return header, rows and the number of leading columns of words."""
    effects, items, several = plan.effects, plan.items, plan.strata > 1
    both = bool(effects and items)
    rows = []
    # One stratum by itself, and the mean over all of them; items are always given per stratum.
    for scope in (1, plan.strata) if several else (1,):
        words = [] if not several else ["one" if scope == 1 else f"all {scope}"]
        for truth in plan.truths:
            for n in items if both else (None,):
                if effects:
                    texts = [_found(plan, truth, scope, effect, n) for effect in effects]
                else:
                    texts = [_found(plan, truth, scope, None, each) for each in items]
                rows.append((*words, truth.name, *([str(n)] if both else []), *texts))
    head = [*(["strata"] if several else []), "discordance", *(["items"] if both else [])]
    head += [f"{100 * effect:+g} points" for effect in effects] or [f"{n} items" for n in items]
    return tuple(head), tuple(rows), int(several)


def _found(plan: _PowerPlan, truth: _Truth, scope: int, effect: float | None, n: int | None) -> str:
    """Return what is asked for: the items needed, the least effect found, or the chance to find it.

    Args:
        plan: the plan.
        truth: what is taken to be true.
        scope: over how many strata the mean is taken.
        effect: None where the least one is asked for.
        n: items per stratum; None where they are asked for.
    """
    power, spread = plan.target.power, truth.spread()
    options = plan.design.options(plan.target.level, scope)
    if effect is None:
        assert n is not None
        # Beyond this the image member's gain would exceed its discordance.
        most = truth.discordance - truth.other_gain
        effect = stats.minimum_effect(n * scope, spread, power_wanted=power, most=most, **options)
        text = number(100 * effect)
    elif n is None:
        total = stats.items_needed(effect, spread, power_wanted=power, **options)
        # Rounded up once per stratum, as all are of one size.
        each = ceil(total / scope) if isfinite(total) else inf
        return _with_simulated(number(each, 0), plan, truth, effect, each * scope)
    else:
        text = number(stats.power(effect, spread, n * scope, **options), 2)
    return _with_simulated(text, plan, truth, effect, n * scope)


def _with_simulated(text: str, plan: _PowerPlan, truth: _Truth, effect: float, items: float) -> str:
    """Add the power found in simulated runs, where it is asked for and effect and items exist."""
    simulation, design = plan.simulation, plan.design
    if simulation is None or not (isfinite(items) and isfinite(effect)):
        return text
    if items * simulation.draws > _MOST_SIMULATED:
        raise ProbesError(
            f"{simulation.draws} runs of {items:.0f} items take too long to simulate",
            "--simulate",
            "give fewer --draws, or leave it out",
        )
    gains = truth.gains(effect)
    shared = 0.0
    if truth.did:
        image, other = gains
        shared = stats.latent_shared(image, other, truth.correlation)
    power = stats.power_by_simulation(
        gains,
        design.sizes(int(items)),
        draws=simulation.draws,
        seed=simulation.seed,
        alpha=plan.target.level,
        alike=stats.latent_alike(gains, design.icc, shared),
        shared=shared,
    )
    return f"{text} ({power:.2f})"


def _notes(plan: _PowerPlan) -> Iterator[str]:
    truth, design, strata = plan.truths[0], plan.design, plan.strata
    if truth.did:
        yield (
            "Variance of a DiD (difference in differences) over items: discordance - gain^2 of "
            "both members, less twice their covariance. Correlation of gains "
            f"{truth.correlation:g}, the other member's gain {100 * truth.other_gain:+g} points."
        )
    else:
        yield "Variance over items: discordance - effect^2."
    units = "items" if max(design.shape) == 1 else "clusters"
    less = "1" if strata == 1 else f"1 (one stratum) or {strata} (all)"
    target = plan.target
    yield (
        f"Two-sided t test of the mean, alpha {target.alpha:g}"
        + (f" / {target.family}" if target.family > 1 else "")
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
    if plan.simulation:
        yield (
            f"Simulated: {plan.simulation.draws} runs (seed {plan.simulation.seed}) of latent "
            "normals with these discordances and correlations, without strata, tested as the "
            "harness tests (CR2)."
        )
