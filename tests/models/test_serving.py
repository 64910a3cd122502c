"""The embedded member in process and behind real servers: the same answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hub_layouts.build import build
from safetensors.torch import load_file, save_file
from serving import chat_server, transformers_serve
from transformers import AutoTokenizer

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models import open_backend

SPEC = ModelSpec("tiny-image", "image", "embedded:image", frame_as="image")
TOKEN = "sk-served-1b2c3d"


@pytest.fixture(scope="module")
def shown() -> dict[str, np.ndarray]:
    """Smooth pictures of several sizes, by hash."""
    draw = np.random.default_rng(0)
    made = []
    for height, width in ((64, 64), (128, 128), (90, 160), (160, 90)):
        coarse = draw.integers(0, 256, (2, 2, 3), np.uint8)
        made.append(np.kron(coarse, np.ones((height // 2, width // 2, 1), np.uint8)))
    return {array_sha256(frame): frame for frame in made}


@pytest.fixture(scope="module")
def prompts(shown: dict[str, np.ndarray]) -> list[Request]:
    """Prompts as the arms make them: no frames, one, several; with and without text between."""
    a, b, c, d = map(FrameRef, shown)
    letters = tuple("ABCDE")
    options = "\nA. red box\nB. blue cup\nC. green pot\nD. yellow jar\nE. red book\n"
    question = f" what did c take?{options}answer with the letter."
    return [
        Request((question,), letters),
        Request((a, question), letters),
        Request((a, b, c, d, question), letters),
        Request((a, " c takes the red box.", b, " nothing happens.", c, question), letters),
        Request((c, " c takes the red box.", b, " nothing happens.", a, question), letters),
        Request((a, b, " what is in both?"), letters),
        Request((b, d, " in both: the red box. what happens between?"), letters),
    ]


def answers(backend: Any, prompts: Any, shown: Any, scoring: ScoringSpec) -> list[Any]:
    found = dict(backend.score(prompts, shown, scoring))
    backend.close()
    return [found[at] for at in range(len(prompts))]


@pytest.fixture(scope="module")
def lettered() -> Iterator[str]:
    from probes.models.checkpoint import find

    with chat_server(f"tiny={find(SPEC).folder}", token=TOKEN) as url:
        yield url


def over(url: str, settings: Any, **options: Any) -> Any:
    return open_backend(settings(name="server", options={"base_url": url, **options}), SPEC)


@pytest.mark.slow
def test_letters_have_the_same_probabilities(
    lettered: str, prompts: Any, shown: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", TOKEN)
    scoring = ScoringSpec("letter")
    named = {"model": {"image": "tiny"}, "api_key_env": "A_TOKEN", "top_logprobs": 466}
    served = answers(over(lettered, settings, **named), prompts, shown, scoring)
    here = answers(open_backend(settings(), SPEC), prompts, shown, scoring)
    for one, other in zip(here, served, strict=True):
        assert other.status == "ok"
        assert other.input_tokens == one.input_tokens
        assert other.option_logprobs == pytest.approx(one.option_logprobs, abs=1e-4)
        assert other.option_tokens == (1,) * 5


@pytest.mark.slow
def test_a_wrong_token_is_an_error_and_not_shown(
    lettered: str, prompts: Any, shown: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "sk-wrong-9z8y")
    backend = over(lettered, settings, model={"image": "tiny"}, api_key_env="A_TOKEN")
    with pytest.raises(ProbesError, match=r"401: wrong token: Bearer [*]{3}") as caught:
        answers(backend, prompts, shown, ScoringSpec("letter"))
    assert "9z8y" not in str(caught.value)


@pytest.mark.slow
def test_texts_are_the_same_through_transformers_serve(
    prompts: Any, shown: Any, settings: Any
) -> None:
    """It has no log-probabilities, lists no folders that it serves, and fails without a cache."""
    scoring = ScoringSpec("generate", max_new_tokens=24)
    with transformers_serve() as url:
        served = answers(over(url, settings), prompts, shown, scoring)
        with pytest.raises(ProbesError, match="scoring=letter needs") as caught:
            answers(over(url, settings), prompts, shown, ScoringSpec("letter"))
    assert "scoring=generate" in caught.value.fix
    here = answers(open_backend(settings(), SPEC), prompts, shown, scoring)
    assert [one.text for one in served] == [one.text for one in here]
    assert [one.input_tokens for one in served] == [one.input_tokens for one in here]
    assert len({one.text for one in here}) >= 3


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


KEPT, MOVED = ("qwen2_vl", "qwen2_5_vl", "internvl3", "internvl3_5"), ("next", "onevision")


@pytest.fixture(scope="module")
def transformers() -> Iterator[str]:
    with transformers_serve() as url:
        yield url


def hub_answers(url: str, folder: Path, settings: Any, asked: Any, frames: Any) -> Any:
    """Return the answers of a server and of the hf backend."""
    spec = ModelSpec("hub", "image", str(folder), frame_as="image", dtype="float32")
    scoring = ScoringSpec("generate", max_new_tokens=8)
    remote = open_backend(settings(name="server", options={"base_url": url}), spec)
    here = open_backend(settings(), spec)
    return answers(remote, asked, frames, scoring), answers(here, asked, frames, scoring)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_hub_layouts_keep_the_order_of_parts_through_transformers_serve(
    name: str, transformers: str, hub: Path, settings: Any, shown: Any, prompts: Any
) -> None:
    served, here = hub_answers(transformers, build(name, hub), settings, prompts, shown)
    assert [one.text for one in served] == [one.text for one in here]
    assert [one.input_tokens for one in served] == [one.input_tokens for one in here]
    assert [one.cut_off for one in served] == [one.cut_off for one in here]
    # The same parts in another order are another prompt.
    assert served[3].text != served[4].text


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVED)
def test_hub_layouts_that_move_pictures_are_refused(
    name: str, transformers: str, hub: Path, settings: Any, shown: Any, prompts: Any
) -> None:
    spec = ModelSpec("hub", "image", str(build(name, hub)), frame_as="image")
    remote = open_backend(settings(name="server", options={"base_url": transformers}), spec)
    with pytest.raises(ProbesError, match="all pictures before all text"):
        answers(remote, prompts, shown, ScoringSpec("generate", max_new_tokens=8))


@pytest.mark.slow
def test_special_tokens_that_transformers_serve_leaves_in_texts_are_taken_out(
    transformers: str, hub: Path, settings: Any, shown: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(build("qwen2_5_vl", hub), tmp_path / "special")
    # The head of a special token is made large: the token comes up in about every second text.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    special = tokenizer.convert_tokens_to_ids("<|vision_start|>")
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        if "lm_head.weight" in weights:
            head = weights["lm_head.weight"]
            head[special] = 3 * head.abs().mean() * torch.ones_like(head[special])
            save_file(weights, path, {"format": "pt"})
    asked = [Request((f"say {n}",), ("A", "B")) for n in range(12)]
    content = []
    for one in asked:
        message = {"role": "user", "content": [{"type": "text", "text": one.parts[0]}]}
        body = {"model": str(folder), "messages": [message], "temperature": 0, "max_tokens": 8}
        reply = httpx.post(f"{transformers}/chat/completions", json=body, timeout=120)
        content.append(reply.json()["choices"][0]["message"]["content"])
    assert any("<|vision_start|>" in text for text in content)
    served, here = hub_answers(transformers, folder, settings, asked, shown)
    assert [one.text for one in served] == [one.text for one in here]
