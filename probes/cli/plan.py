"""The `probes plan` command: counts, costs, and what members will see."""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from probes.analysis.render import lines_of
from probes.analysis.tables import Table
from probes.config import compose
from probes.core.errors import ProbesError
from probes.core.progress import on_terminal
from probes.core.types import Prompt, ScoringSpec
from probes.engine import costs
from probes.engine.answer_log import UnaskableTrial
from probes.engine.dry_run import CellWorkload, DryRun, dry_run
from probes.engine.placeholder_text import shortened
from probes.engine.stimulus_builder import prompt_of
from probes.engine.workload import DryRunModel
from probes.models.hf.backend import BATCH_TOKENS, HfBackend

_DESCRIPTION = """\
Say what a configuration means before a GPU is spent on it: items, frames and prompts (and how many
of these are answered in the store already), tokens, arithmetic, memory and time of every member.
Takes the overrides of `probes run`. Processors are loaded, weights are not. Media are decoded
and made data are made, as a run would; it finds them then.
"""
_EPILOG = """\
examples:
  probes plan experiment=demo
  probes plan pair=llava_next_7b task=egoschema task.root=/data/egoschema --device A100
  probes plan pair.image.repo=/models/a pair.video.repo=/models/b --dry-run 1
  probes plan experiment=demo backend.device=cpu --measure
"""


def main(arguments: Sequence[str]) -> int:
    """Run `probes plan` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes plan",
        usage="probes plan [--dry-run [N]] [--measure [N]] [--device NAME] [--config-dir DIR]"
        " [group=option ...] [key=value ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run", nargs="?", type=int, const=2, metavar="N",
        help="print exactly what each member will see in each arm, for N items (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--measure", nargs="?", type=int, const=16, metavar="N",
        help="load each model, time N of its prompts of each kind (default: 16) on backend.device,"
        " and reckon from that; nothing is stored",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=sorted(costs.DEVICES), metavar="NAME",
        help=f"reckon for one of {', '.join(costs.DEVICES)} (default: all of them)",
    )  # fmt: skip
    parser.add_argument("--config-dir", metavar="DIR", help="as for `probes run`")
    # Apart first: `--dry-run pair=tiny` names no number of items.
    overrides = [a for a in arguments if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    given = parser.parse_args([a for a in arguments if a not in overrides])
    for name, value in (("--dry-run", given.dry_run), ("--measure", given.measure)):
        if value is not None and value < 1:
            raise ProbesError(f"{value} is too small", name, "give at least 1")
    folder = [f"--config-dir={given.config_dir}"] if given.config_dir else []
    compose.quiet()
    cfg = compose.compose([*overrides, *folder])
    if given.dry_run is not None:
        few = min(given.dry_run, cfg.limit or given.dry_run)
        with dry_run(replace(cfg, limit=few), on_terminal()) as planned:
            print("\n".join(preview(planned)))
        return 0
    with dry_run(cfg, on_terminal(), keep=given.measure or 0) as planned:
        print("\n".join(report(planned, given.device)))
        if given.measure:
            print("\n".join(lines_of([measured(planned)])).rstrip())
    return 0


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
    tables = [_prompts(planned), _cells(planned)]
    models = {name: model for name in planned.models if (model := _model(planned, name))}
    if models:
        tables += [_costs(planned, models), _times(planned, models, device)]
    lines += lines_of(tables)
    for note in _notes(planned, models):
        lines += textwrap.wrap(note, 100, subsequent_indent="  ")
    return lines


def _prompts(planned: DryRun) -> Table:
    rows = []
    for name, asker in planned.models.items():
        counts = asker.stats
        writes = asker.workloads.get("generate")
        rows.append((
            name, f"{counts.unique:,}", f"{counts.cached:,}", f"{counts.unique - counts.cached:,}",
            f"{writes.prompts:,}" if writes else "0",
            f"{sum(load.too_long for load in asker.workloads.values()):,}",
        ))  # fmt: skip
    header = ("model", "prompts", "stored", "to do", "written", "cannot be asked")
    return Table("Different prompts", header, tuple(rows), 1)


def _cells(planned: DryRun) -> Table:
    """Tell cells and tokens by arm; members stand side by side."""
    members = list(dict.fromkeys(cell.member for cell in planned.cells))
    by_arm: dict[tuple[str, int], dict[str, CellWorkload]] = {}
    for cell in planned.cells:
        by_arm.setdefault((cell.arm, cell.frames), {})[cell.member] = cell
    rows = []
    for (arm, frames), cells in by_arm.items():
        one = cells[members[0]]
        tokens = (text for name in members for text in _tokens(cells[name]))
        rows.append((arm, str(frames), f"{one.count:,}", f"{one.broken:,}", *tokens))
    header = (
        "arm", "frames", "cells", "no media",
        *(text for name in members for text in (name, "longest")),
    )  # fmt: skip
    return Table("Cells, and the tokens of their prompts by member", header, tuple(rows), 1)


def _tokens(cell: CellWorkload) -> tuple[str, str]:
    if cell.tokens is None or cell.longest is None:
        return "-", "-"
    return f"{cell.tokens:,}", f"{cell.longest:,}"


@dataclass(frozen=True, slots=True)
class _Model:
    """What is needed to reckon with one model."""

    weights: costs.ParameterCounts
    asker: DryRunModel
    features: int | None
    """Tokens of all frames; None where a model is run whole and nobody counts them."""
    patches: float
    dtype: str
    quantize: str
    batch_tokens: int
    batch_size: int

    def perceived(self) -> float:
        """Return the FLOPs of perceiving; 0 where they are not known."""
        return costs.encoding(self.weights, self.features or 0, self.patches)


def _model(planned: DryRun, name: str) -> _Model | None:
    """Return what is known of a model's costs; None where its files do not tell."""
    asker = planned.models[name]
    if not isinstance(asker.backend, HfBackend):
        return None
    weights = costs.weights_of(asker.backend.checkpoint.shapes())
    if weights is None:
        return None
    facts = asker.backend.describe()
    backend = planned.cfg.backend
    kind = "cpu" if backend.device == "cpu" else "cuda"
    batch_tokens = int(backend.options.get("batch_tokens") or BATCH_TOKENS[kind])
    together = facts["perceive_once"]  # a model that is run whole gets one prompt at a time
    return _Model(
        weights=weights,
        asker=asker,
        features=asker.features() if facts["patches_per_token"] else None,
        patches=float(facts["patches_per_token"] or 0),
        dtype=str(facts["dtype"]),
        quantize=str(facts["quantize"] or ""),
        batch_tokens=batch_tokens if together else 0,
        batch_size=backend.batch_size if together else 1,
    )


def _costs(planned: DryRun, models: dict[str, _Model]) -> Table:
    rows = []
    for name, model in models.items():
        loads, weights = model.asker.workloads, model.weights
        tokens = sum(load.tokens + load.answers for load in loads.values())
        need = _memory(planned, model)
        rows.append((
            name, f"{weights.total / 1e6:,.1f} M", f"{tokens:,}",
            f"{sum(load.written for load in loads.values()):,}",
            "-" if model.features is None else _flops(model.perceived()),
            _flops(sum(costs.reading(weights, load) for load in loads.values())),
            _flops(sum(costs.writing(weights, load) for load in loads.values())),
            *(_gb(part) for part in (need.weights, need.features, need.cache, need.pass_)),
            _gb(need.total),
        ))  # fmt: skip
    header = (
        "model", "weights", "read", "write", "perceive", "read", "write",
        "weights", "features", "keys", "pass", "all",
    )  # fmt: skip
    title = "To do: tokens (read, write), forward FLOP (perceive, read, write), memory in GB"
    return Table(title, header, tuple(rows), 1)


def _memory(planned: DryRun, model: _Model) -> costs.Memory:
    backend = planned.cfg.backend
    return costs.memory(
        model.weights,
        model.asker.workloads,
        dtype=model.dtype,
        quantize=model.quantize,
        features=model.features or 0,
        feature_cache=backend.feature_cache_mb * 2**20,
        batch_tokens=model.batch_tokens,
        batch_size=model.batch_size,
    )


def _times(planned: DryRun, models: dict[str, _Model], device: str | None) -> Table:
    rows = []
    for name, one in costs.DEVICES.items():
        if device not in (None, name):
            continue
        times = [
            costs.seconds(
                model.weights,
                model.asker.workloads,
                one,
                dtype=model.dtype,
                encoding_flops=model.perceived(),
                batch_tokens=model.batch_tokens,
                batch_size=model.batch_size,
            )
            for model in models.values()
        ]
        need = max((_memory(planned, model).total for model in models.values()), default=0)
        fits = "yes" if need <= one.memory * 1e9 else "no"
        rows.append((name, str(one.memory), fits, *map(_time, times), _time(sum(times))))
    header = ("device", "GB", "fits", *models, "all")
    return Table("Time that the models need, reckoned", header, tuple(rows), 1)


def _notes(planned: DryRun, models: dict[str, _Model]) -> Iterator[str]:
    if any(asker.workloads.get("generate") for asker in planned.models.values()):
        yield (
            "A text that is not written yet is taken to be as long as it may be: tokens, costs and"
            " errors that rest on it are upper bounds."
        )
    if models:
        yield (
            f"Times assume {costs.UTILISATION:.0%} of a device's peak arithmetic and, for writing,"
            f" {costs.BANDWIDTH:.0%} of its bandwidth; decoding and loading are not in them. One"
            " model is in memory at a time."
        )
    if whole := [name for name, model in models.items() if model.features is None]:
        yield (
            f"What {', '.join(whole)} perceive is not counted: they are run whole, every picture"
            " with every prompt."
        )
    if missing := sorted(set(planned.models) - set(models)):
        yield f"Costs are not known of {', '.join(missing)}: the backend or the files do not tell."
    for name, asker in planned.models.items():
        for load in asker.workloads.values():
            if load.too_long:
                yield f"{name}: {load.too_long} prompts will be errors, e.g. {load.problem}"
    if planned.broken:
        name, why = next(iter(planned.broken.items()))
        yield f"{len(planned.broken)} items have no media, e.g. {name}: {why}"


def measured(planned: DryRun) -> Table:
    """Time a few prompts of every kind on every model, and reckon the whole from their tokens."""
    rows = []
    for name, asker in planned.models.items():
        for scoring, prompts in asker.kept.items():
            load = asker.workloads[scoring.kind]
            if not prompts:
                continue
            _timed(asker, scoring, prompts[:1])  # warms the device up
            elapsed = _timed(asker, scoring, prompts)
            # By length where it is known: prompts with infills are longer than those timed.
            all_of_it = load.tokens + load.answers + load.written or load.prompts
            whole = elapsed * all_of_it / sum(length for _, length in prompts)
            device = str(asker.backend.describe().get("device", ""))
            rows.append((
                name, scoring.kind, device, str(len(prompts)), f"{elapsed:.2f} s",
                f"{load.prompts:,}", _time(whole),
            ))  # fmt: skip
        asker.backend.close()
    header = ("model", "kind", "device", "timed", "in", "to do", "time")
    title = "Time by measurement" if rows else "Time by measurement: nothing is left to be timed"
    return Table(title, header, tuple(rows), 3)


def _timed(
    asker: DryRunModel, scoring: ScoringSpec, prompts: Sequence[tuple[Prompt, int]]
) -> float:
    """Return the seconds that a model takes to answer prompts, from pixels on."""
    start = time.perf_counter()
    for _ in asker.backend.score([one for one, _ in prompts], asker.frames, scoring):
        pass
    return time.perf_counter() - start


def preview(planned: DryRun) -> Iterator[str]:
    """Yield the lines of a dry run: for every item and arm the templated text of every member.

    Frames are `<frame SHA8>`, each with its own wrapping if its family has one; infills that are
    not written yet are `[not written yet SHA8 SHA8]`.
    """
    cfg, state = planned.cfg, planned.state
    for at, cell in enumerate(state.plan.trials()):
        donor = f", donor {cell.donor.id}" if cell.donor else ""
        yield f"=== item {cell.item.id}, arm {cell.arm.name}, {cell.frames} frames{donor}"
        last = ""
        for spec in cfg.pair.members:
            asker = planned.models[spec.name]
            one = state.requests[spec.role][at]
            if isinstance(one, UnaskableTrial):
                yield f"--- {spec.name}: cannot be asked: {one.problem}"
                continue
            asked = shortened(prompt_of(state.builder(spec.role).stimulus(cell)))
            if isinstance(asker.backend, HfBackend):
                text = asker.backend.preprocessor().shown(asked, cfg.pair.answer_prefix)
            else:
                text = "".join(
                    part if isinstance(part, str) else f"<frame {part.sha256[:8]}>"
                    for part in asked.parts
                )
            text += f"\n[scored: {' | '.join(asked.options)}]" if asked.options else ""
            tokens = asker.sizes.get(one.key)
            stored = asker.store.get([one.key]).get(one.key) if tokens is None else None
            count = tokens if stored is None else stored.input_tokens
            yield f"--- {spec.name}: {count if count is not None else 'unknown'} tokens" + (
                ", answered in the store" if stored else ""
            )
            yield "(the same text)" if text == last else text
            last = text
        yield ""


def _flops(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1e6:,.1f} M"


def _gb(value: int) -> str:
    return f"{value / 1e9:,.2f}"


def _time(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:,.1f} h"
