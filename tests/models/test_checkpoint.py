"""Where checkpoints are found, which are refused, and what a fingerprint covers."""

import json
import shutil
from dataclasses import replace

import pytest

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models import repositories
from probes.models.checkpoint import find


@pytest.fixture
def folder(video_checkpoint, tmp_path):
    shutil.copytree(video_checkpoint, tmp_path / "member")
    return tmp_path / "member"


def fingerprint(folder, **spec):
    made = ModelSpec("tiny", "video", str(folder), **spec)
    return find(made).fingerprint(made, "llava_next_video")


def test_a_fingerprint_covers_what_answers_depend_on(folder, tmp_path):
    first = fingerprint(folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("a model card")
    assert fingerprint(moved) == first
    for setting in ({"dtype": "bfloat16"}, {"attention": "eager"}, {"frame_as": "image"}):
        assert fingerprint(folder, **setting) != first
    for name in ("config.json", "tokenizer.json", "processor_config.json", "model.safetensors"):
        path = folder / name
        content = path.read_bytes()
        # White space at the end of JSON, one more byte of weights.
        path.write_bytes(content + b" ")
        assert fingerprint(folder) != first, name
        path.write_bytes(content)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(folder) != first


def test_only_safetensors_are_read(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ProbesError, match=r"missing: model\.safetensors"):
        find(ModelSpec("tiny", "video", str(folder)))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ProbesError, match=r"safetensors only.*pytorch_model\.bin"):
        find(ModelSpec("tiny", "video", str(folder)))


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    with pytest.raises(ProbesError, match=r"missing: model-2\.safetensors"):
        find(ModelSpec("tiny", "video", str(folder)))
    shutil.copy(folder / "model-1.safetensors", folder / "model-2.safetensors")
    assert find(ModelSpec("tiny", "video", str(folder))).weights() == tuple(
        sorted(index["weight_map"].values())
    )


def test_a_config_must_be_there_and_be_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ProbesError, match="not valid JSON"):
        find(ModelSpec("tiny", "video", str(folder)))
    (folder / "config.json").unlink()
    with pytest.raises(ProbesError, match="needs a config"):
        find(ModelSpec("tiny", "video", str(folder)))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ProbesError, match="no such checkpoint folder"):
        find(ModelSpec("tiny", "video", str(tmp_path / "nowhere")))


def test_embedded_names_are_those_of_the_package(folder, tmp_path, monkeypatch):
    checkpoints = tmp_path / "checkpoints"
    monkeypatch.setattr(repositories, "_EMBEDDED_FOLDER", checkpoints)
    with pytest.raises(ProbesError, match="train tiny"):
        find(ModelSpec("tiny", "video", "embedded:small"))
    shutil.copytree(folder, checkpoints / "small")
    (checkpoints / "__pycache__").mkdir()
    (checkpoints / "README.md").write_text("not a checkpoint")
    assert find(ModelSpec("tiny", "video", "embedded:small")).folder == checkpoints / "small"
    for wrong in ("embedded:", "embedded:large", "embedded:../checkpoints"):
        with pytest.raises(ProbesError, match=r"use one of small$"):
            find(ModelSpec("tiny", "video", wrong))


@pytest.mark.parametrize("member", ["image", "video", "control"])
def test_the_embedded_members_are_found(member):
    spec = ModelSpec("tiny", "video", f"embedded:{member}")
    assert find(spec).folder.name == member


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """An offline hub cache that holds one repository at one commit."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    repository = cache / "models--someone--member"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee" * 6 + "c0ff")
    snapshot = repository / "snapshots" / ("c0ffee" * 6 + "c0ff")
    shutil.copytree(folder, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_hub_snapshot_counts_by_repository_and_commit(hub):
    spec = ModelSpec("tiny", "video", "someone/member")
    found = find(spec)
    assert (found.folder, found.commit) == (hub, hub.name)
    assert found.fingerprint(spec, "f") != fingerprint(hub)
    pinned = replace(spec, revision=hub.name)
    assert find(pinned).fingerprint(pinned, "f") == found.fingerprint(spec, "f")


def test_what_is_not_in_the_cache_is_an_error_with_the_way_to_get_it(hub):
    with pytest.raises(ProbesError, match="not in the local cache") as caught:
        find(ModelSpec("tiny", "video", "someone/else", revision="v2"))
    assert "someone/else (revision v2)" in caught.value.what
    assert "hf download someone/else --revision v2" in caught.value.fix
    (hub / "model.safetensors").unlink()
    with pytest.raises(ProbesError, match="incomplete in the local cache") as caught:
        find(ModelSpec("tiny", "video", "someone/member"))
    assert "`hf download someone/member`" in caught.value.fix
