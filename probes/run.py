"""A run: plan, skip what is stored, ask in batches, store, join to records, export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from probes import export, infills, plan, score
from probes.asking import CHUNK, Asker, Residence
from probes.backends import Backend, open_backend
from probes.config import RunConfig
from probes.frames import FramePool
from probes.plan import Cell, Material, Plan, Written
from probes.progress import Progress
from probes.provenance import home
from probes.sheets import Sheet
from probes.store import Store
from probes.types import Infill, Item, ModelSpec, Output, Prompt, Record, Role, ScoringSpec
from tasks import registry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to."""

    records: list[Record]
    errors: int
    """Records with status `error`."""
    failed_infills: int
    """Infills that failed: the records whose stimulus they belong to are errors too."""
    empty_infills: int
    """Infills whose writer had nothing to say: their gaps were left bare."""
    counts: Mapping[str, Any]
    """Prompts by member: unique, cached, computed, failed; and cells planned."""
    out: Path


@dataclass(frozen=True, slots=True)
class Asked:
    """A cell as it was put to one member; no key where it could not be put."""

    cell: Cell
    key: str = ""
    stimulus_sha: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of the steps of a run, before its files are written."""

    plan: Plan
    material: Material
    written: dict[str, Written]
    asked: dict[Role, list[Asked]]
    """Every cell as it was put to the member of a role."""
    frames: set[str]
    """sha256 of the frames that were shown."""


@dataclass
class Desk:
    """What all steps of a run share."""

    cfg: RunConfig
    store: Store
    pool: FramePool
    progress: Progress
    residence: Residence = field(default_factory=Residence)
    askers: dict[str, Asker] = field(default_factory=dict)
    """By name of member, and of other models that write infills."""
    new: Callable[[Backend, Store, FramePool, Residence], Asker] = Asker
    """Who asks; a rehearsal only counts what it would ask."""

    def asker(self, name: str, open_one: Callable[[], Backend]) -> Asker:
        """Return the asker of that name; its checkpoint is found, no model is loaded."""
        if name not in self.askers:
            self.askers[name] = self.new(open_one(), self.store, self.pool, self.residence)
        return self.askers[name]

    def member(self, spec: ModelSpec) -> Asker:
        """Return the asker of a member."""
        return self.asker(spec.name, partial(open_backend, self.cfg.backend, spec))


def execute(cfg: RunConfig, out: Path, progress: Progress | None = None) -> RunResult:
    """Do everything that a configuration says and write the run's files.

    Every answer is stored as it comes: a run that was stopped goes on from there when it is
    started again, and one that is complete loads no model and decodes nothing.

    Args:
        cfg: checked configuration.
        out: the run's folder; files of the same names are replaced.
        progress: where to show what is going on; nowhere by default.

    Returns:
        The records, with what was asked and what failed.

    Raises:
        ProbesError: something that ends the run: data, checkpoint, prompts, disk.
    """
    progress = progress or Progress()
    with closing(FramePool(home())) as pool, Store(home() / "store") as store:
        desk = Desk(cfg, store, pool, progress)
        try:
            return _execute(desk, out)
        finally:
            desk.residence.leave()


def carry_out(desk: Desk, planned: Plan | None = None) -> Done:
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
    shown = planned.shown_items()
    with progress.phase("frames", len(shown)) as phase:
        clips, broken = plan.sample_clips(
            shown, lambda item: desk.pool.clips(item.media, cfg.frames), phase.advance
        )
    frames_shown: set[str] = set()
    material = Material(clips, broken, {}, cfg, partial(_compose, desk.pool, frames_shown))
    written: dict[str, Written] = {}
    needing = [item for item in planned.needing_infills() if item.id not in broken]
    if needing and cfg.infill.source == "file":
        written["shared"] = _from_file(cfg, planned, material, needing)
    elif needing and writer is not None:
        written["shared"] = _write(desk, *writer, condense, material, needing)

    scoring = ScoringSpec(
        cfg.scoring,
        cfg.max_new_tokens if cfg.scoring == "generate" else 0,
        cfg.pair.answer_prefix,
    )
    asked: dict[Role, list[Asked]] = {}
    # Whoever has just written infills is still loaded: it goes first.
    for spec in sorted(cfg.pair.members, key=lambda spec: writer is None or spec.name != writer[0]):
        asker = members[spec.role]
        if needing and cfg.infill.source == "self":
            written[spec.role] = _write(desk, spec.name, asker, condense, material, needing)
        mine = replace(material, written=written.get("shared") or written.get(spec.role, {}))
        asked[spec.role] = _score(desk, spec.name, asker, planned, mine, scoring, frames_shown)
    return Done(planned, material, written, asked, frames_shown)


def records(desk: Desk, done: Done) -> list[Record]:
    """Join what was asked to what was answered, member by member."""
    return [
        record
        for spec in desk.cfg.pair.members
        for record in _records(desk.cfg, spec, desk.member(spec), done.asked[spec.role])
    ]


def _execute(desk: Desk, out: Path) -> RunResult:
    cfg, progress = desk.cfg, desk.progress
    done = carry_out(desk)
    planned, written = done.plan, done.written
    ordered = records(desk, done)
    done.asked.clear()  # a third as much as the records, and nothing below asks for it
    result = RunResult(
        records=ordered,
        errors=sum(record.status == "error" for record in ordered),
        failed_infills=sum(infills.failed(one) for one in _each_infill(written)),
        empty_infills=sum(infills.empty(one) for one in _each_infill(written)),
        counts=_counts(desk, planned, ordered),
        out=out,
    )
    with progress.phase("files"):
        export.write(
            out,
            cfg=cfg,
            plan=planned,
            material=done.material,
            written=written,
            records=ordered,
            shown=done.frames,
            pool=desk.pool,
            describe={name: asker.backend.describe() for name, asker in desk.askers.items()},
            facts={
                "counts": result.counts,
                "failed_infills": result.failed_infills,
                "empty_infills": result.empty_infills,
                "donors": planned.donor_use(),
                "decode_passes": desk.pool.decoded,
                "backends": {n: asker.backend.counters() for n, asker in desk.askers.items()},
                "seconds": {name: round(s, 3) for name, s in progress.seconds.items()},
            },
        )
    return result


def _compose(pool: FramePool, shown: set[str], sheet: Sheet) -> str:
    """Have a sheet drawn; the frames on it are shown too, and kept with the run."""
    shown.update(sheet.pictures())
    return pool.compose(sheet)


def _writers(desk: Desk) -> tuple[tuple[str, Asker] | None, Asker | None]:
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
        from probes.backends.text import TextBackend

        name = cfg.infill.condenser
        condenser = desk.asker(f"condenser {name}", lambda: TextBackend(cfg.backend, name))
    return writer, condenser


def _write(
    desk: Desk,
    name: str,
    asker: Asker,
    condenser: Asker | None,
    material: Material,
    items: list[Item],
) -> Written:
    """Have the infills of those items' clips written, as far as they are not stored."""
    cfg = desk.cfg
    pairs = plan.infill_pairs(material.clips, items)
    generator = infills.generator_fingerprint(
        asker.backend.fingerprint,
        cfg.prompts,
        condenser=condenser.backend.fingerprint if condenser else "",
        max_new_tokens=cfg.infill.max_new_tokens,
    )
    steps = 3 if condenser else 2
    with desk.progress.phase(f"infills by {name}", steps * len(pairs)) as phase:
        written = infills.write(
            pairs,
            partial(asker.generate, tick=phase.advance),
            cfg.prompts,
            generator=generator,
            max_new_tokens=cfg.infill.max_new_tokens,
            condense=partial(condenser.generate, tick=phase.advance) if condenser else None,
        )
    return {
        (item.id, count): infills.of(material.clips[item.id, count], written)
        for item in items
        for count in cfg.frames
    }


def _from_file(cfg: RunConfig, planned: Plan, material: Material, items: list[Item]) -> Written:
    places = {(item.id, count) for item in items for count in cfg.frames}
    clips = {place: clip for place, clip in material.clips.items() if place in places}
    return infills.load_file(Path(cfg.infill.file or "").expanduser(), clips, planned.known)


def _score(
    desk: Desk,
    name: str,
    asker: Asker,
    planned: Plan,
    material: Material,
    scoring: ScoringSpec,
    shown: set[str],
) -> list[Asked]:
    """Put every cell to one member, and note the frames it was shown in `shown`.

    Stimuli are made twice, once for their keys and once for those that have to be asked: holding
    them would cost far more memory than making them costs time.
    """
    asked: list[Asked] = []
    with desk.progress.phase(f"answers of {name}") as phase:
        for cell in planned.cells():
            if problem := material.problem(cell):
                asked.append(Asked(cell, problem=problem))
                continue
            stimulus = material.stimulus(cell)
            shown.update(p.sha256 for p in stimulus.parts if not isinstance(p, str))
            key = asker.key(plan.prompt(stimulus), scoring)
            asked.append(Asked(cell, key, stimulus.sha))
        missing = asker.missing([one.key for one in asked if one.key])
        phase.expect(len(missing))
        for chunk in _chunks(_pending(asked, missing, material), CHUNK):
            asker.ask(dict(chunk), scoring, phase.advance)
    return asked


def _pending(
    asked: list[Asked], missing: set[str], material: Material
) -> Iterator[tuple[str, Prompt]]:
    left = set(missing)
    for one in asked:
        if one.key in left:
            left.remove(one.key)
            yield one.key, plan.prompt(material.stimulus(one.cell))


def _chunks(values: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(values, size)):
        yield chunk


def _records(cfg: RunConfig, spec: ModelSpec, asker: Asker, asked: list[Asked]) -> Iterator[Record]:
    """Join what was asked to what was answered."""
    for chunk in _chunks(iter(asked), 8 * CHUNK):
        answers = asker.answers([one.key for one in chunk if one.key])
        for one in chunk:
            output = answers.get(one.key) or Output(status="error", error=one.problem)
            yield _record(cfg, spec, one, output)


def _record(cfg: RunConfig, spec: ModelSpec, one: Asked, output: Output) -> Record:
    item, rotation = one.cell.item, one.cell.rotation
    shown = plan.rotated(item, rotation)
    status, choice = score.judge(output, shown, cfg.scoring)
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
        arm=one.cell.arm.name,
        frames=one.cell.frames,
        scoring=cfg.scoring,
        seed=cfg.seed,
        donor_id=one.cell.donor.id if one.cell.donor else None,
        status=status,
        choice=choice,
        answer=item.answer,
        correct=None if item.answer is None else choice == item.answer,
        option_logprobs=_own_order(output.option_logprobs, rotation),
        option_tokens=_own_order(output.option_tokens, rotation),
        text=output.text,
        error=score.fault(output, shown, cfg.scoring),
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


def _each_infill(written: Mapping[str, Written]) -> Iterator[Infill]:
    for texts in written.values():
        for gaps in texts.values():
            yield from gaps


def _counts(desk: Desk, planned: Plan, records: list[Record]) -> dict[str, Any]:
    statuses = {
        status: sum(record.status == status for record in records)
        for status in ("ok", "unparsed", "error")
    }
    return {
        "items": len(planned.items),
        "planned": len(records),
        **statuses,
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
