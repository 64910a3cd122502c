"""Frame sources: those that come with the package, and one that another package installs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_arms import PROMPTS

from probes.core import plugins
from probes.core.errors import ProbesError
from probes.core.plugins import Entry
from probes.core.types import Arm, Clip, FrameRef, Infill, Item, Panels, Stimulus, Video
from probes.stimuli.arms import StimulusForm, StimulusSources, build, needs_donor
from probes.stimuli.frame_sources import FRAME_SOURCES, FrameSource, Slots

ITEM = Item("i", "t", "what?", ("yes", "no"), 0, Video(Path("v")))


def clip(name: str, count: int = 4) -> Clip:
    return Clip(tuple(range(count)), (0.0,) * count, tuple(f"{name}{t}" for t in range(count)))


def _ends(item: Item, arm: Arm, own: Clip, donor: Clip | None) -> Slots:
    assert donor is None  # what it does not ask for it does not get
    return [FrameRef(own.hashes[0]), FrameRef(own.hashes[-1])]


def _mixed(item: Item, arm: Arm, own: Clip, donor: Clip | None) -> Slots:
    assert donor is not None
    return [FrameRef(sha) for sha in (*own.hashes[:2], *donor.hashes[2:])]


ENDS = FrameSource(_ends, "the first and the last frame")
MIXED = FrameSource(_mixed, "the donor's frames from the third on", needs_donor=True)
FOREIGN = FrameSource(lambda *_: [FrameRef("elsewhere")], "a frame of nobody's clip")
OPTION = FrameSource(lambda _i, _a, own, _d: [FrameRef(own.options[0])], "the first option")


NOTHING = FrameSource(lambda *_: None, "nothing at all")  # type: ignore[arg-type, return-value]
TEXTS = FrameSource(lambda _i, _a, clip, _d: list(clip.hashes), "hashes")  # type: ignore[arg-type]
DIVIDES = FrameSource(lambda *_: [None] * (1 // 0), "fails")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"ends": "ENDS", "mixed": "MIXED", "foreign": "FOREIGN", "option": "OPTION"}
    names |= {"nothing": "NOTHING", "texts": "TEXTS", "divides": "DIVIDES"}
    entries = tuple(
        Entry(name, f"{__name__}:{attribute}", "others 1.0")
        for name, attribute in (names | {"wrong": "ITEM"}).items()
    )
    monkeypatch.setattr(plugins, "installed", lambda group: entries)
    monkeypatch.setattr(FRAME_SOURCES, "_loaded", {})


def stimulus(frames: str, infills: str = "none", **changes: Any) -> Stimulus:
    sources = StimulusSources(
        clip("a"),
        [Infill(f"then {t}", "", "", "g") for t in range(3)],
        replace(ITEM, id="d"),
        clip("d"),
        [Infill(f"else {t}", "", "", "g") for t in range(3)],
    )
    arm = Arm("mine", frames, infills)  # type: ignore[arg-type]
    return build(ITEM, arm, replace(sources, **changes), StimulusForm(PROMPTS, "cloze"))


def test_the_built_in_ones_say_what_they_mean_and_who_needs_a_donor() -> None:
    names = ("own", "donor", "none", "shuffled", "reversed", "single")
    assert set(names) <= set(FRAME_SOURCES.names())
    meanings = [FRAME_SOURCES.get(name, "test").meaning for name in names]
    assert len(set(meanings)) == 6 and all(meanings)
    assert [name for name in names if needs_donor(Arm("x", name))] == ["donor"]


@pytest.mark.parametrize(
    ("frames", "infills", "text", "spans"),
    [
        ("ends", "none", "[a0][a3]Q what?", ["frame 0", "frame 1", "question"]),
        ("mixed", "own", "[a0]<then 0>[a1]<then 1>[d2]<then 2>[d3]Q what?", None),
        ("own", "donor", "[a0]<else 0>[a1]<else 1>[a2]<else 2>[a3]Q what?", None),
    ],
)
def test_an_installed_source_is_shown_as_a_built_in_one_is(
    frames: str, infills: str, text: str, spans: list[str] | None
) -> None:
    found = stimulus(frames, infills)
    shown = "".join(f"[{p.sha256}]" if isinstance(p, FrameRef) else p for p in found.parts)
    assert shown == text
    assert spans is None or [span.name for span in found.spans] == spans
    borrows = frames == "mixed" or infills == "donor"
    assert found.donor_id == ("d" if borrows else None)
    assert needs_donor(Arm("mine", frames, infills)) == borrows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "infills", "changes", "said"),
    [
        ("foreign", "none", {}, ["frame source 'foreign' shows", "elsewhere", "arm 'mine'"]),
        ("option", "none", {"clip": replace(clip("a"), options=("o",))}, ["'option' shows"]),
        ("ends", "own", {}, ["'ends' has 2 slots for a clip of 4 frames", "item 'i'"]),
        ("mixed", "own", {"donor_clip": clip("d", 3)}, ["a donor's clip of 4 frames"]),
        ("mixed", "own", {"donor": None}, ["needs a donor"]),
        ("nothing", "none", {}, ["source 'nothing' of others 1.0 gives None, not a list of slots"]),
        ("texts", "none", {}, ["gives the slot 'a0', neither a FrameRef", "item 'i', arm 'mine'"]),
        ("divides", "none", {}, ["fails: ZeroDivisionError: ", "item 'i', arm"]),
        ("wrong", "none", {}, ["frame source 'wrong' of others 1.0 cannot be loaded"]),
        ("revresed", "none", {}, ["suite.arms.mine.frames", "did you mean reversed?"]),
        ("mixd", "none", {}, ["no frame source named 'mixd'", "did you mean mixed?"]),
    ],
)
def test_a_source_that_shows_what_it_may_not_is_named(
    frames: str, infills: str, changes: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(ProbesError) as caught:
        stimulus(frames, infills, **changes)
    assert [text for text in said if text not in str(caught.value)] == []


def test_a_matrix_has_a_place_for_every_slot_of_the_clip_alone() -> None:
    own = replace(clip("a", 8), options=("o0", "o1"))
    item = replace(ITEM, media=Panels(Path("p"), 8, 2, 3))
    form = StimulusForm(PROMPTS, "letter", "matrix", lambda composite: composite.digest())
    with pytest.raises(ProbesError, match="2 slots for a clip of 8 frames"):
        build(item, Arm("mine", "ends"), StimulusSources(own), form)
    assert build(item, Arm("plain"), StimulusSources(own), form).spans[0].name == "frames"
