"""Where checkpoints are found, which are refused, and what a fingerprint covers."""

import json
import os
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


def test_a_single_file_is_loaded_before_an_index_as_by_transformers(folder):
    index = {"weight_map": {"a": "part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    first = fingerprint(folder)
    assert find(ModelSpec("tiny", "video", str(folder))).weights() == ("model.safetensors",)
    shutil.copy(folder / "model.safetensors", folder / "part.safetensors")
    assert fingerprint(folder) != first


def test_the_file_that_the_config_names_is_loaded(folder):
    config = json.loads((folder / "config.json").read_text())

    def named(content):
        (folder / "config.json").write_text(json.dumps(config | content))
        return find(ModelSpec("tiny", "video", str(folder))).weights()

    with pytest.raises(ProbesError, match=r"missing: alt\.safetensors"):
        named({"transformers_weights": "alt.safetensors"})
    shutil.copy(folder / "model.safetensors", folder / "alt.safetensors")
    assert named({"transformers_weights": "alt.safetensors"}) == ("alt.safetensors",)
    (folder / "alt.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "alt.safetensors"}})
    )
    assert named({"transformers_weights": "alt.safetensors.index.json"}) == ("alt.safetensors",)
    for wrong in ("pytorch_model.bin", "../alt.safetensors", "/alt.safetensors", 3):
        with pytest.raises(ProbesError, match="transformers_weights names"):
            named({"transformers_weights": wrong})
    with pytest.raises(ProbesError, match="text_config names weights of its own"):
        named({"text_config": {"transformers_weights": "alt.safetensors"}})


def test_what_leads_a_loader_elsewhere_is_refused(folder):
    spec = ModelSpec("tiny", "video", str(folder), trust_remote_code=True)
    config = json.loads((folder / "config.json").read_text())

    def refused(name, content, match):
        before = (folder / name).read_text() if (folder / name).is_file() else None
        (folder / name).write_text(json.dumps(content))
        with pytest.raises(ProbesError, match=match):
            find(spec)
        (folder / name).write_text(before) if before else (folder / name).unlink()

    code = {"auto_map": {"AutoTokenizer": [None, "someone/code--own.Tokenizer"]}}
    for name in ("config.json", "tokenizer_config.json", "processor_config.json"):
        refused(name, config | code, "its code lies in another repository: someone/code--own")
    refused("config.json", config | {"vision_config": code}, "another repository")
    refused("config.json", config | {"configuration_files": ["config.4.0.0.json"]}, "by version")
    refused("audio_tokenizer_config.json", {"audio_tokenizer_name_or_path": "x/y"}, "audio")
    refused("processor_config.json", {"audio_tokenizer": {"a": "x/y"}}, "audio tokenizer")
    refused("shard-00000-model-00001-of-00002.safetensors", {}, "distributed")
    find(spec)
    elsewhere = folder.parent / "vocab.json"
    elsewhere.write_text("{}")
    plain = replace(spec, trust_remote_code=False)
    before = json.loads((folder / "tokenizer_config.json").read_text())
    for key, value in {
        "vocab": str(elsewhere),
        "extra": {"merges": [str(elsewhere)]},
        "spm_file": os.path.relpath(elsewhere),
    }.items():
        (folder / "tokenizer_config.json").write_text(json.dumps(before | {key: value}))
        with pytest.raises(ProbesError, match="names a file elsewhere"):
            find(plain)
    # Where it was saved, a file within, and what is no path.
    harmless = {"name_or_path": str(elsewhere), "vocab": str(folder / "config.json"), "x": "a/b"}
    (folder / "tokenizer_config.json").write_text(json.dumps(before | harmless))
    find(plain)
    (folder / "tokenizer_config.json").write_text(json.dumps(before))
    # Code that is not trusted is not looked for.
    (folder / "config.json").write_text(json.dumps(config | code))
    find(replace(spec, trust_remote_code=False))


def test_trusted_code_is_another_member_and_reads_any_file(folder):
    (folder / "README.md").write_text("a model card")
    first = fingerprint(folder, trust_remote_code=True)
    assert first != fingerprint(folder)
    (folder / "README.md").write_text("data of the code")
    assert first != fingerprint(folder, trust_remote_code=True)


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


def test_a_hub_snapshot_counts_by_its_content(hub):
    spec = ModelSpec("tiny", "video", "someone/member")
    found = find(spec)
    assert (found.folder, found.commit) == (hub, hub.name)
    # A folder with the same files is the same member.
    assert found.fingerprint(spec, "llava_next_video") == fingerprint(hub)
    pinned = replace(spec, revision=hub.name)
    assert find(pinned).fingerprint(pinned, "f") == found.fingerprint(spec, "f")
    with (hub / "tokenizer_config.json").open("a") as file:
        file.write(" ")
    assert find(spec).fingerprint(spec, "f") != found.fingerprint(spec, "f")


def test_what_is_not_in_the_cache_is_an_error_with_the_way_to_get_it(hub):
    with pytest.raises(ProbesError, match="not in the local cache") as caught:
        find(ModelSpec("tiny", "video", "someone/else", revision="v2"))
    assert "someone/else (revision v2)" in caught.value.what
    assert "hf download someone/else --revision v2" in caught.value.fix
    (hub / "model.safetensors").unlink()
    with pytest.raises(ProbesError, match="incomplete in the local cache") as caught:
        find(ModelSpec("tiny", "video", "someone/member"))
    assert "`hf download someone/member`" in caught.value.fix
