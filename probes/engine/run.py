"""A run: the phases up to the answers, then its files."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from probes.cache.output_cache import Store
from probes.config.settings import RunConfig, as_plain
from probes.core.environment import git_state, packages
from probes.core.files import home
from probes.core.hashing import sha256_json, sha256_json_rows
from probes.core.machine import device_name, platform_facts
from probes.core.plugins import Registry
from probes.core.progress import Progress
from probes.core.types import Arm, Item
from probes.engine import doctor, export, infilling, plan
from probes.engine.answering import RecordCounter, records_of
from probes.engine.context import RunContext, told_config
from probes.engine.dry_run import refuse_other_versions
from probes.engine.phases import RunState, run_phases
from probes.models.controllers import CONTROLLERS
from probes.models.interventions import INTERVENTIONS
from probes.models.registry import BACKENDS
from probes.records import artifacts, claim, folder_lock, schema, scored
from probes.records.manifest import Manifest, write_manifest
from probes.records.schema import Record
from probes.stimuli.frame_sources import FRAME_SOURCES
from probes.tasks import registry

_CONTENT = attrgetter("id", "question", "options", "answer", "stratum", "cluster", "meta")
"""What the manifest's hash of the items covers."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of a run."""

    errors: int
    """Records with status `error`."""
    first_error: str
    """Item and reason of the first of them."""
    failed_infills: int
    """Infills that failed: the records whose stimulus they belong to are errors too."""
    empty_infills: int
    """Infills with an empty reply: their gaps were left bare."""
    counts: Mapping[str, Any]
    """Items, planned records by status, and requests by model: unique, cached, computed, failed."""
    out: Path
    """The run's folder."""
    remarks: tuple[str, ...] = ()
    """What has to be known of the stimuli: which items a limit chose, how filler was matched."""

    @property
    def records(self) -> list[Record]:
        """The records, read back from the run's folder."""
        return schema.read_records(self.out)


def execute(
    cfg: RunConfig,
    out: Path,
    progress: Progress | None = None,
    taken: Callable[[], None] = lambda: None,
    written: Callable[[RunResult], None] = lambda _: None,
) -> RunResult:
    """Do the run of a configuration and write its files, alone in its folder.

    Every answer is stored as it comes: a run that was stopped goes on from there when it is
    started again, and one that is complete loads no model and decodes nothing.

    Args:
        cfg: checked configuration.
        out: the run's folder, made if need be. It is locked meanwhile; an earlier run of the same
            settings in it is replaced.
        progress: where to show what is going on; nowhere by default.
        taken: called once the folder is this run's, before anything of it is computed.
        written: called when all files are written, while the folder is still locked.

    Returns:
        What was asked and what failed; its `records` are read from the run's folder.

    Raises:
        ProbesError: something that ends the run: data, checkpoint, prompts, disk, a folder that
            another run is writing, or that holds a run of other settings.
    """
    # Before the folder is claimed: its note says what was settled, as the manifest does.
    cfg, of_pair = told_config(cfg)
    with folder_lock.held(out):
        claim.claim(out, _plain_config(cfg, plan.resolved(cfg)), cfg.overwrite)
        taken()
        with (
            Store(home() / "store") as store,
            closing(RunContext(cfg, store, progress or Progress(), remarks=of_pair)) as context,
        ):
            if cfg.answers == "refuse":
                refuse_other_versions(cfg, store, context.progress)
            state = run_phases(context)
            with context.progress.phase("files"):
                result = write_files(context, state, out)
        written(result)
    return result


def write_files(context: RunContext, state: RunState, out: Path) -> RunResult:
    """Write a run's tables, frames and manifest.

    Args:
        context: what the phases share.
        state: what they came to.
        out: the run's folder; made if need be.
    """
    counter = RecordCounter()
    export.tables(
        out,
        task=context.cfg.task,
        plan=state.plan,
        clips=state.clips,
        frames=context.frames,
        infills=state.infills,
        records=counter.watch(records(context, state)),
    )
    export.arrays(out, context.store)
    lost = export.frames(out / "frames", state.shown, context.frames)
    infill_statuses = Counter(
        infill.status
        for draws in state.infills.values()
        for by_clip in draws
        for gaps in by_clip.values()
        for infill in gaps
    )
    result = RunResult(
        out=out,
        errors=counter.statuses["error"],
        first_error=counter.first_error,
        failed_infills=infill_statuses["failed"],
        empty_infills=infill_statuses["empty"],
        counts={
            "items": len(state.plan.items),
            "planned": counter.statuses.total(),
            **{status: counter.statuses[status] for status in ("ok", "unparsed", "error")},
            "prompts": {name: one.stats.as_dict() for name, one in context.models.items()},
        },
        remarks=tuple(_stimulus_remarks(context, state)),
    )
    # Last: where the manifest is, everything else is there too, and its hashes are those of it.
    write_manifest(out, _manifest(context, state, result, lost, counter))
    return result


def records(context: RunContext, state: RunState) -> Iterator[Record]:
    """Join what was asked to what was answered, member by member."""
    for spec in context.cfg.pair.members:
        log, fillers = state.requests[spec.role], state.fillers[spec.role]
        yield from records_of(context, spec, state.plan, log, fillers)


def _stimulus_remarks(context: RunContext, state: RunState) -> Iterator[str]:
    """Yield what has to be known of a run's stimuli beside any number."""
    sampled_elsewhere = " by the server, whose seed need not give the same text again"
    yield from state.plan.remarks
    if state.plan.infill_draws > 1 and context.cfg.infill.source != "file":
        yield (
            f"{state.plan.infill_draws} texts for every gap: the first was written greedily, the "
            f"others were sampled at temperature {infilling.temperature(context.cfg):g}"
            + sampled_elsewhere
            * (context.cfg.backend.name == "server")
        )
    for one in state.fillers.values():
        yield from one.remarks()


def _origins(context: RunContext, counter: RecordCounter) -> dict[str, dict[str, int]]:
    """Return what computed the answers that a run shows, and the infills, with counts."""
    texts = {f"infills by {n}": one.written for n, one in context.models.items() if one.written}
    return {name: dict(sorted(found.items())) for name, found in (counter.origins | texts).items()}


def _manifest(
    context: RunContext,
    state: RunState,
    result: RunResult,
    lost: list[str],
    counter: RecordCounter,
) -> Manifest:
    cfg, models = context.cfg, context.models
    config = _plain_config(cfg, state.plan.arms)
    data = {"data": config["task"]["seed"]} if "seed" in config["task"] else {}
    git, dirty = git_state(Path(__file__).parent)
    shown = state.plan.shown_items()
    media = {context.frames.media_sha256(item.media) for item in shown}
    return Manifest(
        git=git,
        dirty=dirty,
        packages=packages() | _plugins(context, state.plan.arms),
        device=device_name(),
        config=config,
        data={
            "root": str(registry.root(cfg.task)),
            "items": len(state.plan.known),
            "items_sha256": sha256_json_rows(_contents(shown)),
            "media_sha256": sha256_json(sorted(sha for sha in media if sha)),
        },
        sample={"items": len(state.plan.sample), "sha256": sha256_json(list(state.plan.sample))},
        seeds={"run": cfg.seed} | data | {arm.name: arm.seed for arm in cfg.suite},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        platform=platform_facts(),
        members={name: model.backend.describe() for name, model in models.items()},
        counts=result.counts,
        failed_infills=result.failed_infills,
        empty_infills=result.empty_infills,
        donors=state.plan.donor_use(),
        decode_passes=context.frames.decoded,
        backends={name: model.backend.counters() for name, model in models.items()},
        seconds={name: round(s, 3) for name, s in context.progress.seconds.items()},
        frames_lost=tuple(lost),
        artifacts=artifacts.facts(result.out),
        origins=_origins(context, counter),
        scored={name: one.as_dict() for (_, name), one in counter.scored.items()},
        notes=(*scored.lines(counter.scored, scored.exempt(config)), *result.remarks),
        comparability=doctor.verdict(context.checks).plain() if context.checks else {},
        remarks=tuple(_remarks(context)),
    )


def _remarks(context: RunContext) -> Iterator[dict[str, str]]:
    """Yield what a user has to know of how pair and members are run."""
    yield from ({"member": "", "text": line} for line in context.remarks)
    for name, check in context.checks.items():
        yield from ({"member": name, "text": line} for line in check.remarks)


def _plain_config(cfg: RunConfig, asked: Sequence[Arm]) -> dict[str, Any]:
    return as_plain(replace(cfg, suite=_with_versions(cfg.suite, asked)))


def _contents(items: Sequence[Item]) -> Iterator[tuple[Any, ...]]:
    """Yield what the manifest's hash covers of each item."""
    several = len({item.task for item in items}) > 1
    for item in items:
        # Of one task, whose name is no content: hashes are those of manifests that have them.
        yield (item.task, *_CONTENT(item)) if several else _CONTENT(item)


def _with_versions(given: Sequence[Arm], asked: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return a suite with the version and all parameters of what its arms name."""
    # One that changes nothing is none in what was asked; what was configured stays to be seen.
    return tuple(
        replace(
            arm,
            intervention=done.intervention or arm.intervention,
            decoding=done.decoding or arm.decoding,
        )
        for arm, done in zip(given, asked, strict=True)
    )


def _plugins(context: RunContext, suite: Sequence[Arm]) -> dict[str, str]:
    """Return the versions of the installed packages whose entries a run used."""
    used: list[tuple[Registry[Any], str | None]] = [
        (registry.TASKS, context.cfg.task.reader),
        (BACKENDS, context.cfg.backend.name),
    ]
    for arm in suite:
        used.append((FRAME_SOURCES, arm.frames))
        used.append((INTERVENTIONS, arm.intervention.name if arm.intervention else None))
        used.append((CONTROLLERS, arm.decoding.name if arm.decoding else None))
    families = {model.backend.describe().get("family") for model in context.models.values()}
    if families - {None}:
        from probes.models.hf.families import FAMILIES  # only where a backend has them

        used += [(FAMILIES, family) for family in families]
    found = (entries.entries().get(name) for entries, name in used if name is not None)
    # "name version", as entries have it; a name has no spaces.
    pairs = (one.distribution.rpartition(" ") for one in found if one and one.distribution)
    return {name: version for name, _, version in pairs if name}
