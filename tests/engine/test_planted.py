"""A planted effect comes out of the whole pipeline: clips, arms, store, records, contrasts, tables.

The scripted backend is given what is right, and how often each member is right under each arm; it
knows an arm only by what it is shown, as a model does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filming import film

from probes import analysis, stats
from probes.cli import main
from probes.core.types import FrameRef, Output, Request
from probes.engine import context
from probes.media.frame_store import FrameStore
from probes.models.scripted import ScriptedBackend
from probes.tasks import pictures
from probes.tasks.egoschema import reader

ITEMS, FRAMES = 40, 4
TRUTH = {
    "image": {
        "baseline": 0.4,
        "vcot": 0.7,
        "visual_perturbation": 0.45,
        "text_perturbation": 0.35,
        "blind": 0.2,
    },
    "video": {
        "baseline": 0.6,
        "vcot": 0.6,
        "visual_perturbation": 0.3,
        "text_perturbation": 0.55,
        "blind": 0.25,
    },
}
"""Share of right answers; whole numbers of the 40 items."""
ARMS = list(TRUTH["image"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 clips of 4 frames, two to a recording; every frame of every clip is another picture."""
    root = tmp_path_factory.mktemp("world")
    (root / "videos").mkdir()
    questions, answers, recordings = [], {}, {}
    for number in range(ITEMS):
        uid = f"clip{number:02}"
        start = number * FRAMES
        film(root / "videos" / f"{uid}.mp4", numbers=range(start, start + FRAMES))
        options = {f"option {at}": f"thing {at}" for at in range(5)}
        questions.append(
            {"q_uid": uid, "google_drive_id": uid, "question": f"about {uid}?"} | options
        )
        answers[uid], recordings[uid] = number % 5, f"recording{number // 2}"
    for name, value in (
        ("questions", questions),
        ("subset_answers", answers),
        ("uid_to_ego4d", recordings),
    ):
        (root / f"{name}.json").write_text(json.dumps(value))
    return root


def right(role: str, arm: str) -> np.ndarray:
    """Which items a member gets right under an arm, planted [40].

    Every arm starts at another item, so that answers change both ways, as real ones do.
    """
    order = np.random.default_rng(0).permutation(ITEMS)
    start = 3 * ARMS.index(arm) + (0 if role == "image" else 5)
    return (order + start) % ITEMS < round(ITEMS * TRUTH[role][arm])


@pytest.fixture(scope="module")
def script(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    owner: dict[str, str] = {}
    with closing(
        FrameStore(tmp_path_factory.mktemp("frames"), read_panels=pictures.read)
    ) as frames:
        for item in reader.load(world):
            clip = frames.clips(item.media, (FRAMES,))[FRAMES]
            owner |= dict.fromkeys(clip.hashes, item.id)
    assert len(owner) == ITEMS * FRAMES

    def arm_of(prompt: Request, asked: str) -> str:
        shown = {owner[p.sha256] for p in prompt.parts if isinstance(p, FrameRef)}
        text = " ".join(p for p in prompt.parts if isinstance(p, str))
        named = set(re.findall(r"after (clip\d\d)", text))
        if not shown:
            return "blind"
        if not named:
            return "baseline"
        if shown == named == {asked}:
            return "vcot"
        return "visual_perturbation" if named == {asked} else "text_perturbation"

    def made(role: str) -> Callable[[Request], Output]:
        def say(prompt: Request) -> Output:
            if not prompt.options:
                (frame, *_) = (p for p in prompt.parts if isinstance(p, FrameRef))
                return Output(text=f"after {owner[frame.sha256]}", output_tokens=2)
            (asked,) = re.findall(r"about (clip\d\d)", str(prompt.parts[-1]))
            number = int(asked[4:])
            key = number % 5
            chosen = key if right(role, arm_of(prompt, asked))[number] else (key + 1) % 5
            scores = tuple(-1.0 if at == chosen else -3.0 for at in range(5))
            return Output(option_logprobs=scores, option_tokens=(1,) * 5)

        return say

    return made


@pytest.fixture(scope="module")
def planted(
    world: Path, script: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, str, Path]:
    """The records of `probes run` over that world, what it printed, and where it wrote."""
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(folder / "home"))
        patch.setenv("PROBES_RUNS", str(folder / "runs"))
        patch.chdir(folder)
        patch.setattr(
            context,
            "open_backend",
            lambda cfg, spec: ScriptedBackend(script(spec.role), name=spec.name),
        )
        words = [
            "run",
            "backend=scripted",
            "task=egoschema",
            f"task.root={world}",
            f"frames={FRAMES}",
            "scoring=cloze",
            f"arms=[{','.join(ARMS)}]",
        ]
        with redirect_stdout(StringIO()) as printed:
            assert main.main(words) == 0
    return analysis.load(folder / "runs"), printed.getvalue(), folder / "runs"


def test_accuracies_are_those_planted(planted: Any) -> None:
    found = analysis.accuracies(planted[0]).set_index(["role", "arm"])["accuracy"]
    assert len(found) == 10
    for role, arms in TRUTH.items():
        for arm, share in arms.items():
            assert found[role, arm] == pytest.approx(share)


def test_gains_drops_and_did_are_those_planted_with_their_intervals(planted: Any) -> None:
    found = analysis.contrasts(planted[0], policies=["strict"])
    rows = {(row["name"], row["role"], row["arm"]): row for row in found.to_dict("records")}
    clusters = np.arange(ITEMS) // 2
    for role in TRUTH:
        for arm, name, reference in (
            ("vcot", "gain", "baseline"),
            ("blind", "gain", "baseline"),
            ("visual_perturbation", "drop", "vcot"),
            ("text_perturbation", "drop", "vcot"),
        ):
            row = rows[name, role, arm]
            assert row["reference"] == reference
            assert row["estimate"] == pytest.approx(TRUTH[role][arm] - TRUTH[role][reference])
            changes = right(role, arm) * 1.0 - right(role, reference)
            expected = stats.clustered_mean(changes, clusters, bounds=(-1, 1), step=1)
            got = [row[key] for key in ("low", "high", "p", "discordant", "clusters")]
            assert got == pytest.approx(
                [expected.low, expected.high, expected.p, expected.discordant, 20]
            )
    did = rows["did", "video", "vcot"]
    assert did["estimate"] == pytest.approx(0.3)
    cells = [(role, arm) for role in ("image", "video") for arm in ("vcot", "baseline")]
    each = np.stack([right(*cell) * 1.0 for cell in cells], 1) @ stats.DID_WEIGHTS
    expected = stats.clustered_mean(each, clusters, bounds=(-2, 2), step=1)
    assert (did["low"], did["high"], did["p"]) == pytest.approx(
        (expected.low, expected.high, expected.p)
    )
    assert (did["headroom_image"], did["headroom_other"]) == pytest.approx((0.6, 0.4))


def test_what_was_planted_is_found_and_what_was_not_is_not(planted: Any) -> None:
    found = analysis.contrasts(planted[0], policies=["strict"])
    rows = {(row["name"], row["role"], row["arm"]): row for row in found.to_dict("records")}
    image, video = rows["gain", "image", "vcot"], rows["gain", "video", "vcot"]
    assert image["low"] > 0 and image["p"] < 0.05
    assert video["estimate"] == pytest.approx(0) and video["low"] < 0 < video["high"]
    # Every score leads by two nats or trails by as much, at the member's own temperature.
    margins = analysis.contrasts(planted[0], names=["did"], measure="margin")
    (margin,) = margins[margins["arm"] == "vcot"]["estimate"]
    at = analysis.temperatures(planted[0]).set_index("role")["temperature"]
    assert margin == pytest.approx(4 * 0.3 / at["image"])


def test_the_tables_and_the_plan_tell_the_same(planted: Any, capsys: Any) -> None:
    _, printed, folder = planted
    assert re.search(r"image +tiny-image +4 +20\.0 +40\.0 +70\.0 +- +\+30\.0 \[", printed)
    assert re.search(r"\+vCoT +video +4 +\+30\.0 +\+0\.0 +\+30\.0 \[", printed)
    assert main.main(["power", str(folder), "--of", "gain"]) == 0
    differ = 100 * np.mean(right("image", "vcot") != right("image", "baseline"))
    assert re.search(rf"gain +image +vcot +4 +40 +20 +{differ:.1f} ", capsys.readouterr().out)
