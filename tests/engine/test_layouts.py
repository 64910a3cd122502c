"""I-RAVEN through arms, frames, plan and run: both layouts, every arm, and the transfer table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_arms import ARMS, BASELINE, BLIND, PROMPTS, TEXT, VCOT, VISUAL
from made_records import record

from probes import analysis, load
from probes.cli.main import main
from probes.core.types import Arm, Clip, FrameRef, Infill, Item, Panels, Stimulus
from probes.media.composites import ASKED, Composite, CompositeGrid
from probes.media.frame_store import FrameStore
from probes.stimuli import arms, infills, words
from probes.stimuli.arms import StimulusForm, StimulusSources
from probes.tasks import pictures as task_pictures
from probes.tasks.iraven import generate, reader

LETTERS = tuple("ABCDEFGH")


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("iraven")
    generate.make(root, 2, 5)
    return root


def item(name: str = "a") -> Item:
    media = Panels(Path(f"{name}.npz"), 8, options=8, row=3)
    return Item(name, "iraven", "Which?", LETTERS, 2, media, "center_single", name)


def clip(name: str) -> Clip:
    frames = tuple(f"{name}{t}" for t in range(8))
    options = tuple(f"{name}-{letter}" for letter in LETTERS)
    return Clip(tuple(range(8)), (0.0,) * 8, frames, options, breaks=(2, 5))


def texts(name: str) -> tuple[Infill, ...]:
    gaps = ({pair: Infill(f"{name}{gap}", "", "", "g")} for gap, pair in enumerate(_pairs(name)))
    written = {pair: infill for one in gaps for pair, infill in one.items()}
    return infills.of(clip(name), written)


def _pairs(name: str) -> list[tuple[str, str]]:
    return list(pairwise(clip(name).hashes))


def build(arm: Arm, layout: str = "sequence") -> tuple[Stimulus, list[Composite]]:
    composites: list[Composite] = []

    def compose(composite: Composite) -> str:
        composites.append(composite)
        return f"composite{len(composites)}"

    found = arms.build(
        item(),
        arm,
        StimulusSources(clip("a"), texts("a"), item("d"), clip("d"), texts("d")),
        StimulusForm(PROMPTS, "letter", layout, compose),
    )
    return found, composites


def shown(found: Stimulus) -> str:
    return "".join(f"[{p.sha256}]" if isinstance(p, FrameRef) else p for p in found.parts)


CANDIDATES = "\n".join(f"{letter}. [a-{letter}]" for letter in LETTERS)


@pytest.mark.parametrize(
    ("arm", "context"),
    [
        (BASELINE, "[a0][a1][a2][a3][a4][a5][a6][a7]"),
        (VCOT, "[a0]<a0>[a1]<a1>[a2][a3]<a3>[a4]<a4>[a5][a6]<a6>[a7]"),
        (VISUAL, "[d0]<a0>[d1]<a1>[d2][d3]<a3>[d4]<a4>[d5][d6]<a6>[d7]"),
        (TEXT, "[a0]<d0>[a1]<d1>[a2][a3]<d3>[a4]<d4>[a5][a6]<d6>[a7]"),
        (BLIND, ""),
    ],
)
def test_sequence_keeps_the_candidates_and_the_rows(arm: Arm, context: str) -> None:
    found, composites = build(arm)
    assert shown(found) == f"{context}Q Which?\n{CANDIDATES}\nletter?"
    assert found.options == LETTERS and not composites


@pytest.mark.parametrize(
    ("arm", "cells", "text"),
    [
        (BASELINE, [f"a{t}" for t in range(8)], ""),
        (VCOT, [f"a{t}" for t in range(8)], "<a0><a1><a3><a4><a6>"),
        (VISUAL, [f"d{t}" for t in range(8)], "<a0><a1><a3><a4><a6>"),
        (TEXT, [f"a{t}" for t in range(8)], "<d0><d1><d3><d4><d6>"),
        (BLIND, None, ""),
    ],
)
def test_matrix_is_one_picture_with_the_candidates(
    arm: Arm, cells: list[str] | None, text: str
) -> None:
    found, (composite,) = build(arm, "matrix")
    assert shown(found) == f"[composite1]{text}Q Which?\nA, B, C, D, E, F, G, H\nletter?"
    candidates = CompositeGrid(tuple(f"a-{letter}" for letter in LETTERS), 4, LETTERS)
    context = () if cells is None else (CompositeGrid((*cells, ASKED), 3),)
    assert composite.grids == (*context, candidates)


def test_grid_is_one_picture_of_all_frames() -> None:
    found, (composite,) = build(replace(VCOT, presentation="grid"))
    assert shown(found).startswith("[composite1]<a0><a1><a3><a4><a6>Q ")
    assert composite.grids == (
        CompositeGrid(tuple(f"a{t}" for t in range(8)), 3, tuple(map(str, range(1, 9)))),
    )
    found, composites = build(replace(BLIND, presentation="grid"))
    assert shown(found).startswith("Q ") and not composites


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.parametrize("layout", ["sequence", "matrix"])
def test_every_arm_shows_all_candidates(arm: Arm, layout: str) -> None:
    found, composites = build(arm, layout)
    pictures = [part.sha256 for part in found.parts if isinstance(part, FrameRef)]
    pictures += [picture for composite in composites for picture in composite.pictures()]
    assert [p for p in pictures if p.startswith("a-")] == [f"a-{letter}" for letter in LETTERS]


def test_pairs_do_not_cross_rows_and_letters_do_not_leak() -> None:
    assert infills.pairs([clip("a")]) == [
        pair for gap, pair in enumerate(_pairs("a")) if gap not in (2, 5)
    ]
    assert words.leaks(["a b c d"], item()) == []


def test_panels_come_from_the_file_and_are_kept(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = reader.load(problems)[0]
    with OpenFrames(tmp_path) as frames:
        found = frames.clips(one.media, (8,))[8]
        pictures = reader.images(one.media.path)
        stored = [frames[sha] for sha in (*found.hashes, *found.options)]
        assert all(np.array_equal(a[:, :, 0], b) for a, b in zip(stored, pictures, strict=True))
        assert found.breaks == (2, 5) and frames.decoded == 1
        composite = arms.matrix(found.hashes, found.options)
        name = frames.compose(composite)
        drawn = frames[name]
        frames.path(name).unlink()
    with OpenFrames(tmp_path) as frames:
        assert frames.clips(one.media, (8,))[8] == found and frames.decoded == 0
        assert frames.compose(composite) == name
        assert np.array_equal(frames[name], drawn)  # drawn again
        monkeypatch.setattr("probes.media.frame_store.COMPOSITES_MOST", 1)
        frames.compose(arms.grid(found.hashes))
        frames.path(name).unlink()
        assert (
            frames.compose(composite) == name and frames.path(name).exists()
        )  # forgotten, drawn again
    wide = reader.load(problems, across_rows=True)[0]
    with OpenFrames(tmp_path) as frames:
        assert frames.clips(wide.media, (8,))[8].breaks == ()


class OpenFrames(FrameStore):
    """A frame store of a home, closed at the end of a `with` block."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, read_panels=task_pictures.read)

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))

    def start(*overrides: str) -> Path:
        out = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        assert (
            main(["run", "task=iraven", "backend=scripted", f"hydra.run.dir={out}", *overrides])
            == 0
        )
        return out

    return start


@pytest.mark.parametrize("layout", ["sequence", "matrix"])
def test_a_run_makes_its_data_and_prints_the_transfer_table(
    layout: str, run: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = run(f"task.layout={layout}", "task.per_config=2")
    printed = capsys.readouterr().out
    assert "i-RAVEN by configuration, baseline (chance 12.5)" in printed
    assert "in-4/out" in printed and "transfer" in printed
    assert "are empty" not in printed  # the ends of rows are no failures
    frame = load(out)
    assert set(frame["frames"]) == {8} and set(frame["scoring"]) == {"letter"}
    assert len(frame) == 14 * 2 * 7
    donors = frame[frame["donor_id"].notna()]
    assert (donors["donor_id"].str.split("/").str[0] == donors["stratum"]).all()
    gaps = pd.read_parquet(out / "infills.parquet")
    assert set(gaps["gap"]) == {0, 1, 3, 4, 6}
    config = json.loads((out / "manifest.json").read_text())["config"]
    assert config["task"]["layout"] == layout
    files = {path.stem for path in (out / "frames").iterdir()}
    items = pd.read_parquet(out / "items.parquet")
    assert all(sha in files for hashes in items["option_hashes"] for sha in hashes)
    # Made once: a second run finds the folder and answers from the store.
    assert len(list((tmp_path / "home" / "data").glob("iraven-*"))) == 1


def test_infills_cross_rows_where_asked(run: Callable[..., Path], problems: Path) -> None:
    out = run(f"task.root={problems}", "task.across_rows=true", "limit=7")
    assert set(pd.read_parquet(out / "infills.parquet")["gap"]) == set(range(7))


@pytest.mark.parametrize("presentation", ["frames_then_text", "grid"])
def test_the_controls_run_in_every_presentation(
    presentation: str, run: Callable[..., Path], problems: Path
) -> None:
    arms = ("vcot", "shuffled", "single", "filler")
    shown = [f"suite.arms.{arm}.presentation={presentation}" for arm in arms]
    out = run(f"task.root={problems}", "suite=controls", *shown, "limit=7")
    frame = load(out)
    assert frame["arm"].nunique() == 10 and (frame["status"] == "ok").all()
    assert frame.groupby("arm")["stimulus_sha"].nunique().eq(7).all()
    # What an arm shows is its own: no two arms come to the same stimulus.
    assert frame["stimulus_sha"].nunique() == 70


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("frames=5", "exactly 8 panels"),
        ("frames=[8,10]", "exactly 8 panels"),
        ("scoring=cloze", "no text to score"),
        ("task.layout=circle", "not among sequence, matrix"),
        ("task.root=/nowhere", "no such folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    override: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    arguments = ["run", "task=iraven", "task.per_config=1", "backend=scripted", override]
    assert main([*arguments, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert reason in capsys.readouterr().err


def test_the_transfer_table_equals_hand_counts() -> None:
    misses = {
        "center_single": {"image": 3, "video": 1},
        "distribute_four": {"image": 4, "video": 4},
    }
    records = [
        record(
            number,
            role=role,
            correct=number >= missed,
            stratum=stratum,
            frames=8,
            item_id=f"{stratum}/{number}",
            cluster=f"{stratum}/{number}",
            stimulus_sha=f"{stratum}/{number}",
            key=f"{role}/{stratum}/{number}",
        )
        for stratum, roles in misses.items()
        for role, missed in roles.items()
        for number in range(4)
    ]
    found = analysis.transfer_table(analysis.from_records(records))
    at = found.set_index(["row", "configuration"])["estimate"]
    assert at["image", "center"] == 0.25 and at["video", "center"] == 0.75
    assert at["transfer", "center"] == 0.5 and at["transfer", "4-grid"] == 0
    assert at["video", "mean"] == pytest.approx(0.375)
    assert at["transfer", "mean"] == pytest.approx(0.25)
    low, high = found.set_index(["row", "configuration"]).loc[("transfer", "mean"), ["low", "high"]]
    assert low < 0.25 < high
    assert set(found["n"]) == {4, 8}
    other = analysis.from_records([record(0), record(0, role="video")])
    assert analysis.transfer_table(other).empty  # another task's strata
