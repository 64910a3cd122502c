"""Stimuli made again from a run's files, and checked against the hashes in the records."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import Arm, Clip, ClipKey, FrameRef, Infill, ItemKey, Part, Stimulus
from probes.media import composites
from probes.media.composites import Composite
from probes.records.manifest import REWRITE
from probes.records.run_folder import RunFiles
from probes.stimuli import arms
from probes.stimuli.arms import StimulusForm, StimulusSources
from probes.stimuli.rotation import rotated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "what was shown is not known: "
"""How the problem of a stimulus begins that was shown and cannot be made again."""


@dataclass(frozen=True, slots=True)
class BareGap:
    """A gap without text because its infill is empty or failed."""

    after: int
    """Number of parts before it; -1 where the arm's stimulus has no place for the gap."""
    gap: int
    """Which gap; 0 is between the first two frames."""
    reason: str


@dataclass(frozen=True, slots=True)
class ShownStimulus:
    """What a member was shown before its chat template, or why that is not known."""

    parts: tuple[Part, ...] = ()
    slots: tuple[int, ...] = ()
    """For each of the clip's pictures, in the order shown: its index in the clip, from 0."""
    composite: bool = False
    """Whether the first picture is composed of the clip's; there are no slots then."""
    bare_gaps: tuple[BareGap, ...] = ()
    problem: str | None = None
    """Why there are no parts: they could not be made again, or their hash is not the record's."""


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """The columns of a record that decide what was shown."""

    task: str
    item_id: str
    arm: str
    frames: int
    role: str
    donor_id: str | None
    stimulus_sha: str
    rotation: int = 0
    donor_task: str | None = None
    infill_draw: int = 0
    fillers: tuple[str, ...] = ()
    """Neutral texts that the record keeps; any sequence may be given."""

    def __post_init__(self) -> None:
        # Rows of tables have lists, or None; trials are looked up by their content.
        object.__setattr__(self, "fillers", tuple(self.fillers or ()))

    @property
    def item(self) -> ItemKey:
        """Which item was asked."""
        return ItemKey(self.task, self.item_id)

    @property
    def donor(self) -> ItemKey | None:
        """Which item was borrowed from."""
        lender = self.donor_task or self.task
        return None if self.donor_id is None else ItemKey(lender, self.donor_id)


class Rebuilder:
    """Makes a run's stimuli again.

    Args:
        files: the run's files.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._made: dict[ShownTrial, tuple[ShownStimulus, str]] = {}
        self._composite_shas: dict[str, str] = {}
        # An item's frames are needed for one composite after another.
        self._pixels = functools.lru_cache(maxsize=64)(self._read)
        self._own_infills = {role for role in files.infills if role != "shared"}

    def rebuild(self, trial: ShownTrial) -> ShownStimulus:
        """Return what was shown, if making it again gives the hash in the record.

        Nothing is shown unchecked: where a file is missing, or the hash is another one, the parts
        are empty and `problem` says why.
        """
        if not trial.stimulus_sha:
            return ShownStimulus(problem="nothing was shown: the stimulus could not be made")
        if self._files.problem is not None:
            return _unknown(self._files.problem)
        # Members that were shown the same infills were shown the same stimulus.
        same = replace(trial, stimulus_sha="")
        if trial.role not in self._own_infills:
            same = replace(same, role="")
        if same not in self._made:
            self._made[same] = self._make(trial)
        shown, sha = self._made[same]
        if shown.problem is not None or sha == trial.stimulus_sha:
            return shown
        return _unknown(
            f"made again from the run's files, the stimulus has the hash {sha[:12]}, and the "
            f"record has {trial.stimulus_sha[:12]}"
        )

    def _make(self, trial: ShownTrial) -> tuple[ShownStimulus, str]:
        """Return a trial's stimulus and its hash, which is empty where it cannot be made."""
        drawn: list[str] = []

        def compose(composite: Composite) -> str:
            drawn.append(self._compose(composite))
            return drawn[-1]

        try:
            arm, clip, infills, stimulus = self._build(trial, compose)
        except _NotInFolderError as missing:
            return _unknown(str(missing)), ""
        except ProbesError as error:
            return _unknown(" ".join(f"{error.what} ({error.where})".split())), ""
        lender = trial.donor if arm.infills == "donor" else trial.item
        gaps: Sequence[Infill] = ()
        if lender is not None and arms.needs_infills(arm):
            gaps = infills.get(lender.clip(trial.frames), ())
        lent = self._files.clips.get(trial.donor.clip(trial.frames)) if trial.donor else None
        shown = ShownStimulus(
            stimulus.parts,
            _slots(stimulus, [clip, *([lent] if lent else [])]),
            bool(drawn),
            _bare_gaps(arm, stimulus, gaps),
        )
        return shown, stimulus.sha

    def _build(
        self, trial: ShownTrial, compose: arms.DrawComposite
    ) -> tuple[Arm, Clip, Mapping[ClipKey, tuple[Infill, ...]], Stimulus]:
        """Return a trial's arm, clip, infills (those that the member was shown) and stimulus.

        Raises:
            _NotInFolderError: the files have no such item, arm, clip or donor.
        """
        files, r = self._files, trial.rotation
        item, arm = files.items.get(trial.item), files.arms.get(trial.arm)
        if item is None:
            raise _NotInFolderError(f"items.parquet has no item {_named(trial.item)}")
        if arm is None:
            raise _NotInFolderError(f"the manifest has no arm {trial.arm}")
        own = trial.item.clip(trial.frames)
        clip = files.clips.get(own)
        if clip is None:
            raise _NotInFolderError(f"items.parquet has no clip of {trial.frames} frames")
        lender = trial.donor
        donor = (files.items.get(lender) or files.lenders.get(lender)) if lender else None
        if lender is not None and donor is None:
            raise _NotInFolderError(f"the run's files do not hold the donor {_named(lender)}")
        if files.prompts is None or files.scoring is None:
            raise _NotInFolderError("the manifest does not state prompts and scoring")
        infills = files.written(trial.role, trial.infill_draw)
        sources = StimulusSources(
            # Pictures of options were rotated with the options.
            clip=replace(clip, options=clip.options[r:] + clip.options[:r]),
            infills=infills.get(own),
            donor=donor,
            donor_clip=files.clips.get(lender.clip(trial.frames)) if lender else None,
            donor_infills=infills.get(lender.clip(trial.frames)) if lender else None,
            # Older runs have none: theirs have as many words as the infills.
            fillers=trial.fillers or None,
        )
        form = StimulusForm(files.prompts, files.scoring, files.layout, compose)
        return arm, clip, infills, arms.build(rotated(item, r), arm, sources, form)

    def _compose(self, composite: Composite) -> str:
        """Return the sha256 of a composite, drawn again from the frames in the run's folder.

        Raises:
            ProbesError: one of them is missing.
        """
        digest = composite.digest()
        if digest not in self._composite_shas:
            pixels = {sha: self._pixels(sha) for sha in composite.pictures()}
            self._composite_shas[digest] = array_sha256(composites.draw(composite, pixels))
        return self._composite_shas[digest]

    def _read(self, sha256: str) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image

        path = self._files.frame(sha256)
        try:
            with Image.open(path) as file:
                return np.asarray(file.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            what = "a picture is composed of a frame that is not there"
            raise ProbesError(what, str(path), REWRITE) from error


def _named(item: ItemKey) -> str:
    return f"{item.id} of task {item.task}"


class _NotInFolderError(Exception):
    """What the run's folder does not hold."""


def _unknown(why: str) -> ShownStimulus:
    return ShownStimulus(problem=f"{UNKNOWN}{why}")


def _places(stimulus: Stimulus) -> dict[int, int]:
    """Return, by slot of the clip, which part its picture is."""
    frames = [span for span in stimulus.spans if span.name.startswith("frame ")]
    return {int(span.name.split()[1]): span.part for span in frames}


def _slots(stimulus: Stimulus, clips: Sequence[Clip]) -> tuple[int, ...]:
    """Return which picture of the clip (or of the donor's) is shown first, second, ..."""
    slots: list[int] = []
    for slot, part in _places(stimulus).items():
        same = [
            t
            for clip in clips
            for t, sha in enumerate(clip.hashes)
            if FrameRef(sha) == stimulus.parts[part]
        ]
        # A still clip holds one picture several times: each index is used once if it can be.
        free = [t for t in same if t not in slots]
        slots.append(slot if slot in free else (free or same)[0])
    return tuple(slots)


def _bare_gaps(arm: Arm, stimulus: Stimulus, infills: Sequence[Infill]) -> tuple[BareGap, ...]:
    """Return the gaps whose infill is empty or failed.

    Args:
        arm: the trial's.
        stimulus: of the trial.
        infills: one per gap.
    """
    places = _places(stimulus)
    # Elsewhere frames and gaps do not alternate, so a gap has no place between parts.
    whole = arm.presentation == "interleaved" and len(places) == len(infills) + 1
    return tuple(
        BareGap(places[gap] + 1 if whole else -1, gap, infill.error or "the infill is empty")
        for gap, infill in enumerate(infills)
        if infill.status in ("empty", "failed")
    )
