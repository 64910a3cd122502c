"""The default wording, letter by letter; run as a program, this file rewrites the goldens."""

from collections.abc import Callable
from pathlib import Path

import pytest

from probes.config import paths
from probes.config import prompts as prompts_module
from probes.core.types import (
    Arm,
    Clip,
    FrameRef,
    Infill,
    Item,
    Output,
    Part,
    Request,
    Scoring,
    Video,
)
from probes.stimuli import arms, infills, templates
from probes.stimuli.arms import StimulusForm, StimulusSources

GOLDEN = Path(__file__).parent / "golden"
PROMPTS = paths.conf_dir() / "prompts"
ITEM = Item(
    "i",
    "t",
    "What did C do after opening the drawer?",
    ("C took a spoon.", "C closed the drawer.", "C washed {a} cup.", "C left.", "C sat down."),
    0,
    Video(Path("v.mp4")),
)
DONOR = Item("d", "t", "?", ("x", "y"), 0, Video(Path("w.mp4")))


def clip(name: str) -> Clip:
    return Clip((0, 5, 9), (0.0, 0.5, 0.9), tuple(f"{name}{t}" for t in range(3)))


def texts(name: str) -> tuple[Infill, ...]:
    events = [f"{name} opens the drawer.", f"{name} takes a spoon."]
    return tuple(Infill(text, "", "", "g") for text in events)


def shown(parts: tuple[Part, ...]) -> str:
    return "".join(f"[frame {p.sha256}]" if isinstance(p, FrameRef) else p for p in parts)


def stimulus(arm: Arm, scoring: Scoring) -> str:
    found = arms.build(
        ITEM,
        arm,
        StimulusSources(clip("own"), texts("C"), DONOR, clip("donor"), texts("The donor")),
        StimulusForm(prompts_module.prompt_set("default"), scoring),
    )
    return f"{shown(found.parts)}\n\n--- scored\n" + "\n".join(found.options)


def step(name: str) -> str:
    asked: list[str] = []

    def generate(prompts: list[Request], max_new_tokens: int) -> list[Output]:
        asked.extend(shown(prompt.parts) for prompt in prompts)
        return [Output(text=f"reply {len(asked)}") for _ in prompts]

    prompts = prompts_module.prompt_set("default")
    written = infills.write([("own0", "own1")], generate, prompts, generator="g", max_new_tokens=9)
    infills.condensed(written, generate, prompts, max_new_tokens=9)
    return dict(zip(("common", "event", "condense"), asked, strict=True))[name]


VCOT = Arm("vcot", infills="own")
FLAT = Arm("flat", infills="own", presentation="frames_then_text")
CASES: dict[str, Callable[[], str]] = {
    "letter_baseline": lambda: stimulus(Arm("baseline"), "letter"),
    "letter_vcot": lambda: stimulus(VCOT, "letter"),
    "letter_visual_perturbation": lambda: stimulus(Arm("v", "donor", "own"), "letter"),
    "letter_text_perturbation": lambda: stimulus(Arm("t", "own", "donor"), "letter"),
    "letter_blind": lambda: stimulus(Arm("blind", "none"), "letter"),
    "letter_infills_only": lambda: stimulus(Arm("infills_only", "none", "own"), "letter"),
    "letter_filler": lambda: stimulus(Arm("filler", "own", "filler"), "letter"),
    "letter_frames_then_text": lambda: stimulus(FLAT, "letter"),
    "cloze_vcot": lambda: stimulus(VCOT, "cloze"),
    "generate_vcot": lambda: stimulus(VCOT, "generate"),
    "step_common": lambda: step("common"),
    "step_event": lambda: step("event"),
    "step_condense": lambda: step("condense"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_default_prompts_equal_the_goldens(name):
    golden = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert CASES[name]() + "\n" == golden


def test_every_golden_has_its_case():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", sorted(p.parent.name for p in PROMPTS.glob("*/letter.txt")))
def test_every_prompt_set_has_its_placeholders_with_the_context_first(name):
    prompts = prompts_module.prompt_set(name)
    pair = {"frame_a": ["a"], "frame_b": ["b"]}
    assert templates.fill(prompts.common, pair)
    assert templates.fill(prompts.event, pair | {"common": ["c"]})
    assert templates.fill(prompts.condense, {"text": ["t"]})
    assert templates.fill(prompts.between, {"infill": ["t"]})
    for scoring in ("letter", "generate", "cloze"):
        values = {"context": ["CONTEXT"], "question": ["QUESTION"]}
        values |= {} if scoring == "cloze" else {"options": ["OPTIONS"]}
        (text,) = templates.fill(getattr(prompts, scoring), values)
        places = [text.index(word) for word in ("CONTEXT", "QUESTION", "OPTIONS") if word in text]
        assert places == sorted(places)


if __name__ == "__main__":
    for name, case in CASES.items():
        (GOLDEN / f"{name}.txt").write_text(case() + "\n", encoding="utf-8")
