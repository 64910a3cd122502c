"""What has to be known of how members are run is in log, manifest and report, also if cached."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import made_code
import pytest
import tiny_models
from hub_layouts.build import build

from probes.cli import doctor as doctor_command
from probes.config.compose import compose
from probes.engine import run
from probes.models.hf import backend

ARMS = "arms=[baseline,blind]"
SMALL = ("task=egoworld", "task.videos=6", "task.height=32", "task.fps=1", "limit=2", "frames=2")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def overrides(image: Path, video: Path, *more: str) -> list[str]:
    named = [f"pair.image.repo={image}", f"pair.video.repo={video}", "pair=own"]
    return [*named, *SMALL, ARMS, "pair.dtype=float32", "backend.device=cpu", *more]


def remarks(out: Path) -> list[tuple[str, str]]:
    found = json.loads((out / "manifest.json").read_text())["remarks"]
    assert all(set(one) == {"member", "text"} for one in found)
    return [(one["member"], one["text"]) for one in found]


def test_what_is_said_of_a_pair_is_in_its_manifest_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build("next_video", tmp_path / "hub")  # without a video_preprocessor_config.json
    video = made_code.own_class(tmp_path / "own")
    given = overrides(image, video, "pair.video.trust_remote_code=true")
    caplog.set_level(logging.INFO, "probes")
    out = tmp_path / "first"
    assert run.execute(compose(given), out).errors == 0
    found = remarks(out)
    lines = [f"{member}: {text}" for member, text in found]
    for part in (
        ": frames are shown as image: not all members take videos",
        ": members are of different classes (LlavaNextVideoFor",
        "its chat template moves pictures before texts",
        "its processor does not load by itself and was put together from the parts",
        "own: its class has no family here",
        "own: its own code is run: configuration_own.py, modeling_own.py, parts_own.py",
    ):
        assert [one for one in lines if part in one], (part, lines)
        assert part.removeprefix(": ") in caplog.text
    # Nothing is loaded for what was answered: neither weights nor a processor.
    monkeypatch.setattr(backend.HfBackend, "preprocessor", None)
    assert run.execute(compose(given), tmp_path / "second").errors == 0
    assert remarks(tmp_path / "second") == found


def test_what_loading_shows_of_a_class_without_a_family_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_models.llava_onevision(tmp_path / "member")  # tiles one image, not several
    names = ("pair.image.name=a", "pair.video.name=b", "pair.frame_as=image")
    given = overrides(folder, folder, *names, "pair.family=fallback")
    run.execute(compose(given), tmp_path / "first")
    found = remarks(tmp_path / "first")
    assert ("", "members have the same weights: they can differ by chance only") in found
    whole = ("a", "its frames are encoded with every prompt, not once: its processor prepares")
    assert [one for one in found if one[0] == whole[0] and one[1].startswith(whole[1])], found
    monkeypatch.setattr(backend.HfBackend, "_load", None)
    run.execute(compose(given), tmp_path / "second")
    assert remarks(tmp_path / "second") == found


def test_the_doctor_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_models.llava(tmp_path / "member")
    (folder / "chat_template.jinja").unlink()
    given = overrides(folder, folder, "pair.image.name=a", "pair.video.name=b")
    assert doctor_command.main(given) == 0
    assert "it has no chat template: its prompts are bare text" in " ".join(
        capsys.readouterr().out.split()
    )
    assert doctor_command.main([*given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["remarks"]
    assert [name for name, lines in said.items() if "no chat template" in str(lines)] == ["a", "b"]
