"""Who computed an answer: stored with it, shown with it, and asked anew by other versions."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from processes import SCRIPTED, Place
from running import Spy, lasting

from probes import analysis
from probes.cli import main
from probes.core.errors import MachineError, ProbesError
from probes.core.types import Origin, Output
from probes.engine import context
from probes.engine.answer_versions import chosen
from probes.engine.dry_run import dry_run
from probes.engine.run import RunResult, execute
from probes.records.manifest import read_manifest

SMALL = ("frames=2", "arms=[baseline,vcot]", "scoring=letter")


class Versioned(Spy):
    """A backend of a library whose version an answer depends on."""

    version: ClassVar[str] = "5.0"
    device: ClassVar[str] = "cpu avx2"
    given: ClassVar[dict[str, Output]] = {}

    def libraries(self) -> dict[str, str]:
        return {"transformers": Versioned.version}

    def origin(self) -> Origin:
        assert self.calls, "asked before the model is loaded"
        return Origin(tuple(self.libraries().items()), Versioned.device, "float32", "sdpa")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def versioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        context, "open_backend", lambda cfg, spec: Versioned.from_options(spec, cfg.options)
    )
    Spy.begin()
    Versioned.version, Versioned.device = "5.0", "cpu avx2"


def asked() -> int:
    found = sum(Spy.asked.values())
    Spy.begin()
    return found


def origins(result: RunResult) -> set[str]:
    return {one.origin for one in result.records}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("probes") and record.levelno >= logging.WARNING
    ]
    caplog.clear()
    return found


def test_records_and_manifest_say_what_computed_the_answers(settle: Any) -> None:
    first = execute(settle(*SMALL), settle(*SMALL).out)
    text = "transformers 5.0; cpu avx2; float32; sdpa"
    assert origins(first) == {text}
    # Whatever reads the answers later, on whatever machine.
    asked()
    Versioned.device = "cuda NVIDIA H100"
    second = execute(settle(*SMALL), settle(*SMALL, out="two").out)
    assert not asked()
    assert lasting(second.records) == lasting(first.records)
    found = read_manifest(second.out)["origins"]
    members = Counter(one.member for one in second.records)
    assert {name: found.pop(name) for name in members} == {n: {text: c} for n, c in members.items()}
    ((writer, texts),) = found.items()
    assert writer == "infills by tiny-image"
    assert list(texts) == [text]


def test_other_versions_are_asked_anew_taken_or_refused(
    settle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    old = execute(settle(*SMALL), settle(*SMALL).out)
    count = asked()
    assert not told(caplog)
    Versioned.version = "5.1"

    with pytest.raises(ProbesError, match=r"at least \d+ requests have stored") as caught:
        execute(cfg := settle(*SMALL, "answers=refuse"), cfg.out)
    assert "answers=any" in caught.value.fix and "transformers" not in caught.value.fix
    assert not Spy.loaded and not asked()

    for name in ("any", "same-versions"):
        with dry_run(settle(*SMALL, f"answers={name}")) as planned:
            others = sum(model.stats.others for model in planned.models.values())
            to_do = sum(m.stats.unique - m.stats.cached for m in planned.models.values())
        # What shows texts that are asked anew is not known before they are written.
        assert (others, to_do) == (count, 0) if name == "any" else 0 < others < count
    assert not told(caplog)
    result = execute(cfg := settle(*SMALL, "answers=any", out="any"), cfg.out)
    (line,) = told(caplog)
    assert line.startswith(f"{count} stored answers of other library versions")
    assert "are taken as they are" in line
    assert not asked()
    assert lasting(result.records) == lasting(old.records)  # the keys too: one computation each

    new = execute(cfg := settle(*SMALL, out="new"), cfg.out)
    (line,) = told(caplog)
    assert f"{count} stored answers" in line and "answers=any takes them" in line
    assert asked() == count
    assert origins(new) == {"transformers 5.1; cpu avx2; float32; sdpa"}
    assert {one.key for one in new.records}.isdisjoint(one.key for one in old.records)

    # Own answers go before others, whatever is allowed; and nothing is left to refuse.
    for setting in ("any", "refuse", "same-versions"):
        again = execute(cfg := settle(*SMALL, f"answers={setting}", out=f"all/{setting}"), cfg.out)
        assert lasting(again.records) == lasting(new.records)
    assert not asked() and not told(caplog)
    # The setting is no other condition: runs of both load as one.
    frame = analysis.load(cfg.out.parent)
    assert set(frame["setting"]) == {""}


def test_of_several_versions_the_newest_counts_wherever_it_lies() -> None:
    def one(version: str) -> Output:
        return Output(origin=Origin((("torch", "2.9"), ("transformers", version))))

    stored = {"a": one("4.57"), "b": one("5.10"), "c": one("5.9"), "d": one("5.10")}
    assert chosen(stored) == chosen(dict(reversed(stored.items()))) == "b"


def test_a_mixture_is_told_by_report_and_check(
    settle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(cfg := settle(*SMALL, "arms=[baseline]", "limit=4"), cfg.out)
    Versioned.version = "5.1"
    mixed = execute(cfg := settle(*SMALL, "answers=any", out="mixed"), cfg.out)
    both = {f"transformers 5.{n}; cpu avx2; float32; sdpa" for n in (0, 1)}
    assert origins(mixed) == both
    against = str(tmp_path / "base.json")
    check = ["check", str(mixed.out), "--against", against]
    assert main.main([*check, "--update", "--scripted"]) == 0
    capsys.readouterr()
    assert main.main([*check, "--gate", "exact"]) == 2
    assert "answers of tiny-image come from 2 origins;" in capsys.readouterr().err
    assert main.main([*check, "--gate", "exact", "--fallback", "statistical"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "answers of tiny-image come from 2 origins: " + " | ".join(sorted(both)) in out
    assert "exact gate: not on this platform" in out
    assert main.main(["report", str(mixed.out), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    assert "What computed the answers" in page and "different versions or devices" in page


@pytest.mark.parametrize("change", ["version", "device"])
def test_the_exact_gate_compares_what_computed_the_answers(
    change: str, settle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(result: RunResult, *more: str) -> str:
        against = str(tmp_path / "base.json")
        main.main(["check", str(result.out), "--against", against, *more])
        said = capsys.readouterr()
        return " ".join((said.out + said.err).split())

    base = execute(cfg := settle(*SMALL), cfg.out)
    check(base, "--update", "--scripted")
    assert "origins" in json.loads((tmp_path / "base.json").read_text())
    assert "exact gate: PASSED" in check(base, "--gate", "exact")
    setattr(Versioned, change, "5.1" if change == "version" else "cuda NVIDIA H100")
    other = execute(cfg := settle(*SMALL, out="other"), cfg.out)
    if change == "device":
        # Another device finds the answers, and they are still those of the first.
        assert "exact gate: PASSED" in check(other, "--gate", "exact")
    else:
        said = check(other, "--gate", "exact")
        assert "the exact gate cannot judge this run" in said
        assert "5.1; cpu avx2; float32; sdpa, in the baseline by transformers 5.0" in said


def test_answers_that_vanish_during_a_run_end_it(
    settle: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are never made of answers that were given and lost."""
    score = Versioned.score

    def lose(self: Versioned, *arguments: Any) -> Iterator[tuple[int, Output]]:
        yield from score(self, *arguments)
        if arguments[2].kind == "letter":
            for path in (home / "store").glob("*.sqlite"):
                connection = sqlite3.connect(path)
                with connection:
                    connection.execute("delete from outputs where key < '8'")
                connection.close()

    whole = execute(cfg := settle(*SMALL, "seed=1"), cfg.out)
    shutil.rmtree(home / "store")
    asked()
    with monkeypatch.context() as patch:
        patch.setattr(Versioned, "score", lose)
        with pytest.raises(MachineError, match="answers that were stored are gone"):
            execute(cfg, cfg.out)
    assert lasting(execute(cfg, cfg.out).records) == lasting(whole.records)


def rows_in(home: Path) -> int:
    path = sorted((home / "store").glob("*.sqlite"))[0]
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("select count(*) from outputs").fetchone()[0])


def test_a_home_that_is_moved_away_stops_the_run(tmp_path: Path) -> None:
    """A real process: it notices at once, and goes on where the home is now."""
    slow = [*SCRIPTED, "arms=[baseline]", "backend.options.seconds=0.02"]
    place, home = Place(tmp_path / "place", slow), tmp_path / "place" / "home"
    process, log = place.start()
    kept = 0
    while process.poll() is None and kept < 5:
        with contextlib.suppress(sqlite3.Error, IndexError):
            kept = rows_in(home)
    home.rename(tmp_path / "away")
    assert process.wait(60) == 2, log.read_text()
    said = log.read_text()
    assert "no longer where it was" in said and "the same command" in said
    assert "Traceback" not in said
    assert rows_in(tmp_path / "away") >= kept
    shutil.rmtree(home, ignore_errors=True)
    (tmp_path / "away").rename(home)
    place.run()
    (manifest,) = (tmp_path / "place" / "runs").rglob("manifest.json")
    counts = json.loads(manifest.read_text())["counts"]
    assert sum(one["cached"] for one in counts["prompts"].values()) >= kept
    assert counts["error"] == 0
