"""Several texts per gap: the first as ever, the others sampled, every one in records and tables."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import Spy, lasting, settings

from probes import analysis
from probes.core.errors import ProbesError
from probes.core.types import Decoding
from probes.engine import infilling, run
from probes.engine.dry_run import dry_run
from probes.models.base import Capabilities
from probes.records import infills, run_folder
from probes.records.schema import Record
from probes.report.stimuli import Rebuilder, ShownTrial

DRAWS = ("infill_draws=3", "frames=[4]")


def test_the_first_text_and_its_answers_are_those_of_a_run_without_draws(
    settle: Any, spy: type[Spy]
) -> None:
    plain = run.execute(settle("frames=[4]", out="plain"), settle(out="plain").out).records
    asked = sum(spy.asked.values())
    cfg = settle(*DRAWS)
    records = run.execute(cfg, cfg.out).records
    first = [one for one in records if one.infill_draw == 0]
    assert [(r.key, r.choice) for r in lasting(first)] == [(r.key, r.choice) for r in plain]
    assert sum(spy.asked.values()) > asked
    counts = Counter((one.arm, one.infill_draw) for one in records)
    assert {arm for arm, draw in counts if draw} == {
        "vcot",
        "visual_perturbation",
        "text_perturbation",
    }
    assert {draw for arm, draw in counts if arm == "vcot"} == {0, 1, 2}
    texts: dict[tuple[str, int], set[str]] = {}
    for row in infills.read_rows(cfg.out):
        texts.setdefault((row.item_id, row.gap), set()).add(row.text)
    assert {len(some) for some in texts.values()} == {3}


def test_draws_are_the_same_in_every_order_and_shard(settle: Any, spy: type[Spy]) -> None:
    cfg = settle(*DRAWS, "donor_draws=2")
    whole = run.execute(cfg, cfg.out).records
    keys = {(r.item_id, r.arm, r.role, r.donor_id, r.infill_draw): r.key for r in whole}
    assert len(keys) == len(whole)
    part = settle(*DRAWS, "donor_draws=2", "limit=3", out="part")
    for one in run.execute(part, part.out).records:
        assert keys[one.item_id, one.arm, one.role, one.donor_id, one.infill_draw] == one.key
    crossed = [r for r in whole if r.arm == "visual_perturbation" and r.role == "image"]
    assert Counter((r.donor_draw, r.infill_draw) for r in crossed).keys() == {
        (donor, text) for donor in (0, 1) for text in (0, 1, 2)
    }


def test_an_item_counts_once_however_many_texts_it_has(settle: Any, spy: type[Spy]) -> None:
    cfg = settle(*DRAWS)
    records = run.execute(cfg, cfg.out).records
    found = analysis.contrasts(analysis.load(cfg.out), policies=("strict",))
    gain = found[(found["name"] == "gain") & (found["arm"] == "vcot")].iloc[0]
    assert gain["n"] == 8

    def mean(arm: str) -> float:
        by_item: dict[str, list[bool]] = {}
        for one in records:
            if (one.role, one.arm) == (gain["role"], arm):
                by_item.setdefault(one.item_id, []).append(bool(one.correct))
        return sum(sum(some) / len(some) for some in by_item.values()) / len(by_item)

    assert gain["estimate"] == pytest.approx(mean("vcot") - mean("baseline"))


def test_stimuli_of_every_draw_are_made_again(settle: Any, spy: type[Spy]) -> None:
    cfg = settle(*DRAWS)
    records = run.execute(cfg, cfg.out).records
    rebuilder = Rebuilder(run_folder.read(cfg.out))
    names = ShownTrial.__dataclass_fields__
    for one in records:
        shown = rebuilder.rebuild(ShownTrial(**{name: getattr(one, name) for name in names}))
        assert shown.problem is None


def test_a_dry_run_counts_what_the_run_then_asks(settle: Any, spy: type[Spy]) -> None:
    cfg = settle(*DRAWS)
    with dry_run(cfg) as planned:
        counted = {name: one.stats.computed for name, one in planned.models.items()}
    prompts = run.execute(cfg, cfg.out).counts["prompts"]
    assert counted == {name: one["computed"] for name, one in prompts.items()}


def test_how_texts_were_drawn_is_told(settle: Any, spy: type[Spy]) -> None:
    cfg = settle(*DRAWS, "infill.temperature=0.7")
    (told,) = run.execute(cfg, cfg.out).remarks
    assert told == (
        "3 texts for every gap: the first was written greedily, the others were sampled at "
        "temperature 0.7"
    )
    first, second = (infilling.decoding_of(cfg, draw) for draw in (1, 2))
    assert isinstance(first, Decoding)
    assert dict(first.params)["temperature"] == 0.7
    assert first != second
    assert infilling.decoding_of(cfg, 0) is None
    assert infilling.decoding_of(replace(cfg, seed=1), 1) != first


def test_a_writer_that_cannot_sample_is_refused_at_once(
    settle: Any, spy: type[Spy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spy, "capabilities", lambda self: Capabilities(reason="it is greedy"))
    cfg = settle(*DRAWS)
    with pytest.raises(ProbesError, match=r"cannot sample the infills of .*: it is greedy"):
        run.execute(cfg, cfg.out)
    assert not spy.asked


def test_a_file_has_texts_of_every_draw(
    settle: Any, spy: type[Spy], tmp_path: Path, world: Path
) -> None:
    cfg = settle(*DRAWS)
    records = run.execute(cfg, cfg.out).records
    names = ("item_id", "frames", "gap", "text", "draw")
    rows = [{n: getattr(row, n) for n in names} for row in infills.read_rows(cfg.out)]
    file = tmp_path / "infills.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    given = settings(world, tmp_path / "given", *DRAWS, "infill=file", f"infill.file={file}")

    def shown(some: list[Record]) -> list[str]:
        return [one.stimulus_sha for one in some]

    assert shown(run.execute(given, given.out).records) == shown(records)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows if row["draw"] < 2))
    short = replace(given, out=tmp_path / "short")
    with pytest.raises(ProbesError, match=r"24 infills are missing: clip0 \(4 frames, gap 0, draw"):
        run.execute(short, short.out)
