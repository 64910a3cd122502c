"""Frame sources: which picture is in each slot of a clip, by name; a package may install more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probes.core.errors import ProbesError
from probes.core.plugins import Registry
from probes.core.types import Arm, Clip, FrameRef, Item
from probes.stimuli.donors import draw_seed, rank

Slots = Sequence[FrameRef | None]
"""The picture in each slot; None where there is none."""


@dataclass(frozen=True, slots=True)
class FrameSource:
    """What `frames` of an arm may name."""

    slots: Callable[[Item, Arm, Clip, Clip | None], Slots]
    """(item, arm, its clip, the donor's clip) -> slots, of pictures of these two clips only.

    There are as many slots as the clip has frames; under an arm without infills, outside of layout
    `matrix`, there may be fewer or more. What is random is keyed by `donors.draw_seed`.
    """
    meaning: str
    """One line for people."""
    needs_donor: bool = False
    """Whether it takes pictures of a donor; the donor's clip has as many frames as the item's."""


def _check(_: str, loaded: object) -> FrameSource:
    if not isinstance(loaded, FrameSource):
        raise TypeError(f"a frame source is a {FrameSource.__name__}, not {loaded!r}")
    if not callable(loaded.slots) or not loaded.meaning:
        raise TypeError("its `slots` cannot be called, or it has no `meaning`")
    return loaded


FRAME_SOURCES: Registry[FrameSource] = Registry(
    "probes.frame_sources",
    "frame source",
    {
        # By name, as installed ones are: both go the same way, and are checked alike.
        name: f"{__name__}:{name.upper()}"
        for name in ("own", "donor", "none", "shuffled", "reversed", "single")
    },
    _check,
)


def source_of(arm: Arm) -> FrameSource:
    """Return what an arm's `frames` names; ProbesError with the nearest name where it is none."""
    return FRAME_SOURCES.get(arm.frames, f"suite.arms.{arm.name}.frames")


def slots(item: Item, arm: Arm, clip: Clip, donor_clip: Clip | None) -> Slots:
    """Return the picture in each slot under an arm.

    Raises:
        ProbesError: the arm's source needs a donor's clip of this length and there is none, or it
            fails, gives what are no slots, or shows a picture that is of neither clip.
    """
    source = source_of(arm)
    # A source that declares no donor gets none: records would not say whose frames it shows.
    lent = donor_clip if source.needs_donor else None
    if source.needs_donor and (lent is None or len(lent.hashes) != len(clip.hashes)):
        raise missing(item, arm, f"a donor's clip of {len(clip.hashes)} frames")
    found = _called(source, item, arm, clip, lent)
    # Others would be missing in the frame store, and their origin unknown to reports.
    known = {*clip.hashes, *(lent.hashes if lent else ())}
    if foreign := [slot for slot in found if slot is not None and slot.sha256 not in known]:
        raise ProbesError(
            f"frame source {arm.frames!r} shows {foreign[0].sha256!r}, a frame of neither the "
            "item's clip nor its donor's",
            f"item {item.id!r}, arm {arm.name!r}",
            "correct the package; `probes plugins` shows what is installed",
        )
    return found


def _called(source: FrameSource, item: Item, arm: Arm, clip: Clip, lent: Clip | None) -> Slots:
    """Return what a source gives, or say what is wrong with it."""
    try:
        found = source.slots(item, arm, clip, lent)
        if not isinstance(found, list | tuple):
            problem = f"gives {found!r:.60}, not a list of slots"
        elif others := [one for one in found if not isinstance(one, FrameRef | None)]:
            problem = f"gives the slot {others[0]!r:.60}, neither a FrameRef nor None"
        else:
            return found
    # A program of others: it may raise anything, and may even try to end this one.
    except (Exception, SystemExit) as error:
        if isinstance(error, ProbesError):
            raise
        problem = f"fails: {type(error).__name__}: {error}"
    raise ProbesError(
        f"frame source {arm.frames!r}{FRAME_SOURCES.whose(arm.frames)} {problem}",
        f"item {item.id!r}, arm {arm.name!r}",
        "correct the package; `probes plugins` shows what is installed",
    )


def missing(item: Item, arm: Arm, thing: str) -> ProbesError:
    """Return the error of an arm that lacks something, e.g. `4 infills`."""
    where = f"item {item.id!r}, arm {arm.name!r}"
    fix = "sample and write for this number of frames"
    return ProbesError(f"the arm needs {thing}", where, fix)


def _frames(clip: Clip) -> list[FrameRef]:
    return [FrameRef(sha) for sha in clip.hashes]


def _donor(item: Item, arm: Arm, clip: Clip, donor_clip: Clip | None) -> Slots:
    assert donor_clip is not None  # `slots` looks for it
    return _frames(donor_clip)


def _shuffled(item: Item, arm: Arm, clip: Clip, _: Clip | None) -> Slots:
    count = len(clip.hashes)
    order, attempt = list(range(count)), 0
    # Drawn again, not repaired: every order but the true one is equally likely.
    while order == list(range(count)) and count > 1:
        seed = draw_seed(arm.seed, item.id, arm.name, attempt)
        order = sorted(range(count), key=lambda t: rank(seed, str(t)))
        attempt += 1
    return [FrameRef(clip.hashes[t]) for t in order]


def _single(item: Item, arm: Arm, clip: Clip, _: Clip | None) -> Slots:
    middle = len(clip.hashes) // 2
    return [frame if t == middle else None for t, frame in enumerate(_frames(clip))]


OWN = FrameSource(lambda _i, _a, clip, _d: _frames(clip), "the item's frames in their order")
DONOR = FrameSource(_donor, "the frames of another item in their order", needs_donor=True)
NONE = FrameSource(lambda _i, _a, clip, _d: [None] * len(clip.hashes), "no frames")
SHUFFLED = FrameSource(_shuffled, "the item's frames in a random order that is not the true one")
REVERSED = FrameSource(lambda _i, _a, clip, _d: _frames(clip)[::-1], "from the last to the first")
SINGLE = FrameSource(_single, "the middle frame alone, in its own place among the infills")
