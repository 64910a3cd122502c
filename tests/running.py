"""A small real folder of clips, a scripted backend that counts calls, and configurations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np

from probes.config.compose import compose
from probes.config.settings import RunConfig
from probes.core.types import FrameRef, Output
from probes.models.base import NEEDS, Capabilities
from probes.models.scripted import ScriptedBackend
from probes.records.schema import Record

ARMS = ["baseline", "vcot", "visual_perturbation", "text_perturbation", "blind"]
"""Those of the study itself."""
BESIDE = ["infills_only", "filler"]
"""The further arms of suite `study`."""
ITEMS = 8


def make_world(root: Path) -> Path:
    """Film 8 clips of 12 frames from 4 recordings, in EgoSchema's layout."""
    (root / "videos").mkdir()
    questions, answers, recordings = [], {}, {}
    for number in range(ITEMS):
        uid = f"clip{number}"
        with av.open(str(root / "videos" / f"{uid}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=4)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for t in range(12):
                picture = np.full((32, 32, 3), (number * 30, t * 20, 128), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        question = {"q_uid": uid, "google_drive_id": uid, "question": f"what happens in {number}?"}
        options = {f"option {i}": f"thing {i} of {number}" for i in range(5)}
        questions.append(question | options | {"type": "first" if number % 2 else "last"})
        answers[uid], recordings[uid] = number % 5, f"recording{number // 2}"
    (root / "questions.json").write_text(json.dumps(questions))
    (root / "subset_answers.json").write_text(json.dumps(answers))
    (root / "uid_to_ego4d.json").write_text(json.dumps(recordings))
    return root


def settings(world: Path, out: Path, *overrides: str) -> RunConfig:
    """Compose a configuration of a scripted run over a world."""
    base = ["backend=scripted", "task=egoschema", f"task.root={world}", "frames=[2,4]"]
    if not any(one.startswith("suite=") for one in overrides):
        base += [f"~suite.arms.{arm}" for arm in BESIDE]
    return replace(compose([*base, *overrides]), out=out)


class Spy(ScriptedBackend):
    """A scripted backend that counts its calls, and can stop after some answers."""

    asked: ClassVar[Counter[str]] = Counter()
    """Prompts by kind of scoring."""
    loaded: ClassVar[list[str]] = []
    """Names in the order in which models would have been loaded."""
    resident: ClassVar[set[str]] = set()
    stop_after: int | None = None

    def capabilities(self) -> Capabilities:
        return Capabilities(needs=NEEDS, interventions=True, decoding=True)

    def score(self, prompts: Any, frames: Any, scoring: Any) -> Iterator[tuple[int, Output]]:
        self.calls += 1
        if self.fingerprint not in Spy.resident:
            Spy.loaded.append(self.fingerprint)
            Spy.resident.add(self.fingerprint)
        assert len(Spy.resident) == 1, "two models are in memory"
        for prompt in prompts:
            assert all(p.sha256 in frames for p in prompt.parts if isinstance(p, FrameRef))
        for at, output in super().score(prompts, frames, scoring):
            if Spy.stop_after is not None and sum(Spy.asked.values()) >= Spy.stop_after:
                raise KeyboardInterrupt
            Spy.asked[scoring.kind] += 1
            yield at, output

    def close(self) -> None:
        Spy.resident.discard(self.fingerprint)
        super().close()

    @classmethod
    def begin(cls) -> None:
        cls.asked, cls.loaded, cls.resident, cls.stop_after = Counter(), [], set(), None


def open_spy(cfg: Any, spec: Any) -> Spy:
    return Spy.from_options(spec, cfg.options)  # type: ignore[return-value]


def lasting(records: list[Record]) -> list[Record]:
    return [replace(record, seconds=0.0) for record in records]
