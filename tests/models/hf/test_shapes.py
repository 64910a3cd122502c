"""Checkpoints of other shapes than the tiny ones: other sizes, towers, language models, files.

Every one is compared with its own class, as in `test_plain_transformers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from test_plain_transformers import CLOZE, GENERATE, LETTER, OPTIONS, Ordinary, lettered, scored

from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, Request

LANGUAGE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
HALF = 0.2
"""By how much log-probabilities in bfloat16 may differ between two orders of adding."""


def reshaped(
    make: Callable[..., Path],
    folder: Path,
    config: Callable[[Any], None],
    processor: Callable[[Any], None] = lambda _: None,
) -> Path:
    """Make a tiny checkpoint with changes to its config and its processor, and new weights."""
    import torch
    import transformers as t

    base = make(folder / "base")
    settings, tools = t.AutoConfig.from_pretrained(base), t.AutoProcessor.from_pretrained(base)
    config(settings)
    processor(tools)
    torch.manual_seed(5)
    model = getattr(t, json.loads((base / "config.json").read_text())["architectures"][0])(settings)
    model.save_pretrained(folder)
    tools.save_pretrained(folder)
    return folder


def language(kind: str, text: Any, **more: Any) -> Any:
    """Return another kind of language model of the same size."""
    import transformers as t

    same = {name: value for name, value in text.to_dict().items() if name in LANGUAGE}
    return getattr(t, kind)(**same, **more)


def llava_next(folder: Path, make: Callable[..., Path], **changes: Any) -> Path:
    """Tiles of 84 pixels and patches of 14, four grids, and Mistral with a sliding window."""
    side, grids = 84, [[84, 168], [168, 84], [168, 168], [252, 84]]

    def config(c: Any) -> None:
        c.vision_config.image_size, c.vision_config.patch_size = side, 14
        c.image_grid_pinpoints, c.vision_feature_layer = grids, -2
        c.text_config = language("MistralConfig", c.text_config, sliding_window=512)
        for name, value in changes.items():
            setattr(c, name, value)

    def processor(p: Any) -> None:
        for part in (p.image_processor, getattr(p, "video_processor", None)):
            if part is not None:
                part.size = {"shortest_edge": side}
                part.crop_size = {"height": side, "width": side}
        p.image_processor.image_grid_pinpoints, p.patch_size = grids, 14

    return reshaped(make, folder, config, processor)


def onevision(folder: Path) -> Path:
    """An odd grid of 5 x 5 patches, which pooling rounds up to 3 x 3."""
    side, grids = 70, [[70, 140], [140, 70], [140, 140]]

    def config(c: Any) -> None:
        c.vision_config.image_size, c.vision_config.patch_size = side, 14
        c.image_grid_pinpoints, c.vision_aspect_ratio = grids, "anyres_max_4"

    def processor(p: Any) -> None:
        p.image_processor.size = p.video_processor.size = {"height": side, "width": side}
        p.image_processor.image_grid_pinpoints = grids
        p.num_image_tokens, p.vision_aspect_ratio = 25, "anyres_max_4"

    return reshaped(tiny_models.llava_onevision, folder, config, processor)


def internvl(folder: Path, tiles: bool = True) -> Path:
    """9 tokens a tile and up to 6 tiles, or none; Llama."""
    side = 84

    def config(c: Any) -> None:
        c.vision_config.image_size, c.image_seq_length = [side, side], 9
        c.text_config = language("LlamaConfig", c.text_config)

    def processor(p: Any) -> None:
        p.image_processor.size = p.video_processor.size = {"height": side, "width": side}
        p.image_processor.max_patches, p.image_seq_length = 6, 9
        p.image_processor.crop_to_patches = tiles

    return reshaped(tiny_models.internvl, folder, config, processor)


def released_qwen(folder: Path, make: Callable[..., Path]) -> Path:
    """The files as the models' authors released them: a flat config, and bounds in pixels."""

    def config(c: Any) -> None:
        c.vision_config.depth = 3

    reshaped(make, folder, config)
    content = json.loads((folder / "config.json").read_text())
    text = content.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    (folder / "config.json").write_text(json.dumps(text | content))
    whole = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    images = whole["image_processor"] | {
        "min_pixels": 28 * 28 * 2,
        "max_pixels": 28 * 28 * 9,
        "processor_class": whole["processor_class"],
    }
    images.pop("size")
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


CASES: dict[str, tuple[str, tuple[str, ...], Callable[[Path], Path]]] = {
    "llava_next_video": (
        "llava_next_video",
        ("video", "image"),
        lambda folder: llava_next(folder, tiny_models.llava_next_video),
    ),
    "largest of a pool": (
        "llava_next_video",
        ("video",),
        lambda folder: llava_next(
            folder,
            tiny_models.llava_next_video,
            spatial_pool_mode="max",
        ),
    ),
    "two layers": (
        "llava_next_video",
        ("video", "image"),
        lambda folder: llava_next(
            folder, tiny_models.llava_next_video, vision_feature_layer=[-1, -2]
        ),
    ),
    "llava_next": (
        "llava_next",
        ("image",),
        lambda folder: llava_next(folder, tiny_models.llava_next),
    ),
    "llava_onevision": ("llava_onevision", ("video", "image"), onevision),
    "internvl": ("internvl", ("video", "image"), internvl),
    "no tiles": ("internvl", ("image",), lambda folder: internvl(folder, tiles=False)),
    "qwen2_vl": (
        "qwen2_vl",
        ("video", "image"),
        lambda folder: released_qwen(folder, tiny_models.qwen2_vl),
    ),
    "qwen2_5_vl": (
        "qwen2_5_vl",
        ("video", "image"),
        lambda folder: released_qwen(folder, tiny_models.qwen2_5_vl),
    ),
}


@pytest.fixture(scope="module")
def shown() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(7)
    sizes = [(64, 64)] * 2 + [(48, 80), (200, 120)]
    made = [draw.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    return {array_sha256(frame): frame for frame in made}


@pytest.fixture(scope="module")
def asked(shown: dict[str, np.ndarray]) -> list[Request]:
    one, two, wide, tall = map(FrameRef, shown)
    return [
        Request(("what is first ?",), OPTIONS),
        Request((one, " then ", two, " what happens?"), OPTIONS),
        Request(("the hand ", tall, " takes ", wide, one, " what?"), OPTIONS),
    ]


@pytest.mark.parametrize("case", CASES)
def test_other_shapes_answer_as_their_own_class(
    case: str, open_hf: Any, shown: Any, asked: list[Request], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    name, ways, make = CASES[case]
    folder = make(tmp_path / "member")
    processor = AutoProcessor.from_pretrained(folder)
    for dtype in ("float32", "bfloat16"):
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype))
        near = 1e-4 if dtype == "float32" else HALF
        for way in ways:
            ordinary = Ordinary(name, way, model, processor)
            backend = open_hf(folder, spec={"frame_as": way, "dtype": dtype}, batch_size=1)
            outputs = scored(backend, lettered(asked), shown, LETTER)
            for prompt, out in zip(asked, outputs, strict=True):
                inputs = ordinary.inputs(prompt, shown).to(dtype=model.dtype)
                assert out.input_tokens == inputs["input_ids"].shape[1]
                expected = ordinary.letters(ordinary.logprobs(inputs))
                assert out.option_logprobs == pytest.approx(expected, abs=near)
            # Neighbouring frames are encoded once, whether options share a pass or not.
            scored(backend, asked, shown, CLOZE)
            assert backend.counters()["perceived"] == len(shown)
            if dtype == "float32":
                texts = [out.text for out in scored(backend, asked, shown, GENERATE)]
                assert texts == [written(ordinary, prompt, shown) for prompt in asked]


def written(ordinary: Ordinary, prompt: Request, shown: Any) -> str:
    import torch

    inputs = ordinary.inputs(prompt, shown)
    with torch.inference_mode():
        ids = ordinary.model.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
    new = ids[inputs["input_ids"].shape[1] :]
    return str(ordinary.processor.tokenizer.decode(new, skip_special_tokens=True).strip())
