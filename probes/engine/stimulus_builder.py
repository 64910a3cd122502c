"""Trials become stimuli: the clips, infills and wording of a run put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from probes.core.types import Arm, Infill, Item, Request, Stimulus
from probes.engine.fillers import FillerWriter
from probes.engine.plan import InfillDraws, Trial
from probes.media.prefetch import ClipPrefetcher
from probes.stimuli import arms
from probes.stimuli.arms import StimulusForm, StimulusSources
from probes.stimuli.rotation import rotated


@dataclass(frozen=True, slots=True)
class StimulusBuilder:
    """Makes the stimuli of one member."""

    clips: ClipPrefetcher
    infills: InfillDraws
    """Those that the member is shown."""
    form: StimulusForm
    fillers: FillerWriter

    def problem(self, trial: Trial) -> str | None:
        """Return why a trial cannot be asked; None where it can."""
        if (problem := self.clips.problem(trial.item.key)) is not None:
            return problem
        if trial.donor is not None and (problem := self.clips.problem(trial.donor.key)) is not None:
            return f"its donor {trial.donor.id}: {problem}"
        source = infill_source(trial)
        if source is not None:
            for gap, infill in enumerate(self._texts(trial, source)):
                if infill.status == "failed":
                    return f"the infill of {source.id} in gap {gap} failed: {infill.error}"
        return None

    def stimulus(self, trial: Trial) -> Stimulus:
        """Build what a member is shown in a trial that has no problem."""
        clip, places = self.clips[trial.item.key.clip(trial.frames)], trial.rotation
        if places:
            clip = replace(clip, options=clip.options[places:] + clip.options[:places])
        source, donor = infill_source(trial), trial.donor
        texts = self._texts(trial, source) if source else None
        sources = StimulusSources(
            clip=clip,
            # By identity: a donor's text must never pass for the item's own.
            infills=texts if source is trial.item else None,
            donor=donor,
            donor_clip=self.clips[donor.key.clip(trial.frames)] if donor else None,
            donor_infills=texts if source is not trial.item else None,
            fillers=self._fillers(trial, texts),
        )
        return arms.build(rotated(trial.item, places), trial.arm, sources, self.form)

    def _texts(self, trial: Trial, source: Item) -> tuple[Infill, ...]:
        return self.infills[trial.infill_draw][source.key.clip(trial.frames)]

    def _fillers(self, trial: Trial, infills: tuple[Infill, ...] | None) -> tuple[str, ...] | None:
        if trial.arm.infills != "filler" or infills is None:
            return None
        return self.fillers.texts(trial.arm, trial.item, trial.frames, infills)


def infill_source(trial: Trial) -> Item | None:
    """Return the item whose infills a trial shows, or takes its number of words from; or None."""
    if not arms.needs_infills(trial.arm):
        return None
    return trial.donor if trial.arm.infills == "donor" else trial.item


def request_of(stimulus: Stimulus, arm: Arm) -> Request:
    """Return what a backend receives of a stimulus under a resolved arm: no item, no name.

    Arms that differ in their intervention or decoding alone show the same and ask for another
    answer: their stimuli have one sha, and their requests keys of their own.
    """
    return Request(stimulus.parts, stimulus.options, arm.intervention, arm.decoding, stimulus.spans)


def infills_for(role: str, infills: Mapping[str, InfillDraws]) -> InfillDraws:
    """Return the infills that the member of a role is shown: the shared ones, or its own."""
    return infills.get("shared") or infills.get(role, ())
