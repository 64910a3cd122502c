"""Runs whose items, frames, infills and answers are made up, through the real run and its files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from probes.config import schema
from probes.config.paths import conf_dir
from probes.config.settings import freeze
from probes.core.hashing import array_sha256, sha256_json
from probes.core.types import Clip, FrameRef, Item, Media, Output, Panels, Request, Video
from probes.engine import context, run
from probes.media.composites import Composite, draw
from probes.models.scripted import ScriptedBackend
from probes.tasks import registry

HOSTILE = (
    "</script><img src=x onerror=\"document.title='hacked'\"><!-- {{ 7 * 7 }} &amp; “c” \u2028"
)
"""Text that breaks a page which takes it for markup."""
CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def item(number: int, **changes: Any) -> Item:
    """Item of five options; two of them per recording, three strata."""
    fields = {
        "id": f"clip/{number} é",
        "task": "egoschema",
        "question": f"what happens in number {number}?",
        "options": tuple(f"thing {i} of {number}" for i in range(5)),
        "answer": number % 5,
        "media": Video(Path(f"/nowhere/{number}.mp4")),
        "stratum": f"s{number % 3}",
        "cluster": f"r{number // 2}",
        "meta": (("note", f"n{number}"),),
    }
    return Item(**{**fields, **changes})


class PaintedFrames(Mapping[str, np.ndarray]):
    """A frame store that paints instead of decoding: item `n`, slot `t` has its own colour."""

    size = (30, 40)
    processes = 1

    def __init__(self, home: Path, **_: Any) -> None:
        self.decoded = 0
        self._folder = home / "painted"
        self._folder.mkdir(parents=True, exist_ok=True)

    def clips(self, media: Media, counts: Sequence[int]) -> dict[int, Clip]:
        number = int(media.path.stem)
        panels = isinstance(media, Panels)
        return {
            count: Clip(
                tuple(range(count)),
                tuple(map(float, range(count))),
                tuple(self._paint(number, t * 24 // count) for t in range(count)),
                tuple(self._paint(number, 24 + t) for t in range(8)) if panels else (),
                (2, 5) if panels else (),
            )
            for count in counts
        }

    def compose(self, composite: Composite) -> str:
        return self._keep(draw(composite, self))

    def _paint(self, number: int, t: int) -> str:
        height, width = self.size
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:] = (number * 37 % 256, number // 7 % 256, t * 8)
        picture[t % height, :] = t
        return self._keep(picture)

    def _keep(self, picture: np.ndarray) -> str:
        sha = array_sha256(picture)
        if not self.path(sha).exists():
            Image.fromarray(picture).save(self.path(sha), compress_level=1)
        return sha

    def path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.png"

    def media_sha256(self, media: Media) -> str:
        return sha256_json(str(media.path))

    def save(self, sha256: str, target: Path) -> None:
        shutil.copy(self.path(sha256), target)

    def close(self) -> None:
        """Nothing is held."""

    def __getitem__(self, sha256: str) -> np.ndarray:
        return np.asarray(Image.open(self.path(sha256)))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def draws(*seed: Any) -> Iterator[float]:
    """Numbers in [0, 1) that depend on the seed only."""
    for counter in range(10**6):
        yield int(sha256_json([list(seed), counter])[:12], 16) / 16**12


def script(role: str, infill: Callable[[Request], str]) -> Callable[[Request], Output]:
    """Answers at random; between two frames what `infill` returns, where "" is a failure."""

    def answer(prompt: Request) -> Output:
        parts = [p.sha256 if isinstance(p, FrameRef) else p for p in prompt.parts]
        if not prompt.options:
            return Output(text=infill(prompt))
        draw = draws(role, parts)
        scores = [math.log(next(draw) + 1e-3) for _ in prompt.options]
        return Output(
            option_logprobs=tuple(2 * s for s in scores), text="B", option_tokens=(2,) * len(scores)
        )

    return answer


def between(prompt: Request) -> str:
    """An infill of a few words that depends on the frames; some are hostile, some empty."""
    frames = [p.sha256 for p in prompt.parts if isinstance(p, FrameRef)]
    chance = next(draws("infill", frames))
    if chance < 0.1:
        return ""
    return HOSTILE if chance < 0.3 else f"something {int(chance * 1000)} happens"


def make_run(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *overrides: str,
    items: Sequence[Item],
    infill: Callable[[Request], str] = between,
    answer: Callable[[str], Callable[[Request], Output]] | None = None,
) -> Path:
    """Run the study's arms over made-up items and return the run's folder.

    Args:
        monkeypatch: of the caller; stands in for decoder, reader and backend.
        folder: where the run goes; caches go next to it.
        overrides: of the configuration.
        items: the task's items.
        infill: the text between two frames.
        answer: role -> prompt -> output; random where there is none.
    """
    monkeypatch.setenv("PROBES_HOME", str(folder.parent / "home"))
    monkeypatch.setattr(registry, "load", lambda *_: list(items))
    monkeypatch.setattr(registry, "check_media", lambda *_: None)
    monkeypatch.setattr(context, "FrameStore", PaintedFrames)
    scripted = answer or (lambda role: script(role, infill))
    monkeypatch.setattr(
        context,
        "open_backend",
        lambda cfg, spec: ScriptedBackend(scripted(spec.role), name=spec.name),
    )
    schema.register()
    base = ["backend=scripted", "task=egoschema", f"task.root={folder.parent}", "frames=[2,4]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = schema.plain(compose("config", [*base, *overrides]))
    return run.execute(freeze(cfg, folder), folder).out
