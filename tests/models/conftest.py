"""Tiny random checkpoints of the genuine classes, made once per session."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request
from probes.models import open_backend


@dataclass(frozen=True)
class Settings:
    """Stands for the configuration's backend section."""

    name: str = "hf"
    batch_size: int = 8
    feature_cache_mb: int = 64
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def video_checkpoint(tmp_path_factory) -> Path:
    return tiny_models.llava_next_video(tmp_path_factory.mktemp("video") / "member")


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory) -> Path:
    return tiny_models.llava_next(tmp_path_factory.mktemp("image") / "member")


@pytest.fixture(scope="session")
def new_tokenizer():
    """Return the function that makes a small tokenizer with byte fallback."""
    return tiny_models.unigram_tokenizer


@pytest.fixture(scope="session")
def settings():
    """Return the class that stands for the configuration's backend section."""
    return Settings


@pytest.fixture(scope="session")
def open_hf():
    """Return a function that opens the hf backend on a folder."""

    def opened(folder: Path, *, spec: dict[str, Any] | None = None, **of_settings: Any):
        return open_backend(
            Settings(**of_settings), ModelSpec("tiny", "video", str(folder), **(spec or {}))
        )

    return opened


@pytest.fixture(scope="session")
def frames() -> dict[str, np.ndarray]:
    """Twelve frames of one size and two of others, by hash."""
    draw = np.random.default_rng(0)
    sizes = [(64, 64)] * 12 + [(48, 80), (90, 60)]
    made = [draw.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    return {array_sha256(frame): frame for frame in made}


@pytest.fixture(scope="session")
def cloze_prompts(frames) -> list[Request]:
    """Prompts of mixed lengths: no frames, one, several; with and without text between."""
    names = list(frames)
    options = ("the red box opens", "a hand moves the cup", "blue", "box closes then opens", "no")
    out = []
    for count in (0, 1, 2, 5, 10):
        for text in (" ", " the hand takes the red cup ", ""):
            parts: list[Any] = ["what is first ?"] if count % 2 else []
            for name in names[:count]:
                parts += [FrameRef(name), text] if text else [FrameRef(name)]
            out.append(Request((*parts, " what happens between the frames?"), options))
    return out


@pytest.fixture(scope="session")
def letter_prompts(cloze_prompts) -> list[Request]:
    return [replace(prompt, options=tuple("ABCDE")) for prompt in cloze_prompts]
