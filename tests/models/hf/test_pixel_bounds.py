"""Bounds of a picture's pixels: as the class takes them itself, counted, and refused where none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from hub_layouts.build import build
from letter_scores import letter_scores
from plain_classes import Plain, pictures

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models.hf.families import pixel_bounds

A, B = pictures([(224, 336), (150, 90)])
PROMPT = [A, "The light goes out.\n", B, "What happens?\nA. the door opens\nB. it rains\n"]
FRAMES = {array_sha256(one): one for one in (A, B)}
SMALL = {"min_pixels": 2_000, "max_pixels": 30_000}
CASES = [
    ("qwen2_5_vl", "video"),
    ("qwen2_vl", "image"),
    ("qwen2_vl", "video"),
    ("qwen2_5_vl", "image"),
    ("qwen3_vl", "image"),
    ("qwen3_vl", "video"),
    ("qwen3_vl_moe", "image"),
    ("video_llama_3", "image"),
    ("video_llama_3", "video"),
]
QUICK = 1


@dataclass(frozen=True)
class Bounded(Plain):
    """A checkpoint of transformers whose processors were made with bounds."""

    bounds: dict[str, int] = field(default_factory=dict)

    @cached_property
    def processor(self) -> Any:
        found = transformers.AutoProcessor.from_pretrained(self.folder)
        size = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}
        for name, kind in (
            ("image_processor", transformers.AutoImageProcessor),
            ("video_processor", transformers.AutoVideoProcessor),
        ):
            own = dict(getattr(found, name).size)
            wanted = {k: self.bounds.get(old, own[k]) for k, old in size.items()}
            # Both names: the older ones, where a file has them, win over `size`.
            more = {old: wanted[k] for k, old in size.items()}
            if "min_pixels" not in (self.folder / "preprocessor_config.json").read_text():
                more = {}
            setattr(found, name, kind.from_pretrained(self.folder, size=wanted, **more))
        return found


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("hub")
    return lambda name: build(name, root)


def request_of(prompt: list[Any], options: tuple[str, ...] = ("A", "B")) -> Request:
    parts = [p if isinstance(p, str) else FrameRef(array_sha256(p)) for p in prompt]
    return Request(tuple(parts), options)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param(*one, marks=[pytest.mark.slow] if at >= QUICK else [], id="-".join(one))
        for at, one in enumerate(CASES)
    ],
)
def test_answers_are_those_of_the_class_with_the_same_bounds(
    name: str, way: str, hub: Callable[[str], Path], open_hf: Any
) -> None:
    folder, lengths = hub(name), []
    # Qwen3-VL's own least is above the first of these.
    for bounds in ({}, SMALL, {"min_pixels": 200_000, "max_pixels": 260_000}):
        plain = Bounded(folder, way, bounds=bounds)
        backend = open_hf(folder, spec={"frame_as": way, **bounds})
        (answer,) = dict(
            backend.score([request_of(PROMPT)], FRAMES, ScoringSpec("letter"))
        ).values()
        assert answer.status == "ok", answer.error
        inputs = plain.inputs(PROMPT)
        assert answer.input_tokens == inputs["input_ids"].shape[1]
        expected = letter_scores(plain.processor.tokenizer, plain.logprobs(PROMPT), "AB")
        assert answer.option_logprobs == pytest.approx(expected, abs=1e-3)
        lengths.append(answer.input_tokens)
        facts = backend.describe()
        assert {k: facts[k] for k in bounds} == bounds
    assert lengths[1] < lengths[0] < lengths[2]


@pytest.mark.parametrize(("name", "way"), [("internvl3", "video"), ("next_video", "image")])
def test_a_class_without_bounds_is_refused_by_name(
    name: str, way: str, hub: Callable[[str], Path], open_hf: Any
) -> None:
    backend = open_hf(hub(name), spec={"frame_as": way, "max_pixels": 30_000})
    with pytest.raises(
        ProbesError, match=r"Processor\w* has no bounds of a picture's pixels"
    ) as no:
        backend.check_files(thorough=True)
    assert "max_pixels would change nothing" in no.value.what
    assert no.value.where.startswith("pair.video.max_pixels")


def test_a_bound_beyond_the_checkpoints_other_one_is_refused(
    hub: Callable[[str], Path], open_hf: Any
) -> None:
    with pytest.raises(ProbesError, match=r"max_pixels=100 .* min_pixels=3136") as refusal:
        open_hf(hub("qwen2_vl"), spec={"max_pixels": 100}).preprocessor()
    assert refusal.value.fix == "set pair.video.min_pixels too"


def test_only_bounds_that_are_set_change_the_fingerprint(
    hub: Callable[[str], Path], open_hf: Any
) -> None:
    folder = hub("qwen2_vl")
    found = [
        open_hf(folder, spec=spec).fingerprint
        for spec in ({}, {"max_pixels": 30_000}, {"min_pixels": 30_000}, SMALL)
    ]
    assert len(set(found)) == 4
    backend = open_hf(folder)
    spec = replace(backend._spec, max_pixels=None)
    assert backend._checkpoint.fingerprint(spec, "qwen2_vl") == found[0]


KINDS = """Qwen2VLImageProcessor Qwen2VLImageProcessorPil Qwen2VLVideoProcessor
Qwen3VLVideoProcessor VideoLlama3ImageProcessor VideoLlama3VideoProcessor
Glm4vImageProcessor Glm4vVideoProcessor
Glm46VImageProcessor Glm46VVideoProcessor Ernie4_5_VLMoeImageProcessor MiniMaxM3VLImageProcessor
Emu3ImageProcessor""".split()


@pytest.mark.parametrize("kind", KINDS)
def test_a_processor_with_bounds_makes_what_one_made_with_them_makes(kind: str) -> None:
    made, way = getattr(transformers, kind), "video" if kind.endswith("VideoProcessor") else "image"
    spec = ModelSpec("m", "image", "r", frame_as=way, **SMALL)
    own = made()
    pixel_bounds.set_bounds(SimpleNamespace(**{f"{way}_processor": own}), spec, "")
    size = {"shortest_edge": SMALL["min_pixels"], "longest_edge": SMALL["max_pixels"]}
    plain = made(**SMALL) if kind == "Emu3ImageProcessor" else made(size=size)
    shown: dict[str, Any] = (
        {"images": [A]} if way == "image" else {"videos": [A[None].repeat(2, 0)]}
    )
    more = {"do_sample_frames": False} if way == "video" else {}
    mine, theirs, before = (
        one(**shown, **more, return_tensors="pt") for one in (own, plain, made())
    )
    pixels = next(name for name in mine if name.startswith("pixel_values"))
    assert torch.equal(mine[pixels], theirs[pixels])
    assert mine[pixels].shape != before[pixels].shape


def test_every_class_that_counts_pixels_is_known() -> None:
    """Of all processors that can be made without arguments."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

    names: set[str] = set()
    for each in (*IMAGE_PROCESSOR_MAPPING_NAMES.values(), *VIDEO_PROCESSOR_MAPPING_NAMES.values()):
        names |= set(each.values()) if isinstance(each, dict) else {str(each)}
    kinds = {name: getattr(transformers, name, None) for name in names if "Timm" not in name}
    bounded = {
        name for name, kind in kinds.items() if kind and pixel_bounds.bounds_of(kind()) is not None
    }
    assert set(KINDS) <= bounded
    # These call edges of a picture by the same names.
    assert not bounded & {"SmolVLMImageProcessor", "PixtralImageProcessor", "CLIPImageProcessor"}
