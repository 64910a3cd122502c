"""The condenser: a real causal language model class with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Output, Request, ScoringSpec
from probes.models.text_llm import TextBackend

GENERATE = ScoringSpec("generate", 6)
PROMPTS = [Request(("the red box",)), Request(("a hand ", "opens the blue cup")), Request(("the",))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, new_tokenizer: Any) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = new_tokenizer(chat_template=None)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            initializer_range=0.5,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        )
    )
    path = tmp_path_factory.mktemp("text") / "model"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def answers(backend: TextBackend, prompts: list[Request]) -> list[Output]:
    found = dict(backend.score(prompts, {}, GENERATE))
    return [found[at] for at in range(len(prompts))]


def test_it_writes_what_the_model_itself_would_write(folder: Path, settings: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for prompt, output in zip(
        PROMPTS, answers(TextBackend(settings(), str(folder)), PROMPTS), strict=True
    ):
        ids = tokenizer("".join(map(str, prompt.parts)), return_tensors="pt")
        new = model.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids.input_ids.shape[1] :]
        assert output.text == tokenizer.decode(new, skip_special_tokens=True)
        assert (output.status, output.input_tokens) == ("ok", ids.input_ids.shape[1])


def test_a_batch_changes_nothing(folder: Path, settings: Any) -> None:
    together = answers(TextBackend(settings(batch_size=3), str(folder)), PROMPTS)
    alone = answers(TextBackend(settings(batch_size=1), str(folder)), PROMPTS)
    assert [one.text for one in together] == [one.text for one in alone]
    assert len({one.text for one in together}) > 1


def test_the_model_is_loaded_for_the_first_text_only_and_freed(folder: Path, settings: Any) -> None:
    backend = TextBackend(settings(), str(folder))
    assert backend.fingerprint == TextBackend(settings(), str(folder)).fingerprint
    assert backend.describe()["checkpoint_class"] == "LlamaForCausalLM"
    (failed,) = answers(backend, [Request((FrameRef("aa"), "the"))])
    assert (failed.status, backend._model) == ("error", None)
    answers(backend, PROMPTS[:1])
    assert backend._model is not None
    backend.close()
    assert backend._model is None
    assert backend.counters() == {"passes": 1}


def test_what_is_not_a_text_model_is_an_error(folder: Path, settings: Any, tmp_path: Path) -> None:
    with pytest.raises(ProbesError, match="condenser"):
        TextBackend(settings(), str(tmp_path / "none.gguf"))
    with pytest.raises(ProbesError):
        TextBackend(settings(), str(tmp_path))
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    with pytest.raises(ProbesError, match="does not load"):
        answers(TextBackend(settings(), str(tmp_path / "bad.gguf")), PROMPTS[:1])
    with pytest.raises(ProbesError, match="generates"):
        list(TextBackend(settings(), str(folder)).score(PROMPTS, {}, ScoringSpec("letter")))
