"""Checkpoints in the hub's layout answer as transformers' own class does on the same prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_layouts.build import build
from letter_scores import letter_scores
from plain_classes import Plain, pictures
from safetensors.torch import save_file

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, Request, ScoringSpec

A, B, C = pictures([(48, 64), (48, 64), (90, 40)])
QUESTION = "What happens?\nA. the door opens\nB. it rains\nAnswer with the letter:"
PROMPTS = [
    [A, B, QUESTION],
    ["First", A, "The light goes out.\n", C, QUESTION],
    [QUESTION],
]
CASES = [
    (name, way)
    for name in (
        "next",
        "next_video",
        "next_video_dpo",
        "onevision",
        "qwen2_vl",
        "qwen2_5_vl",
        "video_r1_old",
        "internvl3",
        "internvl3_5",
    )
    for way in ("video", "image")
    if (name, way) != ("next", "video")  # its own class has no videos
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("hub")
    return lambda name: build(name, root)


def request_of(prompt: list[Any], options: tuple[str, ...] = ()) -> Request:
    parts = [p if isinstance(p, str) else FrameRef(array_sha256(p)) for p in prompt]
    return Request(tuple(parts), options)


FRAMES = {array_sha256(one): one for one in (A, B, C)}


@pytest.mark.parametrize(("name", "way"), CASES, ids=lambda part: part)
def test_answers_are_those_of_the_class(
    name: str, way: str, hub: Callable[[str], Path], open_hf: Any
) -> None:
    folder = hub(name)
    plain = Plain(folder, way)
    spec = {"frame_as": way} | ({"family": "llava_next"} if name == "next" else {})
    backend = open_hf(folder, spec=spec)
    requests = [request_of(prompt, ("A", "B")) for prompt in PROMPTS]
    answers = dict(backend.score(requests, FRAMES, ScoringSpec("letter")))
    written = dict(
        backend.score(list(map(request_of, PROMPTS)), FRAMES, ScoringSpec("generate", 5))
    )
    layout = backend.preprocessor().tokens.layout
    assert layout == ("moved" if plain.moves_pictures else "kept")
    tokens = plain.processor.tokenizer
    for at, prompt in enumerate(PROMPTS):
        assert answers[at].status == "ok", answers[at].error
        assert answers[at].input_tokens == plain.inputs(prompt)["input_ids"].shape[1]
        logprobs = plain.logprobs(prompt)
        expected = letter_scores(tokens, logprobs, "AB")
        assert answers[at].option_logprobs == pytest.approx(expected, abs=1e-3)
        assert written[at].text == plain.generated(prompt, 5)


def test_a_family_that_is_named_reads_its_own_classes_only(
    hub: Callable[[str], Path], open_hf: Any
) -> None:
    for name, family in (
        ("qwen2_vl", "qwen2_5_vl"),
        ("next", "internvl"),
        ("internvl3", "llava_next_video"),
        ("qwen2_5_vl", "pllava"),
    ):
        with pytest.raises(ProbesError, match=f"family {family} reads no checkpoint"):
            open_hf(hub(name), spec={"family": family})


@pytest.mark.parametrize("family", ["auto", "internvl", "fallback"])
@pytest.mark.parametrize(
    ("config", "reason", "fix"),
    [
        ({"model_type": "internvl_chat"}, "internvl_chat", "-hf"),
        ({"model_type": "llava_qwen"}, "llava_qwen", "llava-hf"),
        ({"model_type": "videollama3_qwen2"}, "videollama3_qwen2", "lkhl/VideoLLaMA3-7B-HF"),
        ({"model_type": "florence2", "is_encoder_decoder": True}, "encoder-decoder", "one decoder"),
        ({"model_type": "diffusion_gemma"}, "diffusion", "one decoder"),
    ],
)
def test_what_no_class_reads_is_refused_at_once(
    config: dict[str, Any], reason: str, fix: str, family: str, tmp_path: Path, open_hf: Any
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ProbesError) as refusal:
        open_hf(tmp_path, spec={"family": family})
    assert reason in refusal.value.what
    assert fix in refusal.value.fix
