"""What files tell is told before anything is made, decoded, written or asked; a plan tells all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import made_adapters
import pytest
import torch
import transformers
from hub_layouts.build import build
from hub_layouts.files import change
from safetensors.torch import load_file, save_file

from probes.cli import main
from probes.config.compose import compose
from probes.engine.context import settled_config
from probes.models.hf.backend import HfBackend

WAYS = ["task=egoworld", "task.videos=6", "limit=2", "frames=2", "backend.device=cpu"]
WAYS += ["pair.dtype=float32"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture
def copied(hub: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies a layout, to be damaged."""

    def copy(name: str, to: str = "damaged") -> Path:
        return Path(shutil.copytree(build(name, hub), tmp_path / "damaged" / to))

    return copy


@pytest.fixture
def command(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that calls `probes` for a sound image member and another video member.

    It has to be refused with nothing written but the marks of what passed.
    """
    home, folder = tmp_path / "home", tmp_path / "here"
    folder.mkdir()
    monkeypatch.setenv("PROBES_HOME", str(home))
    monkeypatch.delenv("PROBES_RUNS", raising=False)
    monkeypatch.chdir(folder)

    def called(name: str, video: Path, *more: str, image: Path | None = None) -> str:
        repos = [f"pair.image.repo={image or build('next', hub)}", f"pair.video.repo={video}"]
        assert main.main([name, *repos, *WAYS, *more]) == 2
        assert [path.name for path in folder.rglob("*")] in ([], ["results", "runs"])
        assert {path.name for path in home.glob("*")} <= {"checked", "hashes.jsonl", "store"}
        return capsys.readouterr().err

    return called


def test_a_folder_without_tokenizer(command: Callable[..., str], copied: Callable) -> None:
    folder = copied("next_video")
    for path in folder.glob("*token*"):
        path.unlink()
    error = command("run", folder)
    assert "has no tokenizer" in error
    assert str(folder) in error


def test_a_class_of_processors_that_no_version_knows(
    command: Callable[..., str], copied: Callable
) -> None:
    folder = copied("qwen2_5_vl")
    change(folder, "preprocessor_config.json", image_processor_type="NoSuchImageProcessor")
    error = command("run", folder)
    assert "does not have: NoSuchImageProcessor" in error
    assert "image_processor_type" in error


def test_a_layout_of_authors(command: Callable[..., str], hub: Path) -> None:
    assert "OpenGVLab/InternVL3-8B-hf" in command("run", build("internvl_chat", hub))


def test_weights_that_are_not_those_of_the_configuration(
    command: Callable[..., str], copied: Callable
) -> None:
    folder = copied("next_video", "layers")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, "config.json", text_config=text | {"num_hidden_layers": 9})
    assert "are missing from the weights, e.g. model.language_model.layers" in command(
        "run", folder
    )
    folder = copied("next_video", "sizes")
    change(folder, "config.json", text_config=text | {"intermediate_size": 52})
    error = command("run", folder)
    assert "have another shape" in error
    assert "[64, 160] in place of [64, 52]" in error


def test_weights_that_are_packed_or_cut_off(command: Callable[..., str], copied: Callable) -> None:
    folder = copied("next_video", "packed")
    path = sorted(folder.glob("*.safetensors"))[0]
    weights = load_file(path)
    name = next(one for one in weights if one.endswith("proj.weight"))
    save_file(weights | {name: weights[name].to(torch.uint8)}, path)
    error = command("run", folder)
    assert "packed" in error
    assert "as U8" in error
    folder = copied("next_video", "cut")
    path = sorted(folder.glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-10])
    assert "not a safetensors file" in command("run", folder)


def test_a_tokenizer_of_another_model(
    command: Callable[..., str], copied: Callable, hub: Path
) -> None:
    folder = copied("next_video")
    for path in build("qwen2_5_vl", hub).glob("token*"):
        shutil.copy(path, folder)
    change(folder, "tokenizer_config.json", image_token="<image>", video_token="<video>")
    assert "the model embeds 32,064" in command("run", folder)


def test_an_adapter_of_another_model(
    command: Callable[..., str], copied: Callable, tmp_path: Path
) -> None:
    folder = copied("next_video")
    kind = transformers.LlavaNextVideoForConditionalGeneration
    adapter = made_adapters.adapter(tmp_path / "adapter", folder, kind)
    made_adapters.reconfigured(adapter, r=8)
    error = command("run", folder, f"pair.video.adapter={adapter}")
    assert "size mismatch" in error
    assert str(adapter) in error or str(folder) in error


def test_a_condenser_and_a_writer(command: Callable[..., str], hub: Path) -> None:
    video, other = build("next_video", hub), build("qwen2_5_vl", hub)
    error = command("run", video, f"infill.condenser={other}")
    assert "AutoModelForCausalLM reads" in error
    assert len(error) < 1500
    assert "internvl_chat" in command(
        "run", video, f"infill.generator={build('internvl_chat', hub)}"
    )


def test_a_package_that_is_missing_is_named(command: Callable[..., str], hub: Path) -> None:
    error = command("run", build("next_video", hub), "pair.attention=flash_attention_2")
    assert "pip install flash-attn" in error


def test_a_plan_tells_all(command: Callable[..., str], copied: Callable, hub: Path) -> None:
    folder = copied("next_video")
    change(folder, "tokenizer_config.json", drop=("chat_template",))
    (folder / "config.json").write_text("{")
    error = command("plan", folder, image=build("internvl_chat", hub))
    assert "internvl_chat" in error
    assert "not valid JSON" in error


def test_what_passed_is_not_loaded_again(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> HfBackend:
        cfg = compose(
            [f"pair.image.repo={folder}", "pair.image.name=a", f"pair.video.repo={folder}", *WAYS]
        )
        return HfBackend(cfg.backend, settled_config(cfg).pair.members[1])

    monkeypatch.setenv("PROBES_HOME", str(tmp_path))
    folder = Path(shutil.copytree(build("next_video", hub), tmp_path / "member"))
    opened().check_files(thorough=True)
    marks = list((tmp_path / "checked").glob("*/*.json"))
    assert len(marks) == 1
    again = opened()
    again.check_files(thorough=True)
    assert again._preprocessor is None  # nothing was loaded
    change(folder, "preprocessor_config.json", do_pad=False)
    again = opened()
    again.check_files(thorough=True)
    assert again._preprocessor is not None
    assert len(list((tmp_path / "checked").glob("*/*.json"))) == 2
