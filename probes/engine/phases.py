"""The phases of a run up to its files: members ready, items, clips, infills, answers.

A run and a dry run go through the same phases; they differ in what is asked
(`RunContext.make_model`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probes.core.errors import ErrorCollector, ProbesError
from probes.core.scratch import HashSet
from probes.core.types import Arm, ModelSpec, Role
from probes.engine import answer_versions, answering, doctor, infilling, plan
from probes.engine.answer_log import AnswerLog
from probes.engine.context import RunContext
from probes.engine.doctor import Doctor
from probes.engine.fillers import FillerWriter
from probes.engine.infilling import InfillWriters
from probes.engine.plan import InfillDraws, Plan
from probes.engine.stimulus_builder import StimulusBuilder, infills_for
from probes.media.composites import Composite
from probes.media.prefetch import ClipPrefetcher
from probes.models.base import ChecksFiles, check_answer_prefix, check_capabilities
from probes.stimuli.arms import StimulusForm
from probes.tasks import registry

FIRST = 4
"""Items whose frames are waited for before anything is asked."""


@dataclass(frozen=True, slots=True)
class RunState:
    """The results of a run's phases, before its files are written."""

    plan: Plan
    clips: ClipPrefetcher
    form: StimulusForm
    """How stimuli are presented."""
    infills: Mapping[str, InfillDraws]
    """By writer: `shared`, or the role of a member that wrote its own."""
    requests: Mapping[Role, AnswerLog]
    """How every trial was put to the member of a role."""
    shown: HashSet
    """sha256 of every frame that was shown."""
    fillers: Mapping[Role, FillerWriter]
    """What made the neutral texts of the member of a role."""

    def builder(self, role: Role) -> StimulusBuilder:
        """Return what makes the stimuli of the member of a role."""
        own = infills_for(role, self.infills)
        return StimulusBuilder(self.clips, own, self.form, self.fillers[role])


def run_phases(context: RunContext, planned: Plan | None = None) -> RunState:
    """Go through all phases of a run but its files.

    Args:
        context: what the phases share.
        planned: what is asked; by default the task's items are loaded and planned.

    Raises:
        ProbesError: something that ends the run: data, checkpoint, prompts, disk.
    """
    # Before any item or weight is loaded: making data, and the first answers, may take hours.
    suite = plan.resolved(context.cfg) if planned is None else planned.arms
    with context.progress.phase("members"):
        writers = open_models(context, suite)
    if planned is None or not context.dry:  # else it is the doctor that asks, and has looked
        _look_at_members(context)
    if planned is None:
        with context.progress.phase("items") as phase:  # makes the task's data if need be
            task = context.cfg.task
            planned = plan.make(registry.load(task, phase.report, "later"), context.cfg)
            registry.check_media(task, planned.shown_items(), phase.report)  # not of all items
    clips = decode_clips(context, planned)
    shown = HashSet(context.scratch, "frames shown")
    form = _stimulus_form(context, shown)
    # Shared infills are written before any answer, as all members are shown them.
    needing = planned.needing_infills()
    infills: dict[str, InfillDraws] = {}
    if needing and context.cfg.infill.source == "file":
        infills["shared"] = infilling.from_file(context, planned, clips)
    elif needing and writers.shared is not None:
        infills["shared"] = infilling.write(context, writers.shared, writers, clips, needing)
    requests: dict[Role, AnswerLog] = {}
    fillers: dict[Role, FillerWriter] = {}
    for spec in _in_order(context, writers):
        if needing and context.cfg.infill.source == "self":
            infills[spec.role] = infilling.write(context, spec.name, writers, clips, needing)
        fillers[spec.role] = FillerWriter(context, spec)
        builder = StimulusBuilder(clips, infills_for(spec.role, infills), form, fillers[spec.role])
        requests[spec.role] = answering.ask(context, spec, planned, builder, shown)
    if not context.dry:
        answer_versions.say(context.cfg.answers, context.others())
    return RunState(planned, clips, form, infills, requests, shown, fillers)


def open_models(context: RunContext, suite: Sequence[Arm]) -> InfillWriters:
    """Open all that will be asked, and check what their files tell, before anything is made.

    Args:
        context: what the phases share.
        suite: the arms, with the versions of what they name.

    Returns:
        Who writes and shortens infills.

    Raises:
        ProbesError: what is wrong with any of them, all of it together.
    """
    problems, writers = ErrorCollector(), InfillWriters()
    for spec in context.cfg.pair.members:
        with problems.go_on():
            _check(context, spec, suite)
    with problems.go_on():
        writers = infilling.open_writers(context)
    for thorough in (False, True):
        for model in context.models.values():
            with problems.go_on():
                # Of another package's backend only loading tells.
                if isinstance(model.backend, ChecksFiles):
                    model.backend.check_files(thorough=thorough)
        if not context.dry:
            problems.done()  # at once; a plan goes on, and tells all there is
    problems.done()
    return writers


def _check(context: RunContext, spec: ModelSpec, suite: Sequence[Arm]) -> None:
    """Refuse what a member's backend cannot do."""
    can, name = context.member(spec).backend.capabilities(), context.cfg.backend.name
    check_answer_prefix(can, name, answering.scoring_of(context.cfg, spec))
    check_capabilities(
        can,
        name,
        context.cfg.scoring,
        [arm.intervention for arm in suite if arm.intervention is not None],
        [arm.decoding for arm in suite if arm.decoding is not None],
    )


def _look_at_members(context: RunContext) -> None:
    """Look at the members' files before anything is asked.

    Raises:
        ProbesError: what makes a member's answers worthless. Differences stop no run.
    """
    problems = ErrorCollector()
    with context.progress.phase("doctor"):
        for spec in context.cfg.pair.members:
            looking = Doctor(context.cfg, answering.scoring_of(context.cfg, spec))
            check = looking.member(spec, context.member(spec).backend)
            context.checks[spec.name] = check
            doctor.say_remarks(check)
            for error in check.errors:
                with problems.go_on():
                    raise ProbesError(
                        error, f"member {spec.name}", "`probes doctor` shows how it is asked"
                    )
        if not context.dry:
            problems.done()  # a plan goes on, and shows the prompts that are refused
        doctor.say(doctor.verdict(context.checks))


def decode_clips(context: RunContext, planned: Plan) -> ClipPrefetcher:
    """Begin to decode the clips of a plan and wait for the first few."""
    counts, frames = context.cfg.frames, context.frames
    clips = ClipPrefetcher(
        planned.in_order_of_need(),
        counts,
        lambda item: frames.clips(item.media, counts),
        context.scratch,
        threads=frames.processes,
    )
    context.clips = clips
    with context.progress.phase("first frames") as phase:  # the others, while models are asked
        clips.wait(FIRST, phase.report)
    return clips


def _stimulus_form(context: RunContext, shown: HashSet) -> StimulusForm:
    cfg, frames = context.cfg, context.frames

    def compose(composite: Composite) -> str:
        # The frames on it are shown too, and kept with the run.
        shown.update(composite.pictures())
        return frames.compose(composite)

    return StimulusForm(cfg.prompts, cfg.scoring, cfg.task.layout or "sequence", compose)


def _in_order(context: RunContext, writers: InfillWriters) -> list[ModelSpec]:
    """Return the members; the one that has just written infills is still loaded: it goes first."""
    members = context.cfg.pair.members
    # False sorts before True, and the sort is stable: the others keep their order.
    return sorted(members, key=lambda spec: writers.shared not in (None, spec.name))
