"""A run gone through without a model: every prompt is built and measured, none is asked.

It takes the phases of a run (`probes.engine.phases`) with models that count, so what is planned is
what a run asks. Infills that are not stored yet are replaced by text of an assumed length.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from probes.cache.output_cache import Store
from probes.config.settings import RunConfig
from probes.core.files import home
from probes.core.progress import Progress
from probes.core.types import ItemKey
from probes.engine import plan
from probes.engine.answer_log import TrialRequest
from probes.engine.answer_versions import refusal
from probes.engine.context import RunContext, told_config
from probes.engine.phases import RunState, run_phases
from probes.engine.plan import Plan
from probes.engine.workload import DryRunModel

_LOOKED_UP = 2_048  # answers that are read from the output cache at a time


@dataclass(frozen=True, slots=True)
class ArmWorkload:
    """The trials of one member under one arm at one number of frames."""

    member: str
    arm: str
    frames: int
    count: int
    broken: int
    """Trials whose media cannot be shown."""
    tokens: int | None
    """Of all their prompts together; None where the backend does not know."""
    longest: int | None


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run of a configuration would do."""

    cfg: RunConfig
    items: int
    clips: int
    """Clips of all numbers of frames, those of donors included."""
    frames: int
    """Distinct frames that are shown in trials."""
    infills: int
    """Distinct pairs of neighbouring frames that text is written for."""
    workloads: tuple[ArmWorkload, ...]
    models: Mapping[str, DryRunModel]
    """By name of member, and of other models that write infills."""
    state: RunState
    broken: Mapping[ItemKey, str]
    """Why an item's media cannot be shown."""
    refused: tuple[str, ...] = ()
    """Why a run would be refused: what makes a member's answers worthless."""


@contextmanager
def dry_run(
    cfg: RunConfig,
    progress: Progress | None = None,
    keep: int = 0,
    planned: Plan | None = None,
) -> Iterator[DryRun]:
    """Go through a run without asking a model; stores are open while the `with` block runs.

    Made data are made and frames are decoded if they have not been: a run would do the same, and
    finds both then.

    Args:
        cfg: checked configuration.
        progress: where to show what is going on.
        keep: how many prompts of each kind to keep for timing.
        planned: what is asked; by default all of the task's items.

    Raises:
        ProbesError: whatever would end the run before a model is loaded.
    """
    cfg, of_pair = told_config(cfg)
    make_model = partial(DryRunModel, keep=keep)
    with (
        Store(home() / "store") as store,
        closing(
            RunContext(cfg, store, progress or Progress(), make_model, dry=True, remarks=of_pair)
        ) as context,
    ):
        state = run_phases(context, planned)
        models = {n: one for n, one in context.models.items() if isinstance(one, DryRunModel)}
        needing = state.plan.needing_infills() if state.infills else []
        # One block of any size: a pair that two blocks share would count twice.
        blocks = plan.infill_blocks(needing, state.clips, sys.maxsize)
        yield DryRun(
            cfg=cfg,
            items=len(state.plan.items),
            clips=len(state.clips),
            frames=len(state.shown),
            infills=sum(len(pairs) for _, pairs in blocks),
            workloads=tuple(_workloads(cfg, state, models)),
            models=models,
            state=state,
            broken=state.clips.broken(),
            refused=tuple(
                f"{name}: {error}" for name, one in context.checks.items() for error in one.errors
            ),
        )


class _Census(DryRunModel):
    """Counts requests without measuring them: not even a processor is loaded."""

    planning = None


def refuse_other_versions(cfg: RunConfig, store: Store, progress: Progress) -> None:
    """Go through a run, and raise if other versions of libraries have answered what it would ask.

    Args:
        cfg: settled configuration, of `answers=refuse`.
        store: the output cache.
        progress: where to show what is going on.

    Raises:
        ProbesError: there are such answers; or whatever would end the run before that.
    """
    with closing(RunContext(cfg, store, progress, _Census, dry=True)) as context:
        run_phases(context)
        if any((counts := context.others()).values()):
            raise refusal(counts)


def _workloads(
    cfg: RunConfig, state: RunState, models: Mapping[str, DryRunModel]
) -> Iterator[ArmWorkload]:
    for spec in cfg.pair.members:
        model, log = models[spec.name], state.requests[spec.role]
        sizes = _sizes(model, [one.key for one in log if not one.problem])
        groups: dict[tuple[str, int], list[TrialRequest]] = defaultdict(list)
        # The log has no names: both go through the plan in its one order.
        for trial, entry in zip(state.plan.trials(), log, strict=True):
            groups[trial.arm.name, trial.frames].append(entry)
        for (arm, frames), entries in groups.items():
            asked = [one for one in entries if not one.problem]
            found = [sizes[one.key] for one in asked if one.key in sizes]
            yield ArmWorkload(
                member=spec.name,
                arm=arm,
                frames=frames,
                count=len(entries),
                broken=len(entries) - len(asked),
                tokens=sum(found) if found else None,
                longest=max(found, default=None),
            )


def _sizes(model: DryRunModel, keys: list[str]) -> dict[str, int]:
    """Return the tokens of prompts: as measured, or as stored with their answers."""
    sizes = dict(model.sizes)
    for start in range(0, len(keys), _LOOKED_UP):
        some = [key for key in keys[start : start + _LOOKED_UP] if key not in sizes]
        sizes |= {key: output.input_tokens for key, output in model.store.get(some).items()}
    return sizes
