"""A task: which way does a square pass? Its clips are made on first use."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from probes.core.hashing import sha256_file
from probes.core.types import Item, Video
from probes.tasks.registry import Recipe, TaskConfig, TaskReader

SIDE, STEPS = 64, 12  # pixels of a clip, and its frames
WAYS = ("from left to right", "from right to left")


@dataclass(frozen=True, slots=True)
class PassingSettings:
    """The task's own settings: `task.clips=20`, `task.size=8`."""

    clips: int = field(default=12, metadata={"at_least": 4})
    size: int = field(default=16, metadata={"at_least": 2})
    """Side of the square in pixels."""


def load(root: Path, task: TaskConfig) -> list[Item]:
    """Return the items of a folder that `make` made."""
    answers = json.loads((root / "answers.json").read_text("utf-8"))
    return [
        Item(
            id=name,
            task=task.name,
            question="Which way does the square pass?",
            options=WAYS,
            answer=answer,
            media=Video((root / f"{name}.mkv").resolve()),
            stratum=WAYS[answer],
        )
        for name, answer in answers.items()
    ]


def recipe(task: TaskConfig) -> Recipe:
    """Return what the data depends on, and what makes it."""
    facts = {
        "clips": task.settings.clips,
        "size": task.settings.size,
        "code": sha256_file(Path(__file__)),
    }
    return Recipe(facts, lambda folder, progress: make(folder, task.settings, progress))


def make(
    folder: Path, settings: PassingSettings, progress: Callable[[int, int], None] | None
) -> None:
    """Make the clips, and the right answers next to them."""
    folder.mkdir()
    answers = {}
    for number in range(settings.clips):
        name, way = f"clip{number:03}", number % 2
        places = np.linspace(0, SIDE - settings.size, STEPS).round().astype(int)
        frames = [_frame(x, number, settings.size) for x in (places[::-1] if way else places)]
        with av.open(folder / f"{name}.mkv", "w") as file:
            stream = file.add_stream("ffv1", 4, width=SIDE, height=SIDE, pix_fmt="bgr0")
            for pixels in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            file.mux(stream.encode())
        answers[name] = way
        if progress is not None:
            progress(number + 1, settings.clips)
    (folder / "answers.json").write_text(json.dumps(answers), "utf-8")


def _frame(x: int, number: int, size: int) -> np.ndarray:
    """Paint one frame: uint8 RGB [SIDE, SIDE, 3]; every clip has a height of its own."""
    pixels = np.full((SIDE, SIDE, 3), 40, np.uint8)
    y = (7 * number) % (SIDE - size)
    pixels[y : y + size, x : x + size] = (230, 60 + 9 * number % 160, 60)
    return pixels


PASSING = TaskReader(
    load=load,
    settings=PassingSettings,
    recipe=recipe,
    defaults={"scoring": "letter", "frames": 4},
)
