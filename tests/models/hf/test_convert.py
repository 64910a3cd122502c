"""PLLaVA's layout becomes one that is read, and answers as its own arithmetic does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_layouts.build import build

from probes.core.errors import ProbesError
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


class OwnArithmetic:
    """The checkpoint as PLLaVA's class runs it, written with torch and the raw weights.

    Shape suffixes: N frames, T tokens, D features.
    """

    def __init__(self, source: Path) -> None:
        import torch
        import transformers
        from safetensors.torch import load_file

        weights = {
            name: value.float() for name, value in load_file(source / "model.safetensors").items()
        }

        def under(prefix: str) -> dict[str, Any]:
            return {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}

        config = json.loads((source / "config.json").read_text())
        vision = transformers.CLIPVisionConfig(**config["vision_config"])
        self.tower = transformers.CLIPVisionModel(vision)
        names = {n.removeprefix("vision_model."): v for n, v in under("vision_tower.").items()}
        own = self.tower.state_dict()
        if next(iter(own)).startswith("vision_model."):
            names = {f"vision_model.{n}": v for n, v in names.items()}
        self.tower.load_state_dict(names)
        text = transformers.LlamaConfig(
            **{k: v for k, v in config["text_config"].items() if k != "torch_dtype"}
        )
        self.model = transformers.LlamaForCausalLM(text)
        self.model.load_state_dict(under("language_model."))
        self.first, self.second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
        self.first.load_state_dict(under("multi_modal_projector.linear_1."))
        self.second.load_state_dict(under("multi_modal_projector.linear_2."))
        self.pixels = transformers.CLIPImageProcessor.from_pretrained(source)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        self.tower.eval(), self.model.eval()

    def frames(self, names: list[str]) -> Any:
        import torch

        pixels = self.pixels(images=[FRAMES[name] for name in names], return_tensors="pt")
        hidden = self.tower(pixels["pixel_values"], output_hidden_states=True).hidden_states[-2]
        tokens_NTD = self.second(torch.nn.functional.gelu(self.first(hidden[:, 1:])))
        grid = tokens_NTD.unflatten(1, (24, 24)).permute(0, 3, 1, 2)
        return torch.nn.functional.avg_pool2d(grid, 2).flatten(2).transpose(1, 2)

    def letters(self, request: Request) -> list[float]:
        import torch

        body = "".join("<image>" if isinstance(p, FrameRef) else p for p in request.parts)
        text = f"USER: {body} ASSISTANT:"
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"][0]
        letters = [self.tokenizer(f"x {o}")["input_ids"][-1] for o in request.options]
        names = [part.sha256 for part in request.parts if isinstance(part, FrameRef)]
        with torch.inference_mode():
            shown = list(self.frames(names)) if names else []
            embed = self.model.get_input_embeddings()
            rows = [shown.pop(0) if i == 32000 else embed(i[None]) for i in ids]
            assert not shown
            logits = self.model(inputs_embeds=torch.cat(rows)[None]).logits[0, -1]
        return [float(logits.log_softmax(-1)[letter]) for letter in letters]


def test_scores_are_those_of_its_own_arithmetic(
    source: Path, converted: Path, open_hf: Any
) -> None:
    answers = dict(open_hf(converted).score(REQUESTS, FRAMES, ScoringSpec("letter")))
    own = OwnArithmetic(source)
    for at, request in enumerate(REQUESTS):
        assert answers[at].option_logprobs == pytest.approx(own.letters(request), abs=1e-4)


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
