"""A run: plan, skip what is stored, ask in batches, store, join to records, export."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from probes.cache.output_cache import Store
from probes.config.settings import RunConfig
from probes.core.environment import git_state, packages
from probes.core.files import home
from probes.core.hashing import sha256_json, sha256_json_rows
from probes.core.machine import device_name, platform_facts
from probes.core.progress import Phase, Progress
from probes.core.spool import SpilledDict
from probes.core.types import (
    ClipKey,
    Infill,
    Item,
    ModelSpec,
    Output,
    Prompt,
    Role,
    ScoringSpec,
)
from probes.engine import export, plan
from probes.engine.answer_log import AnswerLog, HashSet, TrialRequest
from probes.engine.cached_model import CachedModel, ModelSlot
from probes.engine.plan import InfillsByClip, Plan, StimulusBuilder, Trial
from probes.media.composites import Composite
from probes.media.frame_store import FrameStore
from probes.media.prefetch import ClipPrefetcher
from probes.models import Backend, open_backend
from probes.records import schema
from probes.records.manifest import Manifest, write_manifest
from probes.records.schema import Record
from probes.stimuli import infill_file, infills
from probes.stimuli.answers import fault, judge
from probes.stimuli.rotation import rotated
from probes.tasks import pictures, registry

T = TypeVar("T")

BLOCK = 128
"""Pairs of frames that a writer is handed at a time: the first while most videos still decode."""
_JOIN_S = 5.0  # for threads that decode; what they write is whole or not there, so they may be left
FIRST = 4
"""Items whose frames are waited for before anything is asked."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to."""

    errors: int
    """Records with status `error`."""
    first_error: str
    """Item and reason of the first of them."""
    failed_infills: int
    """Infills that failed: the records whose stimulus they belong to are errors too."""
    empty_infills: int
    """Infills whose writer had nothing to say: their gaps were left bare."""
    counts: Mapping[str, Any]
    """Prompts by member: unique, cached, computed, failed; and cells planned."""
    out: Path
    """The run's folder."""

    @property
    def records(self) -> list[Record]:
        """The records, read back from the run's folder."""
        return schema.read_records(self.out)


@dataclass(frozen=True, slots=True)
class RunState:
    """What came of the steps of a run, before its files are written."""

    plan: Plan
    material: StimulusBuilder
    written: dict[str, InfillsByClip]
    asked: dict[Role, AnswerLog]
    """How every cell was put to the member of a role."""
    frames: HashSet
    """sha256 of the frames that were shown."""


@dataclass
class RunContext:
    """What all steps of a run share."""

    cfg: RunConfig
    store: Store
    pool: FrameStore
    progress: Progress
    residence: ModelSlot = field(default_factory=ModelSlot)
    askers: dict[str, CachedModel] = field(default_factory=dict)
    """By name of member, and of other models that write infills."""
    new: Callable[[Backend, Store, FrameStore, ModelSlot], CachedModel] = CachedModel
    """Who asks; a rehearsal only counts what it would ask."""
    reel: ClipPrefetcher | None = None
    """The run's clips, once they are being decoded."""

    def asker(self, name: str, open_one: Callable[[], Backend]) -> CachedModel:
        """Return the asker of that name; its checkpoint is found, no model is loaded."""
        if name not in self.askers:
            self.askers[name] = self.new(open_one(), self.store, self.pool, self.residence)
        return self.askers[name]

    def member(self, spec: ModelSpec) -> CachedModel:
        """Return the asker of a member."""
        return self.asker(spec.name, partial(open_backend, self.cfg.backend, spec))

    def clips(self, items: Sequence[Item]) -> ClipPrefetcher:
        """Begin to decode the clips of items."""
        counts, pool = self.cfg.frames, self.pool
        self.reel = ClipPrefetcher(
            items, counts, lambda item: pool.clips(item.media, counts), threads=pool.processes
        )
        return self.reel

    def close(self) -> None:
        """Free the model that is loaded and end all decoding, even amid a video."""
        if self.reel is not None:
            self.reel.stop()
        try:
            self.pool.close()
        finally:
            self.residence.leave()
            if self.reel is not None:
                self.reel.join(_JOIN_S)


def execute(cfg: RunConfig, out: Path, progress: Progress | None = None) -> RunResult:
    """Do everything that a configuration says and write the run's files.

    Every answer is stored as it comes: a run that was stopped goes on from there when it is
    started again, and one that is complete loads no model and decodes nothing.

    Args:
        cfg: checked configuration.
        out: the run's folder; files of the same names are replaced.
        progress: where to show what is going on; nowhere by default.

    Returns:
        What was asked and what failed; its `records` are read from the run's folder.

    Raises:
        ProbesError: something that ends the run: data, checkpoint, prompts, disk.
    """
    progress = progress or Progress()
    with Store(home() / "store") as store:
        desk = RunContext(cfg, store, FrameStore(home(), read_panels=pictures.read), progress)
        with closing(desk):
            return _execute(desk, out)


def carry_out(desk: RunContext, planned: Plan | None = None) -> RunState:
    """Go through all steps of a run but its files: members, items, frames, infills, answers.

    Args:
        desk: what the steps share.
        planned: what is asked; by default the task's items are loaded and planned.
    """
    cfg, progress = desk.cfg, desk.progress
    with progress.phase("members"):  # first: a missing checkpoint should not be found out late
        members = {spec.role: desk.member(spec) for spec in cfg.pair.members}
        writer, condense = _writers(desk)
    if planned is None:
        with progress.phase("items") as phase:
            planned = plan.make(registry.load(cfg.task, phase.report), cfg)
    clips = desk.clips(planned.in_order_of_need())
    with progress.phase("first frames") as phase:  # the others are decoded beside the models
        clips.wait(FIRST, phase.report)
    frames_shown = HashSet()
    material = StimulusBuilder(clips, {}, cfg, partial(_compose, desk.pool, frames_shown))
    written: dict[str, InfillsByClip] = {}
    needing = planned.needing_infills()
    if needing and cfg.infill.source == "file":
        written["shared"] = _from_file(cfg, planned, clips, needing)
    elif needing and writer is not None:
        written["shared"] = _write(desk, *writer, condense, clips, needing)

    scoring = ScoringSpec(
        cfg.scoring,
        cfg.max_new_tokens if cfg.scoring == "generate" else 0,
        cfg.pair.answer_prefix,
    )
    asked: dict[Role, AnswerLog] = {}
    # Whoever has just written infills is still loaded: it goes first.
    for spec in sorted(cfg.pair.members, key=lambda spec: writer is None or spec.name != writer[0]):
        asker = members[spec.role]
        if needing and cfg.infill.source == "self":
            written[spec.role] = _write(desk, spec.name, asker, condense, clips, needing)
        mine = replace(material, written=written.get("shared") or written.get(spec.role, {}))
        asked[spec.role] = _score(desk, spec.name, asker, planned, mine, scoring, frames_shown)
    return RunState(planned, material, written, asked, frames_shown)


def records(desk: RunContext, done: RunState) -> Iterator[Record]:
    """Join what was asked to what was answered, member by member."""
    for spec in desk.cfg.pair.members:
        yield from _records(desk.cfg, spec, desk.member(spec), done)


@dataclass
class RecordCounter:
    """What is counted of records on their way into a table."""

    statuses: Counter[str] = field(default_factory=Counter)
    first_error: str = ""

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on."""
        for record in records:
            self.statuses[record.status] += 1
            if record.status == "error" and not self.first_error:
                self.first_error = f"item {record.item_id}: {record.error}"
            yield record


def _execute(desk: RunContext, out: Path) -> RunResult:
    cfg, progress = desk.cfg, desk.progress
    done = carry_out(desk)
    tally = RecordCounter()
    with progress.phase("files"):
        export.tables(
            out,
            task=cfg.task,
            plan=done.plan,
            clips=done.material.clips,
            infills=done.written,
            records=tally.watch(records(desk, done)),
        )
        lost = export.frames(out / "frames", done.frames, desk.pool)
        statuses = Counter(infill.status for infill in _each_infill(done.written))
        result = RunResult(
            out=out,
            errors=tally.statuses["error"],
            first_error=tally.first_error,
            failed_infills=statuses["failed"],
            empty_infills=statuses["empty"],
            counts=_counts(desk, done.plan, tally.statuses),
        )
        write_manifest(out, _manifest(desk, done, result, lost))
    return result


def _manifest(desk: RunContext, done: RunState, result: RunResult, lost: list[str]) -> Manifest:
    cfg, planned = desk.cfg, done.plan
    git, dirty = git_state(Path(__file__).parent)
    shown = planned.shown_items()
    media = {export.media_sha256(item) for item in shown}
    return Manifest(
        git=git,
        dirty=dirty,
        packages=packages(),
        device=device_name(),
        config=asdict(cfg),
        data={
            "root": str(registry.root(cfg.task)),
            "items": len(planned.known),
            "items_sha256": sha256_json_rows(map(_content, shown)),
            "media_sha256": sha256_json(sorted(sha for sha in media if sha)),
        },
        seeds={"run": cfg.seed, "data": cfg.task.seed} | {arm.name: arm.seed for arm in cfg.suite},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        platform=platform_facts(),
        members={name: asker.backend.describe() for name, asker in desk.askers.items()},
        counts=result.counts,
        failed_infills=result.failed_infills,
        empty_infills=result.empty_infills,
        donors=planned.donor_use(),
        decode_passes=desk.pool.decoded,
        backends={name: asker.backend.counters() for name, asker in desk.askers.items()},
        seconds={name: round(s, 3) for name, s in desk.progress.seconds.items()},
        frames_lost=tuple(lost),
    )


def _content(item: Item) -> list[Any]:
    return [
        item.id, item.question, item.options, item.answer, item.stratum, item.cluster, item.meta
    ]  # fmt: skip


def _compose(pool: FrameStore, shown: HashSet, sheet: Composite) -> str:
    """Have a sheet drawn; the frames on it are shown too, and kept with the run."""
    shown.update(sheet.pictures())
    return pool.compose(sheet)


def _writers(desk: RunContext) -> tuple[tuple[str, CachedModel] | None, CachedModel | None]:
    """Return who writes shared infills (name, asker), and who shortens infills, if anyone does."""
    cfg, writer, condenser = desk.cfg, None, None
    needed = any(arm.infills != "none" for arm in cfg.suite) and cfg.infill.source != "file"
    if needed and cfg.infill.source == "shared":
        wanted = cfg.infill.generator
        spec = next((spec for spec in cfg.pair.members if spec.role == wanted), None)
        if spec is None:  # a model outside the pair, run as the members are
            first = cfg.pair.members[0]
            spec = replace(
                first, name=wanted, repo=wanted, revision=None, family="auto",
                trust_remote_code=False,  # was granted to a member's repository, to no other
            )  # fmt: skip
        writer = (spec.name, desk.member(spec))
    if needed and cfg.infill.condenser != "none":
        from probes.models.text_llm import TextBackend

        name = cfg.infill.condenser
        condenser = desk.asker(f"condenser {name}", lambda: TextBackend(cfg.backend, name))
    return writer, condenser


def _write(
    desk: RunContext,
    name: str,
    asker: CachedModel,
    condenser: CachedModel | None,
    clips: ClipPrefetcher,
    items: list[Item],
) -> InfillsByClip:
    """Have the infills of those items' clips written, as far as they are not stored."""
    cfg = desk.cfg
    generator = infills.generator_fingerprint(
        asker.backend.fingerprint,
        cfg.prompts,
        condenser=condenser.backend.fingerprint if condenser else "",
        max_new_tokens=cfg.infill.max_new_tokens,
    )
    shelf: SpilledDict[ClipKey, Infill] = SpilledDict(Infill)
    with desk.progress.phase(f"infills by {name}") as phase:
        for block, pairs in _blocks(phase, 2, items, clips):
            texts = infills.write(
                pairs,
                partial(asker.generate, tick=phase.advance),
                cfg.prompts,
                generator=generator,
                max_new_tokens=cfg.infill.max_new_tokens,
            )
            shelf.update({place: infills.of(clips[place], texts) for place in block})
    if condenser is None:
        return shelf
    with desk.progress.phase("infills condensed") as phase:  # only one model is in memory
        for block, _ in _blocks(phase, 1, items, clips):
            texts = {
                pair: infill
                for place in block
                for pair, infill in infills.by_pair(clips[place], shelf[place]).items()
            }
            texts = infills.condensed(
                texts,
                partial(condenser.generate, tick=phase.advance),
                cfg.prompts,
                max_new_tokens=cfg.infill.max_new_tokens,
            )
            shelf.update({place: infills.of(clips[place], texts) for place in block})
    return shelf


def _blocks(
    phase: Phase, steps: int, items: list[Item], clips: ClipPrefetcher
) -> Iterator[tuple[list[ClipKey], list[infills.FramePair]]]:
    """Yield the places of some items and the pairs of frames that are asked about, by blocks."""
    bound = steps * sum(count - 1 for count in clips.counts)
    phase.expect(bound * len(items))
    for block, pairs in plan.infill_blocks(items, clips, BLOCK):
        # Where items share a clip or rows break, fewer texts are needed than were expected.
        phase.expect((phase.total or 0) - bound * len(block) + steps * len(pairs))
        yield [(item.id, count) for item in block for count in clips.counts], pairs
    phase.expect(phase.done)  # items whose media is broken need none


def _from_file(
    cfg: RunConfig, planned: Plan, clips: ClipPrefetcher, needing: list[Item]
) -> InfillsByClip:
    places = [(item.id, count) for item in needing for count in cfg.frames]
    chosen = {place: clip for place in places if (clip := clips.get(place)) is not None}
    path = Path(cfg.infill.file or "").expanduser()
    shelf: SpilledDict[ClipKey, Infill] = SpilledDict(Infill)
    shelf.update(infill_file.load_file(path, chosen, planned.known))
    return shelf


def _score(
    desk: RunContext,
    name: str,
    asker: CachedModel,
    planned: Plan,
    material: StimulusBuilder,
    scoring: ScoringSpec,
    shown: HashSet,
) -> AnswerLog:
    """Put every cell to one member, and note the frames it was shown in `shown`."""
    ledger = AnswerLog()
    with desk.progress.phase(f"answers of {name}") as phase:
        phase.expect(planned.count())
        for cells in planned.blocks():
            prompts: dict[str, Prompt] = {}
            for cell in cells:
                if problem := material.problem(cell):
                    ledger.fail(problem)
                    continue
                stimulus = material.stimulus(cell)
                shown.update(p.sha256 for p in stimulus.parts if not isinstance(p, str))
                prompt = plan.prompt(stimulus)
                key = asker.key(prompt, scoring)
                ledger.put(key, stimulus.sha)
                prompts[key] = prompt
            missing = asker.missing(prompts)
            phase.expect((phase.total or 0) - len(cells) + len(missing))
            if missing:
                asker.ask(missing, scoring, phase.advance)
    return ledger


def _records(
    cfg: RunConfig, spec: ModelSpec, asker: CachedModel, done: RunState
) -> Iterator[Record]:
    """Join what was asked to what was answered."""
    ledger = iter(done.asked[spec.role])
    for cells in done.plan.blocks():
        asked = list(islice(ledger, len(cells)))
        answers = asker.answers([one.key for one in asked if one.key])
        for cell, one in zip(cells, asked, strict=True):
            output = answers.get(one.key) or Output(status="error", error=one.problem)
            yield _record(cfg, spec, cell, one, output)


def _record(
    cfg: RunConfig, spec: ModelSpec, cell: Trial, one: TrialRequest, output: Output
) -> Record:
    item, rotation = cell.item, cell.rotation
    shown = rotated(item, rotation)
    status, choice = judge(output, shown, cfg.scoring)
    choice = None if choice is None else (choice + rotation) % len(item.options)
    return Record(
        key=one.key,
        task=item.task,
        item_id=item.id,
        cluster=item.cluster,
        stratum=item.stratum,
        pair=cfg.pair.name,
        role=spec.role,
        member=spec.name,
        arm=cell.arm.name,
        frames=cell.frames,
        scoring=cfg.scoring,
        seed=cfg.seed,
        donor_id=cell.donor.id if cell.donor else None,
        status=status,
        choice=choice,
        answer=item.answer,
        correct=None if item.answer is None else choice == item.answer,
        option_logprobs=_own_order(output.option_logprobs, rotation),
        option_tokens=_own_order(output.option_tokens, rotation),
        text=output.text,
        error=fault(output, shown, cfg.scoring),
        input_tokens=output.input_tokens,
        output_tokens=output.output_tokens,
        seconds=output.seconds,
        stimulus_sha=one.stimulus_sha,
        rotation=rotation,
    )


def _own_order(values: tuple[T, ...], rotation: int) -> tuple[T, ...]:
    """Undo the rotation of what belongs to the listed options."""
    back = len(values) - rotation
    return values[back:] + values[:back] if rotation else values


def _each_infill(written: Mapping[str, InfillsByClip]) -> Iterator[Infill]:
    for texts in written.values():
        for gaps in texts.values():
            yield from gaps


def _counts(desk: RunContext, planned: Plan, statuses: Mapping[str, int]) -> dict[str, Any]:
    return {
        "items": len(planned.items),
        "planned": sum(statuses.values()),
        **{status: statuses[status] for status in ("ok", "unparsed", "error")},
        "prompts": {
            name: {
                "unique": asker.counts.unique,
                "cached": asker.counts.cached,
                "computed": asker.counts.computed,
                "failed": asker.counts.failed,
            }
            for name, asker in desk.askers.items()
        },
    }
