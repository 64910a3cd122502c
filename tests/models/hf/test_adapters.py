"""Adapters: what is found and refused, and that answers are those of transformers with peft."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_adapters
import made_hooks
import pytest
import tiny_models
import torch
from test_plain_transformers import Ordinary, lettered, prompts, scored

from probes.core.errors import ProbesError
from probes.core.types import Intervention, ModelSpec, ScoringSpec, TextSpan
from probes.models import open_backend
from probes.models.checkpoint import find
from probes.models.interventions import INTERVENTIONS
from probes.models.text_llm import TextBackend

__all__ = ["prompts"]  # a fixture
LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen2_5_vl(tmp_path_factory.mktemp("base") / "member")


@pytest.fixture(scope="module")
def model_class() -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, base: Path, model_class: Any) -> Path:
    # `qkv` is of the vision tower.
    targets = [*made_adapters.TARGETS, "qkv"]
    folder = tmp_path_factory.mktemp("lora") / "adapter"
    return made_adapters.adapter(folder, base, model_class, target_modules=targets)


@pytest.fixture
def own(base: Path, lora: Path, tmp_path: Path) -> Path:
    """The adapter in the checkpoint's own folder."""
    folder = tmp_path / "own"
    shutil.copytree(base, folder)
    for name in (CONFIG, WEIGHTS):
        shutil.copy(lora / name, folder)
    return folder


def plain(base: Path, adapter: Path, model_class: Any, dtype: Any = torch.float32) -> Any:
    import peft

    model = model_class.from_pretrained(base, dtype=dtype, attn_implementation="sdpa")
    return peft.PeftModel.from_pretrained(model, adapter).eval()


def kinds() -> Iterator[Any]:
    for kind in sorted(made_adapters.KINDS):
        for dtype in ("float32", "bfloat16"):
            quick = (kind, dtype) in (("rslora", "float32"), ("dora", "bfloat16"))
            yield pytest.param(kind, dtype, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "dtype"), kinds())
def test_weights_compute_what_plain_peft_computes(
    kind: str, dtype: str, base: Path, model_class: Any, tmp_path: Path, open_hf: Any
) -> None:
    folder = made_adapters.adapter(tmp_path / kind, base, model_class, kind)
    backend = open_hf(base, spec={"adapter": str(folder), "dtype": dtype})
    found = backend._load().model
    ids = torch.arange(1, 40)[None]
    with torch.inference_mode():
        expected = plain(base, folder, model_class, getattr(torch, dtype))(ids).logits
        assert torch.equal(found(ids).logits, expected)
        bare = open_hf(base, spec={"dtype": dtype})._load().model
        assert (bare(ids).logits - expected).abs().max() > 0.1
    assert type(found) is model_class


def test_answers_are_those_of_peft(
    base: Path, lora: Path, own: Path, model_class: Any, open_hf: Any, frames: Any, prompts: Any
) -> None:
    from transformers import AutoProcessor

    named = open_hf(base, spec={"adapter": str(lora), "frame_as": "image"})
    ordinary = Ordinary(
        "qwen2_5_vl", "image", plain(base, lora, model_class), AutoProcessor.from_pretrained(base)
    )
    asked = lettered(prompts)
    found = scored(named, asked, frames, LETTER)
    for prompt, out in zip(asked, found, strict=True):
        expected = ordinary.letters(ordinary.logprobs(ordinary.inputs(prompt, frames)))
        assert out.option_logprobs == pytest.approx(expected, abs=1e-4)
    bare = open_hf(base, spec={"frame_as": "image"})
    within = open_hf(own, spec={"frame_as": "image"})
    for one, two, three in zip(
        found,
        scored(within, asked, frames, LETTER),
        scored(bare, asked, frames, LETTER),
        strict=True,
    ):
        assert one.option_logprobs == two.option_logprobs
        assert one.option_logprobs != pytest.approx(three.option_logprobs, abs=1e-2)
    assert len({one.fingerprint for one in (named, within, bare)}) == 3
    for one, repo in ((named, str(lora)), (within, str(own))):
        described = one.describe()["peft_adapter"]
        assert (described["repo"], described["kind"]) == (repo, "LORA")
        assert len(described["sha256"]) == 64
    assert bare.describe()["peft_adapter"] is None
    assert set(named.planning().shapes()) > set(bare.planning().shapes())


def test_hooks_find_their_modules(
    base: Path,
    lora: Path,
    open_hf: Any,
    frames: Any,
    prompts: Any,
    monkeypatch: pytest.MonkeyPatch,
    model_class: Any,
    tmp_path: Path,
) -> None:
    """Attention knockout equals that of the merged weights in a folder of their own."""
    made_hooks.register(monkeypatch, INTERVENTIONS, cut="CutEdges")
    merged = tmp_path / "merged"
    shutil.copytree(base, merged)
    plain(base, lora, model_class).merge_and_unload().save_pretrained(merged)
    cut = Intervention("cut", (("source", "question"), ("target", "frame 0")), "1")
    text = " what happens?"
    asked = replace(prompts[1], intervention=cut, spans=(TextSpan("question", 3, 1, len(text)),))
    for kind, one in ((CLOZE, asked), (LETTER, replace(asked, options=tuple("ABCD")))):
        (found,) = scored(open_hf(base, spec={"adapter": str(lora)}), [one], frames, kind)
        (expected,) = scored(open_hf(merged), [one], frames, kind)
        assert found.option_logprobs == pytest.approx(expected.option_logprobs, abs=1e-3)
        (uncut,) = scored(open_hf(merged), [replace(one, intervention=None)], frames, kind)
        assert found.option_logprobs != pytest.approx(uncut.option_logprobs, abs=1e-2)


def test_a_class_of_no_family_takes_one(
    tmp_path: Path, open_hf: Any, frames: Any, prompts: Any
) -> None:
    from transformers import LlavaForConditionalGeneration as Llava

    base = tiny_models.llava(tmp_path / "base")
    folder = made_adapters.adapter(tmp_path / "adapter", base, Llava)
    spec = {"frame_as": "image"}
    backend = open_hf(base, spec=spec | {"adapter": str(folder)})
    found = scored(backend, prompts[:1], frames, CLOZE)
    assert found[0].option_logprobs != pytest.approx(
        scored(open_hf(base, spec=spec), prompts[:1], frames, CLOZE)[0].option_logprobs, abs=1e-2
    )


def test_what_the_weights_lack_is_told_with_an_adapter_too(own: Path, open_hf: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(own / "model.safetensors")
    tensors.pop(next(name for name in tensors if "o_proj" in name))
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(ProbesError, match=r"1 parameters .* missing .*o_proj"):
        open_hf(own)._load()


def test_an_adapter_of_another_model_is_refused(
    base: Path, lora: Path, tmp_path: Path, open_hf: Any
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "adapter"
    shutil.copytree(lora, folder)
    tensors = load_file(folder / WEIGHTS)
    name = next(iter(tensors))
    for content, match in (
        (
            tensors | {name.replace("layers.0", "layers.7"): tensors[name].clone()},
            "has no place for",
        ),
        ({n: t for n, t in tensors.items() if n != name}, "is missing"),
    ):
        save_file(content, folder / WEIGHTS)
        with pytest.raises(ProbesError, match=match):
            open_hf(base, spec={"adapter": str(folder)})._load()


@pytest.fixture
def refused(base: Path, lora: Path, tmp_path: Path) -> Callable[..., ProbesError]:
    """Return a function that changes a copy of the adapter and returns why it is refused."""

    def refusal(change: Callable[[Path], object], repo: Path = base) -> ProbesError:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(lora, folder)
        change(folder)
        with pytest.raises(ProbesError) as caught:
            find(ModelSpec("tiny", "video", str(repo), adapter=str(folder)))
        return caught.value

    return refusal


def test_what_is_refused_by_name(
    refused: Callable[..., ProbesError], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(**content: Any) -> str:
        return refused(lambda folder: made_adapters.reconfigured(folder, **content)).what

    assert "needs adapter_config.json" in refused(lambda folder: (folder / CONFIG).unlink()).what
    assert "not valid JSON" in refused(lambda folder: (folder / CONFIG).write_text("{")).what
    assert "weights are missing" in refused(lambda folder: (folder / WEIGHTS).unlink()).what
    pickled = refused(lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"))
    assert "this one is pickled" in pickled.what
    for kind in ("PROMPT_TUNING", "XLORA", "VERA"):
        assert f"adapters of the kind {kind} are not supported" in config(peft_type=kind)
    assert "made by 'pissa'" in config(init_lora_weights="pissa")
    assert "activated by tokens" in config(alora_invocation_tokens=[1, 2])
    both = refused(lambda folder: None, repo=own)
    assert "has an adapter of its own" in both.what
    assert both.where == "pair.video.adapter"
    genuine = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "peft" else genuine(name)
    )
    missing = refused(lambda folder: None)
    assert "peft is not installed" in missing.what
    assert "interframe-probes[adapters]" in missing.fix


def test_a_folder_of_an_adapter_alone_says_what_to_write(
    lora: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ProbesError, match="an adapter and no checkpoint") as caught:
        find(ModelSpec("tiny", "video", str(lora)))
    assert f"pair.video.repo={base} pair.video.adapter={lora}" in caught.value.fix
    with pytest.raises(ProbesError, match="no such adapter folder"):
        find(ModelSpec("tiny", "video", str(base), adapter=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("name", ["scripted", "server", "lmms"])
def test_other_backends_refuse_one(name: str, base: Path, lora: Path, settings: Any) -> None:
    spec = ModelSpec("t", "video", str(base), frame_as="image", adapter=str(lora))
    options = {"server": {"base_url": "http://localhost:1/v1"}, "lmms": {"model": "llava_hf"}}
    with pytest.raises(ProbesError, match=f"backend {name} cannot load an adapter") as caught:
        open_backend(settings(name=name, options=options.get(name, {})), spec)
    assert caught.value.where == "pair.video.adapter"


def test_lmms_refuses_one_in_the_folder(own: Path, settings: Any) -> None:
    spec = ModelSpec("t", "video", str(own), frame_as="image")
    with pytest.raises(ProbesError, match="backend lmms cannot load an adapter"):
        open_backend(settings(name="lmms", options={"model": "llava_hf"}), spec)


def test_a_condenser_takes_the_one_in_its_folder(
    tmp_path: Path, settings: Any, new_tokenizer: Any
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = new_tokenizer(chat_template=None)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_attention_heads=4, initializer_range=0.5, **sizes
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    bare = TextBackend(settings(), str(tmp_path / "m"))
    bare._load()
    adapter = made_adapters.adapter(tmp_path / "a", tmp_path / "m", LlamaForCausalLM)
    shutil.copytree(tmp_path / "m", tmp_path / "bare")
    for name in (CONFIG, WEIGHTS):
        shutil.copy(adapter / name, tmp_path / "m")
    with_it = TextBackend(settings(), str(tmp_path / "m"))
    with_it._load()
    assert with_it.fingerprint != bare.fingerprint
    assert with_it.describe()["peft_adapter"]["kind"] == "LORA"
    ids = torch.arange(1, 9)[None]
    with torch.inference_mode():
        expected = plain(tmp_path / "bare", adapter, LlamaForCausalLM)
        assert torch.equal(with_it._model(ids).logits, expected(ids).logits)
        assert not torch.equal(with_it._model(ids).logits, bare._model(ids).logits)
