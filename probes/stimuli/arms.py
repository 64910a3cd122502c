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
from itertools import chain, zip_longest
from typing import get_args

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.prompt_set import PromptSet
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
from probes.stimuli import answers, fillers, frame_sources
from probes.stimuli.frame_sources import Slots, missing
from probes.stimuli.templates import NamedPart, Piece, merged, pieces

DrawComposite = Callable[[Composite], str]
"""Draws a composite and returns its sha256."""


def needs_infills(arm: Arm) -> bool:
    """Tell whether written infills are needed: the donor's if `arm.infills` is donor, else own."""
    return arm.infills != "none"


def needs_donor(arm: Arm) -> bool:
    """Tell whether the arm borrows frames or infills from another item."""
    return arm.infills == "donor" or frame_sources.source_of(arm).needs_donor


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
    fillers: Sequence[str] | None = None
    """Neutral texts (frames - 1) that were matched to the reader's tokens, for an arm that shows
    some; None for texts of as many words as the infills have."""


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
        raise missing(item, arm, "a donor")
    prompts, scoring = form.prompts, form.scoring
    templates = {"letter": prompts.letter, "cloze": prompts.cloze, "generate": prompts.generate}
    parts, spans = merged(pieces(templates[scoring], _values(item, arm, sources, form)))
    options = answers.scored_options(item, scoring)
    # As objects: a text that reads like a frame's sha is another stimulus.
    content = [{"frame": part.sha256} if isinstance(part, FrameRef) else part for part in parts]
    return Stimulus(
        item_id=item.id,
        arm=arm.name,
        parts=parts,
        options=options,
        sha=sha256_json({"parts": content, "options": options}),
        donor_id=donor.id if donor is not None else None,
        spans=spans,
    )


def _values(
    item: Item, arm: Arm, sources: StimulusSources, form: StimulusForm
) -> dict[str, Sequence[Piece]]:
    """Return the pieces for every placeholder of the question's template."""
    clip = sources.clip
    composed = bool(clip.options) and form.layout == "matrix"
    slots = frame_sources.slots(item, arm, clip, sources.donor_clip)
    if len(slots) != len(clip.hashes) and (composed or arm.infills != "none"):
        raise ProbesError(
            f"frame source {arm.frames!r} has {len(slots)} slots for a clip of {len(clip.hashes)} "
            "frames: neither infills nor a matrix have a place between them",
            f"item {item.id!r}, arm {arm.name!r}",
            "show its frames under an arm without infills, and layout sequence",
        )
    gaps = [
        pieces(form.prompts.between, {"infill": [NamedPart(text, (f"infill {t}",))]})
        if text
        else ()
        for t, text in enumerate(_texts(item, arm, sources))
    ]
    values: dict[str, Sequence[Piece]] = {"question": [NamedPart(item.question, ("question",))]}
    if composed:
        cells = [slot.sha256 if slot else None for slot in slots]
        # With both on one picture it cannot be said which of its tokens are the options'.
        name = "frames" if any(cells) else "options"
        values["context"] = [_composed(matrix(cells, clip.options), name, form), *chain(*gaps)]
        letters = answers.scored_options(item, form.scoring)
        # The picture shows the options under their letters: the text names letters only.
        values["options"] = _block(", ", [""] * len(letters), letters)
        return values
    values["context"] = _context(arm, slots, gaps, form)
    if clip.options:
        values["options"] = listed([FrameRef(sha) for sha in clip.options])
    # The cloze template has no place for options, and `pieces` refuses values without one.
    elif form.scoring != "cloze":
        values["options"] = listed(item.options)
    return values


def _texts(item: Item, arm: Arm, sources: StimulusSources) -> list[str]:
    """Return the text in each of the clip's gaps; an empty one where the gap is bare."""
    gaps = max(len(sources.clip.hashes) - 1, 0)
    if arm.infills == "none":
        return [""] * gaps
    borrowed = arm.infills == "donor"
    given = sources.donor_infills if borrowed else sources.infills
    if given is None or len(given) != gaps:
        raise missing(item, arm, f"{gaps} {'donor ' if borrowed else ''}infills")
    # Whoever needs a failed infill is an error and not asked; an empty one leaves its gap bare.
    texts = [infill.text if infill.ok else "" for infill in given]
    if arm.infills != "filler":
        return texts
    # As long as the infills: what is left of their effect is that of more text.
    made = sources.fillers
    if made is None:
        made = fillers.by_words(texts, arm.seed, item.id, arm.name)
    if len(made) != gaps:
        raise missing(item, arm, f"{gaps} fillers")
    return list(made)


def _context(
    arm: Arm, slots: Slots, gaps: Sequence[Sequence[Piece]], form: StimulusForm
) -> list[Piece]:
    """Lay out slots and gaps as the arm's presentation says."""
    # T is the slot, not the frame's place in its clip: infill T is after frame T in every arm.
    frames: list[Sequence[Piece]] = [
        () if slot is None else (NamedPart(slot, (f"frame {t}",)),) for t, slot in enumerate(slots)
    ]
    if arm.presentation == "interleaved":
        # Gap t follows slot t; there is one gap fewer, so that the last slot ends the list.
        return [*chain(*chain(*zip_longest(frames, gaps, fillvalue=())))]
    if arm.presentation == "frames_then_text":
        return [*chain(*frames, *gaps)]
    if arm.presentation == "grid":
        shown = [slot.sha256 for slot in slots if slot is not None]
        return [*([_composed(grid(shown), "frames", form)] if shown else []), *chain(*gaps)]
    what = f"presentation {arm.presentation!r} is not supported"
    known = ", ".join(get_args(Presentation))
    raise ProbesError(what, f"arm {arm.name!r}", f"use one of {known}")


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


def listed(options: Sequence[Part]) -> list[Piece]:
    """Return options, texts or pictures, as lines "A. option"."""
    return _block("\n", [f"{letter}. " for letter in answers.letters(len(options))], options)


def _block(between: str, labels: Sequence[str], options: Sequence[Part]) -> list[Piece]:
    found: list[Piece] = []
    for k, (label, option) in enumerate(zip(labels, options, strict=True)):
        found.append(NamedPart(between * (k > 0) + label, ("options",)))
        found.append(NamedPart(option, ("options", f"option {k}")))
    return found


def _composed(composite: Composite, name: str, form: StimulusForm) -> NamedPart:
    if form.compose is None:
        raise TypeError("grid and matrix need a `compose`")
    return NamedPart(FrameRef(form.compose(composite)), (name,))
