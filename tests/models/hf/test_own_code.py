"""Code of a checkpoint: never run unasked, run where it is trusted, all of it hashed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_code
import numpy as np
import pytest
import tiny_models
from huggingface_hub import constants

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models import open_backend
from probes.models.checkpoint import find

FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
FRAMES = {array_sha256(FRAME): FRAME}
PROMPT = Request((FrameRef(*FRAMES), "what happens ?", FrameRef(*FRAMES), "?"), ("A", "B"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/own-vl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_code.own_class(tmp_path_factory.mktemp("own") / "member")


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which code of the checkpoint leaves a file when it is imported."""
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("SEEN_IN", str(seen))
    return seen


def member(repo: object, **more: Any) -> ModelSpec:
    return ModelSpec("tiny", "image", str(repo), **{"frame_as": "image", **more})


def test_code_that_is_not_trusted_is_refused_before_it_is_imported(
    folder: Path, imported: Path, settings: Any
) -> None:
    with pytest.raises(ProbesError, match=r"own_vl.*own code.*which is not trusted") as refusal:
        open_backend(settings(), member(folder))
    assert refusal.value.fix == "read that code, and set pair.image.trust_remote_code=true"
    assert list(imported.iterdir()) == []


def test_trusted_code_answers_by_every_scoring(
    imported: Path, settings: Any, tmp_path: Path
) -> None:
    folder = made_code.own_class(tmp_path / "own")
    plain = tiny_models.llava(tmp_path / "plain")
    there = open_backend(settings(), member(plain))
    own: Any = open_backend(settings(), member(folder, trust_remote_code=True))
    own.check_files(thorough=True)
    for kind in ("letter", "cloze", "generate"):
        scoring = ScoringSpec(kind, 4 if kind == "generate" else 0)
        found, expected = (next(iter(b.score([PROMPT], FRAMES, scoring)))[1] for b in (own, there))
        assert found.status == "ok", found.error
        if kind == "generate":
            assert found.text == expected.text  # halved logits have the same greatest one
            continue
        assert found.option_logprobs != pytest.approx(expected.option_logprobs, abs=1e-2)
    assert {one.name for one in imported.iterdir()} == {
        f"IMPORTED_{name}"
        for name in ("configuration_own", "modeling_own", "parts_own", "processing_own")
    }
    assert type(own._ready.model).__name__ == "OwnForConditionalGeneration"


def test_letters_are_the_own_class_s(folder: Path, settings: Any, imported: Path) -> None:
    import torch
    import transformers

    more = {"trust_remote_code": True}
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, **more).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder, **more)
    content = [
        {"type": "image"} if isinstance(part, FrameRef) else {"type": "text", "text": part}
        for part in PROMPT.parts
    ]
    message = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    inputs = processor(text=[text], images=[[FRAME, FRAME]], return_tensors="pt")
    with torch.inference_mode():
        next_V = model(**inputs).logits[0, -1].float().log_softmax(-1)
    own = open_backend(settings(), member(folder, trust_remote_code=True))
    ((_, answer),) = own.score([PROMPT], FRAMES, ScoringSpec("letter"))
    vocabulary = processor.tokenizer.get_vocab()
    for letter, found in zip("AB", answer.option_logprobs, strict=True):
        ids = {vocabulary[one] for one in (letter, f"▁{letter}") if one in vocabulary}
        assert found in [
            pytest.approx(float(next_V[list(some)].logsumexp(0)), abs=1e-3)
            for some in (ids, *({one} for one in ids))
        ]


def test_every_file_of_code_is_in_fingerprint_and_manifest(
    folder: Path, settings: Any, imported: Path
) -> None:
    spec = member(folder, trust_remote_code=True)
    first: Any = open_backend(settings(), spec).describe()
    assert set(made_code.CODE) <= set(first["files"])
    assert first["fingerprint"] == open_backend(settings(), spec).fingerprint
    for name in made_code.CODE:
        before = (folder / name).read_text()
        (folder / name).write_text(before + "# more\n")
        changed: Any = open_backend(settings(), spec).describe()
        (folder / name).write_text(before)
        assert changed["fingerprint"] != first["fingerprint"]
        assert changed["own_code"] != first["own_code"]


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return made_code.in_hub_cache(folder, tmp_path / "hub", REPO, COMMIT)


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12], COMMIT.upper()])
def test_code_of_a_repository_is_trusted_at_one_commit_only(
    revision: str | None, cached: Path, imported: Path, settings: Any
) -> None:
    with pytest.raises(ProbesError, match="code is trusted at one commit") as refusal:
        open_backend(settings(), member(REPO, revision=revision, trust_remote_code=True))
    assert refusal.value.where == "pair.image.revision"
    shown = COMMIT if revision in (None, "main") else "COMMIT"
    assert f"trust_remote_code=true pair.image.revision={shown}" in refusal.value.fix
    assert list(imported.iterdir()) == []


def test_code_of_a_repository_runs_at_its_commit(
    cached: Path, imported: Path, settings: Any
) -> None:
    with pytest.raises(ProbesError, match="not trusted") as refusal:
        open_backend(settings(), member(REPO))
    assert refusal.value.fix.endswith(f"pair.image.revision={COMMIT}")
    own: Any = open_backend(settings(), member(REPO, revision=COMMIT, trust_remote_code=True))
    ((_, answer),) = own.score([PROMPT], FRAMES, ScoringSpec("letter"))
    assert answer.status == "ok", answer.error
    facts = own.describe()
    assert (facts["commit"], facts["family"]) == (COMMIT, "fallback")
    assert set(made_code.CODE) <= set(facts["files"])


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_code_of_another_repository_is_never_trusted(
    name: str, folder: Path, tmp_path: Path, imported: Path, settings: Any
) -> None:
    copy = made_code.own_class(tmp_path / "copy")
    content = json.loads((copy / name).read_text())
    elsewhere = "other/code--processing_own.OwnProcessor"
    nested = {"AutoProcessor": elsewhere, "AutoTokenizer": [None, elsewhere]}
    (copy / name).write_text(json.dumps(content | {"auto_map": nested}))
    with pytest.raises(ProbesError, match="another repository: other/code--processing_own"):
        open_backend(settings(), member(copy, trust_remote_code=True))
    assert list(imported.iterdir()) == []


def test_a_processor_alone_may_need_code(tmp_path: Path, imported: Path, settings: Any) -> None:
    """Of a class that transformers knows: it is said which setting opens it."""
    copy = made_code.own_class(tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
    (copy / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k != "auto_map"})
    )
    own: Any = open_backend(settings(), member(copy, trust_remote_code=True))
    assert type(own.preprocessor().processor).__name__ == "OwnProcessor"
    plain: Any = open_backend(settings(), member(copy))
    assert type(plain.preprocessor().processor).__name__ == "LlavaProcessor"
    assert {one.name for one in imported.iterdir()} == {"IMPORTED_processing_own"}


def test_trust_makes_another_member(folder: Path) -> None:
    spec = member(folder, trust_remote_code=True)
    found = find(spec)
    assert found.fingerprint(spec, "f") != found.fingerprint(
        replace(spec, trust_remote_code=False), "f"
    )
    assert set(found.code()) == set(made_code.CODE)
