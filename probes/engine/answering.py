"""The phase in which every trial is put to a member, and the join of answers to records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from probes.config.settings import RunConfig
from probes.core import origins
from probes.core.scratch import HashSet
from probes.core.types import ModelSpec, Output, Request, ScoringSpec
from probes.engine import doctor
from probes.engine.answer_log import AnswerLog, TrialRequest
from probes.engine.context import RunContext
from probes.engine.doctor import Doctor
from probes.engine.fillers import FillerWriter
from probes.engine.plan import Plan, Trial
from probes.engine.stimulus_builder import StimulusBuilder, request_of
from probes.records.schema import Record
from probes.records.scored import Member, ScoredAnswers
from probes.stimuli.answers import fault, judge, letter_mass, no_answer
from probes.stimuli.rotation import rotated

T = TypeVar("T")


def scoring_of(cfg: RunConfig, spec: ModelSpec) -> ScoringSpec:
    """Return how a member's answers are given."""
    most = cfg.max_new_tokens if cfg.scoring == "generate" else 0
    own = spec.answer_prefix
    return ScoringSpec(cfg.scoring, most, cfg.pair.answer_prefix if own is None else own)


def ask(
    context: RunContext, spec: ModelSpec, planned: Plan, builder: StimulusBuilder, shown: HashSet
) -> AnswerLog:
    """Put every trial to one member; what the output cache holds is not asked.

    Args:
        context: what the phases share.
        spec: the member.
        planned: what is asked.
        builder: makes the member's stimuli.
        shown: sha256 of frames; those of the member's stimuli are added.

    Returns:
        What became of every trial.
    """
    model, scoring = context.member(spec), scoring_of(context.cfg, spec)
    log, compared = AnswerLog(context.scratch, f"trials of {spec.name}"), False
    what = "prompts" if context.dry else "answers"
    with context.progress.phase(f"{what} of {spec.name}") as phase:
        phase.expect(planned.count())
        for trials in planned.blocks():
            entries: list[TrialRequest] = []
            requests: dict[str, Request] = {}
            frames: set[str] = set()
            for trial in trials:
                if (problem := builder.problem(trial)) is not None:
                    entries.append(TrialRequest(problem=problem))
                    continue
                stimulus = builder.stimulus(trial)
                frames |= {part.sha256 for part in stimulus.parts if not isinstance(part, str)}
                request = request_of(stimulus, trial.arm)
                key = model.key(request, scoring)
                entries.append(TrialRequest(key, stimulus.sha))
                # Trials with the same stimulus, option order and intervention are one request.
                requests[key] = request
            builder.fillers.keep()
            standing = model.standing(requests, scoring)
            missing = standing.missing
            # Before anything is asked: records are made from this log, whatever the model answers.
            log.extend([replace(e, key=standing.taken.get(e.key, e.key)) for e in entries])
            shown.update(frames)
            # Of the trials of this block only what is missing is work.
            phase.expect((phase.total or 0) - len(trials) + len(missing))
            if missing:
                model.ask(missing, scoring, phase.advance)
                compared = compared or _compare(context, spec, missing)
    if not context.dry and (check := context.checks.get(spec.name)):
        looking = Doctor(context.cfg, scoring)
        context.checks[spec.name] = looking.with_kept_remarks(check, spec, model.backend)
    return log


def _compare(context: RunContext, spec: ModelSpec, asked: Mapping[str, Request]) -> bool:
    """Put the first prompts that were asked to the class itself, as it is loaded anyway.

    Returns:
        Whether there were such.
    """
    some, check = doctor.first_prompts(asked), context.checks.get(spec.name)
    if context.dry or not some or check is None:
        return context.dry
    model = context.member(spec)
    answers = model.answers(list(some))
    pairs = {prompt: answers[key] for key, prompt in some.items()}
    looking = Doctor(context.cfg, scoring_of(context.cfg, spec))
    found = looking.with_passes(check, spec, model.backend, pairs, context.frames)
    found = looking.with_remarks(found, spec, model.backend)
    context.checks[spec.name] = found
    if check.seen is not None:  # another backend says it by itself, as soon as it knows
        doctor.say_remarks(found, check.remarks)
    doctor.say_passes(found)
    return True


def records_of(
    context: RunContext,
    spec: ModelSpec,
    planned: Plan,
    log: AnswerLog,
    fillers: FillerWriter,
) -> Iterator[Record]:
    """Join what was asked of a member to what it answered.

    Args:
        context: what the phases share.
        spec: the member.
        planned: what was asked.
        log: what became of every trial.
        fillers: made the member's neutral texts.
    """
    model, entries = context.member(spec), iter(log)
    for trials in planned.blocks():
        some = list(islice(entries, len(trials)))
        answers = model.answers([one.key for one in some if not one.problem])
        for trial, entry in zip(trials, some, strict=True):
            unasked = Output(status="error", error=entry.problem)
            output = unasked if entry.problem else answers[entry.key]
            texts = fillers.shown(trial.arm, trial.item.key.clip(trial.frames))
            yield replace(_record(context.cfg, spec, trial, entry, output), fillers=texts)


def _record(
    cfg: RunConfig, spec: ModelSpec, trial: Trial, request: TrialRequest, output: Output
) -> Record:
    item, rotation = trial.item, trial.rotation
    # Equal requests have equal draws, whichever arm or member they are of.
    key = (cfg.seed, item.task, item.id, request.stimulus_sha)
    status, choice, tied = judge(output, item, cfg.scoring, rotation=rotation, key=key)
    # Of an output that cannot be judged, nothing is known.
    mass = None if status == "error" else letter_mass(output, cfg.scoring)
    return Record(
        key=request.key,
        task=item.task,
        item_id=item.id,
        cluster=item.cluster,
        stratum=item.stratum,
        pair=cfg.pair.name,
        role=spec.role,
        member=spec.name,
        arm=trial.arm.name,
        frames=trial.frames,
        scoring=cfg.scoring,
        seed=cfg.seed,
        donor_id=trial.donor.id if trial.donor else None,
        status=status,
        choice=choice,
        answer=item.answer,
        correct=None if item.answer is None else choice == item.answer,
        option_logprobs=_own_order(output.option_logprobs, rotation),
        option_tokens=_own_order(output.option_tokens, rotation),
        text=output.text,
        error=fault(output, rotated(item, rotation), cfg.scoring) or no_answer(output),
        input_tokens=output.input_tokens,
        output_tokens=output.output_tokens,
        seconds=output.seconds,
        extras=output.extras,
        stimulus_sha=request.stimulus_sha,
        rotation=rotation,
        infill_draw=trial.infill_draw,
        donor_draw=trial.donor_draw,
        donor_task=_donor_task(trial),
        origin=origins.shown(output.origin),
        letter_mass=mass,
        tied=tied,
    )


def _donor_task(trial: Trial) -> str | None:
    donor = trial.donor
    return None if donor is None or donor.task == trial.item.task else donor.task


def _own_order(values: tuple[T, ...], rotation: int) -> tuple[T, ...]:
    """Undo the rotation of what belongs to the listed options."""
    back = len(values) - rotation
    return values[back:] + values[:back] if rotation else values


@dataclass
class RecordCounter:
    """Counts records on their way into a table."""

    statuses: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    origins: dict[str, Counter[str]] = field(default_factory=dict)
    """By member: answers by what computed them."""
    scored: dict[Member, ScoredAnswers] = field(default_factory=dict)
    """By member: answers whose options were scored."""

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on."""
        for record in records:
            self.statuses[record.status] += 1
            if record.status == "ok" and record.option_logprobs:
                one = self.scored.setdefault((record.role, record.member), ScoredAnswers())
                one.add(record.option_tokens, record.tied, record.letter_mass)
            if record.origin:
                self.origins.setdefault(record.member, Counter())[record.origin] += 1
            if record.status == "error" and not self.first_error:
                self.first_error = f"item {record.item_id}: {record.error}"
            yield record
