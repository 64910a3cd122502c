"""Extras and arrays of answers, from the model to store, run, shards, merged run and report."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import running

import probes
from probes import report
from probes.analysis import merge_runs
from probes.cache import output_cache
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import ArrayName, FrameRef, Output, Request
from probes.engine import context
from probes.engine.run import RunResult, execute
from probes.models.scripted import ScriptedBackend
from probes.records import artifacts

CELL = ("arm", "role", "frames", "name")
SMALL = ("scoring=letter", "arms=[baseline,vcot,blind]", "frames=2")


class Readouts(ScriptedBackend):
    """Answers with numbers and arrays, and remembers what it gave by key."""

    given: dict[str, Output]

    def score(self, prompts: Any, frames: Any, scoring: Any) -> Iterator[tuple[int, Output]]:
        for at, output in super().score(prompts, frames, scoring):
            key = output_cache.key(prompts[at], self.fingerprint, scoring, self.adapter)
            assert key not in Readouts.given, "asked twice"
            Readouts.given[key] = output
            yield at, output


def answer(prompt: Request) -> Output:
    """Depends on the prompt alone: `blind` has neither numbers nor arrays."""
    if not prompt.options:
        return Output(text="it moves", extras={"of an infill": 1.0}, arrays={})
    parts = [p.sha256 if isinstance(p, FrameRef) else p for p in prompt.parts]
    frames = sum(isinstance(part, FrameRef) for part in prompt.parts)
    draw = np.random.default_rng(int(sha256_json(parts)[:15], 16))
    scored = Output(tuple(draw.normal(size=len(prompt.options))), (1,) * len(prompt.options))
    if not frames:
        return scored
    entropy = math.nan if draw.random() < 0.3 else float(draw.normal())
    return dataclasses.replace(
        scored,
        extras={"entropy": entropy, "höhe «∞» </script>": math.inf, f"of {frames}": float(frames)},
        arrays={
            ArrayName("attention", layer, f"frame {t}"): draw.random((2, 3)).astype("float16")
            for layer in (0, 10)
            for t in range(frames)
        }
        | {ArrayName("hidden 模型"): draw.normal(size=(1, 7))},
    )


@pytest.fixture(autouse=True)
def readouts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(context, "open_backend", lambda cfg, spec: Readouts(answer, name=spec.name))
    Readouts.given = {}


def go(world: Path, out: Path, *overrides: str) -> RunResult:
    return execute(running.settings(world, out, *SMALL, *overrides), out)


def bits(arrays: Any) -> dict[Any, tuple[Any, ...]]:
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays}


def arrays_of(run: Path) -> dict[Any, tuple[Any, ...]]:
    found = list(artifacts.read(run))
    assert len({(key, name) for key, name, _ in found}) == len(found), "an array is there twice"
    return bits(((key, name), array) for key, name, array in found)


def texts(extras: Any) -> dict[str, str]:
    """As text, NaN equals NaN, and no digit is lost."""
    return {name: repr(value) for name, value in dict(extras).items()}


def content(run: Path) -> dict[str, bytes]:
    names = [run / "artifacts.parquet", *(run / "artifacts").iterdir()]
    return {path.name: path.read_bytes() for path in names}


def test_nothing_is_lost_from_the_model_to_the_report(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(world, tmp_path / "whole")
    given = dict(Readouts.given)
    shown = {key: given[key] for key in {record.key for record in whole.records}}
    expected = bits(((k, name), a) for k, one in shown.items() for name, a in one.arrays.items())
    for record in whole.records:
        assert texts(record.extras) == texts(given[record.key].extras)
    assert {not record.extras for record in whole.records if record.arm == "blind"} == {True}
    assert arrays_of(whole.out) == expected
    names = ["attention", "hidden 模型"]
    facts = json.loads((whole.out / "manifest.json").read_text())["artifacts"]
    assert (facts["arrays"], facts["names"]) == (len(expected), names)

    before = content(whole.out)
    again = go(world, whole.out)  # nothing is asked, and the files are the same
    assert len(Readouts.given) == len(given)
    assert sum(one["computed"] for one in again.counts["prompts"].values()) == 0
    assert content(whole.out) == before

    shutil.rmtree(tmp_path / "home" / "store")
    Readouts.given = {}
    runs = [go(world, tmp_path / f"{n}", "shards=2", f"shard={n}").out for n in range(2)]
    assert {key: one.text for key, one in Readouts.given.items()} == {
        key: one.text for key, one in given.items()
    }
    merge_runs.merge(runs, tmp_path / "merged")
    assert arrays_of(tmp_path / "merged") == expected

    frames = [probes.load(path) for path in (whole.out, runs, tmp_path / "merged")]
    for frame in frames:
        assert str(frame["extras"].dtype).startswith("map<string, double")
        assert len(frame) == len(whole.records)
        for key, extras in zip(frame["key"], frame["extras"], strict=True):
            assert texts(extras) == texts(given[key].extras)
    row = frames[2][frames[2]["arm"] == "vcot"].iloc[3]
    array = probes.artifacts(row["run"]).array(row["key"], "attention", 10, "frame 1")
    assert (
        array.tobytes() == given[row["key"]].arrays[ArrayName("attention", 10, "frame 1")].tobytes()
    )

    drawn = {"png": b"png", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    monkeypatch.setattr("probes.report.figures.rendered", lambda figure: drawn)  # takes seconds
    page = report.write([tmp_path / "merged"], tmp_path / "report")
    check_report(page, whole, len(expected))


def test_what_is_damaged_is_made_again_by_the_same_run(world: Path, tmp_path: Path) -> None:
    changes = ("arms=[baseline]", "limit=3")
    run = go(world, tmp_path / "run", *changes)
    before, count = content(run.out), len(Readouts.given)
    assert count == 6

    # A file of the store: planned, asked and stored once more; the others are not.
    paths = sorted((tmp_path / "home" / "store" / "arrays").rglob("*.safetensors"))
    assert len(paths) == count
    data = bytearray(paths[2].read_bytes())
    data[-1] ^= 1
    paths[2].write_bytes(data)
    Readouts.given = {}
    assert go(world, run.out, *changes).errors == 0
    assert [key for key in Readouts.given if paths[2].name.startswith(key)] == [*Readouts.given]
    assert len(Readouts.given) == 1

    # A file of the run: written again from the store.
    assert content(run.out) == before
    (shard,) = (run.out / "artifacts").iterdir()
    shard.write_bytes(before[shard.name][:-9])
    with pytest.raises(ProbesError, match="the arrays cannot be read"):
        arrays_of(run.out)
    Readouts.given = {}
    go(world, run.out, *changes)
    assert content(run.out) == before and not Readouts.given


def test_a_run_without_arrays_removes_those_of_an_earlier_one(world: Path, tmp_path: Path) -> None:
    run = go(world, tmp_path / "run", "arms=[baseline]", "limit=3")
    assert (run.out / "artifacts.parquet").is_file()
    other = ["arms=[blind]", "limit=3", "suite.arms.blind.reference=''"]
    run = go(world, tmp_path / "run", *other, "overwrite=true")
    assert not list(run.out.glob("artifacts*"))
    assert "artifacts" not in json.loads((run.out / "manifest.json").read_text())


def check_report(page: Path, whole: RunResult, arrays: int) -> None:
    table = pd.read_csv(page.parent / "tables" / "extras.csv")
    cells: dict[Any, list[float]] = {}
    for record in whole.records:
        for name, value in record.extras.items():
            cells.setdefault((record.arm, record.role, record.frames, name), []).append(value)
    rows = {
        tuple(row[:4]): row for row in table[[*CELL, "n", "mean", "nan"]].itertuples(index=False)
    }
    assert rows.keys() == cells.keys()
    for place, values in cells.items():
        row = rows[place]
        assert row.n == len(values)
        assert row.nan == pytest.approx(np.isnan(values).mean())
        assert row.mean == pytest.approx(np.nanmean(values))
    assert table["nan"].between(0.01, 0.99).any()
    html = page.read_text("utf-8")
    assert '<h2 id="extras">' in html
    assert "höhe «∞» &lt;/script&gt;" in html and "höhe «∞» </script>" not in html
    assert f"{arrays} arrays (attention, hidden 模型;" in html
