"""The phase in which infills are written, or read from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.params import frozen
from probes.core.progress import Phase
from probes.core.scratch import SpilledDict
from probes.core.types import ClipKey, Decoding, Infill, Item, ModelSpec
from probes.engine import plan
from probes.engine.context import RunContext
from probes.engine.plan import InfillDraws, Plan
from probes.media.prefetch import ClipPrefetcher
from probes.models import controllers
from probes.models.repositories import EMBEDDED
from probes.stimuli import infill_file, infills
from probes.stimuli.words import keyed_start

BLOCK = 128
"""Pairs of frames that a writer is handed at a time: the first while most videos still decode."""


@dataclass(frozen=True, slots=True)
class InfillWriters:
    """The models that infills need, as names in `RunContext.models`."""

    shared: str | None = None
    """Who writes for all members; None where each writes its own, or none is needed."""
    condenser: str | None = None
    """Name of the model that shortens them, or None."""


def open_writers(context: RunContext) -> InfillWriters:
    """Open the models that write and shorten infills; no weights are loaded."""
    cfg = context.cfg
    if cfg.infill.source == "file" or all(arm.infills == "none" for arm in cfg.suite):
        return InfillWriters()
    shared = condenser = None
    if cfg.infill.source == "shared":
        shared = _shared_writer(context).name
    if plan.infill_draws(cfg) > 1:
        for name in [shared] if shared else [spec.name for spec in cfg.pair.members]:
            _check_samples(context, name)
    if cfg.infill.condenser != "none":
        from probes.models.text_llm import TextBackend

        repo = cfg.infill.condenser
        condenser = f"condenser {repo}"
        context.model(condenser, lambda: TextBackend(cfg.backend, repo))
    return InfillWriters(shared, condenser)


def _check_samples(context: RunContext, name: str) -> None:
    """Refuse a writer that can only write greedily, where several texts are wanted."""
    if name not in context.models:  # it could not be opened, which is told already
        return
    can, backend = context.models[name].backend.capabilities(), context.cfg.backend.name
    if not (can.decoding or can.sampling):
        reason = f": {can.reason}" if can.reason else ""
        raise ProbesError(
            f"backend {backend} cannot sample the infills of {name}{reason}",
            "infill_draws",
            "use backend=server, or backend=hf with a checkpoint of one of its families; or "
            "infill=file with texts of every draw; or leave infill_draws out",
        )


def _shared_writer(context: RunContext) -> ModelSpec:
    members, wanted = context.cfg.pair.members, context.cfg.infill.generator
    spec = next((spec for spec in members if spec.role == wanted), None)
    if spec is None:  # a model outside the pair, run as the members are
        _check_names_a_model(context, wanted)
        spec = replace(members[0], name=wanted, repo=wanted, revision=None, family="auto")
        # Trust was granted to a member's repository, to no other; its adapter fits no other, and
        # its template's variables may not be another's, nor the bounds of its pictures.
        spec = replace(spec, trust_remote_code=False, adapter="", chat_template_kwargs=())
        spec = replace(spec, min_pixels=None, max_pixels=None)
    context.member(spec)
    return spec


def _check_names_a_model(context: RunContext, name: str) -> None:
    """Refuse a mistyped role where models are checkpoints; other backends' may have any name."""
    free = context.cfg.backend.name not in ("hf", "lmms") or name in context.models
    if free or "/" in name or name.startswith(EMBEDDED) or Path(name).expanduser().is_dir():
        return
    roles = ", ".join(member.role for member in context.cfg.pair.members)
    raise ProbesError(
        f"{name!r} is neither a role of the pair nor a model",
        "infill.generator",
        f"use {roles}, or a model's folder or hub name",
    )


def write(
    context: RunContext,
    name: str,
    writers: InfillWriters,
    clips: ClipPrefetcher,
    items: Sequence[Item],
) -> InfillDraws:
    """Write the infills of items' clips that are not stored yet, as often as is configured.

    Args:
        context: what the phases share.
        name: of the model that writes.
        writers: who shortens them.
        clips: of those items.
        items: whose infills are needed.
    """
    draws = range(plan.infill_draws(context.cfg))
    written = [_written(context, name, writers, clips, items, draw) for draw in draws]
    if writers.condenser is not None:
        # After all texts are written: one model is in memory at a time.
        for draw in draws:
            _condense(context, writers.condenser, clips, items, written[draw], draw)
    return tuple(written)


def _written(
    context: RunContext,
    name: str,
    writers: InfillWriters,
    clips: ClipPrefetcher,
    items: Sequence[Item],
    draw: int,
) -> SpilledDict[ClipKey, Infill]:
    """Write one text for every gap, before it is shortened."""
    cfg, model, decoding = context.cfg, context.models[name], decoding_of(context.cfg, draw)
    condenser = context.models[writers.condenser] if writers.condenser else None
    limit = cfg.infill.max_new_tokens
    generator = infills.generator_fingerprint(
        model.backend.fingerprint,
        cfg.prompts,
        condenser=condenser.backend.fingerprint if condenser else "",
        max_new_tokens=limit,
        decoding=decoding,
    )
    which = f", draw {draw}" if draw else ""
    written: SpilledDict[ClipKey, Infill] = SpilledDict(
        context.scratch, f"infills by {name}{which}", Infill
    )
    kind = "prompts of " if context.dry else ""
    with context.progress.phase(f"{kind}infills by {name}{which}") as phase:
        generate = partial(model.generate, advance=phase.advance)
        for keys, pairs in _blocks(phase, 2, items, clips):
            texts = infills.write(
                pairs,
                generate,
                cfg.prompts,
                generator=generator,
                max_new_tokens=limit,
                decoding=decoding,
            )
            written.update({key: infills.of(clips[key], texts) for key in keys})
    return written


def _condense(
    context: RunContext,
    name: str,
    clips: ClipPrefetcher,
    items: Sequence[Item],
    written: SpilledDict[ClipKey, Infill],
    draw: int,
) -> None:
    """Put shortened texts in the place of those written."""
    cfg, kind = context.cfg, "prompts of " if context.dry else ""
    which = f", draw {draw}" if draw else ""
    with context.progress.phase(f"{kind}infills condensed{which}") as phase:
        generate = partial(context.models[name].generate, advance=phase.advance)
        for keys, _ in _blocks(phase, 1, items, clips):
            texts: dict[infills.FramePair, Infill] = {}
            for key in keys:
                texts |= infills.by_pair(clips[key], written[key])
            limit = cfg.infill.max_new_tokens
            texts = infills.condensed(texts, generate, cfg.prompts, max_new_tokens=limit)
            written.update({key: infills.of(clips[key], texts) for key in keys})


def decoding_of(cfg: RunConfig, draw: int) -> Decoding | None:
    """Return how the texts of a draw are written: the first greedily, the others sampled.

    A sampled text is keyed by the run's seed, the draw and the prompt, the frames' pixels among it:
    not by its batch, nor by the item, as items that share frames share their texts.
    """
    if draw == 0:
        return None
    seed = keyed_start(cfg.seed, "infill", draw) % 2**31
    params = {"temperature": temperature(cfg), "seed": seed}
    return controllers.resolve(Decoding("sample", frozen(params)), "infill_draws")


def temperature(cfg: RunConfig) -> float:
    """Return the temperature of sampled texts."""
    return 1.0 if cfg.infill.temperature is None else cfg.infill.temperature


def _blocks(
    phase: Phase, steps: int, items: Sequence[Item], clips: ClipPrefetcher
) -> Iterator[tuple[list[ClipKey], list[infills.FramePair]]]:
    """Yield clips of items and the pairs of frames that are asked about, with progress.

    Args:
        phase: which work is counted.
        steps: requests for each pair.
        items: whose clips.
        clips: of those items.
    """
    bound = steps * sum(count - 1 for count in clips.counts)
    phase.expect(bound * len(items))
    for block, pairs in plan.infill_blocks(items, clips, BLOCK):
        # Where items share a clip or rows break, fewer texts are needed than were expected.
        phase.expect((phase.total or 0) - bound * len(block) + steps * len(pairs))
        yield [item.key.clip(count) for item in block for count in clips.counts], pairs
    phase.expect(phase.done)  # items whose media is broken need none


def from_file(context: RunContext, planned: Plan, clips: ClipPrefetcher) -> InfillDraws:
    """Read the infills that a plan needs from the file that the configuration names.

    Raises:
        ProbesError: the file does not fit the plan; see `infill_file.load_file`.
    """
    cfg = context.cfg
    keys = [item.key.clip(count) for item in planned.needing_infills() for count in cfg.frames]
    chosen = {key: clip for key in keys if (clip := clips.get(key)) is not None}
    path = Path(cfg.infill.file or "").expanduser()
    draws = infill_file.load_file(path, chosen, planned.known, planned.infill_draws)
    found = []
    for draw, texts in enumerate(draws):
        kept: SpilledDict[ClipKey, Infill] = SpilledDict(
            context.scratch, f"infills, draw {draw}", Infill
        )
        kept.update(texts)
        found.append(kept)
    return tuple(found)
