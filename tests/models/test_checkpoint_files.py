"""Which files of a folder count, and that they are read in full when a model is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.core import hash_memory, hashing
from probes.core.errors import ProbesError
from probes.core.hash_memory import FileState, HashMemory
from probes.models.checkpoint_files import (
    WatchedFiles,
    listed,
    listed_beside,
    remembered_hashes,
)

READ = """
config.json generation_config.json tokenizer.json tokenizer.model vocab.txt merges.txt spiece.spm
qwen.tiktoken tekken.json chat_template.jinja additional_chat_templates/tool.jinja model.safetensors
model.fp16.safetensors alt/weights.safetensors adapter_config.json adapter_model.safetensors
modeling_own.py parts/helper.py custom_generate/generate.py custom_generate/requirements.txt
spk_dict.pt values.npy unknown without_ending LICENSE .hidden.json
""".split()
UNREAD = """
README.md docs/card.MD cat.png cat.jpeg paper.pdf .gitattributes .git/config .cache/x/y.lock
__pycache__/own.pyc pytorch_model.bin pytorch_model-00001-of-00002.bin pytorch_model.bin.index.json
tf_model.h5 flax_model.msgpack onnx/model.onnx model-q4.gguf optimizer.pt scheduler.pt
rng_state_0.pth training_args.bin trainer_state.json checkpoint-500/model.safetensors
global_step9/zero.pt runs/x/events.out.tfevents.1 consolidated.00.pth
""".split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in READ + UNREAD:
        path = tmp_path / "member" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return tmp_path / "member"


def test_a_file_counts_unless_it_is_known_to_be_read_by_nobody(folder: Path) -> None:
    assert list(listed(folder)) == sorted(READ)
    always = {name for name in UNREAD if name.startswith((".git", ".cache", "__pycache__"))}
    assert set(listed(folder, everything=True)) == set(READ + UNREAD) - always
    beside = listed_beside(folder, "model-q4.gguf")
    assert "additional_chat_templates/tool.jinja" in beside
    assert not {one for one in beside if one.endswith((".safetensors", ".py", ".pt"))}
    assert {"model-q4.gguf", "tokenizer.json", "tokenizer.model", "vocab.txt"} < set(beside)


def test_links_are_followed_and_circles_end(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "ab12").write_text("weights")
    (folder / "linked.safetensors").symlink_to("../blobs/ab12")
    (folder / "linked").symlink_to(blobs)
    (folder / "circle").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")
    more = set(listed(folder)) - set(READ)
    assert more == {"linked.safetensors", "linked/ab12"}
    before = remembered_hashes(folder, ["linked.safetensors"])
    (blobs / "ab12").write_text("other weights")
    assert remembered_hashes(folder, ["linked.safetensors"]) != before


def changes(folder: Path) -> Iterator[str]:
    """Change the folder in one way after the other, and put it back."""
    for name in ("model.safetensors", "parts/helper.py"):
        path, before = folder / name, (folder / name).read_bytes()
        stat = path.stat()
        path.write_bytes(before[:-1] + b"!")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        yield name
        path.unlink()
        yield name
        path.write_bytes(before)
    (folder / "new.json").write_text("{}")
    yield "new.json"
    (folder / "new.json").unlink()


def test_what_changed_since_it_was_planned_is_named(folder: Path) -> None:
    planned = remembered_hashes(folder, listed(folder))
    for name in changes(folder):
        with pytest.raises(ProbesError, match=f"{name} changed after") as caught:
            WatchedFiles(folder, planned, listed(folder))
        assert "same command again" in caught.value.fix
    WatchedFiles(folder, planned, listed(folder)).check()


def test_a_file_that_changes_while_it_is_used_is_named(folder: Path) -> None:
    watched = WatchedFiles(folder, remembered_hashes(folder, listed(folder)), listed(folder))
    for name in changes(folder):
        if name != "new.json":  # nobody has read it
            with pytest.raises(ProbesError, match=f"{name} changed after"):
                watched.check()
    # A backup's link or a change of rights does not change what is in a file.
    (folder / "config.json").touch()
    (folder / "model.safetensors").chmod(0o400)
    watched.check()
    watched.narrow(["model.safetensors"])
    (folder / "config.json").write_text("read to its end")
    watched.check()


def test_a_stale_remembered_hash_is_found_out_and_forgotten(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    path = folder / "model.safetensors"
    stat = path.stat()
    # As on a disk whose times of change can be trusted, whatever disk this is.
    fields = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
    state = FileState(str(path), *fields, "ext4", "")
    monkeypatch.setattr(hash_memory, "state_of", lambda *_: state)
    monkeypatch.setattr(hashing, "LARGE", 1)
    (tmp_path / "home").mkdir()
    right = hashing.sha256_file(path)
    first = remembered_hashes(folder, ["model.safetensors"])
    assert first == {"model.safetensors": right}
    # As on an image with reproducible time stamps: other content in the same state.
    HashMemory(tmp_path / "home" / "hashes.jsonl").put(state, "0" * 64)
    stale = remembered_hashes(folder, ["model.safetensors"])
    assert stale == {"model.safetensors": "0" * 64}
    with pytest.raises(ProbesError, match="a remembered hash was out of date"):
        WatchedFiles(folder, stale, ["model.safetensors"])
    again = remembered_hashes(folder, ["model.safetensors"])
    assert again == first
    WatchedFiles(folder, again, ["model.safetensors"]).check()
    hashing._remembered.cache_clear()  # as a later process
    hashing._remembered_sha256.cache_clear()
    assert remembered_hashes(folder, ["model.safetensors"]) == first
