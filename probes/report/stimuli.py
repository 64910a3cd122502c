"""Stimuli made again from a run's files, and checked against what the records say was shown."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import Arm, Clip, FrameRef, Infill, Part
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
class Bare:
    """A gap that stayed bare because its infill failed."""

    after: int
    """Number of parts that stand before it; -1 where the arm leaves no place to point at."""
    gap: int
    """Which gap; 0 lies between the first two frames."""
    reason: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a member was shown before its chat template, or why that cannot be told."""

    parts: tuple[Part, ...] = ()
    slots: tuple[int, ...] = ()
    """For each of the clip's pictures, in the order shown: its place in the clip, from 0."""
    sheet: bool = False
    """Whether the first picture is composed of the clip's; there are no slots then."""
    bare: tuple[Bare, ...] = ()
    problem: str = ""
    """Why there are no parts: they could not be made again, or are not what the record says."""


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """The columns of a record that decide what was shown."""

    item_id: str
    arm: str
    frames: int
    role: str
    donor_id: str | None
    stimulus_sha: str
    rotation: int = 0


class Rebuilder:
    """Makes a run's stimuli again.

    Args:
        files: the run's files.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._made: dict[ShownTrial, tuple[Shown, str]] = {}
        self._sheets: dict[str, str] = {}
        # An item's frames are wanted for one sheet after another.
        self._picture = functools.lru_cache(maxsize=64)(self._read)
        self._writers = {role for role in files.infills if role != "shared"}

    def shown(self, asked: ShownTrial) -> Shown:
        """Return what was shown, if making it again gives the record's very hash.

        Nothing is shown on trust: where a file is missing, or the hash is another one, the parts
        are empty and `problem` says why.
        """
        if not asked.stimulus_sha:
            return Shown(problem="nothing was shown: the stimulus could not be made")
        if self._files.problem:
            return _unknown(self._files.problem)
        # Members that were shown the same infills were shown the same.
        key = replace(asked, stimulus_sha="")
        if asked.role not in self._writers:
            key = replace(key, role="")
        if key not in self._made:
            self._made[key] = self._make(asked)
        made, sha = self._made[key]
        if made.problem or sha == asked.stimulus_sha:
            return made
        return _unknown(
            f"made again from the run's files, the stimulus has the hash {sha[:12]}, and the "
            f"record has {asked.stimulus_sha[:12]}"
        )

    def _make(self, asked: ShownTrial) -> tuple[Shown, str]:
        files, place = self._files, (asked.item_id, asked.frames)
        item, arm, clip = files.items.get(asked.item_id), files.arms.get(asked.arm), None
        if item is None:
            return _unknown(f"items.parquet has no item {asked.item_id}"), ""
        if arm is None:
            return _unknown(f"the manifest has no arm {asked.arm}"), ""
        clip = files.clips.get(place)
        if clip is None:
            return _unknown(f"items.parquet has no clip of {asked.frames} frames"), ""
        donor = files.items.get(asked.donor_id or "") or files.lenders.get(asked.donor_id or "")
        if asked.donor_id is not None and donor is None:
            return _unknown(f"the run's files do not hold the donor {asked.donor_id}"), ""
        borrowed = (asked.donor_id or "", asked.frames)
        written = files.written(asked.role)
        texts = written.get(borrowed if arm.infills == "donor" else place)
        drawn: list[str] = []
        r = asked.rotation

        def compose(sheet: Composite) -> str:
            drawn.append(self._compose(sheet))
            return drawn[-1]

        if files.prompts is None or files.scoring is None:
            return _unknown("the manifest does not tell prompts and scoring"), ""
        try:
            stimulus = arms.build(
                rotated(item, r),
                arm,
                StimulusSources(
                    clip=replace(clip, options=clip.options[r:] + clip.options[:r]),
                    infills=written.get(place),
                    donor=donor,
                    donor_clip=files.clips.get(borrowed),
                    donor_infills=written.get(borrowed),
                ),
                StimulusForm(files.prompts, files.scoring, files.layout, compose),
            )
        except ProbesError as error:
            return _unknown(" ".join(f"{error.what} ({error.where})".split())), ""
        gaps = texts if arms.needs_infills(arm) and texts is not None else ()
        shown = Shown(
            stimulus.parts,
            () if drawn else _slots(arm, clip, stimulus.parts),
            bool(drawn),
            _bare(arm, stimulus.parts, gaps, whole=not drawn),
        )
        return shown, stimulus.sha

    def _compose(self, sheet: Composite) -> str:
        """Return the sha256 of a sheet, drawn again from the frames that lie in the run's folder.

        Raises:
            ProbesError: one of them is not there.
        """
        key = sheet.digest()
        if key not in self._sheets:
            drawn = composites.draw(sheet, {sha: self._picture(sha) for sha in sheet.pictures()})
            self._sheets[key] = array_sha256(drawn)
        return self._sheets[key]

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


def _unknown(why: str) -> Shown:
    return Shown(problem=f"{UNKNOWN}{why}")


def _slots(arm: Arm, clip: Clip, parts: Sequence[Part]) -> tuple[int, ...]:
    """Return which picture of the clip (or of the donor's) stands first, second, ..."""
    count = len(clip.hashes)
    if arm.frames == "none":
        return ()
    if arm.frames == "single":
        return (count // 2,)
    if arm.frames == "reversed":
        return tuple(reversed(range(count)))
    if arm.frames != "shuffled":
        return tuple(range(count))
    # A clip that stands still holds one picture several times: each place is given out once.
    free = dict.fromkeys(range(count))
    slots = []
    for part in [part for part in parts if isinstance(part, FrameRef)][:count]:
        slot = next(t for t in free if clip.hashes[t] == part.sha256)
        del free[slot]
        slots.append(slot)
    return tuple(slots)


def _bare(
    arm: Arm, parts: Sequence[Part], gaps: Sequence[Infill], *, whole: bool
) -> tuple[Bare, ...]:
    """Return the gaps whose infill lacks, but for those in which none ever stands."""
    places = [at for at, part in enumerate(parts) if isinstance(part, FrameRef)]
    whole &= arm.frames not in ("none", "single") and arm.presentation == "interleaved"
    return tuple(
        Bare(places[gap] + 1 if whole else -1, gap, infill.error or "the infill is empty")
        for gap, infill in enumerate(gaps)
        if infill.status in ("empty", "failed")
    )
