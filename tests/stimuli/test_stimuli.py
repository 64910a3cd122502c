"""What stimuli hold: bit for bit that of earlier releases, and what stands where in it."""

import hashlib
import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arms import ARMS, BASELINE, BLIND, PROMPTS, VCOT

from probes.config.prompts import prompt_set
from probes.core.types import (
    Arm,
    Clip,
    FrameRef,
    Infill,
    Item,
    Panels,
    Part,
    Stimulus,
    TextSpan,
    Video,
)
from probes.stimuli import frame_sources
from probes.stimuli.arms import StimulusForm, StimulusSources, build
from probes.stimuli.rotation import rotated
from probes.stimuli.templates import NamedPart, merged

WORDS = "the cup {options} moves; A. B\n then {infill} stops {question} réd é 動 \t".split(" ")
SCORINGS = ("letter", "cloze", "generate")
PRESENTATIONS = ("interleaved", "frames_then_text", "grid")


def texts(dice: random.Random, count: int) -> tuple[Infill, ...]:
    statuses = dice.choices(("ok", "ok", "empty", "failed", "not_applicable"), k=count)
    return tuple(
        Infill(sentence(dice) if status == "ok" else "", "c", "e", "g", status)
        for status in statuses
    )


def sentence(dice: random.Random) -> str:
    return " ".join(dice.choices(WORDS, k=dice.randint(1, 9)))


def clip(dice: random.Random, count: int, options: int) -> Clip:
    # A still clip shows one picture several times.
    shas = tuple(f"{dice.randrange(50):064x}" for _ in range(count + options))
    return Clip(tuple(range(count)), (0.0,) * count, shas[:count], shas[count:])


def drawn(number: int, pictorial: bool) -> tuple[Item, StimulusSources]:
    """Draw an item with its sources; one with pictorial options is a matrix of eight panels."""
    dice = random.Random(number)
    count = 8 if pictorial else dice.randint(1, 6)
    options = dice.randint(2, 5)
    media = Panels(Path("p"), 8, options, 3) if pictorial else Video(Path("v"))
    item, donor = (
        Item(name, "t", sentence(dice), tuple(sentence(dice) for _ in range(options)), 0, media)
        for name in (f"i{number}", "d")
    )
    own, lent = (clip(dice, count, options if pictorial else 0) for _ in range(2))
    written = texts(dice, count - 1), texts(dice, count - 1)
    return item, StimulusSources(own, written[0], donor, lent, written[1])


def made(
    item: Item,
    arm: Arm,
    sources: StimulusSources,
    scoring: str,
    layout: str,
    prompts: Any = PROMPTS,
) -> Stimulus:
    form = StimulusForm(prompts, scoring, layout, lambda composite: composite.digest())  # type: ignore[arg-type]
    return build(item, arm, sources, form)


def shas(arm: Arm) -> str:
    """Return one hash of an arm's stimuli over drawn items, in all forms."""
    digest = hashlib.sha256()
    for number, pictorial, presentation, scoring, prompts in itertools.product(
        range(6), (False, True), PRESENTATIONS, SCORINGS, (PROMPTS, prompt_set("default"))
    ):
        if pictorial and scoring == "cloze":
            continue
        item, sources = drawn(number, pictorial)
        for layout in ("sequence", "matrix") if pictorial else ("sequence",):
            shown = replace(arm, presentation=presentation, seed=number)
            found = made(item, shown, sources, scoring, layout, prompts)
            digest.update(f"{found.sha} {found.donor_id} {found.options}\n".encode())
    return digest.hexdigest()[:16]


MORE = [
    Arm("all_donor", frames="donor", infills="donor"),
    Arm("shuffled_text", frames="shuffled", infills="own"),
    Arm("single_filler", frames="single", infills="filler"),
    Arm("reversed_donor", frames="reversed", infills="donor"),
]
KNOWN = {
    "baseline": "1bf7676d6f319fae",
    "vcot": "fa6ac10d07ddc45f",
    "visual_perturbation": "49afdbe113467679",
    "text_perturbation": "fb4e17d606830e87",
    "blind": "f53c8e96c0f51f72",
    "infills_only": "6ec4851372ea0763",
    "filler": "b3b52ece6153417d",
    "shuffled": "3cd63a7ad7a92f19",
    "reversed": "dc29cceac209f38a",
    "single": "0a37faf05b865f5b",
    "all_donor": "f0816b8d804be578",
    "shuffled_text": "b2e1369149a832f8",
    "single_filler": "c7d58aa8f618a239",
    "reversed_donor": "d289a3f6f0e7d6fe",
}
"""Hashes of what the code made before frame sources were a registry."""


@pytest.mark.parametrize("arm", [*ARMS, *MORE], ids=lambda arm: arm.name)
def test_stimuli_are_those_of_earlier_releases(arm: Arm) -> None:
    assert shas(arm) == KNOWN[arm.name]


def at(found: Stimulus, span: TextSpan) -> Part:
    part = found.parts[span.part]
    return part[span.start : span.end] if isinstance(part, str) else part


def by_name(found: Stimulus) -> dict[str, list[Part]]:
    names = dict.fromkeys(span.name for span in found.spans)
    return {n: [at(found, span) for span in found.spans if span.name == n] for n in names}


def expected(item: Item, arm: Arm, sources: StimulusSources, form: tuple[str, str]) -> Any:
    """What stands at each name, from the arm's definition alone."""
    (scoring, layout), clip, donor_clip = form, sources.clip, sources.donor_clip
    found: dict[str, list[Part]] = {"question": [item.question]}
    slots = frame_sources.slots(item, arm, clip, donor_clip)
    names = "ABCDEFGH"[: len(item.options)]
    if clip.options and layout == "matrix":
        found["options"] = [", ".join(names)]
        found |= {f"option {k}": [name] for k, name in enumerate(names)}
    elif clip.options:
        pictures = [FrameRef(sha) for sha in clip.options]
        found |= {f"option {k}": [picture] for k, picture in enumerate(pictures)}
        leads = [f"{chr(10) * (k > 0)}{name}. " for k, name in enumerate(names)]
        found["options"] = [part for both in zip(leads, pictures, strict=True) for part in both]
    elif scoring != "cloze":
        found |= {f"option {k}": [text] for k, text in enumerate(item.options)}
        lines = [f"{name}. {text}" for name, text in zip(names, item.options, strict=True)]
        found["options"] = ["\n".join(lines)]
    if arm.presentation != "grid" and not (clip.options and layout == "matrix"):
        found |= {f"frame {t}": [slot] for t, slot in enumerate(slots) if slot is not None}
    written = {"own": sources.infills, "donor": sources.donor_infills}.get(arm.infills, ())
    found |= {f"infill {t}": [one.text] for t, one in enumerate(written or ()) if one.ok}
    return {name: [part for part in parts if part] for name, parts in found.items() if any(parts)}


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([*ARMS, *MORE]),
    st.sampled_from(PRESENTATIONS),
    st.sampled_from(
        [(False, "sequence", scoring) for scoring in SCORINGS]
        + [(True, layout, "letter") for layout in ("sequence", "matrix")]
    ),
    st.integers(0, 4),
    st.booleans(),
)
def test_at_every_span_is_what_its_name_says(
    number: int, arm: Arm, presentation: str, form: Any, places: int, default: bool
) -> None:
    pictorial, layout, scoring = form
    item, sources = drawn(number, pictorial)
    item = rotated(item, places % len(item.options))
    arm = replace(arm, presentation=presentation, seed=number)  # type: ignore[arg-type]
    prompts = prompt_set("default") if default else PROMPTS
    found = made(item, arm, sources, scoring, layout, prompts)
    names = by_name(found)
    composed = [name for name in names if name == "frames"] or (
        ["options"] if layout == "matrix" and isinstance(names["options"][0], FrameRef) else []
    )
    wanted = expected(item, arm, sources, (scoring, layout))
    if composed == ["frames"]:
        assert [type(part) for part in names.pop("frames")] == [FrameRef]
    elif composed:
        assert names["options"].pop(0) == found.parts[0]
    if arm.infills == "filler":
        lengths = {
            f"infill {t}": len(one.text.split())
            for t, one in enumerate(sources.infills or ())
            if one.ok and one.text.split()  # a gap without words is bare
        }
        fillers = {name: names.pop(name) for name in [*names] if name.startswith("infill")}
        assert {name: len(str(text).split()) for name, (text,) in fillers.items()} == lengths
    assert names == wanted
    # Every picture has a name, and text that has none is the template's.
    pictures = [at for at, part in enumerate(found.parts) if isinstance(part, FrameRef)]
    assert pictures == sorted({s.part for s in found.spans if not (s.start or s.end)})
    for one, other in itertools.combinations(found.spans, 2):
        if one.part == other.part and not (one.name == "options" and "option" in other.name):
            assert one.end <= other.start


def test_spans_of_a_question_that_repeats_all_that_is_around_it() -> None:
    item = Item("i", "t", "yes or no? <no>", ("no", "yes", ""), 0, Video(Path("v")))
    sources = StimulusSources(Clip((0, 1), (0.0,) * 2, ("a", "b")), [Infill("no", "", "", "g")])
    assert made(item, VCOT, sources, "letter", "sequence").spans == (
        TextSpan("frame 0", 0),
        TextSpan("infill 0", 1, 1, 3),
        TextSpan("frame 1", 2),
        TextSpan("question", 3, 2, 17),
        TextSpan("options", 3, 18, 34),
        TextSpan("option 0", 3, 21, 23),
        TextSpan("option 1", 3, 27, 30),
    )
    assert made(item, replace(BLIND, infills="own"), sources, "cloze", "sequence").spans == (
        TextSpan("infill 0", 0, 1, 3),
        TextSpan("question", 0, 6, 21),
    )


def test_composed_pictures_are_frames_and_options_where_there_is_no_frame() -> None:
    item, sources = drawn(1, True)
    grid = made(item, replace(BASELINE, presentation="grid"), sources, "letter", "sequence")
    assert grid.spans[0] == TextSpan("frames", 0)
    assert not [span for span in grid.spans if span.name.startswith("frame ")]
    assert made(item, BASELINE, sources, "letter", "matrix").spans[0] == TextSpan("frames", 0)
    blind = made(item, BLIND, sources, "letter", "matrix")
    assert [s[:2] for s in blind.spans if s.name == "options"] == [("options", 0), ("options", 1)]


def test_merging_keeps_apart_what_does_not_touch() -> None:
    frame, name = FrameRef("f"), ("x",)
    given = [NamedPart("a", name), "", NamedPart("b", name), "-", NamedPart("c", name), frame]
    assert merged([*given, NamedPart("", name), NamedPart(frame, name)]) == (
        ("ab-c", frame, frame),
        (TextSpan("x", 0, 0, 2), TextSpan("x", 0, 3, 4), TextSpan("x", 2)),
    )
