"""Real runs, killed at random moments again and again until done: as if nothing had happened."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from processes import PHASES, SCRIPTED, SMALL, Place, rows_in_store, table

from probes import analysis


def killed_until_done(place: Place, seconds: float, most: int, seed: int) -> None:
    """Start `most` processes and kill each at a moment of a seeded draw, then let one finish.

    Two of three moments lie early in a phase, which come in their order, as whatever a killed
    process has done need not be done again; the others lie anywhere.
    """
    draw = random.Random(seed)
    for number, at in enumerate(sorted(draw.choices(range(len(PHASES)), k=most))):
        if number % 3 == 2:
            place.run_and_kill(draw.uniform(0, seconds), None)
        else:
            place.run_and_kill(draw.uniform(0, 0.3), PHASES[at])
    place.run()


def processes_of(place: Place) -> list[str]:
    """Processes that were started in a place and are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"PROBES_HOME={place.folder}/home" in (path / "environ").read_text(
                "utf-8", "replace"
            ):
                found.append((path / "cmdline").read_text("utf-8", "replace"))
        except OSError:
            continue
    return found


def check_same(place: Place, undisturbed: Place, exact: bool = True) -> None:
    """Nothing lost, nothing doubled, nothing else."""
    one, two = place.finished(), undisturbed.finished()
    for name in ("records", "items", "donors", "infills"):
        found, expected = table(one, name), table(two, name)
        if name == "records" and not exact:
            logs = [t["option_logprobs"].combine_chunks().flatten() for t in (found, expected)]
            assert logs[0].to_pylist() == pytest.approx(logs[1].to_pylist(), abs=1e-4)
            found, expected = (t.drop_columns(["option_logprobs"]) for t in (found, expected))
        assert found.equals(expected), name
    assert {p.name: p.read_bytes() for p in (one / "frames").iterdir()} == {
        p.name: p.read_bytes() for p in (two / "frames").iterdir()
    }
    rows, expected_rows = rows_in_store(place.store), rows_in_store(undisturbed.store)
    assert set(rows) == set(expected_rows)
    assert set(rows.values()) == {1}
    # Folders of processes that were killed while they wrote change nothing, nor do they double.
    shown = [
        analysis.render(analysis.study_tables(analysis.load(p.folder / "runs")))
        for p in (place, undisturbed)
    ]
    assert shown[0] == shown[1]
    assert not list((place.folder / "home" / "data").glob("*.half-*"))
    deadline = time.monotonic() + 10
    while processes_of(place) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(place)


def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    slow = [*SCRIPTED, "backend.options.seconds=0.003"]
    undisturbed, place = Place(tmp_path / "undisturbed", slow), Place(tmp_path / "killed", slow)
    seconds = undisturbed.run()
    killed_until_done(place, seconds, 4, seed=5)
    assert place.kills.total() >= 2
    check_same(place, undisturbed)


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    """Rounds of a run from nothing, until 50 processes were killed, in every phase of a run."""
    slow = [*SCRIPTED, "backend.options.seconds=0.01"]
    undisturbed = Place(tmp_path / "undisturbed", slow)
    seconds = undisturbed.run()
    kills: Counter[str] = Counter()
    while kills.total() < 50 or set(kills) < set(PHASES) - {"doctor", "items"}:
        place = Place(tmp_path / f"round-{kills.total()}", slow)
        killed_until_done(place, seconds, 10, seed=kills.total())
        check_same(place, undisturbed)
        kills += place.kills
        print(f"{kills.total()} kills: {dict(kills)}")
        assert kills.total() < 200, "some phase is never reached"


@pytest.mark.slow
def test_fifty_kills_change_nothing_with_a_model(tmp_path: Path) -> None:
    settings = [*SMALL, "backend.batch_size=4"]
    undisturbed = Place(tmp_path / "undisturbed", settings)
    seconds = undisturbed.run()
    kills: Counter[str] = Counter()
    while kills.total() < 50:
        place = Place(tmp_path / f"round-{kills.total()}", settings)
        killed_until_done(place, seconds, 12, seed=100 + kills.total())
        check_same(place, undisturbed, exact=False)
        kills += place.kills
        print(f"{kills.total()} kills: {dict(kills)}")
