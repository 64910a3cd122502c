"""The embedded pair: its tokenizer, its training, and the checkpoints that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.config.paths import conf_dir
from probes.core.errors import ProbesError
from probes.tasks.egoworld.pair import train as training
from probes.tasks.egoworld.pair.curriculum import Curriculum, Sample
from probes.tasks.egoworld.pair.heldout import NO_NOISE
from probes.tasks.egoworld.pair.learn import logits_of, rate_at
from probes.tasks.egoworld.pair.model import build_model
from probes.tasks.egoworld.pair.packing import Packer
from probes.tasks.egoworld.pair.vocabulary import LETTERS, build_tokenizer
from probes.tasks.egoworld.world import load_world, split_of

TOKENIZER = build_tokenizer()
CONFIG = training.read_config([])
SHIPPED = Path(training.__file__).parent / "checkpoints"
MEMBERS = ("image", "video", "control")
SMALL = {
    **CONFIG["model"],
    "vision": {"width": 32, "mlp": 48, "layers": 1, "heads": 2},
    "text": {"width": 32, "mlp": 48, "layers": 2, "heads": 2, "initializer_range": 0.05},
}


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_tokenizer_takes_any_text(text: str) -> None:
    for token in TOKENIZER.all_special_tokens:
        text = text.replace(token, "")
    assert TOKENIZER.decode(ids(text)) == text.replace("▁", " ")


def test_letters_and_phrases_are_single_tokens() -> None:
    assert all(len(ids(f" {letter}")) == 1 for letter in LETTERS)
    assert len({ids(f" {letter}")[0] for letter in LETTERS}) == 10
    assert ids("\nA.")[1] == ids(" A")[0]
    assert len(ids(" c opens the red box.")) == 3
    assert TOKENIZER.unk_token_id not in ids("Ünïcode 漢字 \x00\x7f")


def curriculum(split: str = "training", **mix: object) -> Curriculum:
    return Curriculum(load_world(), {**CONFIG["mix"], **mix}, 64, split)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["describe", "look", "read", "text", "watch"])
def test_training_draws_training_stories_only(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from probes.tasks.egoworld.pair import curriculum as module

    drawn, real = [], module.draw_story
    monkeypatch.setattr(
        module, "draw_story", lambda *a, **k: drawn.append(real(*a, **k)) or drawn[-1]
    )
    rng = np.random.default_rng(0)
    noise = CONFIG["stages"]["video"]["noise"]
    for _ in range(20):
        curriculum().draw(source, noise, rng)
    assert len(drawn) >= 20
    assert all(split_of(story) == "training" for story in drawn)


def test_image_stage_asks_nothing_of_many_frames_without_text() -> None:
    for stage in ("image", "control"):
        assert "watch" not in CONFIG["stages"][stage]["sizes"]
    assert CONFIG["stages"]["control"]["steps"] == CONFIG["stages"]["video"]["steps"]


def test_prompts_in_training_are_the_harness_prompts() -> None:
    """A packed question, unpacked, is the text that the chat template makes of the prompt file."""
    sample = curriculum().draw("text", NO_NOISE, np.random.default_rng(1))
    template = (conf_dir() / "prompts" / "tiny" / "cloze.txt").read_text().removesuffix("\n")
    question = next(a for a in sample.asks if a.kind == "cloze")
    words = question.prompt.removeprefix(" ").removesuffix(" assistant:")
    body = template.replace("{question}", words).replace(
        "{context}", "".join(p for p in sample.context[1:] if isinstance(p, str))
    )
    chat = TOKENIZER.apply_chat_template(
        [{"role": "user", "content": body}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "".join(str(p) for p in sample.context) + question.prompt


@pytest.mark.parametrize("native", [False, True])
def test_packed_questions_are_independent(native: bool) -> None:
    """Packing several questions behind one context changes no logit."""
    torch.manual_seed(0)
    model = build_model(SMALL, TOKENIZER).eval()
    packer = Packer(TOKENIZER, (4, 36), 3.0)
    rng = np.random.default_rng(3)
    sample = curriculum(letter_share=1.0, frame_counts={3: 1.0}).draw("read", NO_NOISE, rng)
    alone = [Sample(sample.context, (ask,)) for ask in sample.asks]
    with torch.inference_mode():
        packed, _ = logits_of(model, packer.pack([sample], native=native))
        single = [logits_of(model, packer.pack([s], native=native))[0] for s in alone]
    assert len(sample.asks) > 3
    torch.testing.assert_close(packed, torch.cat(single), atol=2e-5, rtol=1e-4)


def test_packed_forward_is_the_class_own_forward(tmp_path: Path) -> None:
    """The training forward equals the genuine class called with ids and pixels."""
    from probes.tasks.egoworld.pair.model import normalise

    torch.manual_seed(0)
    model = build_model(SMALL, TOKENIZER).eval()
    packer = Packer(TOKENIZER, (4, 36), 1.0)
    sample = curriculum(frame_counts={4: 1.0}).draw("watch", NO_NOISE, np.random.default_rng(3))
    batch = packer.pack([Sample(sample.context, sample.asks[:1])], native=False)
    with torch.inference_mode():
        packed, positions = logits_of(model, batch)
        pixels = normalise(batch.frames_NHWC).unsqueeze(1)
        own = model(input_ids=batch.ids_BL, pixel_values_videos=pixels).logits[0, positions]
    torch.testing.assert_close(packed, own, atol=2e-5, rtol=1e-4)


def small_config(**changes: object) -> dict[str, object]:
    stage = {**CONFIG["stages"]["image"], "steps": 4, "warmup": 1}
    stage["sizes"] = {"look": 2, "text": 2}
    stages = {name: {**stage, "train_vision": name == "image"} for name in MEMBERS}
    return {
        **CONFIG,
        "model": SMALL,
        "stages": stages,
        "save_every": 2,
        "evaluate": 0,
        "compile": False,
        **changes,
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_resumed_training_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(whole, small_config())
    from probes.tasks.egoworld.pair import learn as module

    real, calls = module._save, []

    def die_after_saving(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_save", die_after_saving)
    with pytest.raises(KeyboardInterrupt):
        training.train(broken, small_config())
    assert not (broken / "image" / "model.safetensors").exists()
    training.train(broken, small_config())
    for member in MEMBERS:
        first, second = weights(whole / member), weights(broken / member)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    moved = weights(whole / "video"), weights(whole / "image")
    assert any(not torch.equal(moved[0][n], moved[1][n]) for n in moved[0])
    tower = [n for n in moved[0] if "vision_tower" in n]
    assert tower
    assert all(torch.equal(moved[0][n], moved[1][n]) for n in tower)


def test_a_folder_is_not_continued_with_other_settings(tmp_path: Path) -> None:
    for stage in training.STAGES:  # all of them are done
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "model.safetensors").touch()
    done = CONFIG | {"threads": 1, "evaluate": 0}
    training.train(tmp_path, done)
    training.train(tmp_path, done)
    with pytest.raises(ProbesError, match="other data"):
        training.train(tmp_path, done | {"seed": 99})


def test_an_unknown_training_setting_is_refused() -> None:
    with pytest.raises(ProbesError, match="stepz"):
        training.read_config(["stages.image.stepz=1"])


def test_rate_warms_up_and_falls() -> None:
    stage = {"peak": 1.0, "steps": 100, "warmup": 10}
    rates = [rate_at(k, stage, {"flat": 0.4, "floor": 0.05}) for k in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:41] == [1.0] * 32
    assert all(a > b for a, b in zip(rates[41:], rates[42:], strict=False))
    assert rates[-1] == pytest.approx(0.05, abs=0.01)


def test_shipped_members_load_like_any_checkpoint() -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    configs = []
    for member in MEMBERS:
        model = AutoModelForImageTextToText.from_pretrained(SHIPPED / member, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(SHIPPED / member)
        assert type(model).__name__ == "LlavaNextVideoForConditionalGeneration"
        video = [np.full((64, 64, 3), 120, np.uint8)]
        inputs = processor(
            text="<s> user:<video> what is there? assistant:", videos=[video], return_tensors="pt"
        )
        assert int((inputs["input_ids"] == model.config.video_token_id).sum()) == 4
        reply = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        assert processor.decode(reply[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        configs.append(model.config.to_dict())
    for config in configs:
        config.pop("_name_or_path", None)
    assert configs[0] == configs[1] == configs[2]


def test_shipped_members_fit_and_are_safe() -> None:
    files = [p for p in SHIPPED.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 16_000_000
    assert all(p.stat().st_size < 8_000_000 for p in files)
    assert not {p.suffix for p in files} & {".bin", ".pt", ".pth", ".pkl"}
    assert {m: (SHIPPED / m / "model.safetensors").exists() for m in MEMBERS} == dict.fromkeys(
        MEMBERS, True
    )


def test_model_card_says_what_the_pair_is() -> None:
    card = " ".join((SHIPPED / "README.md").read_text().split())
    table = json.loads((SHIPPED / "heldout.json").read_text())
    assert "builds the gap in" in card
    for measure in ("watch: cloze, 10 frames", "read: cloze, 10 frames"):
        for member in MEMBERS:
            assert f"{100 * table[member][measure]:.1f}" in card
