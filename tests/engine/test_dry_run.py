"""A plan is what a run does: the same prompts, the same tokens, and nothing loaded for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from probes.cli import main, plan
from probes.config import compose
from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Request
from probes.engine import costs, run
from probes.engine.dry_run import dry_run
from probes.engine.placeholder_text import placeholder, shortened
from probes.engine.workload import Workload
from probes.models.checkpoint import Checkpoint
from probes.models.hf import backend
from probes.records.schema import Record

SMALL = (
    "task.videos=6",
    "task.height=32",
    "task.fps=1",
    "limit=4",
    "frames=[2,3]",
    "infill.max_new_tokens=24",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made data, frames and answers: clips are filmed once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBES_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any) -> None:
        raise AssertionError("a model was loaded for a plan")

    monkeypatch.setattr(backend.HfBackend, "_load", load)


def of(*overrides: str) -> RunConfig:
    return compose.compose([*SMALL, *overrides])


@pytest.fixture(scope="module")
def before_and_after(
    tmp_path_factory: pytest.TempPathFactory, home: Path
) -> Iterator[tuple[dict[str, Any], run.RunResult, dict[str, Any]]]:
    """The plan of a run that was never made, the run, and the plan of the same run again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(home))
        cfg = of()
        with patch.context() as unloaded:
            unloaded.setattr(backend.HfBackend, "_load", None)
            first = facts(cfg)
        result = run.execute(cfg, tmp_path_factory.mktemp("run"))
        yield first, result, facts(cfg)


def facts(cfg: RunConfig) -> dict[str, Any]:
    with dry_run(cfg) as planned:
        return {
            "items": planned.items,
            "frames": planned.frames,
            "infills": planned.infills,
            "prompts": {
                name: {"unique": one.stats.unique, "cached": one.stats.cached}
                for name, one in planned.models.items()
            },
            "cells": {(c.member, c.arm, c.frames): (c.count, c.tokens) for c in planned.workloads},
            "loads": {name: one.workloads for name, one in planned.models.items()},
            "report": "\n".join(plan.report(planned)),
        }


def tokens(records: list[Record]) -> dict[tuple[str, str, int], tuple[int, int]]:
    counts: Counter[tuple[str, str, int]] = Counter()
    sums: Counter[tuple[str, str, int]] = Counter()
    for record in records:
        counts[record.member, record.arm, record.frames] += 1
        sums[record.member, record.arm, record.frames] += record.input_tokens
    return {cell: (counts[cell], sums[cell]) for cell in counts}


def test_a_plan_counts_what_the_run_then_does(before_and_after: Any) -> None:
    first, result, _ = before_and_after
    assert first["items"] == result.counts["items"]
    for name, counts in result.counts["prompts"].items():
        assert first["prompts"][name] == {"unique": counts["unique"], "cached": 0}
        assert counts["computed"] == sum(load.prompts for load in first["loads"][name].values())
    assert first["frames"] == len(list((result.out / "frames").iterdir()))
    asked = tokens(result.records)
    assert first["cells"].keys() == asked.keys()
    for cell, (count, total) in asked.items():
        if cell[1] in ("baseline", "blind"):
            assert first["cells"][cell] == (count, total)
        else:  # their infills were not written yet, and taken to be as long as they may be
            assert first["cells"][cell][0] == count
            assert first["cells"][cell][1] > total


def test_a_plan_of_a_finished_run_finds_everything_stored(before_and_after: Any) -> None:
    _, result, again = before_and_after
    for name, counts in result.counts["prompts"].items():
        assert again["prompts"][name] == {"unique": counts["unique"], "cached": counts["unique"]}
    assert again["cells"] == tokens(result.records)
    assert set(map(len, again["loads"].values())) == {0}
    manifest = json.loads((result.out / "manifest.json").read_bytes())
    assert again["items"] == manifest["counts"]["items"]


def test_a_report_says_what_there_is_to_do(before_and_after: Any) -> None:
    first, _, again = before_and_after
    assert "4 items" in first["report"]
    assert "upper bounds" in first["report"]
    assert "upper bounds" not in again["report"]
    for device in costs.DEVICES:
        assert device in first["report"]


def test_a_dry_run_shows_what_members_see(
    before_and_after: Any, capsys: pytest.CaptureFixture[str], no_weights: None
) -> None:
    assert main.main(["plan", "--dry-run", "1", *SMALL, "seed=0", "frames=2"]) == 0
    out = capsys.readouterr().out
    arms = [line.split(", ")[1] for line in out.splitlines() if line.startswith("===")]
    assert arms == [
        "arm baseline",
        "arm vcot",
        "arm visual_perturbation",
        "arm text_perturbation",
        "arm blind",
        "arm infills_only",
        "arm filler",
    ]
    baseline, vcot, *_, blind, infills_only, filler = out.split("=== ")[1:]
    assert "<frame " not in infills_only
    assert filler.count("<frame ") == 2
    assert baseline.count("<frame ") == vcot.count("<frame ") == 2
    assert "<frame " not in blind
    assert "not written yet" not in out  # the run has written it
    assert baseline.count("[scored: ") == 1
    assert "--- tiny-video" in baseline
    assert "(the same text)" in baseline


def test_a_dry_run_marks_what_is_not_written_yet(no_weights: None) -> None:
    with dry_run(of("frames=2", "limit=1", "infill.max_new_tokens=23")) as planned:
        lines = "\n".join(plan.preview(planned))
        shown = list(planned.state.plan.trials())[1]
        a, b = planned.state.clips[shown.item.key.clip(2)].hashes
    assert f"<frame {a[:8]}> [not written yet {a[:8]} {b[:8]}]<frame {b[:8]}>" in lines


@pytest.mark.parametrize(
    ("make", "frame_as"),
    [
        (tiny_models.qwen2_5_vl, "video"),
        (tiny_models.internvl, "image"),
        (tiny_models.llava, "image"),
    ],
    ids=["qwen2_5_vl", "internvl", "fallback"],
)
def test_a_pair_of_ones_own_needs_two_repositories(
    make: Callable[..., Path], frame_as: str, tmp_path: Path
) -> None:
    repos = [
        f"pair.{role}.repo={make(tmp_path / role, seed=at)}"
        for at, role in enumerate(("image", "video"))
    ]
    cfg = of(
        *repos,
        f"pair.frame_as={frame_as}",
        "frames=2",
        "limit=2",
        "pair.dtype=float32",
        "infill.max_new_tokens=4",
    )
    planned = facts(cfg)
    result = run.execute(cfg, tmp_path / "run")
    assert result.errors == 0
    assert {(r.pair, r.role, r.member, r.scoring) for r in result.records} == {
        ("own", "image", "image", "letter"),
        ("own", "video", "video", "letter"),
    }
    for cell, asked in tokens(result.records).items():
        if cell[1] in ("baseline", "blind"):
            assert planned["cells"][cell] == asked
    assert facts(cfg)["cells"] == tokens(result.records)


def test_what_is_known_of_a_model_that_is_run_whole(tmp_path: Path, no_weights: None) -> None:
    repos = [
        f"pair.{role}.repo={tiny_models.llava(tmp_path / role, seed=at)}"
        for at, role in enumerate(("image", "video"))
    ]
    with dry_run(of(*repos, "pair.frame_as=image", "frames=2", "limit=2")) as planned:
        lines = plan.report(planned, "L4")
    at = lines.index(next(line for line in lines if "forward FLOP" in line))
    name, size, unit, _, _, encoded, *costs = lines[at + 3].split()
    assert (name, unit, encoded) == ("image", "M", "-")
    assert float(size) > 0
    assert float(costs[-1]) >= 0
    assert any(line.startswith("L4") for line in lines)
    assert any("The frames of image, video are not counted" in line for line in lines)


def test_both_texts_of_different_members_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_weights: None
) -> None:
    """Members of two classes see two texts, each with the wrapping of its own family."""
    image, video = tmp_path / "qwen", tmp_path / "intern"
    tiny_models.qwen2_5_vl(image)
    tiny_models.internvl(video)
    pair = [f"pair.image.repo={image}", f"pair.video.repo={video}", "pair.dtype=float32"]
    assert main.main(["plan", *SMALL, *pair, "frames=2", "suite=study", "--dry-run", "1"]) == 0
    out = capsys.readouterr().out.split("=== ")[1]
    assert out.count("<|vision_start|><frame ") == 2
    assert out.count("Frame1: <img><frame ") == 2
    assert "(the same text)" not in out
    assert "[scored: A | B | C | D | E]" in out


def test_what_cannot_fit_is_planned_as_an_error(
    monkeypatch: pytest.MonkeyPatch, no_weights: None
) -> None:
    monkeypatch.setattr(backend, "context_of", lambda *_: 20)
    with dry_run(of("seed=5", "infill.max_new_tokens=21")) as planned:
        lines = "\n".join(plan.report(planned))
        loads = planned.models["tiny-video"].workloads["cloze"]
    assert loads.too_long > 0
    assert "exceed the model's context of 20 tokens" in " ".join(lines.split())


def test_backends_that_tell_no_tokens_are_counted_all_the_same(no_weights: None) -> None:
    cfg = of("backend=scripted", "infill.max_new_tokens=20")
    with dry_run(cfg) as planned:
        lines = "\n".join(plan.report(planned))
        unique = {name: one.stats.unique for name, one in planned.models.items()}
    assert "Costs are not known of tiny-image, tiny-video" in lines
    assert unique == {
        name: counts["unique"]
        for name, counts in run.execute(cfg, Path("scripted")).counts["prompts"].items()
    }


def test_measuring_times_every_kind_and_stores_nothing(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    overrides = [*SMALL, "seed=7", "backend.device=cpu", "infill.max_new_tokens=5"]
    assert main.main(["plan", *overrides, "--measure", "2", "--device", "L4"]) == 0
    out = capsys.readouterr().out
    table = out[out.index("Time by measurement") :].splitlines()
    kinds = [line.split()[:4] for line in table[3:]]
    assert kinds == [
        ["tiny-image", "generate", "cpu", "2"],
        ["tiny-image", "cloze", "cpu", "2"],
        ["tiny-video", "cloze", "cpu", "2"],
    ]
    assert "H200" not in out
    with dry_run(compose.compose(overrides)) as planned:
        counts = planned.models["tiny-image"].stats
        assert planned.models["tiny-image"].workloads["generate"].prompts > 0
        assert counts.cached < counts.unique


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dry-run", "0"], "too small"),
        (["--measure", "-1"], "too small"),
        (["--dry-run", "pair=tny"], "did you mean tiny?"),
        (["sed=3"], "did you mean seed?"),
        (["limit=0"], "limit"),
        (["--device", "abacus"], "RTX4090"),
        (["pair=tiny", "pair.image.repo=/nowhere/a"], "/nowhere/a"),
        (["pair.image.repo=a/b", "pair.video.repo=c/d"], "hf download a/b"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main.main(["plan", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", "--help"]) == 0
    assert capsys.readouterr().out.count("\n  probes plan ") >= 4


@pytest.mark.parametrize(
    "make",
    [
        tiny_models.llava_next_video,
        tiny_models.llava_onevision,
        tiny_models.internvl,
        tiny_models.qwen2_vl,
        tiny_models.qwen2_5_vl,
        tiny_models.llava,
    ],
    ids=lambda make: make.__name__,
)
def test_weights_are_counted_from_the_heads_of_files(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    folder = make(tmp_path / "member")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    weights = costs.weights_of(Checkpoint(folder, "x").shapes())
    assert weights is not None
    assert weights.total == sum(p.numel() for p in model.parameters())
    text = model.config.get_text_config()
    language = sum(p.numel() for p in model.model.language_model.parameters())
    assert weights.layers == language - weights.embeddings
    assert (weights.depth, weights.hidden, weights.vocabulary, weights.inner) == (
        text.num_hidden_layers,
        text.hidden_size,
        text.vocab_size,
        text.intermediate_size,
    )
    head = text.hidden_size // text.num_attention_heads
    assert (weights.queries, weights.keys) == (text.hidden_size, text.num_key_value_heads * head)


def test_flops_are_those_that_are_counted(tmp_path: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForImageTextToText

    folder = tiny_models.qwen2_5_vl(tmp_path / "member")
    weights = costs.weights_of(Checkpoint(folder, "x").shapes())
    assert weights is not None
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    size = 200
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.full((1, size), 7), logits_to_keep=1)
    load = Workload(prompts=1, tokens=size, squares=size**2, scored=1)
    # The counter counts all pairs of positions, of which half see one another.
    unseen = 4 * weights.depth * weights.queries * size**2 / 2
    assert costs.reading(weights, load) + unseen == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )


def test_memory_and_time_grow_with_what_there_is_to_do() -> None:
    weights = costs.ParameterCounts(
        vision=300_000_000,
        layers=6_500_000_000,
        embeddings=131_000_000,
        head=131_000_000,
        tied=False,
        depth=32,
        hidden=4096,
        vocabulary=32_000,
        queries=4096,
        keys=4096,
        inner=11_008,
    )
    few, many = (
        {"generate": Workload(n, 900 * n, 810_000 * n, 964, written=64 * n)} for n in (100, 1000)
    )
    how = costs.Execution("bfloat16", batch_tokens=16_384, batch_size=32, feature_cache=2**29)

    def need(quantize: str = "", **loads: Workload) -> costs.Memory:
        return costs.memory(weights, loads, replace(how, quantize=quantize), features=10_000)

    full = need(**few)
    assert full.weights == 2 * weights.total
    # Keys and values of a LLaMA 7B in two bytes: half a megabyte a token.
    assert full.cache == 16_384 * 524_288
    assert need("4bit", **few).weights < 0.3 * full.weights
    assert need().cache == 0
    one, ten = (
        costs.seconds(weights, loads, how, 0.0, costs.DEVICES["H100"]) for loads in (few, many)
    )
    assert 9 * one < ten < 11 * one
    slow = costs.seconds(weights, few, how, 0.0, costs.DEVICES["L4"])
    assert slow > 5 * one


def test_a_file_that_is_no_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ProbesError, match="not a safetensors file"):
        Checkpoint(tmp_path, "x").shapes()
    assert costs.weights_of({"some.weight": (3, 4)}) is None


def test_stand_ins_differ_by_gap_and_are_cut_for_people() -> None:
    a, b, c = (FrameRef(letter * 64) for letter in "abc")
    one, other = placeholder(Request((a, b)), 12), placeholder(Request((b, c)), 12)
    assert one != other
    assert len(one.split()) == len(other.split()) == 12
    condensed = placeholder(Request((f"Shorten this: {one}",)), 9)
    assert condensed.startswith("[not written yet aaaaaaaa bbbbbbbb]")
    shown = shortened(Request((a, f" {one}", b, " what?"), ("A",)))
    assert shown.parts == (a, " [not written yet aaaaaaaa bbbbbbbb]", b, " what?")
