"""The stimuli of every arm are, bit for bit, those of earlier releases."""

import hashlib
import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from made_arms import ARMS, PROMPTS

from probes.config.prompts import prompt_set
from probes.core.types import Arm, Clip, Infill, Item, Panels, Video
from probes.stimuli.arms import StimulusForm, StimulusSources, build

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
            form = StimulusForm(prompts, scoring, layout, lambda composite: composite.digest())
            found = build(item, replace(arm, presentation=presentation, seed=number), sources, form)
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
