"""PLLaVA's layout becomes one that is read, and answers as its own arithmetic does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_layouts.build import build
from letter_scores import letter_scores
from own_arithmetic import PllavaArithmetic
from safetensors import SafetensorError

from probes.core.errors import MachineError, ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, Request, ScoringSpec
from probes.models.hf import convert as module
from probes.models.hf.convert import convert

FRAMES = {}
for seed, size in enumerate([(48, 64), (48, 64), (90, 40)]):
    frame = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    FRAMES[array_sha256(frame)] = frame
A, B, C = map(FrameRef, FRAMES)
REQUESTS = [
    Request((A, B, "What happens?\nA. the door opens\nB. it rains\nAnswer:"), ("A", "B")),
    Request((A, "The light goes out.", C, "What is next?\nAnswer:"), ("A", "B", "C")),
    Request(("What is next?\nAnswer:",), ("A", "B")),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("pllava", tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def converted(source: Path) -> Path:
    folder = source.with_name("converted")
    assert convert(source, folder) == "PLLaVA"
    return folder


def test_scores_are_those_of_its_own_arithmetic(
    source: Path, converted: Path, open_hf: Any
) -> None:
    answers = dict(open_hf(converted).score(REQUESTS, FRAMES, ScoringSpec("letter")))
    own = PllavaArithmetic(source)
    for at, request in enumerate(REQUESTS):
        shown = [part if isinstance(part, str) else FRAMES[part.sha256] for part in request.parts]
        expected = letter_scores(own.tokenizer, own.logprobs(shown), "".join(request.options))
        assert answers[at].option_logprobs == pytest.approx(expected, abs=1e-4)


def test_its_twin_runs_in_the_same_arithmetic(source: Path, open_hf: Any) -> None:
    """LLaVA-NeXT under `family: pllava`: as many tokens, pooled behind the projector."""
    folder = build("next", source.parent)
    backend = open_hf(folder, spec={"family": "pllava"})
    answers = dict(backend.score(REQUESTS, FRAMES, ScoringSpec("letter")))
    assert [answers[at].status for at in range(3)] == ["ok"] * 3
    assert backend.describe()["tokens_per_frame"] == 144
    other = open_hf(folder, spec={"family": "llava_next_video"})
    pooled_before = dict(other.score(REQUESTS, FRAMES, ScoringSpec("letter")))
    assert pooled_before[0].input_tokens == answers[0].input_tokens
    assert pooled_before[0].option_logprobs != pytest.approx(answers[0].option_logprobs, abs=1e-4)
    assert pooled_before[2].option_logprobs == pytest.approx(answers[2].option_logprobs, abs=1e-5)


def test_no_weight_changes(source: Path, converted: Path) -> None:
    import torch
    from safetensors.torch import load_file

    before = load_file(source / "model.safetensors")
    after: dict[str, Any] = {}
    for path in converted.glob("*.safetensors"):
        after |= load_file(path)
    assert len(before) == len(after)
    left = dict(after)
    for name, value in before.items():
        same = [n for n, v in left.items() if v.dtype == value.dtype and torch.equal(v, value)]
        assert same, name
        del left[same[0]]


def test_files_have_a_bounded_size(
    source: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 2_000_000)
    reported: list[tuple[int, int]] = []
    convert(source, tmp_path / "small", lambda done, total: reported.append((done, total)))
    files = sorted((tmp_path / "small").glob("*.safetensors"))
    assert len(files) > 2 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert reported[-1][0] == reported[-1][1] == len(reported)
    one, many = (
        json.loads((folder / "model.safetensors.index.json").read_text())
        for folder in (converted, tmp_path / "small")
    )
    assert one["metadata"] == many["metadata"]
    assert one["weight_map"].keys() == many["weight_map"].keys()


def test_what_was_stopped_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "new", stop)
    assert list(tmp_path.iterdir()) == []


def test_refusals(source: Path, tmp_path: Path, open_hf: Any) -> None:
    with pytest.raises(ProbesError, match="probes convert"):
        list(open_hf(source).score(REQUESTS, FRAMES, ScoringSpec("letter")))
    with pytest.raises(ProbesError, match="no conversion of this layout"):
        convert(build("next", source.parent), tmp_path / "new")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "note.txt").write_text("mine")
    with pytest.raises(ProbesError, match="not empty"):
        convert(source, tmp_path / "used")
    with pytest.raises(ProbesError, match="inside"):
        convert(source, source / "new")


def test_sources_and_targets_that_are_none(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ProbesError, match="a file, not a folder"):
        convert(source, tmp_path / "file")
    with pytest.raises(MachineError, match="cannot be written"):
        convert(source, tmp_path / "file" / "new")
    with pytest.raises(ProbesError, match="no such folder"):
        convert(tmp_path / "none", tmp_path / "new")
    with pytest.raises(ProbesError, match=r"no config\.json"):
        convert(tmp_path, tmp_path / "new")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("lacking", ["preprocessor_config.json", "tokenizer.json"])
def test_a_source_without_a_part_is_refused(source: Path, tmp_path: Path, lacking: str) -> None:
    """Without its settings a processor would have those of its class: other pixels, no error."""
    folder = tmp_path / "source"
    folder.mkdir()
    for file in source.iterdir():
        if file.name != lacking:
            (folder / file.name).symlink_to(file)
    with pytest.raises(ProbesError, match=lacking.partition("_")[0].partition(".")[0][:9]):
        convert(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_told_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(MachineError, match="No space left"):
        convert(source, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
