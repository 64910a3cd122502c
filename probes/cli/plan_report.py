"""The tables of `probes plan`: prompts, trials, costs, and time by device or by measurement."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from probes.core.tables import Table, listing
from probes.core.types import Request, ScoringSpec
from probes.engine import answer_versions, costs
from probes.engine.dry_run import ArmWorkload, DryRun
from probes.engine.workload import DryRunModel


@dataclass(frozen=True, slots=True)
class ModelCosts:
    """What the costs of one model follow from."""

    weights: costs.ParameterCounts
    model: DryRunModel
    features: int | None
    """Tokens of all frames; None for a model that is run as one piece, where they are unknown."""
    patches: float
    """Patches per token of a frame."""
    execution: costs.Execution

    def encoding_flops(self) -> float:
        """Return the FLOPs of encoding all frames; 0 where they are not known."""
        return costs.encoding(self.weights, self.features or 0, self.patches)

    def memory(self) -> costs.Memory:
        """Return the memory that the model needs."""
        loads = self.model.workloads
        return costs.memory(self.weights, loads, self.execution, self.features or 0)

    def seconds(self, device: costs.Device) -> float:
        """Return the time that the model needs on a device."""
        loads, flops = self.model.workloads, self.encoding_flops()
        return costs.seconds(self.weights, loads, self.execution, flops, device)


def report(planned: DryRun, device: str | None = None) -> list[str]:
    """Return the lines of a plan: counts, tokens, arithmetic and memory, time by device.

    Args:
        planned: while its stores are open.
        device: one of `costs.DEVICES`; None for all.
    """
    cfg = planned.cfg
    lines = [
        f"pair {cfg.pair.name}, task {cfg.task.name}, scoring {cfg.scoring}, seed {cfg.seed}",
        f"{planned.items} items, {planned.clips} clips with those of donors, {planned.frames}"
        f" different frames shown, {planned.infills} infills",
        "",
    ]
    tables = [_prompts(planned), _trials(planned)]
    known = {name: one for name in planned.models if (one := _costs_of(planned, name))}
    if known:
        memory = {name: one.memory() for name, one in known.items()}
        tables += [_costs(known, memory), _times(known, memory, device)]
    return lines + listing(tables, list(_notes(planned, known)))


def _costs_of(planned: DryRun, name: str) -> ModelCosts | None:
    """Return what a model's costs follow from; None where its files do not have it."""
    model = planned.models[name]
    if (planning := model.planning) is None:
        return None
    weights = costs.weights_of(planning.shapes())
    if weights is None:
        return None
    facts, backend = model.backend.describe(), planned.cfg.backend
    patches = facts.get("patches_per_token")
    # None for a model that is run as one piece, which gets one prompt at a time.
    batch_tokens = planning.batch_tokens.get("cpu" if backend.device == "cpu" else "cuda")
    return ModelCosts(
        weights=weights,
        model=model,
        features=model.features() if patches else None,
        patches=float(patches or 0),
        execution=costs.Execution(
            dtype=str(facts.get("dtype", "float32")),
            batch_tokens=batch_tokens or 0,
            batch_size=backend.batch_size if batch_tokens else 1,
            quantize=str(facts.get("quantize") or ""),
            feature_cache=backend.feature_cache_mb * 2**20,
        ),
    )


def _prompts(planned: DryRun) -> Table:
    rows = []
    for name, model in planned.models.items():
        known, stored, loads = model.stats.unique, model.stats.cached, model.workloads
        written = loads["generate"].prompts if "generate" in loads else 0
        too_long = sum(load.too_long for load in loads.values())
        numbers = (known, stored, known - stored, written, too_long)
        rows.append((name, *(f"{number:,}" for number in numbers)))
    header = ("model", "prompts", "stored", "to do", "written", "cannot be asked")
    return Table("Different prompts", header, tuple(rows), 1)


def _trials(planned: DryRun) -> Table:
    """Return the trials of every arm and the tokens of their prompts, a column per member."""
    members = list(dict.fromkeys(load.member for load in planned.workloads))
    by_arm: dict[tuple[str, int], dict[str, ArmWorkload]] = {}
    for load in planned.workloads:
        by_arm.setdefault((load.arm, load.frames), {})[load.member] = load
    rows = []
    for (arm, frames), loads in by_arm.items():
        one = loads[members[0]]
        tokens = (text for name in members for text in _tokens(loads[name]))
        rows.append((arm, str(frames), f"{one.count:,}", f"{one.broken:,}", *tokens))
    columns = (text for name in members for text in (name, "longest"))
    header = ("arm", "frames", "trials", "no media", *columns)
    return Table("Trials, and the tokens of their prompts by member", header, tuple(rows), 1)


def _tokens(load: ArmWorkload) -> tuple[str, str]:
    if load.tokens is None or load.longest is None:
        return "-", "-"
    return f"{load.tokens:,}", f"{load.longest:,}"


def _costs(known: dict[str, ModelCosts], memory: dict[str, costs.Memory]) -> Table:
    rows = []
    for name, one in known.items():
        loads, weights, need = one.model.workloads.values(), one.weights, memory[name]
        read = sum(load.tokens + load.answers for load in loads)
        flops = (
            "-" if one.features is None else _flops(one.encoding_flops()),
            _flops(sum(costs.reading(weights, load) for load in loads)),
            _flops(sum(costs.writing(weights, load) for load in loads)),
        )
        tokens = (f"{read:,}", f"{sum(load.written for load in loads):,}")
        parts = (need.weights, need.features, need.cache, need.pass_, need.total)
        sizes = (f"{size / 1e9:,.2f}" for size in parts)
        rows.append((name, f"{weights.total / 1e6:,.1f} M", *tokens, *flops, *sizes))
    header = "model weights read write encode read write weights features KV pass all".split()
    title = "To do: tokens (read, write), forward FLOP (encode, read, write), memory in GB"
    return Table(title, tuple(header), tuple(rows), 1)


def _times(
    known: dict[str, ModelCosts], memory: dict[str, costs.Memory], device: str | None
) -> Table:
    # Not the sum: one model is in memory at a time.
    need = max(one.total for one in memory.values())
    rows = []
    for name, one in costs.DEVICES.items():
        if device not in (None, name):
            continue
        times = [model.seconds(one) for model in known.values()]
        fits = "yes" if need <= one.memory * 1e9 else "no"
        rows.append((name, str(one.memory), fits, *map(_time, times), _time(sum(times))))
    header = ("device", "GB", "fits", *known, "all")
    return Table("Time that the models need, estimated", header, tuple(rows), 1)


def _notes(planned: DryRun, known: dict[str, ModelCosts]) -> Iterator[str]:
    if any(model.workloads.get("generate") for model in planned.models.values()):
        yield (
            "A text that is not written yet is assumed to be as long as it may be: tokens, costs"
            " and errors that depend on it are upper bounds."
        )
    if known:
        yield (
            f"Times assume {costs.UTILISATION:.0%} of a device's peak arithmetic and, for writing,"
            f" {costs.BANDWIDTH:.0%} of its bandwidth; decoding and loading are not in them. One"
            " model is in memory at a time."
        )
    if one_piece := [name for name, one in known.items() if one.features is None]:
        yield (
            f"The frames of {', '.join(one_piece)} are not counted: they are run as one piece,"
            " every picture with every prompt."
        )
    if unknown := sorted(set(planned.models) - set(known)):
        yield (
            f"Costs are not known of {', '.join(unknown)}: the backend or the files do not have"
            " what is needed."
        )
    others = {name: model.stats.others for name, model in planned.models.items()}
    if line := answer_versions.line(planned.cfg.answers, others):
        yield f"{line}."
    for name, model in planned.models.items():
        for load in model.workloads.values():
            if load.too_long:
                yield f"{name}: {load.too_long} prompts will be errors, e.g. {load.problem}"
    if planned.broken:
        item, why = next(iter(planned.broken.items()))
        yield f"{len(planned.broken)} items have no media, e.g. {item.id}: {why}"


def measured(planned: DryRun) -> Table:
    """Time a few prompts of every kind on every model, and estimate the time of all of them."""
    rows = []
    for name, model in planned.models.items():
        for scoring, prompts in model.kept.items():
            load = model.workloads[scoring.kind]
            if not prompts:
                continue
            _timed(model, scoring, prompts[:1])  # warms the device up
            elapsed = _timed(model, scoring, prompts)
            # By length where it is known: prompts with infills are longer than those timed.
            all_of_it = load.tokens + load.answers + load.written or load.prompts
            total = elapsed * all_of_it / sum(length for _, length in prompts)
            device = str(model.backend.describe().get("device", ""))
            timed = (device, str(len(prompts)), f"{elapsed:.2f} s")
            rows.append((name, scoring.kind, *timed, f"{load.prompts:,}", _time(total)))
        model.backend.close()
    header = ("model", "kind", "device", "timed", "in", "to do", "time")
    title = "Time by measurement" if rows else "Time by measurement: nothing is left to be timed"
    return Table(title, header, tuple(rows), 3)


def _timed(
    model: DryRunModel, scoring: ScoringSpec, prompts: Sequence[tuple[Request, int]]
) -> float:
    """Return the seconds that a model takes to answer prompts, from pixels on."""
    start = time.perf_counter()
    # Answers are computed as they are taken, and dropped: a measurement stores nothing.
    for _ in model.backend.score([one for one, _ in prompts], model.frames, scoring):
        pass
    return time.perf_counter() - start


def _flops(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1e6:,.1f} M"


def _time(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:,.1f} h"
