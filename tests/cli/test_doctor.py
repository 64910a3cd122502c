"""`probes doctor` on real layouts: what it names, refuses and lets pass; and what a run keeps."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_layouts.build import build
from hub_layouts.files import change

from probes.cli import doctor, main
from probes.config import compose
from probes.config.settings import RunConfig
from probes.core.types import FrameArray
from probes.engine import run
from probes.engine.doctor import Doctor
from probes.models.hf import backend, examine
from probes.models.hf.families.llava_next import LlavaNextVideo

SMALL = ("task.videos=6", "task.height=32", "task.fps=1", "limit=2", "frames=2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBES_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("hub")
    return lambda name: build(name, root)


def of(*overrides: str) -> RunConfig:
    return compose.compose([*SMALL, *overrides])


def pair(image: Path, video: Path, name: str = "own") -> tuple[str, ...]:
    named = (f"pair={name}", f"pair.image.repo={image}", f"pair.video.repo={video}")
    return (*named, "pair.dtype=float32", "backend.device=cpu")


def test_the_studys_pair_differs_in_rope_scaling_and_tokenizer(
    hub: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = pair(hub("next"), hub("next_video"), "llava_next_7b")
    assert main.main(["doctor", *SMALL, *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "verdict: comparable with these differences" in shown
    # Named by their repositories: other weights than the pair's own were given.
    a, b = "llava-v1.6-vicuna-7b-hf", "LLaVA-NeXT-Video-7B-hf"
    assert f"rope_parameters.factor: unset in {a}, 2.5 in {b}" in shown
    assert f"token 32000 is '<image>' in {a}, '<video>' in {b}" in shown
    # Behind a frame the two tokenizers split a line break otherwise.
    assert "the same prompt (frames alone) becomes other tokens: token" in shown
    assert "A: 319 '\u2581A';" in shown
    assert "a prompt goes in as one text" in shown
    assert "its own class shows no videos" in shown


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["letter", "cloze", "generate"])
@pytest.mark.parametrize("way", ["video", "image"])
@pytest.mark.parametrize(
    ("image", "video", "name"),
    [
        ("next", "next_video", "llava_next_7b"),
        ("qwen2_5_vl", "qwen2_5_vl", "own"),
        ("internvl3", "internvl3_5", "own"),
        ("onevision_si", "onevision", "own"),
        ("qwen3_vl", "qwen3_vl", "own"),  # no family: its frames are videos of themselves twice
        ("video_llama_3", "video_llama_3", "own"),
    ],
)
def test_with_weights_answers_are_those_of_the_class(
    image: str, video: str, name: str, way: str, scoring: str, hub: Callable[[str], Path]
) -> None:
    more = (f"scoring={scoring}", f"pair.frame_as={way}", "pair.image.name=image")
    found = doctor.examined(of(*pair(hub(image), hub(video), name), *more), weights=True)
    assert found.faults == ()
    for member in found.members:
        assert member.passes is not None
        assert member.passes.compared == 3
        assert member.passes.largest < 1e-3


def test_a_class_without_a_family_is_compared_in_the_way_it_is_shown(
    hub: Callable[[str], Path],
) -> None:
    """Once its videos were compared with images, and its answers called other than they are."""
    words = pair(hub("qwen3_vl"), hub("qwen3_vl"))
    named = ("pair.image.name=image", "pair.frame_as=video", "scoring=letter")
    found = doctor.examined(of(*words, *named), weights=True)
    assert found.faults == ()
    for member in found.members:
        assert member.passes is not None and member.passes.largest < 1e-3
        assert member.seen is not None
        assert {one.own_ids.state for one in member.seen.prompts} == {"equal"}


def test_the_embedded_pair_is_comparable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["doctor", *SMALL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "comparable"
    assert found["differences"] == found["faults"] == found["unseen"] == []
    member = found["members"]["tiny-video"]
    assert member["own_ids"] == member["own_pixels"] == ["equal"] * 3
    assert 0 < member["longest"] < member["context"]


def changed(source: Path, folder: Path, name: str) -> Path:
    """Copy a checkpoint by links, but for one JSON file, which a test will write to."""
    folder.mkdir()
    for file in source.iterdir():
        os.link(file, folder / file.name)
    content = (folder / name).read_bytes()
    (folder / name).unlink()  # the source stays
    (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def thinking(
    hub: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A checkpoint whose template opens a thought, as Qwen3-VL-Thinking's does."""
    root = tmp_path_factory.mktemp("thinking")

    def made(layout: str) -> Path:
        file, folder = "chat_template.json", root / layout
        if not folder.exists():
            changed(hub(layout), folder, file)
            template = json.loads((folder / file).read_text())["chat_template"]
            opens = "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
            change(folder, file, chat_template=template + opens)
        return folder

    return made


@pytest.mark.parametrize(
    "layout", ["next_video", pytest.param("qwen2_5_vl", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("scoring", "code"),
    [
        ("letter", 2),
        pytest.param("cloze", 2, marks=pytest.mark.slow),
        pytest.param("generate", 0, marks=pytest.mark.slow),
    ],
)
def test_a_member_that_opens_a_thought_is_refused_with_the_way_out(
    layout: str,
    scoring: str,
    code: int,
    hub: Callable[[str], Path],
    thinking: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (*pair(hub(layout), thinking(layout)), f"scoring={scoring}")
    assert main.main(["doctor", *SMALL, *words]) == code
    shown = " ".join(capsys.readouterr().out.split())
    assert ("verdict: not comparable" in shown) == (code == 2)
    if code:
        assert "ends in an opened thought" in shown
        # As a shell takes it: without the outer quotes Hydra reads no value.
        assert r"""'pair.video.answer_prefix="</think>\n\n"'""" in shown
        assert "scoring=generate" in shown


def test_a_thought_that_is_closed_is_none(
    hub: Callable[[str], Path], thinking: Callable[[str], Path]
) -> None:
    words = pair(hub("next_video"), thinking("next_video"))
    closed = of(*words, "pair.answer_prefix='</think>'")
    assert not any(one.errors for one in doctor.examined(closed).members)


def test_a_prompt_beyond_the_context_ends_in_2(
    hub: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = changed(hub("next_video"), tmp_path / "short", "config.json")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, "config.json", text_config=text | {"max_position_embeddings": 300})
    assert main.main(["doctor", *SMALL, *pair(hub("next_video"), folder, "llava_next_7b")]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "a planned prompt is too long" in shown
    assert "the model's context of 300 tokens" in shown


def test_a_member_that_does_not_load_ends_in_2_and_the_other_is_looked_at(
    hub: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["doctor", *SMALL, *pair(hub("internvl_chat"), hub("next_video"))]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "it does not load: no class of transformers" in shown
    assert "ids are those of its own class's processor" in shown


def test_weights_that_do_not_fit_end_in_2_and_are_no_matter_of_the_other(
    hub: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a run refuses is not comparable here: one layer more than the files have."""
    folder = changed(hub("next_video"), tmp_path / "deeper", "config.json")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, "config.json", text_config=text | {"num_hidden_layers": 4})
    assert main.main(["doctor", *SMALL, *pair(hub("next_video"), folder, "llava_next_7b")]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "deeper: it does not load: 9 parameters of" in shown
    assert shown.count("it does not load") == 1
    assert "not seen" not in shown


def test_a_folder_without_a_vocabulary_is_refused_before_a_tokenizer_is_made_of_nothing(
    hub: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of settings alone Qwen's tokenizer is made as well, after minutes, and knows no letter."""
    folder = changed(hub("qwen2_5_vl"), tmp_path / "bare", "tokenizer_config.json")
    (folder / "tokenizer.json").unlink()
    begun = time.monotonic()
    assert main.main(["doctor", *SMALL, *pair(hub("next_video"), folder)]) == 2
    assert time.monotonic() - begun < 10
    assert "bare: it does not load: the folder has no tokenizer" in capsys.readouterr().out


def test_a_processor_of_another_model_is_refused_before_anything_is_asked(
    hub: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CLIP's for Qwen makes pixels, but not the grid of them: every frame would be an error."""
    folder = changed(hub("qwen2_5_vl"), tmp_path / "clip", "preprocessor_config.json")
    clip = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}}
    change(folder, "preprocessor_config.json", **clip)
    words = (*pair(hub("next_video"), folder), "pair.frame_as=image")
    assert main.main(["doctor", *SMALL, *words]) == 2
    assert "its processor makes no frame: frame" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_would_score_a_thought_is_refused_before_its_folder_is_there(
    hub: Callable[[str], Path],
    thinking: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = pair(hub("next_video"), thinking("next_video"))
    assert main.main(["plan", *SMALL, *words, "scoring=cloze"]) == 2
    assert "ends in an opened thought" in " ".join(capsys.readouterr().err.split())
    out = tmp_path / "out"
    assert main.main(["run", *SMALL, *words, "scoring=cloze", f"hydra.run.dir={out}"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "ends in an opened thought" in shown
    assert "infills by" not in shown
    assert not out.exists()


def test_backends_without_a_model_say_what_is_not_seen() -> None:
    found = doctor.examined(of("backend=scripted"))
    assert found.verdict == "not checked"
    assert "backend scripted has no model" in found.unseen[0]


def test_a_fault_of_a_family_would_be_seen(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of another scale, and frames of another number of tokens, are faults."""
    monkeypatch.setenv("PROBES_HOME", str(tmp_path))

    def darker(self: Any, model: Any, bundle: Any, frames: list[FrameArray]) -> Any:
        return own(self, model, bundle, [frame // 2 for frame in frames])

    own = LlavaNextVideo.encode_frames
    monkeypatch.setattr(LlavaNextVideo, "encode_frames", darker)
    found = doctor.examined(of(), weights=True)
    assert found.verdict == "not comparable"
    shown = "\n".join(found.faults)
    assert "pixel values are not those of its own class's processor (frames alone): by up" in shown
    assert "option scores differ by" in shown


def test_a_run_keeps_the_verdict_and_looks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    caplog.set_level(logging.INFO)
    cfg = of("arms=[baseline,blind]")
    run.execute(cfg, tmp_path / "first")
    found = json.loads((tmp_path / "first" / "manifest.json").read_text())["comparability"]
    assert found["verdict"] == "comparable"
    for member in found["members"].values():
        assert member["passes"]["compared"] == 3
        assert member["passes"]["largest"] < 1e-3

    def load(self: Any, *_: Any) -> None:
        raise AssertionError("something was loaded")

    for name in ("_load", "preprocessor", "examine"):
        monkeypatch.setattr(backend.HfBackend, name, load)
    run.execute(cfg, tmp_path / "second")
    again = json.loads((tmp_path / "second" / "manifest.json").read_text())["comparability"]
    assert again == found
    tables = [(tmp_path / one / "items.parquet").read_bytes() for one in ("first", "second")]
    assert tables[0] == tables[1]


def test_a_run_warns_of_answers_that_its_class_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(examine.TOLERANCES, "float32", -1.0)
    result = run.execute(of("arms=[baseline]"), tmp_path / "out")
    assert result.errors == 0
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert any("tiny-image: option scores differ by" in line for line in warned)


def test_damaged_results_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path))
    first = doctor.examined(of())
    files = sorted((tmp_path / "doctor").rglob("*.json"))
    assert len(files) == 4  # of each member: what is seen of it, and what has to be known
    for file in files:
        file.write_bytes(file.read_bytes().replace(b"assistant", b"assassins"))
    assert doctor.examined(of()).plain() == first.plain()


def test_made_prompts_show_what_they_are_called() -> None:
    from probes.core.types import FrameRef, ScoringSpec

    looking = Doctor(of(), ScoringSpec("cloze"))
    alone, between, text = looking.prompts
    kinds = [[isinstance(part, FrameRef) for part in one.parts] for one in (alone, between, text)]
    assert [sum(one) for one in kinds] == [2, 2, 0]
    joined = "".join(part for part in between.parts if isinstance(part, str))
    assert "The door moves slowly" in joined
