"""Every family: what the backend answers is what the class answers by itself, pixels and all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from letter_scores import letter_scores

from probes.core.types import FrameRef, Request, ScoringSpec

LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
GENERATE = ScoringSpec("generate", max_new_tokens=6)
OPTIONS = ("the red box opens", "a hand moves the cup", "blue", "no")
GENERIC = {"llava": tiny_models.llava, "gemma3": tiny_models.gemma3}
MAKERS = tiny_models.FAMILIES | GENERIC
FAMILIES = tuple(tiny_models.FAMILIES)
CASES = [(name, way) for name in FAMILIES for way in ("video", "image")]
CASES += [("llava_next", "image"), *((name, "image") for name in GENERIC)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    made = {name: make(root / name) for name, make in MAKERS.items()}
    return made | {"llava_next": tiny_models.llava_next(root / "llava_next")}


@dataclass
class Ordinary:
    """A checkpoint as its own class and processor run it."""

    name: str
    frame_as: str
    model: Any
    processor: Any

    def inputs(self, prompt: Request, frames: dict[str, np.ndarray], answer: str = "") -> Any:
        """Return the processor's inputs for one prompt, its pictures in their places."""
        parts = [p if isinstance(p, str) else {"type": self.frame_as} for p in prompt.parts]
        if self.name.startswith("llava_next"):  # the official template moves pictures to the front
            text = "".join(p if isinstance(p, str) else f"<{p['type']}>" for p in parts)
            parts = [text]
        content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        shown = [frames[p.sha256] for p in prompt.parts if isinstance(p, FrameRef)]
        media: dict[str, Any] = {}
        if shown and self.frame_as == "video":
            media = {"videos": [frame[None] for frame in shown]}
        elif shown:
            media = {"images": [shown]}
        joined = text + (answer if text.endswith("\n") else f" {answer}" if answer else "")
        return self.processor(text=[joined], **media, return_tensors="pt")

    def logprobs(self, inputs: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.model(**inputs).logits[0].log_softmax(-1)

    def letters(self, logprobs_TV: Any, count: int = 4) -> list[float]:
        """Return the scores of A, B, ... as the token behind the last."""
        return letter_scores(self.processor.tokenizer, logprobs_TV[-1], "ABCD"[:count])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def both(request, checkpoints, open_hf) -> tuple[Any, Ordinary]:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    name, frame_as = request.param
    folder = checkpoints[name]
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    ordinary = Ordinary(name, frame_as, model, AutoProcessor.from_pretrained(folder))
    family = {"family": "llava_next"} if name == "llava_next" else {}
    return open_hf(folder, spec={"frame_as": frame_as, **family}), ordinary


@pytest.fixture(scope="module")
def prompts(frames: dict[str, np.ndarray]) -> list[Request]:
    """No frames, several, repeated ones, of mixed sizes and lengths.

    A single frame is left out: LLaVA-OneVision shows it in tiles, which `test_families` checks.
    """
    names = list(frames)
    wide = names[-2:]
    return [
        Request(("what is first ?",), OPTIONS),
        Request((FrameRef(names[0]), " then ", FrameRef(names[1]), " what happens?"), OPTIONS),
        Request((*map(FrameRef, names[:4]), " what?"), OPTIONS),
        Request(
            (
                "the hand ",
                FrameRef(wide[0]),
                " takes ",
                FrameRef(wide[1]),
                FrameRef(names[3]),
                " the red cup opens ",
                FrameRef(wide[0]),
                "? ",
            ),
            OPTIONS,
        ),
    ]


def scored(backend: Any, prompts: list[Request], frames: Any, scoring: ScoringSpec) -> list[Any]:
    outputs = dict(backend.score(prompts, frames, scoring))
    assert sorted(outputs) == list(range(len(prompts)))
    assert {output.error for output in outputs.values()} == {""}
    return [outputs[at] for at in range(len(prompts))]


def lettered(prompts: list[Request]) -> list[Request]:
    return [Request(prompt.parts, tuple("ABCD")) for prompt in prompts]


def test_letters(both, prompts, frames):
    backend, ordinary = both
    for prompt, out in zip(
        prompts, scored(backend, lettered(prompts), frames, LETTER), strict=True
    ):
        inputs = ordinary.inputs(prompt, frames)
        assert out.input_tokens == inputs["input_ids"].shape[1]
        expected = ordinary.letters(ordinary.logprobs(inputs))
        assert out.option_logprobs == pytest.approx(expected, abs=1e-4)


def test_continuations(both, prompts, frames):
    backend, ordinary = both
    for prompt, out in zip(prompts, scored(backend, prompts, frames, CLOZE), strict=True):
        start = ordinary.inputs(prompt, frames)["input_ids"].shape[1]
        # For a text that ends in white space the common prefix is a token shorter.
        assert out.input_tokens in (start, start - 1)
        expected = []
        for option in prompt.options:
            whole = ordinary.inputs(prompt, frames, option)
            ids, logprobs = whole["input_ids"][0], ordinary.logprobs(whole)
            places = range(out.input_tokens, len(ids))
            expected.append(sum(float(logprobs[at - 1, ids[at]]) for at in places))
        assert out.option_logprobs == pytest.approx(expected, abs=1e-4)


def test_generation(both, prompts, frames):
    import torch

    backend, ordinary = both
    for prompt, out in zip(prompts, scored(backend, prompts, frames, GENERATE), strict=True):
        inputs = ordinary.inputs(prompt, frames)
        with torch.inference_mode():
            ids = ordinary.model.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
        new = ids[inputs["input_ids"].shape[1] :]
        text = ordinary.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert (out.text, out.output_tokens) == (text, len(new))


@pytest.mark.parametrize(
    "both", CASES[: -len(GENERIC)], indirect=True, ids=lambda case: "-".join(case)
)
def test_batches_change_nothing(both, prompts, frames, open_hf):
    backend, _ = both
    alone = open_hf(
        backend._checkpoint.folder,
        batch_size=1,
        spec={
            "frame_as": backend._spec.frame_as,
            "family": backend._spec.family,
        },
    )
    for kind, asked in ((LETTER, lettered(prompts)), (CLOZE, prompts), (GENERATE, prompts)):
        together = scored(backend, asked, frames, kind)
        for one, other in zip(scored(alone, asked, frames, kind), together, strict=True):
            assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)
            assert one.text == other.text


@pytest.mark.parametrize("name", FAMILIES[1:])  # `test_hf_backend` has the first
def test_packed_options_equal_one_sequence_each(name, checkpoints, open_hf, prompts, frames):
    backend = open_hf(checkpoints[name], spec={"attention": "eager", "frame_as": "image"})
    packed = scored(backend, prompts, frames, CLOZE)
    assert backend._ready.packed
    backend._ready = replace(backend._ready, packed=False)
    for one, other in zip(scored(backend, prompts, frames, CLOZE), packed, strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", MAKERS)
def test_half_precision_runs_on_a_cpu(name, dtype, checkpoints, open_hf, prompts, frames):
    ways = ("image",) if name in GENERIC else ("video", "image")
    for way in ways:
        half = open_hf(checkpoints[name], spec={"frame_as": way, "dtype": dtype})
        full = open_hf(checkpoints[name], spec={"frame_as": way})
        for kind, asked in ((LETTER, lettered(prompts[1:2])), (CLOZE, prompts[1:2])):
            for one, other in zip(
                scored(half, asked, frames, kind), scored(full, asked, frames, kind), strict=True
            ):
                assert np.allclose(one.option_logprobs, other.option_logprobs, atol=1.0)
        scored(half, prompts[1:2], frames, GENERATE)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl", "llava"])
def test_a_device_map_and_a_device_give_the_same(name, checkpoints, open_hf, prompts, frames):
    plain, mapped = (
        scored(
            open_hf(checkpoints[name], spec={"frame_as": "image"}, options=options),
            prompts,
            frames,
            CLOZE,
        )
        for options in ({}, {"device_map": {"": "cpu"}})
    )
    assert [out.option_logprobs for out in mapped] == [out.option_logprobs for out in plain]
