"""What loaders open is what is hashed: the kernel is asked, whoever opens a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_adapters
import made_gguf
import pytest
import tiny_models
from opened_files import opened_below

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models import open_backend
from probes.models.checkpoint import Checkpoint, find
from probes.models.text_llm import TextBackend

CLOZE = ScoringSpec("cloze")
MAKERS = tiny_models.FAMILIES | {
    "llava_next": tiny_models.llava_next,
    "llava": tiny_models.llava,
    "gemma3": tiny_models.gemma3,
}
EXTRA = {
    "README.md": "# a card",
    "cat.png": "picture",
    ".git/config": "[core]",
    ".cache/huggingface/download/x.metadata": "1",
    "optimizer.pt": "state",
    "rng_state.pth": "state",
    "training_args.bin": "state",
    "trainer_state.json": "{}",
    "pytorch_model.bin": "pickled",
    "model.gguf": "GGUF",
    "checkpoint-500/model.safetensors": "earlier weights",
    "spk_dict.pt": "voices",
    "unknown.xyz": "?",
    "parts/more.json": "{}",
    "model.fp16.safetensors": "a variant",
    "part-1.safetensors": "a part",
    "model.safetensors.index.json": '{"metadata": {}, "weight_map": {"a": "part-1.safetensors"}}',
    "tokenizer.model": "pieces",
    "vocab.txt": "words",
    "merges.txt": "a b",
    "special_tokens_map.json": "{}",
    "additional_chat_templates/tools.jinja": "{{ messages }}",
    "custom_generate/generate.py": "def generate(model, *args, **kwargs): raise ValueError",
    "custom_generate/requirements.txt": "",
    "tokenization_own.py": "from .helper import BASE\n\nclass OwnTokenizer(BASE):\n    pass\n",
    "helper.py": "from transformers import PreTrainedTokenizerFast as BASE\n",
}


def loaded(backend: Any) -> set[str]:
    """Return the names of the files that loading a member opens."""
    with opened_below(backend._checkpoint.folder) as names:
        backend._load()
    return names


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_all_that_a_family_opens_counts(name: str, tmp_path: Path, open_hf: Any) -> None:
    folder = MAKERS[name](tmp_path / "member")
    with opened_below(folder) as early:
        backend = open_hf(folder, spec={"frame_as": "image"})
    names = loaded(backend) | early
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert names <= set(backend._checkpoint.files)
    assert set(backend._checkpoint.weights()) == {n for n in names if "safetensors" in n}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something of everything, an adapter and code included."""
    from transformers import LlavaNextVideoForConditionalGeneration

    folder = tiny_models.llava_next_video(tmp_path_factory.mktemp("full") / "member")
    made_adapters.adapter(folder, folder, LlavaNextVideoForConditionalGeneration)
    for name, content in EXTRA.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    own = json.loads((folder / "tokenizer_config.json").read_text())
    own["auto_map"] = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    return folder


@pytest.mark.parametrize("trusted", [False, True])
def test_a_changed_byte_changes_the_fingerprint_or_is_read_by_nobody(
    trusted: bool, full: Path, settings: Any
) -> None:
    spec = ModelSpec("tiny", "video", str(full), trust_remote_code=trusted)
    opened = loaded(open_backend(settings(), spec))
    expected = {"adapter_model.safetensors", "adapter_config.json", "generation_config.json"}
    expected |= {"additional_chat_templates/tools.jinja"}
    code = {"tokenization_own.py", "helper.py", "custom_generate/generate.py"}
    assert expected | (code if trusted else set()) <= opened
    assert not opened & {"pytorch_model.bin", "part-1.safetensors", "model.fp16.safetensors"}
    first = find(spec).fingerprint(spec, "f")
    unread = set()
    for path in [one for one in full.rglob("*") if one.is_file()]:
        name, content = path.relative_to(full).as_posix(), path.read_bytes()
        # White space is in no JSON's way; elsewhere a bit is flipped.
        last = b"\n" if path.suffix == ".json" else bytes([content[-1] ^ 1]) if content else b"#"
        path.write_bytes(content[:-1] + last if path.suffix != ".json" else content + last)
        if find(spec).fingerprint(spec, "f") == first:
            unread.add(name)
        path.write_bytes(content)
    assert find(spec).fingerprint(spec, "f") == first
    assert not unread & opened
    always = {".git/config", ".cache/huggingface/download/x.metadata"}
    assert unread == always if trusted else always < unread
    assert {"unknown.xyz", "spk_dict.pt", "parts/more.json"}.isdisjoint(unread)


def test_code_that_changed_is_the_code_that_runs(full: Path, tmp_path: Path, settings: Any) -> None:
    """Transformers copies code into a cache of its own, which must not serve an older copy."""
    shutil.copytree(full, tmp_path / "member")
    spec = ModelSpec("tiny", "video", str(tmp_path / "member"), trust_remote_code=True)
    helper = tmp_path / "member/helper.py"
    for mark in ("first", "other", "first"):
        helper.write_text(
            EXTRA["helper.py"] + f"BASE = type('Base', (BASE,), dict(mark='{mark}'))\n"
        )
        backend: Any = open_backend(settings(), spec)
        assert backend.preprocessor().bundle.tokenizer.mark == mark


def test_a_file_that_is_added_or_removed_changes_the_fingerprint(full: Path) -> None:
    spec = ModelSpec("tiny", "video", str(full))
    first = find(spec).fingerprint(spec, "f")
    (full / "new.json").write_text("{}")
    assert find(spec).fingerprint(spec, "f") != first
    (full / "new.json").unlink()
    (full / "unknown.xyz").rename(full / "renamed.xyz")
    assert find(spec).fingerprint(spec, "f") != first
    (full / "renamed.xyz").rename(full / "unknown.xyz")


def test_an_adapter_elsewhere_counts_in_full(full: Path, tmp_path: Path, settings: Any) -> None:
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    adapter.mkdir()
    shutil.copytree(full, base)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (base / name).rename(adapter / name)
    for name in ("README.md", "tokenizer.json", "unknown.xyz"):
        (adapter / name).write_text("{}")
    spec = ModelSpec("tiny", "video", str(base), adapter=str(adapter))
    backend = open_backend(settings(), spec)
    first = backend.fingerprint
    with opened_below(adapter) as opened:
        backend._load()  # type: ignore[attr-defined]
    assert opened == {"adapter_config.json", "adapter_model.safetensors"}
    for path in adapter.iterdir():
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        changed = find(spec).fingerprint(spec, "llava_next_video") != first
        assert changed == (path.name != "README.md")
        path.write_bytes(content)


def test_the_weights_that_are_named_are_those_that_are_opened(
    full: Path, tmp_path: Path, settings: Any
) -> None:
    """A single file before an index, and what config.json names before both; for both classes."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(full, tmp_path / "member")
    folder = tmp_path / "member"
    for name in ("adapter_config.json", "adapter_model.safetensors", "part-1.safetensors"):
        (folder / name).unlink()
    (folder / "model.fp16.safetensors").unlink()
    tensors = load_file(folder / "model.safetensors")
    (folder / "alt").mkdir()
    save_file(tensors, folder / "alt/own.safetensors", {"format": "pt"})
    shutil.copy(folder / "alt/own.safetensors", folder / "part-1.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "part-1.safetensors")}
    for name in ("model", "other"):
        (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((folder / "config.json").read_text())
    spec = ModelSpec("tiny", "video", str(folder), frame_as="image")

    def opened(family: str) -> set[str]:
        backend = open_backend(settings(), replace(spec, family=family))
        found = {name for name in loaded(backend) if name.endswith(".safetensors")}
        assert found == set(backend._checkpoint.weights())  # type: ignore[attr-defined]
        return found

    for named, expected in (
        (None, "model.safetensors"),
        ("alt/own.safetensors", "alt/own.safetensors"),
        ("other.safetensors.index.json", "part-1.safetensors"),
    ):
        content = config | ({"transformers_weights": named} if named else {})
        (folder / "config.json").write_text(json.dumps(content))
        # The second makes a configuration of another class.
        assert opened("llava_next_video") == opened("llava_next") == {expected}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    assert opened("llava_next_video") == {"part-1.safetensors"}


def test_a_condenser_opens_what_counts(full: Path, tmp_path: Path, settings: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_models.unigram_tokenizer(chat_template=None)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=4, **sizes)
    folder = tmp_path / "text"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, content in EXTRA.items():
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    backend = TextBackend(settings(), str(folder))
    names = loaded(backend)
    assert "model.safetensors" in names
    assert names <= set(backend._checkpoint.files)
    # A GPU computes it in another dtype, which is another member.
    gpu = TextBackend(settings(device="cuda"), str(folder))
    assert gpu.fingerprint != backend.fingerprint
    assert gpu.describe()["dtype"] == "bfloat16"


def test_a_condenser_in_gguf_opens_its_file_and_what_lies_beside_it(
    full: Path, tmp_path: Path, settings: Any
) -> None:
    pytest.importorskip("gguf")  # transformers reads the format by it
    folder = tmp_path / "text"
    shutil.copytree(full, folder)
    file = made_gguf.llama(folder / "chosen.gguf")
    backend = TextBackend(settings(), str(file))
    names = loaded(backend)
    assert "chosen.gguf" in names
    assert names <= set(backend._checkpoint.files)
    assert not {one for one in names if one.endswith(".safetensors")}
    # Beside the chosen file no other weights count.
    for name, same in (
        ("model.gguf", True),
        ("model.safetensors", True),
        ("tokenizer_config.json", False),
        ("chosen.gguf", False),
    ):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert (TextBackend(settings(), str(file)).fingerprint == backend.fingerprint) == same
        (folder / name).write_bytes(content)


def test_weights_that_are_written_while_they_are_used_end_the_run(
    video_checkpoint: Path, tmp_path: Path, open_hf: Callable[..., Any], frames: Any
) -> None:
    shutil.copytree(video_checkpoint, tmp_path / "member")
    folder = tmp_path / "member"
    backend = open_hf(folder)
    asked = [Request((FrameRef(next(iter(frames))), " what?"), ("the red box", "blue"))]
    (before,) = dict(backend.score(asked, frames, CLOZE)).values()
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").touch()
    assert dict(backend.score(asked, frames, CLOZE))[0].option_logprobs == before.option_logprobs
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(len(content) // 2)
        file.write(bytes(64))
    with pytest.raises(ProbesError, match=r"model\.safetensors changed after"):
        list(backend.score(asked, frames, CLOZE))
    # Between planning and loading likewise, be it the smallest file.
    (folder / "model.safetensors").write_bytes(content)
    late = open_hf(folder)
    assert late.fingerprint == backend.fingerprint
    with (folder / "generation_config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ProbesError, match=r"generation_config\.json changed after"):
        list(late.score(asked, frames, CLOZE))
    (output,) = dict(open_hf(folder).score(asked, frames, CLOZE)).values()
    assert output.option_logprobs == before.option_logprobs


def test_a_hub_snapshot_is_read_through_its_links(full: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/abc"
    blobs.mkdir()
    spec = ModelSpec("tiny", "video", str(full))
    for number, name in enumerate(Checkpoint(full, "").files):
        shutil.copy(full / name, blobs / str(number))
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blobs / str(number))
    linked = replace(spec, repo=str(snapshot))
    assert find(linked).fingerprint(linked, "f") == find(spec).fingerprint(spec, "f")
    (blobs / "0").write_bytes((blobs / "0").read_bytes() + b" ")
    assert find(linked).fingerprint(linked, "f") != find(spec).fingerprint(spec, "f")
