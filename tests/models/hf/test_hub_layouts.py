"""Checkpoints in the hub's layout answer as transformers' own class does on the same prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_layouts.build import build
from plain_classes import Plain, pictures

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
    tokens = plain.processor.tokenizer
    for at, prompt in enumerate(PROMPTS):
        assert answers[at].status == "ok", answers[at].error
        assert answers[at].input_tokens == plain.inputs(prompt)["input_ids"].shape[1]
        logprobs = plain.logprobs(prompt)
        joint = plain.text(prompt)
        space = "" if joint[-1].isspace() else " "
        ids = [tokens(joint + space + letter)["input_ids"][-1] for letter in "AB"]
        expected = [float(logprobs[i]) for i in ids]
        assert answers[at].option_logprobs == pytest.approx(expected, abs=1e-3)
        assert written[at].text == plain.generated(prompt, 5)
