"""The phase in which infills are written, or read from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from probes.core.errors import ProbesError
from probes.core.progress import Phase
from probes.core.scratch import SpilledDict
from probes.core.types import ClipKey, Infill, Item, ModelSpec
from probes.engine import plan
from probes.engine.context import RunContext
from probes.engine.plan import InfillsByClip, Plan
from probes.media.prefetch import ClipPrefetcher
from probes.models.repositories import EMBEDDED
from probes.stimuli import infill_file, infills

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
    if cfg.infill.condenser != "none":
        from probes.models.text_llm import TextBackend

        repo = cfg.infill.condenser
        condenser = f"condenser {repo}"
        context.model(condenser, lambda: TextBackend(cfg.backend, repo))
    return InfillWriters(shared, condenser)


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
) -> InfillsByClip:
    """Write the infills of items' clips that are not stored yet.

    Args:
        context: what the phases share.
        name: of the model that writes.
        writers: who shortens them.
        clips: of those items.
        items: whose infills are needed.
    """
    cfg, model = context.cfg, context.models[name]
    condenser = context.models[writers.condenser] if writers.condenser else None
    limit = cfg.infill.max_new_tokens
    generator = infills.generator_fingerprint(
        model.backend.fingerprint,
        cfg.prompts,
        condenser=condenser.backend.fingerprint if condenser else "",
        max_new_tokens=limit,
    )
    written: SpilledDict[ClipKey, Infill] = SpilledDict(
        context.scratch, f"infills by {name}", Infill
    )
    kind = "prompts of " if context.dry else ""
    with context.progress.phase(f"{kind}infills by {name}") as phase:
        generate = partial(model.generate, advance=phase.advance)
        for keys, pairs in _blocks(phase, 2, items, clips):
            texts = infills.write(
                pairs, generate, cfg.prompts, generator=generator, max_new_tokens=limit
            )
            written.update({key: infills.of(clips[key], texts) for key in keys})
    if condenser is None:
        return written
    # A phase of its own, after all texts are written: one model is in memory at a time.
    with context.progress.phase(f"{kind}infills condensed") as phase:
        generate = partial(condenser.generate, advance=phase.advance)
        for keys, _ in _blocks(phase, 1, items, clips):
            texts = {}
            for key in keys:
                texts |= infills.by_pair(clips[key], written[key])
            texts = infills.condensed(texts, generate, cfg.prompts, max_new_tokens=limit)
            written.update({key: infills.of(clips[key], texts) for key in keys})
    return written


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


def from_file(context: RunContext, planned: Plan, clips: ClipPrefetcher) -> InfillsByClip:
    """Read the infills that a plan needs from the file that the configuration names.

    Raises:
        ProbesError: the file does not fit the plan; see `infill_file.load_file`.
    """
    cfg = context.cfg
    keys = [item.key.clip(count) for item in planned.needing_infills() for count in cfg.frames]
    chosen = {key: clip for key in keys if (clip := clips.get(key)) is not None}
    written: SpilledDict[ClipKey, Infill] = SpilledDict(context.scratch, "infills", Infill)
    path = Path(cfg.infill.file or "").expanduser()
    written.update(infill_file.load_file(path, chosen, planned.known))
    return written
