"""Arms: pure functions from an item, its clip and its infills to exactly what a model is shown.

A clip has one slot per sampled frame and one gap between neighbouring slots. An arm says which
picture is in each slot (or none) and which text in each gap (or none); the presentation lays
slots and gaps out, and the question follows. A gap without text stays bare: its frames are
adjacent, as in the baseline. Everything random is keyed by (seed, item id, arm name) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import (
    Arm,
    Clip,
    FrameRef,
    Infill,
    Item,
    Layout,
    Part,
    Presentation,
    Scoring,
    Stimulus,
)
from probes.media.composites import ASKED, Composite, CompositeGrid
from probes.stimuli import answers, words

if TYPE_CHECKING:
    from probes.core.prompt_set import PromptSet

from probes.stimuli.donors import draw_seed, rank
from probes.stimuli.templates import fill

Gap = tuple[Part, ...]
DrawComposite = Callable[[Composite], str]
"""Draws a composite and returns its sha256."""


def needs_infills(arm: Arm) -> bool:
    """Tell whether written infills are needed: the donor's if `arm.infills` is donor, else own."""
    return arm.infills != "none"


def needs_donor(arm: Arm) -> bool:
    """Tell whether the arm borrows frames or infills from another item."""
    return "donor" in (arm.frames, arm.infills)


@dataclass(frozen=True, slots=True)
class StimulusSources:
    """What a stimulus of one item is made of."""

    clip: Clip
    """The item's frames."""
    infills: Sequence[Infill] | None = None
    """The item's infills (frames - 1); None where the arm needs none of its own."""
    donor: Item | None = None
    """The item that the arm borrows from, if it borrows."""
    donor_clip: Clip | None = None
    """The donor's frames, as many as the item's, if the arm borrows frames."""
    donor_infills: Sequence[Infill] | None = None
    """The donor's infills, if the arm borrows those."""


@dataclass(frozen=True, slots=True)
class StimulusForm:
    """How stimuli are presented: what holds for all items of a run."""

    prompts: PromptSet
    scoring: Scoring
    """Decides the question's wording and what is scored."""
    layout: Layout = "sequence"
    """How an item with pictorial options is shown."""
    compose: DrawComposite | None = None
    """Makes one picture of several; needed for presentation `grid` and layout `matrix`."""


def build(item: Item, arm: Arm, sources: StimulusSources, form: StimulusForm) -> Stimulus:
    """Build what a model is shown for (item, arm).

    Pictorial options (`clip.options`) always stay: under `sequence` they follow the question as
    labelled pictures, under `matrix` they are part of the one composed picture. Infills then follow
    that picture.

    Args:
        item: whose question is asked.
        arm: the condition.
        sources: frames and infills of the item, and of its donor.
        form: wording, scoring and layout.

    Returns:
        The stimulus; its sha covers content only, so arms that show the same are the same.

    Raises:
        ProbesError: for a presentation that is not supported, or if something the arm needs is
            absent or of another length.
    """
    donor = sources.donor if needs_donor(arm) else None
    if needs_donor(arm) and donor is None:
        raise _missing(item, arm, "a donor")
    prompts, scoring = form.prompts, form.scoring
    templates = {"letter": prompts.letter, "cloze": prompts.cloze, "generate": prompts.generate}
    parts = fill(templates[scoring], _values(item, arm, sources, form))
    options = answers.scored_options(item, scoring)
    content = [{"frame": part.sha256} if isinstance(part, FrameRef) else part for part in parts]
    return Stimulus(
        item_id=item.id,
        arm=arm.name,
        parts=parts,
        options=options,
        sha=sha256_json({"parts": content, "options": options}),
        donor_id=donor.id if donor is not None else None,
    )


def _values(
    item: Item, arm: Arm, sources: StimulusSources, form: StimulusForm
) -> dict[str, Sequence[Part]]:
    """Return the parts for every placeholder of the question's template."""
    clip, scoring = sources.clip, form.scoring
    slots = _slots(item, arm, clip, sources.donor_clip)
    texts = _texts(item, arm, len(clip.hashes), sources.infills, sources.donor_infills)
    gaps = [fill(form.prompts.between, {"infill": (text,)}) if text else () for text in texts]
    values: dict[str, Sequence[Part]] = {"question": (item.question,)}
    if clip.options and form.layout == "matrix":
        composite = matrix([slot.sha256 if slot else None for slot in slots], clip.options)
        values["context"] = (_composed(composite, form.compose), *_texts_only(gaps))
        values["options"] = (", ".join(answers.scored_options(item, scoring)),)
        return values
    values["context"] = _context(arm, slots, gaps, form.compose)
    if clip.options:
        values["options"] = _labelled(clip.options)
    elif scoring != "cloze":
        values["options"] = (answers.listed(item.options),)
    return values


def _slots(item: Item, arm: Arm, clip: Clip, donor_clip: Clip | None) -> list[FrameRef | None]:
    """Return the picture in each of the clip's slots."""
    own = [FrameRef(sha) for sha in clip.hashes]
    count = len(own)
    if arm.frames == "own":
        return [*own]
    if arm.frames == "donor":
        if donor_clip is None or len(donor_clip.hashes) != count:
            raise _missing(item, arm, f"a donor's clip of {count} frames")
        return [FrameRef(sha) for sha in donor_clip.hashes]
    if arm.frames == "shuffled":
        return [own[t] for t in _order(arm, item, count)]
    if arm.frames == "reversed":
        return [*reversed(own)]
    if arm.frames == "single":  # the middle one, in its own place among the gaps
        return [frame if t == count // 2 else None for t, frame in enumerate(own)]
    return [None] * count


def _texts(
    item: Item,
    arm: Arm,
    count: int,
    infills: Sequence[Infill] | None,
    donor_infills: Sequence[Infill] | None,
) -> list[str]:
    """Return the text in each of the count - 1 gaps; an empty one where the gap is bare."""
    gaps = max(count - 1, 0)
    if arm.infills == "none":
        return [""] * gaps
    given = donor_infills if arm.infills == "donor" else infills
    if given is None or len(given) != gaps:
        raise _missing(item, arm, f"{gaps} {'donor ' if arm.infills == 'donor' else ''}infills")
    texts = [infill.text if infill.ok else "" for infill in given]
    if arm.infills == "filler":
        return [
            words.filler(len(text.split()), arm.seed, item.id, arm.name, gap)
            for gap, text in enumerate(texts)
        ]
    return texts


def _context(
    arm: Arm, slots: Sequence[FrameRef | None], gaps: Sequence[Gap], compose: DrawComposite | None
) -> list[Part]:
    """Lay out slots and gaps as the arm's presentation says."""
    shown = [slot for slot in slots if slot is not None]
    if arm.presentation == "interleaved":
        return _interleaved(slots, gaps)
    if arm.presentation == "frames_then_text":
        return [*shown, *_texts_only(gaps)]
    if arm.presentation == "grid":
        picture = [_composed(grid([frame.sha256 for frame in shown]), compose)] if shown else []
        return [*picture, *_texts_only(gaps)]
    what = f"presentation {arm.presentation!r} is not supported"
    known = ", ".join(get_args(Presentation))
    raise ProbesError(what, f"arm {arm.name!r}", f"use one of {known}")


def _interleaved(slots: Sequence[FrameRef | None], gaps: Sequence[Gap]) -> list[Part]:
    parts: list[Part] = []
    for t, frame in enumerate(slots):
        parts += [] if frame is None else [frame]
        parts += gaps[t] if t < len(gaps) else ()
    return parts


def _texts_only(gaps: Sequence[Gap]) -> list[Part]:
    return [part for gap in gaps for part in gap]


def grid(frames: Sequence[str]) -> Composite:
    """Return the composite of presentation `grid`: frames in reading order, numbered from 1.

    As near to a square as their number allows, and never higher than wide.
    """
    columns = math.ceil(math.sqrt(len(frames)))
    numbers = tuple(str(number) for number in range(1, len(frames) + 1))
    return Composite((CompositeGrid(tuple(frames), columns, numbers),))


def matrix(slots: Sequence[str | None], options: Sequence[str]) -> Composite:
    """Return the composite of layout `matrix`: the 3x3 matrix, and the labelled options below it.

    Args:
        slots: sha256 of the eight context panels; None leaves a place blank. Where all are None
            (no context is shown at all), the matrix is left out.
        options: sha256 of the options' pictures.
    """
    labels = tuple(answers.LETTERS[: len(options)])
    candidates = CompositeGrid(tuple(options), 4, labels)
    if not any(slots):
        return Composite((candidates,))
    return Composite((CompositeGrid((*slots, ASKED), 3), candidates))


def _labelled(options: Sequence[str]) -> list[Part]:
    """Return pictorial options as lines "A. picture"."""
    letters = answers.LETTERS[: len(options)]
    parts: list[Part] = []
    for letter, sha in zip(letters, options, strict=True):
        parts += [f"{letter}. " if not parts else f"\n{letter}. ", FrameRef(sha)]
    return parts


def _composed(composite: Composite, compose: DrawComposite | None) -> FrameRef:
    if compose is None:
        raise TypeError("grid and matrix need a `compose`")
    return FrameRef(compose(composite))


def _order(arm: Arm, item: Item, count: int) -> list[int]:
    """Return a random order of the slots that is not the true one (where there is another)."""
    true = list(range(count))
    order, attempt = true, 0
    while order == true and count > 1:
        seed = draw_seed(arm.seed, item.id, arm.name, attempt)
        order = sorted(true, key=lambda t: rank(seed, str(t)))
        attempt += 1
    return order


def _missing(item: Item, arm: Arm, thing: str) -> ProbesError:
    where = f"item {item.id!r}, arm {arm.name!r}"
    return ProbesError(
        f"the arm needs {thing}", where, "sample and write for this number of frames"
    )
