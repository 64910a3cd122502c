"""Contrasts pooled over frame counts, seeds and pairs, and without single clusters."""

from __future__ import annotations

import dataclasses

import pytest
from made_records import record, study

from probes import analysis, stats
from probes.analysis import pools

ARMS = ("baseline", "vcot")
NAMES = ("gain", "did", "transfer")


def differences(records):
    return analysis.differences(analysis.from_records(records), names=NAMES)


def test_frame_counts_are_pooled_by_clusters_of_items() -> None:
    each = differences(study(40, arms=ARMS))
    found = pools.pools(each).set_index(["name", "role", "arm"])
    assert set(found["over"]) == {"frames"}
    part = each[(each["name"] == "did") & (each["arm"] == "vcot")]
    parts = [
        (some["difference"], some["cluster"]) for _, some in part.groupby("frames", sort=False)
    ]
    expected = stats.pooled(parts, step=1.0)
    row = found.loc["did", "video", "vcot"]
    for name in ("estimate", "low", "high", "p", "n", "clusters"):
        assert row[name] == pytest.approx(getattr(expected, name))
    assert row["frames"] == "5, 10"
    assert row["clusters"] == 20


def test_the_same_answers_under_another_seed_add_nothing() -> None:
    first = study(40, frames=(5,), arms=ARMS)
    again = [dataclasses.replace(one, seed=1, key=f"{one.key}-1") for one in first]
    both = pools.pools(differences([*first, *again]))
    assert set(both["over"]) == {"seed"}
    did = both[both["name"] == "did"].iloc[0]
    alone = analysis.contrasts(analysis.from_records(first), names=("did",), interval="cr2")
    alone = alone[alone["policy"] == "strict"].iloc[0]
    assert did["estimate"] == pytest.approx(alone["estimate"])
    # Nearly as wide as one seed alone, not narrower by the root of 2.
    assert did["high"] - did["low"] > 0.9 * (alone["high"] - alone["low"])


def test_pairs_are_pooled_last_and_keep_their_names() -> None:
    pairs = [
        dataclasses.replace(one, pair=pair, member=f"{pair}-{one.role}", key=f"{pair}-{one.key}")
        for pair in ("a", "b")
        for one in study(20, arms=ARMS)
    ]
    found = pools.pools(differences(pairs))
    assert set(found["over"]) == {"frames", "frames, pair"}
    last = found[(found["over"] == "frames, pair") & (found["name"] == "did")]
    assert list(last["pair"]) == ["a, b"]
    assert list(last["parts"]) == [4]


def test_a_single_cluster_that_decides_is_named() -> None:
    # Five items of one recording make the whole gain; five others of their own have none.
    records = [
        record(i, arm, "image", arm == "vcot" and i < 5, cluster="whole" if i < 5 else f"c{i}")
        for arm in ARMS
        for i in range(10)
    ]
    names = {f"q{i}": "whole" if i < 5 else f"c{i}" for i in range(10)}
    (row,) = pools.left_out(differences(records), names).to_dict("records")
    assert (row["estimate"], row["lowest"], row["without_lowest"]) == (0.5, 0.0, "whole")
    assert row["highest"] == pytest.approx(5 / 9)
    assert row["without_highest"].startswith("c")
    assert (row["n"], row["clusters"]) == (10, 6)


def test_without_contrasts_there_is_nothing() -> None:
    none = differences([record(0)])
    assert pools.pools(none).empty
    assert pools.left_out(none, {}).empty
