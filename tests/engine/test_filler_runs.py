"""Filler in runs: as many tokens as the infills for every member, kept in the records."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from running import Spy, make_world, settings

from probes import analysis
from probes.engine import context, run
from probes.records.manifest import read_manifest
from probes.records.schema import Record

FILLER = "+suite.arms.filler={infills: filler, reference: baseline}"
ARMS = ("arms=[baseline,vcot,filler]", FILLER)


class Counting(Spy):
    """A scripted backend with a tokenizer: of words, or of pairs of characters."""

    pieces = False
    counted = 0

    def count_tokens(self, text: str) -> int:
        Counting.counted += 1
        return 1 + (len(text) // 2 if self.pieces else len(text.split()))


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    def opened(_: Any, spec: Any) -> Counting:
        made = Counting(name=f"{spec.name} {spec.repo}")
        made.pieces = spec.role == "video"
        return made

    monkeypatch.setattr(context, "open_backend", opened)
    Counting.begin()
    Counting.counted = 0
    return Counting


def fillers_of(records: list[Record]) -> dict[str, dict[tuple[str, int], tuple[str, ...]]]:
    found: dict[str, dict[tuple[str, int], tuple[str, ...]]] = defaultdict(dict)
    for one in records:
        if one.arm == "filler":
            found[one.role][one.item_id, one.frames] = one.fillers
        else:
            assert one.fillers == ()
    return found


def test_every_member_has_filler_of_its_own_tokens_and_a_finished_run_counts_none(
    settle: Any, counting: type[Counting]
) -> None:
    cfg = settle(*ARMS)
    result = run.execute(cfg, cfg.out)
    found = fillers_of(result.records)
    assert set(found) == {"image", "video"}
    assert all(len(texts) == frames - 1 for (_, frames), texts in found["image"].items())
    assert found["image"] != found["video"]
    notes = read_manifest(cfg.out)["notes"]
    told = [note for note in notes if note.startswith("arm filler, ")]
    assert len(told) == 2
    assert all("within 10 % of their own" in note for note in told)
    counting.counted = 0
    again = run.execute(cfg, cfg.out)
    assert fillers_of(again.records) == found
    assert counting.counted == 0
    assert again.remarks == result.remarks
    # Members that were shown other filler are compared all the same.
    names = set(analysis.contrasts(analysis.load(cfg.out))["name"])
    assert {"transfer", "did"} <= names


def test_a_backend_without_a_tokenizer_is_told_of(settle: Any, spy: type[Spy]) -> None:
    cfg = settle(*ARMS)
    result = run.execute(cfg, cfg.out)
    assert len(result.remarks) == 2
    assert all("as many words as the infills, not as many tokens" in one for one in result.remarks)
    found = fillers_of(result.records)
    assert found["image"] == found["video"]


@pytest.mark.slow  # two models are loaded
def test_the_tiny_pair_reads_as_many_tokens_of_filler_as_of_infills(tmp_path: Path) -> None:
    cfg = settings(make_world(tmp_path), tmp_path / "out", *ARMS, "backend=hf", "pair=tiny")
    records = run.execute(cfg, cfg.out).records
    read = {(one.role, one.item_id, one.frames, one.arm): one.input_tokens for one in records}
    for role in ("image", "video"):
        ratios = []
        for (who, item, frames, arm), base in read.items():
            if (who, arm) == (role, "baseline"):
                own, made = (read[role, item, frames, one] - base for one in ("vcot", "filler"))
                ratios.append(made / own)
        # By words these were six times as many.
        assert abs(fmean(ratios) - 1) <= 0.1
        assert sum(abs(one - 1) <= 0.1 for one in ratios) >= 0.9 * len(ratios)
