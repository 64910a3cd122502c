"""Our tasks in plain lmms-eval: docs, pictures, text, and scoring that never guesses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from evaluating import command, load
from omegaconf import OmegaConf

from probes.config.paths import conf_dir
from probes.config.settings import TaskConfig
from probes.integrations import lmms_iraven
from probes.tasks import registry
from probes.tasks.egoworld import generate as egoworld
from probes.tasks.iraven import generate as iraven
from probes.tasks.iraven import reader
from probes.tasks.iraven.space import CONFIGURATIONS

PER_CONFIGURATION, CLIPS = 2, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    iraven.make(folder / "iraven", PER_CONFIGURATION, seed=3)
    egoworld.make(folder / "world", egoworld.ClipSettings(CLIPS, seed=3, height=64))
    return folder


@pytest.fixture
def roots(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRAVEN_ROOT", str(data / "iraven"))
    monkeypatch.setenv("EGOSCHEMA_ROOT", str(data / "world"))
    return data


@pytest.fixture
def problems(roots: Path) -> dict[str, Any]:
    return load(roots, "iraven")


@pytest.fixture
def clips(roots: Path) -> Any:
    return load(roots, "egoschema_local")["egoschema_local"]


def test_problems_are_those_of_this_harness_where_no_folder_is_named(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []

    def made(task: TaskConfig) -> Path:
        wanted.append(task)
        return data / "iraven"

    monkeypatch.delenv("IRAVEN_ROOT", raising=False)
    monkeypatch.setattr(registry, "root", made)
    assert len(lmms_iraven._read("center_single")) == PER_CONFIGURATION
    (task,) = wanted
    assert (task.name, task.reader, task.root) == ("iraven", "iraven", None)
    given = OmegaConf.load(conf_dir() / "task" / "iraven.yaml")
    assert task.settings.per_config == given.per_config


def shown(messages: list[dict[str, Any]]) -> list[str]:
    (message,) = messages
    assert message["role"] == "user"
    return [part["text"] if part["type"] == "text" else part["type"] for part in message["content"]]


def test_the_group_holds_the_seven_configurations(problems: dict[str, Any], roots: Path) -> None:
    assert sorted(problems) == sorted(f"iraven_{name}" for name in CONFIGURATIONS)
    for name, task in problems.items():
        configuration = name.removeprefix("iraven_")
        items = reader.load(roots / "iraven", [configuration])
        docs = list(task.eval_docs)
        assert [doc["id"] for doc in docs] == [item.id for item in items]
        assert [doc["answer"] for doc in docs] == [item.answer for item in items]
        assert {doc["stratum"] for doc in docs} == {configuration}


def test_a_problem_is_shown_in_reading_order(problems: dict[str, Any]) -> None:
    task = problems["iraven_in_distribute_four_out_center_single"]
    doc = task.eval_docs[1]
    parts = shown(task.doc_to_messages(doc))
    assert parts[:8] == ["image"] * 8
    assert parts[8].splitlines() == ["", f"Question: {reader.QUESTION}", "A. "]
    assert parts[9::2] == ["image"] * 8
    assert parts[10:-1:2] == [f"\n{letter}. " for letter in "BCDEFGH"]
    assert "letter" in parts[-1]
    pixels = reader.images(Path(doc["media"]))
    content = task.doc_to_messages(doc)[0]["content"]
    pictures = [part["url"] for part in content if part["type"] == "image"]
    assert [picture.mode for picture in pictures] == ["RGB"] * 16
    assert all(
        np.array_equal(np.asarray(one)[..., c], raw)
        for one, raw in zip(pictures, pixels, strict=True)
        for c in range(3)
    )


def test_models_that_take_pictures_and_text_separately(roots: Path) -> None:
    task = load(roots, "iraven_center_single", "simple")["iraven_center_single"]
    doc = task.eval_docs[0]
    pixels = reader.images(Path(doc["media"]))
    shown = [np.asarray(one.convert("L")) for one in task.doc_to_visual(doc)]
    assert np.array_equal(shown, pixels)
    assert task.doc_to_text(doc).splitlines() == [
        "Pictures 1 to 8 are the panels of a 3x3 matrix in reading order; its ninth cell is empty.",
        f"Question: {reader.QUESTION}",
        "The panels A to H are pictures 9 to 16.",
        "Answer with the option's letter from the given choices directly.",
    ]


def test_a_clip_and_its_question(clips: Any, roots: Path) -> None:
    entries = json.loads((roots / "world" / "questions.json").read_text())
    answers = json.loads((roots / "world" / "subset_answers.json").read_text())
    recordings = json.loads((roots / "world" / "uid_to_ego4d.json").read_text())
    assert len(clips.eval_docs) == CLIPS
    for doc, entry in zip(clips.eval_docs, entries, strict=True):
        path = roots / "world" / "videos" / f"{entry['q_uid']}.mp4"
        assert clips.doc_to_visual(doc) == [str(path)]
        assert doc["answer"] == answers[doc["id"]]
        assert doc["cluster"] == recordings[doc["id"]]["video_uid"]
        lines = clips.doc_to_text(doc).splitlines()
        assert lines[0] == f"Question: {entry['question']}"
        assert lines[1:6] == [f"{a}. {entry[f'option {i}']}" for i, a in enumerate("ABCDE")]
        assert shown(clips.doc_to_messages(doc)) == ["video", "\n" + clips.doc_to_text(doc)]
        assert clips.doc_to_messages(doc)[0]["content"][0]["url"] == str(path)


@pytest.mark.parametrize("name", ["egoschema_local", "iraven_center_single"])
def test_scoring_is_strict(name: str, roots: Path) -> None:
    task = load(roots, name)[name]
    for doc in task.eval_docs:
        letters = "ABCDEFGH"[: len(doc["options"])]
        gold = letters[doc["answer"]]
        assert task.doc_to_target(doc) == gold
        for letter in letters:
            for reply in (letter, f"({letter})", f"{letter}.", f"The answer is {letter}."):
                score = {"accuracy": float(letter == gold), "unparsed": 0.0}
                assert task.process_results(doc, [reply]) == score
        for garbage in ("zzz", "", "A or B", f"not {gold}", "I cannot tell", "Z"):
            scored = [task.process_results(doc, [garbage]) for _ in range(8)]
            assert scored == [{"accuracy": 0.0, "unparsed": 1.0}] * 8


@pytest.mark.parametrize(
    ("name", "unset", "message"),
    [("egoschema_local", "EGOSCHEMA_ROOT", "names no folder")],
)
def test_a_task_without_data_says_so(
    name: str, unset: str, message: str, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(unset)
    with pytest.raises(SystemExit, match=message):
        load(roots, name)


@pytest.mark.parametrize(
    ("name", "variable"), [("egoschema_local", "EGOSCHEMA_ROOT"), ("iraven", "IRAVEN_ROOT")]
)
def test_a_folder_without_data_is_refused(
    name: str, variable: str, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="nothing"):
        load(roots, name)


def says_a(folder: Path) -> Path:
    """Return a Qwen2.5-VL with blocks that do nothing, so that the last token decides the next one:
    the prompt's end is followed by A, and A by the end of the reply."""
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    tiny_models.qwen2_5_vl(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt_end = tokenizer.encode("<|im_start|>assistant\n")[-1]
    (letter,) = tokenizer.encode("A")
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        words = model.get_input_embeddings().weight.clone()
        model.lm_head.weight.zero_()
        model.lm_head.weight[letter] = words[prompt_end]
        model.lm_head.weight[tokenizer.eos_token_id] = words[letter]
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow  # two runs of lmms-eval's command, 20 s of imports each
@pytest.mark.parametrize("kind", ["chat", "simple"])
def test_the_plain_command_line(kind: str, roots: Path, tmp_path: Path) -> None:
    model = says_a(tmp_path / "model")
    arguments = {
        "pretrained": model,
        "device": "cpu",
        "device_map": "cpu",
        "min_pixels": 56 * 56,
        "max_pixels": 56 * 56,
        "max_num_frames": 4,
    }
    done = command(
        tmp_path,
        "--model",
        "qwen2_5_vl",
        "--model_args",
        ",".join(f"{name}={value}" for name, value in arguments.items()),
        "--include_path",
        "tasks",
        "--tasks",
        "iraven,egoschema_local",
        "--output_path",
        str(tmp_path / "out"),
        "--log_samples",
        *(["--force_simple"] if kind == "simple" else []),
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").rglob("*_results.json")
    results = json.loads(written.read_text())["results"]
    right = Counter[str]()
    for path in (tmp_path / "out").rglob("*_samples_*.jsonl"):
        name = path.stem.split("_samples_")[1]
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(samples) == (CLIPS if name == "egoschema_local" else PER_CONFIGURATION)
        assert [sample["filtered_resps"] for sample in samples] == ["A"] * len(samples)
        right[name] = sum(sample["target"] == "A" for sample in samples)
        assert results[name]["accuracy,none"] == pytest.approx(right[name] / len(samples))
        assert results[name]["unparsed,none"] == 0
    problems = [name for name in right if name.startswith("iraven_")]
    assert len(problems) == 7
    assert right["egoschema_local"] + sum(right[name] for name in problems)
    mean = sum(right[name] for name in problems) / (7 * PER_CONFIGURATION)
    assert results["iraven"]["accuracy,none"] == pytest.approx(mean)
